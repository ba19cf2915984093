"""What a gate is: its verdict, and what every gate asks of its series and thresholds."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import ArrayLike

from ..errors import UserError

__all__ = ["Gate", "measured_names", "require_positive", "two_sided"]


@dataclass(frozen=True)
class Gate:
    """Verdict of one gate; the caller decides whether to raise `GateError` with `message`."""

    name: str
    passed: bool
    value: float
    error: float
    expected: str  #: what a sound ensemble has
    false_alarm: float  #: probability that a sound ensemble fails
    advice: str  #: what to change; empty when passed

    @property
    def message(self) -> str:
        """One line for a log or an error."""
        got = f"{self.value:.6g}" + (f" +- {self.error:.2g}" if math.isfinite(self.error) else "")
        verdict = "passed" if self.passed else "FAILED"
        return f"gate {self.name} {verdict}: {got}, expected {self.expected}" + (
            f"; {self.advice}" if self.advice else ""
        )

    def record(self) -> dict[str, Any]:
        """JSON-able dict; None in place of what is not finite."""
        finite = {key: (x if math.isfinite(x) else None) for key, x in (("value", self.value), ("error", self.error))}
        return {
            "name": self.name,
            "passed": self.passed,
            **finite,
            "expected": self.expected,
            "false_alarm": self.false_alarm,
            "advice": self.advice,
        }


def require_positive(name: str, value: float) -> None:
    if not value > 0:
        raise UserError(f"{name} is {value}; expected a number above 0")


def measured_names(series: Mapping[str, ArrayLike], names: Iterable[str], gate: str) -> list[str]:
    """Those of `names` that `series` has; a `UserError` if there is none, for a gate on nothing would pass."""
    names = list(names)
    found = [name for name in names if name in series]
    if not found:
        got = ", ".join(series) or "no series at all"
        raise UserError(
            f"gate {gate} wants the series {' or '.join(names) or '(none named)'}, got {got}; measure it first"
        )
    return found


def two_sided(n_sigma: float) -> float:
    require_positive("n_sigma", n_sigma)
    return math.erfc(n_sigma / math.sqrt(2))

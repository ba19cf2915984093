"""What `latticediff.stages.measure` finds in one file, as a record, as JSON and as a table for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..analysis import Beside, Estimate
from ..analysis.gamma import format_error
from ..untrusted import printable
from .spectrum import Spectrum

if TYPE_CHECKING:
    from ..action import Action
    from ..types import Description, FloatArray, Shape

__all__ = ["Measurement"]

INDEPENDENT = 0.5  # tau_int of entries that know nothing of each other: no less can be seen in a thinned file


@dataclass(frozen=True)
class Measurement:
    """Observables and tau_int of one file; tau_int in updates, of which there are `thin` to a stored configuration."""

    source: str
    action: Action
    shape: Shape
    n: int  #: configurations, all chains together
    n_chains: int
    n_updates: int  #: per chain
    thin: int
    acceptance: float | None
    series: dict[str, FloatArray]  #: primary observables, name -> (n_chains, n / n_chains)
    observables: dict[str, Estimate]
    tau_int: dict[str, tuple[float, float]]  #: value and error
    weighted: Beside | None = None  #: averages by the weights of independent proposals; None: there are no such weights
    notices: tuple[str, ...] = ()  #: one line for each series too short for its tau_int, or without error
    spectrum: Spectrum | None = None  #: correlator and effective masses, if asked for

    def to_dict(self) -> Description:
        """``{"observables", "tau_int", "n"}`` as in ``report.json``; null for what is not defined."""
        return {
            "observables": _pairs(self.observables),
            "weighted_observables": None if self.weighted is None else _pairs(self.weighted.observables),
            "weighted_differences_sigma": None if self.weighted is None else self.weighted.sigmas(),
            "tau_int": {name: list(pair) for name, pair in self.tau_int.items()},
            "n": self.n,
            "n_chains": self.n_chains,
            "n_updates": self.n_updates,
            "thin": self.thin,
            "tau_int_unit": "updates",
            "acceptance": self.acceptance,
            **({} if self.spectrum is None else {"spectrum": self.spectrum.to_dict()}),
        }

    def to_json(self) -> str:
        """`to_dict` as JSON text."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)

    def to_text(self) -> str:
        """A table for people."""
        size = f"{self.n} configurations, {self.n_chains} chains of {self.n_updates} updates, thin {self.thin}"
        lines = [f"{printable(self.source)}: {self.action!r} on {'x'.join(map(str, self.shape))}; {size}"]
        if self.acceptance is not None:
            lines.append(f"acceptance        {self.acceptance:.4f}")
        if self.weighted is not None:
            lines.append(f"{'':17} {'chain':20} {'weights':20} difference (joint error)")
        lines += [self._line(name) for name in self.observables]
        if self.thin == 1:
            lines.append("tau_int = 1/2 + sum of rho(t), t >= 1, in updates (0.5 is independent):")
            lines += [f"  {name:15} {format_error(*pair)}" for name, pair in self.tau_int.items()]
        else:
            lines.append(
                "tau_int = 1/2 + sum of rho(t), t >= 1, in updates, and in stored configurations, of which one in"
                f" {self.thin} updates was kept (there 0.5 is independent):"
            )
            lines.append(f"{'':17} {'updates':15} stored configurations")
            lines += [
                f"  {name:15} {format_error(*pair):15} {self._stored(pair)}" for name, pair in self.tau_int.items()
            ]
        lines += [] if self.spectrum is None else [self.spectrum.to_text()]
        return "\n".join(lines)

    def _stored(self, pair: tuple[float, float]) -> str:
        """A tau_int in stored configurations, with what is to be said where it is at the floor of the thinning."""
        value, error = (number / self.thin for number in pair)
        floor = value - 2 * error <= INDEPENDENT
        return format_error(value, error) + (
            f"  at most {self.thin / 2:g} updates: thinned too far to tell" if floor else ""
        )

    def _line(self, name: str) -> str:
        if self.weighted is None or name not in self.weighted.observables:
            return f"{name:17} {self.observables[name]}"
        sigma = self.weighted.sigmas()[name]
        said = "-" if sigma is None else f"{sigma:+.1f} sigma"
        return f"{name:17} {self.observables[name]!s:20} {self.weighted.observables[name]!s:20} {said}"


def _pairs(table: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: estimate.pair() for name, estimate in table.items()}

"""What a report is made of: plain results, no files and no samplers.

The pipeline fills these records, `build` turns them into ``report.json``, figures and the page. Units:
lattice units for observables; *updates of one chain* for every Monte Carlo time, ``tau_int = 1/2 + sum_{t>=1} rho(t)``
(0.5 is independent); seconds of wall time on the machine that ran.

The records of `curves`, `fields` and `chain` are named here too.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ..errors import UserError
from ..lattice import check_shape
from ..types import Shape
from .chain import ChainResult
from .curves import Autocorrelation, Correlator, Propagator
from .fields import Film, Histogram
from .finite import Pair, finite

__all__ = ["Autocorrelation", "ChainResult", "Correlator", "Film", "Histogram", "Pair", "Propagator", "RunResult"]


def now() -> str:
    """The present time, ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """Everything on the page.

    Parameters
    ----------
    action : dict
        ``action.describe()``.
    shape : tuple of int
        Lattice extents.
    chains : sequence of ChainResult
        The first is the reference that the others are compared with.
    title : str
    seed : int or None
    seconds : dict of str to float
        Wall time of the stages: ``generate, train, sample_ode, sample_sde, total``.
    checks : dict
        ``schwinger_dyson`` and ``exp_minus_delta_h`` as (value, error), both 1 exactly;
        ``log_weight_step_doubling_spread``, ``_max`` and so on, numbers; see `ChainResult.log_weight_step_doubling`.
    training : sequence of dict
        Log rows with ``step`` and ``loss`` (and whatever else was logged).
    device : str
        Where it ran, in words; no host names.
    versions : dict of str to str
    created : str
        ISO time; now by default.
    card : str
        The effective run-card in TOML, shown at the end of the page; may be empty.
    film : Film or None
        One draw of a model on its way from noise to field.
    """

    action: dict[str, Any]
    shape: Shape
    chains: tuple[ChainResult, ...]
    title: str = "latticediff report"
    seed: int | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    checks: dict[str, Any] = field(default_factory=dict)
    training: tuple[Mapping[str, Any], ...] = ()
    device: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    created: str = field(default_factory=now)
    card: str = ""
    film: Film | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", check_shape(self.shape))
        object.__setattr__(self, "chains", tuple(self.chains))
        object.__setattr__(self, "training", tuple(self.training))
        if not self.chains:
            raise UserError("a report got no chains; expected at least one")
        names = [chain.name for chain in self.chains]
        if len(set(names)) != len(names):
            raise UserError(f"chains are named {names}; expected different names")
        finite("stage seconds", *self.seconds.values())

    @property
    def reference(self) -> ChainResult:
        """The first chain, with which the others are compared."""
        return self.chains[0]

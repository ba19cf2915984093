"""The diagnosis of one model: what is wrong with its density, where it comes from, and what it does to a chain."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..types import FloatArray, PathLikeStr, Shape
from .build import write_figures, write_file
from .diagnosis_page import diagnosis_page
from .figures.diagnosis import draw_diagnosis
from .model import now

if TYPE_CHECKING:
    from ..analysis import FreeEnergy, IntegrationBias, WeightReport
    from ..model.score_error import ScoreError

__all__ = ["Diagnosis", "write_diagnosis"]

SIGMA_ALARM = 4.0  #: of the signs of m, and of draws against configurations
PARETO_ALARM = 0.7
FORWARD_ALARM = 0.02  #: by which the forward ESS may be below the reverse one


@dataclass(frozen=True)
class Diagnosis:
    """Everything `latticediff diagnose` finds about one proposal of a model; NumPy and plain numbers."""

    name: str
    action: dict[str, Any]
    shape: Shape
    proposal: dict[str, Any]
    reference: str  #: where the exact configurations come from, in words
    log_weight_reverse: FloatArray  #: (n,)
    log_weight_forward: FloatArray  #: (n_chains, n_times)
    m_reverse: FloatArray  #: (n,)
    m_forward: FloatArray  #: (n_chains, n_times)
    largest_reverse: FloatArray  #: (n,), largest |phi| of a draw
    largest_forward: FloatArray  #: (n_chains, n_times)
    weights: "WeightReport"
    free_energy: "FreeEnergy"
    longest_rejection: int
    acceptance: float
    expected_stay: float  #: proposals that a chain stays at the heaviest exact configuration seen
    #: draws, configurations -> (share of m > 0, its deviation from 1/2 in errors)
    sign: dict[str, tuple[float, float]]
    #: shells, operators -> list of (label, value, error); together -> list of the same
    shares: dict[str, list[tuple[str, float, float]]]
    integration: "IntegrationBias | None"  #: on exact configurations
    doubling: FloatArray | None  #: epsilon on exact configurations
    #: of draws inverted: noise -> (median, max), log_q -> (median, max), lost -> (number, of how many) if there are any
    inversion: dict[str, tuple[float, float]]
    integration_draws: "IntegrationBias | None" = None  #: on draws
    score_error: "ScoreError | None" = None
    seed: int = 0
    seconds: float = 0.0
    device: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    created: str = field(default_factory=now)

    @property
    def volume(self) -> int:
        """Number of sites."""
        return math.prod(self.shape)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able content of ``diagnosis.json``."""
        w, level = self.weights, self.score_error
        assert w.ess_forward is not None  # a diagnosis weighs exact configurations

        def finite(x: float | None) -> float | None:
            return float(x) if x is not None and math.isfinite(x) else None

        return {
            "model": self.name,
            "action": self.action,
            "shape": list(self.shape),
            "proposal": self.proposal,
            "reference": self.reference,
            "n_draws": int(self.log_weight_reverse.size),
            "n_configurations": int(self.log_weight_forward.size),
            "log_weight_std": w.log_weight_std,
            "log_weight_variance_per_site": w.log_weight_std**2 / self.volume,
            "ess_reverse": w.ess_reverse.pair(),
            "ess_forward": w.ess_forward.pair(),
            "pareto_k": finite(w.pareto_k),
            "pareto_k_forward": finite(w.forward_pareto_k),
            "n_zero": w.n_zero,
            "largest_forward": finite(w.forward_largest),
            "acceptance": self.acceptance,
            "acceptance_expected": w.acceptance,
            "longest_rejection": self.longest_rejection,
            "expected_stay": finite(self.expected_stay),
            "sign": {name: list(pair) for name, pair in self.sign.items()},
            **self.free_energy.to_dict(),
            "variance_shares": {
                name: [{"of": label, "share": value, "error": error} for label, value, error in rows]
                for name, rows in self.shares.items()
            },
            "score_error": None
            if level is None
            else {
                "sigma": level.sigma.tolist(),
                "error": level.error.tolist(),
                "uncertainty": level.uncertainty.tolist(),
                "remembered": level.remembered.tolist(),
                "share": level.shares().tolist(),
                "kl": level.kl,
                "kl_error": level.kl_error,
            },
            "integration": None if self.integration is None else self.integration.to_dict(),
            "integration_draws": None if self.integration_draws is None else self.integration_draws.to_dict(),
            "inversion": {name: list(pair) for name, pair in self.inversion.items()},
            "alarms": self.alarms(),
            "seed": self.seed,
            "seconds": self.seconds,
            "device": self.device,
            "versions": self.versions,
            "created": self.created,
        }

    def alarms(self) -> list[str]:
        """A sentence for each finding that calls the model or its averages into question; empty if there is none."""
        w, found = self.weights, []
        assert w.ess_forward is not None  # a diagnosis weighs exact configurations
        gap = w.ess_reverse.value - w.ess_forward.value
        if gap > FORWARD_ALARM and gap > 3 * math.hypot(w.ess_forward.error, w.ess_reverse.error):
            found.append(
                f"The forward ESS lies {gap:.3f} below the reverse one: the model misses exact configurations."
            )
        for what, k in (("draws", w.pareto_k), ("configurations", w.forward_pareto_k)):
            if k is not None and k > PARETO_ALARM:
                found.append(
                    f"Pareto k of the weights of {what} is {k:.2f}, above 0.7: their averages are not to be trusted."
                )
        if w.n_zero:
            found.append(f"{w.n_zero} draws blew up and have weight zero.")
        share, off = self.sign.get("draws", (0.5, 0.0))  # none: of a theory without that symmetry
        if abs(off) > SIGMA_ALARM:
            found.append(
                f"{100 * share:.1f} % of the draws have m > 0, {off:+.1f}σ from one half: the symmetry is broken."
            )
        tension = self.free_energy.tension
        if math.isfinite(tension) and abs(tension) > SIGMA_ALARM:
            found.append(f"log Z from draws and from configurations differ by {tension:+.1f}σ.")
        if (bound := self.bias_bound) is not None and bound > 0.02:
            found.append(f"The integration error may bias averages by {bound:.2g} deviations: take more steps.")
        return found

    @property
    def bias_bound(self) -> float | None:
        """The larger of the bounds on configurations and on draws; None where nothing is integrated."""
        found = (self.integration, self.integration_draws)
        return max((bias.bias_bound for bias in found if bias is not None), default=None)


def write_diagnosis(diagnosis: Diagnosis, out: PathLikeStr) -> dict[str, Path]:
    """Write ``diagnosis.json``, ``diagnosis.html`` and ``figures/*.png, .pdf, .csv`` into the folder `out`.

    Parameters
    ----------
    diagnosis : Diagnosis
    out : path-like
        Created if missing; an earlier diagnosis there is replaced.

    Returns
    -------
    dict of str to Path

    Raises
    ------
    FileError
        If the folder cannot be made or written.
    """
    out, records = Path(out), draw_diagnosis(diagnosis)
    folder = write_figures(records, out)
    text = json.dumps(diagnosis.to_dict(), indent=2, ensure_ascii=False, allow_nan=False, default=str) + "\n"
    return {
        "figures": folder,
        "json": write_file(out / "diagnosis.json", text),
        "html": write_file(out / "diagnosis.html", diagnosis_page(diagnosis, records)),
    }

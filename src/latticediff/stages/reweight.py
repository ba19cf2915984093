"""Stage reweight: averages at other couplings, from a chain and from a model's weighted draws."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..analysis import (
    Reach,
    log_z_reverse,
    observables_table,
    reach,
    reweighted_table,
)
from ..build.device import pick_device
from ..ensemble import Ensemble
from ..host import torch_defaults
from ..job.progress import Progress
from ..model.storage import load_model
from ..observables import measure_primary
from ..report.numbers import scheme_text
from ..streams import Streams
from ..untrusted import printable
from .measure import field_batches, read_series
from .targets import MAX_DOUBLING, refined, refuse_coarse_inner, target_action

if TYPE_CHECKING:
    from ..action import Action
    from ..analysis import Estimate
    from ..types import Description, PathLikeStr, Shape

__all__ = ["Reweighting", "reweight"]


@dataclass(frozen=True)
class Reweighting:
    """Observables of a target theory, from a chain of another one and from a model's draws."""

    source: str
    action: Action  #: of the target
    shape: Shape
    reach: Reach
    log_z_ratio: Estimate  #: log Z(target) - log Z(source)
    plain: dict[str, Estimate]  #: the source's own observables
    observables: dict[str, Estimate]  #: reweighted
    model: str | None = None
    proposal: Description | None = None  #: the model's
    model_reach: Reach | None = None
    model_observables: dict[str, Estimate] = field(default_factory=dict)

    @property
    def warnings(self) -> list[str]:
        """One line for each set of weights that cannot be trusted."""
        pairs = ((self.source, self.reach), (self.model, self.model_reach))
        return [f"{name}: {found.warning}" for name, found in pairs if found is not None and found.warning]

    def to_dict(self) -> Description:
        """JSON-able."""

        def told(found: Reach | None) -> Description | None:
            if found is None:
                return None
            return {
                "ess": found.ess.pair(),
                "expected_ess": found.expected_ess,
                "pareto_k": found.pareto_k if math.isfinite(found.pareto_k) else None,
                "log_weight_std": found.log_weight_std,
            }

        return {
            "source": self.source,
            "target": self.action.describe(),
            "shape": list(self.shape),
            "weights": told(self.reach),
            "log_z_ratio": self.log_z_ratio.pair(),
            "source_observables": {name: e.pair() for name, e in self.plain.items()},
            "observables": {name: e.pair() for name, e in self.observables.items()},
            "model": self.model,
            "proposal": self.proposal,
            "model_weights": told(self.model_reach),
            "model_observables": {name: e.pair() for name, e in self.model_observables.items()},
            "warnings": self.warnings,
        }

    def to_json(self) -> str:
        """`to_dict` as JSON text."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)

    def to_text(self) -> str:
        """A table for people."""
        columns = [("source", self.plain), ("reweighted", self.observables)]
        if self.model is not None:
            columns.append((f"weights of {self.model}", self.model_observables))
        lines = [
            f"{printable(self.source)} reweighted to {self.action!r} on {'x'.join(map(str, self.shape))}:"
            f" ESS {self.reach.ess}, log Z moves by {self.log_z_ratio}"
        ]
        if self.model_reach is not None and self.proposal is not None:
            lines.append(f"{self.model}: ESS {self.model_reach.ess} of its draws ({scheme_text(self.proposal)})")
        lines.append(" " * 17 + " ".join(f"{name:20}" for name, _ in columns))
        for name in self.observables:
            lines.append(f"{name:17}" + " ".join(f"{table[name]!s:20}" for _, table in columns))
        return "\n".join(lines)


@torch_defaults()
def reweight(
    path: PathLikeStr,
    to: Sequence[str],
    model: PathLikeStr | None = None,
    n: int = 4000,
    steps: int | None = None,
    method: str | None = None,
    grid: str | None = None,
    max_doubling: float = MAX_DOUBLING,
    s_tau: float = 1.5,
    seed: int = 1,
    device: str = "auto",
    progress: Progress | None = None,
) -> Reweighting:
    """Observables at nearby couplings, from an ensemble file and, if a model is given, from its weighted draws too.

    Parameters
    ----------
    path : path-like
        Ensemble file.
    to : sequence of str
        Couplings of the target that differ from the file's, ``["lam=6.1"]``; none: the file's own theory.
    model : path-like or str, optional
        Its draws are weighed for the target: they are independent of each other and of the source.
    n : int
        Draws of the model.
    steps, method, grid, max_doubling
        Of its ODE; see `measure_free_energy`. Averages are ratios, so here the mean change is not limited.
    s_tau : float
        S of the automatic window.
    seed : int
    device : str
        See `latticediff.build.device.pick_device`.
    progress : Progress, optional

    Returns
    -------
    Reweighting
        A target out of reach is not an error; `Reweighting.warnings` names it.

    Raises
    ------
    FileError, ModelError, UserError
        Files that do not fit, a coupling that the convention lacks, or a log_q that is not accurate enough.
    """
    progress = progress or Progress()
    with Ensemble(path) as ensemble:
        shape, target = ensemble.shape, target_action(ensemble.action, to)
        plain = read_series(ensemble)
        series = measure_primary(field_batches(ensemble), target)
        # the field's normalisation is the convention's: one field, two actions
        log_weight = plain["action"] - series["action"]
        found: dict[str, Any] = {
            "source": ensemble.path.name,
            "action": target,
            "shape": shape,
            "plain": observables_table(plain, ensemble.action, shape, s_tau=s_tau),
            "observables": reweighted_table(series, log_weight, target, shape, s_tau=s_tau),
            "reach": reach(log_weight, correlated=True),
            "log_z_ratio": log_z_reverse(log_weight, correlated=True),
        }
    if model is None:
        return Reweighting(**found)
    loaded = load_model(model, pick_device(device), shape=shape)
    proposal, streams = refined(loaded, "ode", steps, method, grid), Streams(seed).child("reweight")
    refuse_coarse_inner(proposal, max_doubling, streams)
    phis, log_q = np.empty((n, *shape)), np.empty(n)
    with progress.task("draws", n) as task:
        for start in range(0, n, 256):
            part = slice(start, start + 256)
            phis[part], log_q[part] = proposal.draw(min(256, n - start), streams.generator("draw"))
            task.reach(min(part.stop, n))
    series = measure_primary([phis[:, None]], target)
    log_weight = -target(phis) - log_q
    return Reweighting(
        **found,
        model=Path(model).name,
        proposal=proposal.describe(),
        model_reach=reach(log_weight),
        model_observables=reweighted_table(series, log_weight[None], target, shape, s_tau=s_tau),
    )

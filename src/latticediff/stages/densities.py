"""Stages that put densities to use: free energies, and averages at other couplings."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ..action import Phi4
from ..analysis import (
    FreeEnergy,
    Reach,
    free_energy,
    integration_bias,
    log_z_reverse,
    observables_table,
    reach,
    reweighted_table,
)
from ..analysis.gamma import format_error
from ..build.configurations import fresh_configurations, from_ensemble
from ..build.device import pick_device
from ..build.learned import refuse_coarse
from ..config.sections import SamplingSection
from ..ensemble import Ensemble
from ..errors import UserError
from ..host import torch_defaults
from ..job.progress import Progress
from ..lattice import volume
from ..metropolis import doubling_error
from ..metropolis.checks import require_density, sound_rows
from ..metropolis.contract import Integrated
from ..model.score_model import load_model
from ..observables import measure_primary
from ..proposal import OdeProposal, RefinedProposal, SdeProposal
from ..proposal.grid import own_scheme
from ..proposal.whole import whole_proposal
from ..report.numbers import scheme_text
from ..streams import Streams
from ..untrusted import printable
from .measure import field_batches, read_series

if TYPE_CHECKING:
    from ..action import Action
    from ..analysis import Estimate, IntegrationBias
    from ..metropolis.contract import Proposal
    from ..model.score_model import ScoreModel
    from ..types import Description, FloatArray, PathLikeStr, Shape

__all__ = ["FreeEnergyResult", "Reweighting", "measure_free_energy", "refined", "reweight", "target_action"]

N_DOUBLING = 300  # configurations whose density is computed with twice the steps too
MAX_DOUBLING = cast(float, SamplingSection().max_doubling)  # the default is a number


def target_action(action: Action, couplings: Sequence[str]) -> Action:
    """The same action with some couplings changed, given as ``["lam=6.1"]``.

    Raises
    ------
    UserError
        The action is not phi^4, a text does not assign a number, or the convention lacks the coupling.
    """
    if not couplings:
        return action
    if not isinstance(action, Phi4):
        raise UserError(f"{action!r} has no named couplings to change; expected a phi^4 action")
    changed: dict[str, Any] = dict(action.couplings)  # `from_couplings` reads numbers from text
    for text in couplings:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or name not in changed:
            raise UserError(f"--to got {text!r}; expected one of {', '.join(changed)} with a value, as in lam=6.1")
        changed[name] = value
    return Phi4.from_couplings(action.convention, changed, action.ndim)


def refined(
    model: ScoreModel,
    route: str = "ode",
    steps: int | None = None,
    method: str | None = None,
    grid: str | None = None,
    *,
    rungs: int = 1,
    step: float = 1.0,
    action: Action | None = None,
    batch: int = 256,
) -> Any:
    """The proposal of a route for whole fields, with `rungs` of annealing above it if there is more than one.

    Parameters
    ----------
    model : ScoreModel
    route : {"ode", "sde"}
    steps, method, grid : optional
        Integrator of the ODE, by default the model's own: `latticediff.proposal.grid.own_scheme`. The SDE has
        `steps` alone, `latticediff.defaults.SDE_STEPS` by default.
    rungs, step, action
        See `latticediff.proposal.RefinedProposal`.
    batch : int
        Most fields computed at once.

    Returns
    -------
    OdeProposal, SdeProposal, RefinedProposal or WholeProposal

    Raises
    ------
    UserError
        Another route, or an integrator for the SDE.
    """
    if route not in ("ode", "sde"):
        raise UserError(f"route is {route!r}; expected ode or sde")
    if route == "ode":
        inner: Any = OdeProposal(model, batch=batch, **own_scheme(model, steps, method, grid))
    elif method or grid:
        raise UserError(f"route sde got {method or grid!r}; method and grid are those of the ODE, leave them out")
    else:
        options: dict[str, Any] = {} if steps is None else {"steps": steps}
        inner = SdeProposal(model, batch=batch, **options)
    own = action if model.theory is model.action else None  # odd sites are annealed to their own theory
    return whole_proposal(inner if rungs == 1 else RefinedProposal(inner, rungs, step, own), model.action)


@dataclass(frozen=True)
class FreeEnergyResult:
    """log Z of one theory on one lattice."""

    source: str
    action: Action
    shape: Shape
    proposal: Description
    n_draws: int
    n_configurations: int
    estimates: FreeEnergy
    reach: Reach  #: of the draws' weights
    integration: tuple[
        IntegrationBias, ...
    ]  #: of the ODE's density on draws and on configurations; empty: exact on paths

    def to_dict(self) -> Description:
        """JSON-able."""
        ess = self.reach.ess
        return {
            "model": self.source,
            "action": self.action.describe(),
            "shape": list(self.shape),
            "proposal": self.proposal,
            "n_draws": self.n_draws,
            "n_configurations": self.n_configurations,
            **self.estimates.to_dict(),
            "free_energy_density": [-self.estimates.bridge.value / volume(self.shape)]
            + [self.estimates.bridge.error / volume(self.shape)],
            "ess_reverse": ess.pair(),
            "integration_error": self.integration_error,
        }

    @property
    def integration_error(self) -> float | None:
        """Error of log Z: the larger mean change of log_q under doubled steps; None where nothing is integrated."""
        return max((abs(bias.mean) for bias in self.integration), default=None)

    def to_text(self) -> str:
        """A table for people."""
        found, sites = self.estimates, volume(self.shape)
        rows = [
            ("draws, log <w>", str(found.reverse)),
            ("configurations, -log <1/w>", str(found.forward)),
            ("both, acceptance ratio", str(found.bridge)),
            ("bounds, <log w>", f"{found.lower} < log Z < {found.upper}"),
            ("free energy per site", format_error(-found.bridge.value / sites, found.bridge.error / sites)),
            ("ESS of the draws", str(self.reach.ess)),
        ]
        if math.isfinite(found.tension):
            rows.append(("draws against configurations", f"{found.tension:+.1f} sigma"))
        if self.integration:
            means = ", ".join(f"{bias.mean:+.1e}" for bias in self.integration)
            rows.append(("integration error of log Z", f"{means} (steps doubled; draws, configurations)"))
        head = (
            f"{self.source}: log Z of {self.action!r} on {'x'.join(map(str, self.shape))} from {self.n_draws} draws"
            f" ({scheme_text(self.proposal)}) and {self.n_configurations} configurations"
        )
        return "\n".join([head, *(f"  {name:30} {value}" for name, value in rows)])


@torch_defaults()
def measure_free_energy(
    folder: PathLikeStr,
    ensemble: PathLikeStr | None = None,
    to: Sequence[str] = (),
    n: int = 4000,
    route: str = "ode",
    steps: int | None = None,
    method: str | None = None,
    grid: str | None = None,
    rungs: int = 1,
    max_doubling: float = MAX_DOUBLING,
    seed: int = 1,
    device: str = "auto",
    progress: Progress | None = None,
) -> FreeEnergyResult:
    """log Z from draws of a model and configurations of the exact ensemble.

    Parameters
    ----------
    folder : path-like or str
        Model folder, or name of a shipped model.
    ensemble : path-like, optional
        Configurations, preferably not those trained on; a short HMC run is made if not given.
    to : sequence of str
        Couplings that differ from the model's, ``["lam=6.1"]``: any nearby theory will do.
    n : int
        Draws, and at most as many configurations.
    route, steps, method, grid, rungs
        See `refined`.
    max_doubling : float
        Largest change of log_q under twice the integration steps that is allowed: of its spread over fields, as for
        chains, and of its mean, by which log Z is off; inf allows any.
    seed : int
    device : str
        See `latticediff.build.device.pick_device`.
    progress : Progress, optional

    Returns
    -------
    FreeEnergyResult

    Raises
    ------
    FileError, ModelError, UserError
        Files that do not fit, impossible numbers, a log_q that is not accurate enough, or weights without overlap.
    """
    progress = progress or Progress()
    if n < 8:
        raise UserError(f"n is {n}; expected at least 8 draws")
    model, streams = load_model(folder, pick_device(device)), Streams(seed).child("free-energy")
    action = target_action(model.theory, to)
    proposal = refined(model, route, steps, method, grid, rungs=rungs, action=action)
    _refuse_coarse(proposal, max_doubling, streams, max_doubling)
    if ensemble is not None:
        phis = from_ensemble(ensemble, action, model.lattice, n)
    else:
        with progress.task("HMC configurations", 1) as task:
            phis = fresh_configurations(action, model.lattice, n, streams)
            task.advance()
    with progress.task("draws", n) as task:
        reverse = np.empty(n)
        for start in range(0, n, 256):
            draw = proposal.draw(min(256, n - start), streams.generator("draw"))
            reverse[start : start + 256] = -action(draw.phi) - draw.log_q
            task.reach(min(start + 256, n))
    flat = phis.reshape(-1, *model.lattice)
    forward = np.empty(len(flat))
    with progress.task("weighing configurations", len(flat)) as task:
        for start in range(0, len(flat), 256):
            part = slice(start, start + 256)
            forward[part] = -action(flat[part]) - require_density(proposal.weigh(flat[part], streams.generator("path")))
            task.reach(min(part.stop, len(flat)))
    return FreeEnergyResult(
        Path(folder).name,
        action,
        model.lattice,
        proposal.describe(),
        n,
        len(flat),
        free_energy(reverse, forward.reshape(phis.shape[:2])),
        reach(reverse),
        _integration(proposal, flat[:: max(1, len(flat) // N_DOUBLING)][:N_DOUBLING], streams),
    )


def _refuse_coarse(proposal: Proposal, largest: float, streams: Streams, largest_mean: float = math.inf) -> None:
    """`latticediff.build.learned.refuse_coarse` of what is below the annealing; names the options that help."""
    inner: Any = getattr(proposal, "inner", proposal)  # ODE or SDE, which have steps
    remedy = f"--steps {2 * inner.steps}, or --max-doubling"
    refuse_coarse(inner, largest, streams.child("doubling"), remedy, largest_mean)


def _integration(proposal: Proposal, phis: FloatArray, streams: Streams) -> tuple[IntegrationBias, ...]:
    """The integration error of log_q on draws and on the configurations `phis`; empty where nothing is integrated."""
    inner: Proposal = getattr(proposal, "inner", proposal)
    if not isinstance(inner, Integrated):
        return ()
    draw = inner.draw(len(phis), streams.child("integration").generator("draw"))
    rows = sound_rows(draw)
    # neither is None: the density is integrated
    changes = doubling_error(inner, draw.phi[rows], draw.log_q[rows]), doubling_error(inner, phis)
    return tuple(integration_bias(cast("FloatArray", change)) for change in changes)


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
    _refuse_coarse(proposal, max_doubling, streams)
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

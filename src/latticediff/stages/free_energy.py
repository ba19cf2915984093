"""Stage free energy: log Z from draws of a model and configurations of the exact ensemble."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from ..analysis import (
    FreeEnergy,
    Reach,
    free_energy,
    integration_bias,
    reach,
)
from ..analysis.gamma import format_error
from ..build.configurations import fresh_configurations, from_ensemble, start_of
from ..build.device import pick_device
from ..errors import UserError
from ..host import torch_defaults
from ..job.progress import Progress
from ..lattice import volume
from ..metropolis import doubling_error
from ..metropolis.checks import require_density, sound_rows
from ..metropolis.contract import Integrated
from ..model.storage import load_model
from ..report.numbers import scheme_text
from ..streams import Streams
from .targets import MAX_DOUBLING, N_DOUBLING, refined, refuse_coarse_inner, target_action

if TYPE_CHECKING:
    from ..action import Action
    from ..analysis import IntegrationBias
    from ..metropolis.contract import Proposal
    from ..types import Description, FloatArray, PathLikeStr, Shape

__all__ = ["FreeEnergyResult", "measure_free_energy"]


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
    refuse_coarse_inner(proposal, max_doubling, streams, max_doubling)
    if ensemble is not None:
        phis = from_ensemble(ensemble, action, model.lattice, n)
    else:
        with progress.task("HMC configurations", 1) as task:
            phis = fresh_configurations(action, model.lattice, n, streams, start_of(model))
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

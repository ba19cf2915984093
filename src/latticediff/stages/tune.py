"""The cheapest value of a knob: tau_int of |m|, acceptance and cost of learned chains against one key of a card."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import ValidationError

from ..analysis import tau_int
from ..analysis.gamma import format_error
from ..build.learned import accept_density, build_kernel
from ..build.model import model_for
from ..errors import StopRequested, UserError
from ..host import torch_defaults
from ..job.progress import Progress
from ..model.phases import Phases
from ..streams import Streams

if TYPE_CHECKING:
    from ..build.contract import LearnedKernel
    from ..config import Card
    from ..config.sections import KernelSection
    from ..markov import ChainState
    from ..model.score_model import ScoreModel
    from ..types import Description, FloatArray, PathLikeStr
    from .contract import StopCheck

__all__ = ["Trial", "Tuning", "default_values", "knob_of", "tune"]


@dataclass(frozen=True)
class Trial:
    """Chains at one value of the knob."""

    value: float
    acceptance: float
    tau: float  #: tau_int of |m|, in updates; inf: the chains did not move
    tau_error: float
    evaluations: float  #: network evaluations per update
    seconds: float  #: per update of one chain, as measured; other work on the machine counts

    @property
    def cost(self) -> float:
        """Network evaluations per independent value of |m|, ``2 tau_int * evaluations``."""
        return 2 * self.tau * self.evaluations


@dataclass(frozen=True)
class Tuning:
    """All trials of a knob, and the cheapest."""

    knob: str
    route: str
    kernel: Description  #: ``[sampling.kernel]`` of the card
    n_chains: int
    n_updates: int
    trials: tuple[Trial, ...]

    @property
    def best(self) -> Trial:
        """The cheapest `Trial` of those whose tau_int is known to a third; of all trials if there is none such."""
        known = [trial for trial in self.trials if trial.tau_error < trial.tau / 3]
        return min(known or self.trials, key=lambda trial: trial.cost)

    def to_dict(self) -> Description:
        """JSON-able; null for what is not finite."""
        rows = [{**asdict(trial), "cost": trial.cost} for trial in self.trials]
        finite = [{key: value if math.isfinite(value) else None for key, value in row.items()} for row in rows]
        return {
            "knob": self.knob,
            "route": self.route,
            "kernel": self.kernel,
            "n_chains": self.n_chains,
            "n_updates": self.n_updates,
            "trials": finite,
            "best": self.best.value,
        }

    def to_json(self) -> str:
        """`to_dict` as JSON text."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)

    def to_text(self) -> str:
        """A table for people."""
        lines = [f"{self.route} route, {self.n_chains} chains of {self.n_updates} updates at each value"]
        lines.append(f"{self.knob:>8}{'acceptance':>12}{'tau_int(|m|)':>15}{'evaluations':>13}{'ms/update':>11}  cost")
        for trial in self.trials:
            tau = format_error(trial.tau, trial.tau_error) if math.isfinite(trial.tau) else "no move"
            mark = "  <- least" if trial is self.best else ""
            lines.append(
                f"{trial.value:8.4g}{trial.acceptance:12.3f}{tau:>15}{trial.evaluations:13.4g}"
                f"{1e3 * trial.seconds:11.3g}  {trial.cost:.4g}{mark}"
            )
        lines.append("cost: network evaluations per independent |m|, 2 tau_int times evaluations per update")
        return "\n".join(lines)


def knob_of(kernel: KernelSection) -> str:
    """The key of ``[sampling.kernel]`` that decides how far a move goes, which is what `tune` varies.

    Parameters
    ----------
    kernel : latticediff.config.sections.KernelSection

    Returns
    -------
    {"tries", "block", "sigma", "eps"}
        Tries of independence moves, edge of block moves, and of partial moves sigma with white noise, else eps.
    """
    if kernel.move == "independence":
        return "tries"
    if kernel.move == "block":
        return "block"
    return "sigma" if kernel.noise == "white" else "eps"


def default_values(knob: str, model: ScoreModel) -> Sequence[float]:
    """Values that cover the whole range of a knob.

    Parameters
    ----------
    knob : str
        As from `knob_of`.
    model : ScoreModel
        Its lattice limits blocks; its fluctuations and its largest noise limit sigma.

    Returns
    -------
    sequence of float
        Ascending.
    """
    if knob == "tries":
        return [1, 2, 4, 8]
    if knob == "block":
        shortest = min(model.shape)
        return [edge for edge in (2, 4, 8, 16, 32, 64) if edge < shortest] + [shortest]
    if knob == "eps":
        return [0.2, 0.35, 0.5, 0.7, 0.85, 1.0]
    low = 0.3 * math.sqrt(model.gaussian.g_mean)  # a third of a site's width: one Gaussian step
    return [float(f"{value:.3g}") for value in np.geomspace(low, 0.999 * model.noise.sigma_max, 6)]


@torch_defaults()
def tune(
    card: Card,
    folder: PathLikeStr,
    route: str,
    values: Sequence[float] | None = None,
    n_chains: int = 50,
    n_updates: int = 200,
    *,
    progress: Progress | None = None,
    stop: StopCheck | None = None,
    outside: bool = False,
) -> Tuning:
    """Run chains at each value of the card's knob and compare their cost.

    Parameters
    ----------
    card : latticediff.config.Card
        ``[sampling.kernel]`` says which move; its knob (`knob_of`) is varied.
    folder : path-like
        Model folder, or name of a shipped model.
    route : str
        ``ode`` or ``sde``.
    values : sequence of float, optional
        Default: `default_values`.
    n_chains, n_updates : int
        At each value; before they are counted, a tenth as many updates are run and left out.
    progress, stop
        See `latticediff.stages.generate.generate`.
    outside : bool
        Take a model of other couplings or another size too; see `latticediff.build.model.model_for`.

    Returns
    -------
    Tuning

    Raises
    ------
    UserError
        Fewer than one chain or 20 updates, a value that does not fit, or a log_q that is not accurate enough.
    ModelError
        The model is of another theory or lattice, unless `outside`.
    StopRequested
        `stop` gave a reason; nothing is saved.
    """
    progress = progress or Progress()
    if n_chains < 1 or n_updates < 20:
        raise UserError(f"got {n_chains} chains of {n_updates} updates; expected at least 1 of 20")
    model = model_for(card, folder, route, outside, progress)
    if isinstance(model, Phases):
        raise UserError(f"{folder} is of coexisting phases, whose independent proposals have no knob to tune")
    accept_density(card, model, route)
    knob = knob_of(card.sampling.kernel)
    values = default_values(knob, model) if values is None else list(values)
    if knob in ("tries", "block"):
        if broken := [value for value in values if value != int(value)]:
            raise UserError(f"--values of {knob} hold {broken[0]:g}; expected whole numbers")
        values = [int(value) for value in values]
    kernels = [build_kernel(_with_knob(card, knob, value), model, route) for value in values]
    streams, trials = Streams(card.run.seed).child(f"tune-{route}"), []
    phi: FloatArray | None = None
    with progress.task(f"tuning {knob}", len(values)) as task:
        for value, kernel in zip(values, kernels, strict=True):
            branch = streams.child(f"{knob}-{value}")
            state = kernel.hot_start(n_chains, branch) if phi is None else kernel.start(phi)
            trial, phi = _trial(value, kernel, state, branch, n_updates)
            trials.append(trial)
            task.advance(acceptance=trial.acceptance)
            if stop is not None and (reason := stop()):
                raise StopRequested(f"{reason} after {len(trials)} of {len(values)} values", reason.exit_code)
    about = card.sampling.kernel.model_dump(exclude_none=True, exclude={"block", "sigma"})
    return Tuning(knob, route, about, n_chains, n_updates, tuple(trials))


def _with_knob(card: Card, knob: str, value: float) -> Card:
    """The card with this value of the knob, checked like any card."""
    section = card.sampling.kernel
    try:
        kernel = type(section).model_validate({**section.model_dump(), knob: value})
    except ValidationError as exc:
        raise UserError(f"{knob} = {value}: {exc.errors()[0]['msg'].lower()}") from None
    sampling = card.sampling.model_copy(update={"kernel": kernel})
    return card.model_copy(update={"sampling": sampling})


def _trial(
    value: float, kernel: LearnedKernel, state: ChainState, streams: Streams, n_updates: int
) -> tuple[Trial, FloatArray]:
    """Run chains at one value; returns the trial and the fields that they end with."""
    state, _ = kernel.advance(state, streams, max(1, n_updates // 10), n_updates)
    began = time.perf_counter()
    state, block = kernel.advance(state._replace(update=0), streams, n_updates)
    seconds = (time.perf_counter() - began) / (n_updates * len(state.phi))
    abs_m = np.abs(block.phi.reshape(*block.phi.shape[:2], -1).mean(axis=2)).T
    accepted = [rows for name, rows in block.info.items() if name.rpartition("_")[2] == "accepted"]
    try:
        found = tau_int(abs_m, name="|m|")
        tau, error = found.value, found.error
    except UserError:  # a chain that never moved
        tau, error = math.inf, math.inf
    # of a sequence, the learned part's: it is the last
    rate = float(accepted[-1].mean())
    return Trial(value, rate, tau, error, float(kernel.evaluations_per_update), seconds), state.phi

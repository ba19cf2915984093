"""Stage diagnose: one model on its own, its weights, its errors and where they come from."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ..analysis import field_series, free_energy, integration_bias, weight_report
from ..analysis.attribution import expected_stay, explained, local_operators, longest_rejection, shell_powers
from ..analysis.gamma import tau_int
from ..atomic import all_at_once, claimed, entries_of
from ..build.configurations import fresh_configurations, from_ensemble, start_of
from ..build.device import describe_device, pick_device
from ..errors import FileError, UserError
from ..host import torch_defaults
from ..job.progress import Progress
from ..metropolis import doubling_error
from ..metropolis.checks import require_density, sound_rows
from ..metropolis.contract import Integrated
from ..model.score_error import score_error
from ..model.storage import load_model
from ..proposal.fine import FineProposal
from ..proposal.whole import WholeProposal
from ..provenance import collect, version
from ..report.diagnosis import Diagnosis, write_diagnosis
from ..streams import Streams
from .model_place import refuse_model_folder
from .targets import refined

if TYPE_CHECKING:
    from ..action import Action
    from ..analysis import IntegrationBias
    from ..model.score_model import ScoreModel
    from ..proposal import OdeProposal, RefinedProposal, SdeProposal
    from ..types import FloatArray, PathLikeStr

    Share = tuple[str, float, float]  #: label, share of the variance of log_weight, its error

__all__ = ["diagnose", "diagnosis_of"]

BATCH = 256
N_INTEGRATION = 300  # configurations whose density is computed with twice the steps, and draws inverted
N_SCORE = 24  # noised configurations of the score error: their posteriors are what costs


@torch_defaults()
def diagnose(
    folder: PathLikeStr,
    out: PathLikeStr,
    ensemble: PathLikeStr | None = None,
    n: int = 2000,
    route: str = "ode",
    steps: int | None = None,
    method: str | None = None,
    grid: str | None = None,
    seed: int = 1,
    device: str = "auto",
    levels: int = 10,
    progress: Progress | None = None,
) -> tuple[Diagnosis, dict[str, Path]]:
    """Diagnose a model and write the page.

    Parameters
    ----------
    folder : path-like or str
        Model folder, or name of a shipped model.
    out : path-like
        Folder of the page; anything but an earlier diagnosis in it is refused.
    ensemble : path-like, optional
        Exact configurations; a short HMC run is made if not given.
    n, route, steps, method, grid, seed, device, levels, progress
        As `diagnosis_of`; `device` as `latticediff.build.device.pick_device`.

    Returns
    -------
    diagnosis : Diagnosis
    paths : dict of str to Path

    Raises
    ------
    FileError, ModelError, UserError
        Files that do not fit, something in the way at `out`, impossible numbers.
    """
    refuse_model_folder(Path(out))
    with claimed(out) as place:
        there = entries_of(place)
        if there and "diagnosis.json" not in there:
            raise FileError(f"{out} exists and is no diagnosis; choose another --out")
        model = load_model(folder, pick_device(device))
        found = diagnosis_of(model, Path(folder).name, ensemble, n, route, steps, method, grid, seed, levels, progress)
        with all_at_once(place, "diagnosis.html") as new:
            paths = write_diagnosis(found, new)
    return found, {name: place / path.name for name, path in paths.items()}


@torch_defaults()
def diagnosis_of(
    model: ScoreModel,
    name: str,
    ensemble: PathLikeStr | None = None,
    n: int = 2000,
    route: str = "ode",
    steps: int | None = None,
    method: str | None = None,
    grid: str | None = None,
    seed: int = 1,
    levels: int = 10,
    progress: Progress | None = None,
) -> Diagnosis:
    """Measure a model's proposal: weights, their errors, and what causes them.

    Parameters
    ----------
    model : ScoreModel
    name : str
        What the page calls the model.
    ensemble : path-like, optional
        Exact configurations; a short HMC run is made if not given.
    n : int
        Draws, and at most as many exact configurations.
    route, steps, method, grid
        See `latticediff.stages.targets.refined`.
    seed : int
    levels : int
        Noise levels of the score error; 0 leaves it out.
    progress : Progress, optional

    Returns
    -------
    Diagnosis

    Raises
    ------
    UserError
        Fewer than 50 draws, weights without overlap, or a density that cannot be computed.
    FileError
        An ensemble file that does not fit.
    """
    began, progress = time.perf_counter(), progress or Progress()
    if n < 50:
        raise UserError(f"n is {n}; expected at least 50 draws")
    streams, action = Streams(seed).child("diagnose"), model.theory
    proposal = refined(model, route, steps, method, grid, batch=BATCH)
    phis, source = _reference(model, ensemble, n, streams, progress)
    flat = phis.reshape(-1, *model.lattice)
    draws, reverse = np.empty((n, *model.lattice)), np.empty(n)
    with progress.task("draws", n) as task:
        for start in range(0, n, BATCH):
            part = slice(start, start + BATCH)
            draw = proposal.draw(min(BATCH, n - start), streams.generator("draw"))
            draws[part], reverse[part] = draw.phi, -action(draw.phi) - draw.log_q
            task.reach(min(part.stop, n))
    forward: FloatArray = np.empty(len(flat))
    with progress.task("weighing", len(flat)) as task:
        for start in range(0, len(flat), BATCH):
            part = slice(start, start + BATCH)
            forward[part] = -action(flat[part]) - require_density(proposal.weigh(flat[part], streams.generator("path")))
            task.reach(min(part.stop, len(flat)))
    forward = forward.reshape(phis.shape[:2])
    longest, acceptance = longest_rejection(reverse, streams.generator("chain"))
    axes = tuple(range(1, flat.ndim))
    m_reverse, m_forward = draws.mean(axis=axes), flat.mean(axis=axes).reshape(forward.shape)
    some = flat[:: max(1, len(flat) // N_INTEGRATION)][:N_INTEGRATION]
    with progress.task("integration error", 1) as task:
        # the laws of even and fine sites are exact: what integration adds is in the density of the others
        own: Any = proposal.odd if isinstance(proposal, WholeProposal) else proposal
        own = own.coarse if isinstance(own, FineProposal) else own
        integration, epsilon, inversion = _integration(own, model.action, model.restrict(some), streams)
        task.advance()
    level_error = None
    if levels and model.theory is not model.action:
        progress.say("score error: left out, its exact chains are HMC's and the model is of a part of the sites")
        levels = 0
    if levels:
        with progress.task("score error", levels) as task:
            few = flat[:: max(1, len(flat) // N_SCORE)][:N_SCORE]
            level_error = score_error(model, few, levels, seed=seed, progress=task.reach)
    finite = np.isfinite(reverse)
    return Diagnosis(
        name=name,
        action=action.describe(),
        shape=model.lattice,
        proposal=proposal.describe(),
        reference=source,
        log_weight_reverse=reverse,
        log_weight_forward=forward,
        m_reverse=m_reverse,
        m_forward=m_forward,
        largest_reverse=np.abs(draws).max(axis=axes),
        largest_forward=np.abs(flat).max(axis=axes).reshape(forward.shape),
        weights=weight_report(reverse, forward),
        free_energy=free_energy(reverse, forward),
        longest_rejection=longest,
        acceptance=acceptance,
        expected_stay=expected_stay(reverse, forward.max()),
        sign={}
        if model.gaussian.one_sided
        else {"draws": _sign(m_reverse[None]), "configurations": _sign(m_forward, correlated=True)},
        shares=_shares(reverse[finite], draws[finite]),
        integration=integration[0],
        integration_draws=integration[1],
        doubling=epsilon,
        inversion=inversion,
        score_error=level_error,
        seed=seed,
        seconds=time.perf_counter() - began,
        device=describe_device(model.gaussian.device),
        versions={"latticediff": version(), **collect("{}", "", []).libraries},
    )


def _reference(
    model: ScoreModel, ensemble: PathLikeStr | None, n: int, streams: Streams, progress: Progress
) -> tuple[FloatArray, str]:
    """Exact configurations, (n_chains, n_times, *lattice), and where they come from, in words."""
    if ensemble is not None:
        phis = from_ensemble(ensemble, model.theory, model.lattice, n)
        return phis, f"{phis.shape[0]} chains of {Path(ensemble).name}, {phis.shape[1]} configurations of each"
    with progress.task("HMC configurations", 1) as task:
        phis = fresh_configurations(model.theory, model.lattice, n, streams, start_of(model))
        task.advance()
    return phis, f"a short run of {phis.shape[0]} HMC chains, {phis.shape[1]} configurations of each"


def _sign(m: FloatArray, correlated: bool = False) -> tuple[float, float]:
    """Share of m > 0 and its deviation from one half in standard errors."""
    positive = (m > 0).astype(np.float64)
    share, spread = positive.mean(), 0.5 / np.sqrt(m.size)
    if correlated and not np.diff(positive, axis=1).any():
        spread = 0.5 / np.sqrt(len(m))  # every chain keeps its sign: one number each
    elif correlated:
        spread *= np.sqrt(2 * tau_int(positive, name="sign of m").value)
    return float(share), float((share - 0.5) / spread)


def _shares(log_weight: FloatArray, phis: FloatArray) -> dict[str, list[Share]]:
    """Regressions of log_weight on shells, on operators, and on both."""
    shells, shell_names = shell_powers(phis)
    operators, operator_names = local_operators(phis)

    def row(label: str, features: FloatArray) -> Share:
        found = explained(log_weight, features)
        return label, found.value, found.error

    return {
        "shells": [row(label, shells[:, [i]]) for i, label in enumerate(shell_names)],
        "operators": [row(label, operators[:, [i]]) for i, label in enumerate(operator_names)],
        "together": [
            row("all shells", shells),
            row("all operators", operators),
            row("both", np.hstack([shells, operators])),
        ],
    }


def _integration(
    proposal: OdeProposal | SdeProposal | RefinedProposal, action: Action, phis: FloatArray, streams: Streams
) -> tuple[tuple[IntegrationBias | None, IntegrationBias | None], FloatArray | None, dict[str, tuple[float, float]]]:
    """The error that integration makes in log_q.

    Returns `IntegrationBias` on configurations and on draws; the change of log_q of the former under twice the steps;
    and how well draws are inverted, as median and largest deviation of noise and log_q, with the number of those for
    which no noise was found, of how many, if there are any. The paths of the SDE have no
    such error: None, None and an empty dict.
    """
    if not isinstance(proposal, Integrated):
        return (None, None), None, {}
    epsilon = cast("FloatArray", doubling_error(proposal, phis))  # not None: the density is integrated
    given = integration_bias(epsilon, field_series(phis, action))
    noise = streams.generator("invert").standard_normal((min(100, len(phis)), *proposal.noise_shape))
    draw = proposal.transport(noise)
    usable = sound_rows(draw)
    drawn, known = draw.phi[usable], draw.log_q[usable]
    of_draws = cast("FloatArray", doubling_error(proposal, drawn, known))
    drawn_bias = integration_bias(of_draws, field_series(drawn, action))
    back, log_q = proposal.invert(drawn)
    solved = np.isfinite(log_q)  # the passages of a grid that is too coarse need not contract
    changes = {
        "noise": np.abs(back - noise[usable]).reshape(len(back), -1).max(axis=1)[solved],
        "log_q": np.abs(log_q - known)[solved],
    }
    inversion = {name: (float(np.median(c)), float(c.max())) for name, c in changes.items() if len(c)}
    if not solved.all():
        inversion["lost"] = (float((~solved).sum()), float(len(solved)))
    return (given, drawn_bias), epsilon, inversion

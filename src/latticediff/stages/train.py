"""Stage train: a score network on an ensemble, into a model folder."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, fields
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from .. import bill
from ..analysis import ess_forward, ess_reverse
from ..atomic import claimed
from ..build.device import describe_device, pick_device
from ..build.learned import plain_proposal, store_grid
from ..build.network import build_network
from ..build.sites import learned_theory
from ..diffusion.ladder import NoiseRange
from ..ensemble import Ensemble
from ..errors import FileError
from ..gaussian.propagator import measured_propagator, measured_vacuum, smooth_propagator
from ..gaussian.reference import GaussianReference
from ..gaussian.vacua import check_vacua
from ..host import torch_defaults
from ..job.log import JsonLog
from ..job.progress import Progress
from ..model.score_model import load_model, read_card, save_model
from ..networks.contract import ClosedFormTrace, Conditioned
from ..provenance import commit, version
from ..streams import Streams
from ..training import Task, Trainer, TrainingData, TrainingPlan, Watching
from ..training.calibrate import finish_model
from ..training.data import by_chain, evenly
from ..training.ranks import ALONE, data_parallel, local_device
from ..untrusted import status
from .gate import pass_gate
from .watch import Tracker, Watcher

if TYPE_CHECKING:
    import torch
    from torch import nn

    from ..action import Action
    from ..config import Card
    from ..metropolis.contract import Proposal
    from ..model.score_model import ScoreModel
    from ..training.ranks import Ranks
    from ..types import Description, FloatArray, PathLikeStr
    from .contract import StopCheck

__all__ = [
    "CHECKPOINT",
    "Source",
    "build_trainer",
    "clear_checkpoint",
    "fingerprints",
    "gaussian_of",
    "holds_model",
    "metrics",
    "open_sources",
    "train",
    "weighed",
]

N_METRICS = 1000  # proposals and held-out configurations behind the ESS in a model's card

CHECKPOINT = "checkpoint.safetensors"
LOG = "log.jsonl"


class Source(NamedTuple):
    """Data of one theory, from which `build_trainer` makes a `Task`."""

    action: Action
    data: TrainingData
    frequency: float = 1.0


@torch_defaults()
def build_trainer(
    card: Card, sources: Sequence[Source], ranks: Ranks = ALONE, say: Callable[[str], object] | None = None
) -> Trainer:
    """The `Trainer` of a card.

    Parameters
    ----------
    card : latticediff.config.Card
    sources : sequence of Source
        The card's own theory first.
    ranks, say
        See `Trainer`.

    Returns
    -------
    Trainer

    Raises
    ------
    CardError
        Options that the network does not take.
    UserError
        Data that cannot be trained on, a batch larger than the data, or no room between the noise levels.
    """
    section = card.training
    tasks = [Task(gaussian_of(source, section.phase), source.data, source.frequency) for source in sources]
    # the noise has to drown the largest fluctuation of all
    widest = max(float(task.gaussian.propagator_full.flatten()[0]) for task in tasks)
    noise = NoiseRange(section.sigma_min, section.sigma_max_factor * widest**0.5)
    for task in tasks:
        check_vacua(task.gaussian, noise.sigma_max)
    keys = [field.name for field in fields(TrainingPlan) if field.name != "seed"]
    plan = TrainingPlan(**{key: getattr(section, key) for key in keys}, seed=card.run.seed)
    network = build_network(card)
    if section.init is None and isinstance(network, Conditioned):  # else they are those of the first weights
        network.centre_on([task.gaussian.action for task in tasks])
    network.to(tasks[0].gaussian.device)
    return Trainer(network, tasks, noise, plan, ranks, section.micro_batch, say)


@torch_defaults()
def gaussian_of(source: Source, phase: str = "symmetric") -> GaussianReference:
    """The Gaussian reference with vacuum and propagator measured on the training configurations.

    The propagator is smoothed as far as its halves, of earlier and later Monte Carlo time, allow.

    Parameters
    ----------
    source : Source
    phase : {"symmetric", "broken"}
        Whether to expand around 0 or around the two vacua; see `latticediff.gaussian.vacua`.

    Returns
    -------
    GaussianReference
    """
    data = source.data
    n, shape = len(data.train), tuple(data.shape)
    bounds = ((0, n // 2), (n // 2, n)) if n // 2 > 1 else ((0, n), (0, n))
    vacuum = measured_vacuum(_pieces(data, 0, n)) if phase == "broken" else 0.0
    action: Any = source.action  # refused if it has no Gaussian reference
    vectors = getattr(action, "unit_vectors", None)
    first, second = (measured_propagator(_pieces(data, *half), shape, vacuum, vectors) for half in bounds)
    return GaussianReference(action, smooth_propagator(first, second, vectors), data.train.device, vacuum=vacuum)


def _pieces(data: TrainingData, start: int, stop: int) -> Iterator[FloatArray]:
    # piece by piece: streamed data are never in memory as a whole
    for low in range(start, stop, 4096):
        yield data.train[low : min(low + 4096, stop)].double().cpu().numpy()


def open_sources(
    card: Card,
    ensembles: PathLikeStr | Sequence[PathLikeStr],
    device: torch.device,
    open_files: ExitStack,
    log: JsonLog,
    gate: bool = True,
) -> tuple[list[Source], Description]:
    """The data of a training: the ensembles asked for, and those of ``training.ensembles``.

    Parameters
    ----------
    card, ensembles, gate
        See `train`.
    device : torch.device
    open_files : contextlib.ExitStack
        Keeps the files open: data may be streamed.
    log : JsonLog

    Returns
    -------
    sources : list of Source
    about : dict
        For the model's card: the program and where the data came from.

    Raises
    ------
    FileError
        The first ensemble is of another action or lattice than the card.
    GateError
        An ensemble is not fit to train on.
    """
    files: list[tuple[PathLikeStr, float]] = [
        (path, 1.0) for path in ([ensembles] if isinstance(ensembles, str | PathLike) else ensembles)
    ]
    files += [(entry.file, entry.frequency) for entry in card.training.ensembles]
    sources, parents, data_rows = [], [], []
    for number, (path, frequency) in enumerate(files):
        ensemble = open_files.enter_context(Ensemble(path))
        if number == 0:
            ensemble.expect(card.theory(), card.shape)
        if gate or number > 0:
            pass_gate(ensemble, card.gate, log)
        theory = learned_theory(card, ensemble.action)
        section = card.training
        data = TrainingData(ensemble, held_out=section.held_out, device=device, where=section.data, theory=theory)
        sources.append(Source(theory, data, frequency))
        parents.append(ensemble.parent())
        data_rows.append(bill.row_of_ensemble(ensemble))
    return sources, {
        "program": {"name": "latticediff", "version": version(), "commit": commit()},
        "ensemble": parents[0],
        **({"further_ensembles": parents[1:]} if parents[1:] else {}),
        bill.KEY: data_rows,
    }


def fingerprints(about: Description) -> list[str]:
    """Fingerprints of the ensembles that `open_sources` opened; a checkpoint belongs to these data and no others."""
    return [parent["fingerprint"] for parent in (about["ensemble"], *about.get("further_ensembles", ()))]


@torch_defaults()
def train(
    card: Card,
    ensembles: PathLikeStr | Sequence[PathLikeStr],
    folder: PathLikeStr,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    log: JsonLog | None = None,
    stop: StopCheck | None = None,
    gate: bool = True,
) -> ScoreModel | None:
    """Train the network of a card on an ensemble, or on several, and write the model folder.

    Parameters
    ----------
    card : latticediff.config.Card
    ensembles : path-like or sequence of path-like
        The first of the card's action and lattice, which become the model's own; further ones carry
        their own. Those of ``training.ensembles`` follow.
    folder : path-like
        Model folder; while training is unfinished it holds a checkpoint.
    resume : bool
        Go on from the checkpoint, to the same weights as an uninterrupted run; a finished model is left as it is.
    progress, log, stop : optional
        See `generate`; without a log, the measurements made while training go to ``log.jsonl`` in the folder.
    gate : bool
        Apply the gate to the first ensemble; false only where it has been passed already.

    Returns
    -------
    ScoreModel or None
        Frozen; None in all processes but the first of a training under torchrun.

    Raises
    ------
    FileError
        A model or checkpoint is in the way, another process is at work in the folder, or the ensemble is of another
        action or lattice.
    GateError
        An ensemble is not fit to train on.
    StopRequested
        `stop` gave a reason; the checkpoint is written.
    """
    listens = log is None and card.training.watch_every > 0  # what is watched must go somewhere
    folder, progress, log = Path(folder), progress or Progress(), log or JsonLog()
    checkpoint = folder / CHECKPOINT
    theory: Any = card.theory()  # a model refuses any but its own
    if holds_model(folder, resume):
        return load_model(folder, action=theory, shape=card.shape)
    device = local_device(pick_device(card.training.device))
    with data_parallel(device) as ranks, ExitStack() as open_files:
        if not ranks.writes:
            progress, log = Progress(), JsonLog()
        else:
            open_files.enter_context(claimed(folder))
            if holds_model(folder, resume):  # another process has finished it meanwhile
                return load_model(folder, action=theory, shape=card.shape)
            log = JsonLog(folder / LOG) if listens else log
        sources, about = open_sources(card, ensembles, device, open_files, log, gate)
        trainer = build_trainer(card, sources, ranks, progress.say)
        trainer.sources = cast(Any, fingerprints(about))  # declared by its empty default alone
        if card.training.init is not None:  # its weights were paid for
            about[bill.KEY] = bill.extended(bill.rows_of(read_card(card.training.init)), about[bill.KEY])
        last = _run(card, trainer, checkpoint, progress, log, stop)
        if not ranks.writes:
            return None
        about["training"] = _about(card, trainer, last)
        model = _save_models(card, trainer, about, folder)
        clear_checkpoint(folder)
    log("trained", folder=folder.name, fingerprint=model.fingerprint(), seconds=trainer.seconds)
    return model


def holds_model(folder: Path, resume: bool) -> bool:
    """Whether a folder holds a finished model; a resumed call leaves that as it is.

    Raises
    ------
    FileError
        A model or a checkpoint is there, and `resume` is false.
    """
    finished = status(folder / "card.toml") is not None
    if finished and not resume:
        raise FileError(f"{folder} already holds a model and is never overwritten; choose another --out")
    if status(folder / CHECKPOINT) is not None and not resume:
        raise FileError(f"{folder} holds an unfinished training; go on with --resume, or choose another --out")
    return finished


def clear_checkpoint(folder: Path) -> None:
    """Remove the checkpoints of a training that is over."""
    for leftover in folder.glob(f"{CHECKPOINT}*"):
        leftover.unlink()


def _run(
    card: Card, trainer: Trainer, checkpoint: Path, progress: Progress, log: JsonLog, stop: StopCheck | None
) -> Mapping[str, Any]:
    """Run the trainer with log, progress, curves and checkpoints; returns the last row of the log."""
    section = card.training
    rows: list[Mapping[str, Any]] = [{}]
    warned: set[int] = set()
    track = Tracker(checkpoint.parent / "tensorboard") if section.tensorboard and trainer.ranks.writes else None

    def record(row: Mapping[str, Any]) -> None:
        rows.append(row)
        log("training", **row)
        if track is not None:
            track(row)

    def report(row: Mapping[str, Any]) -> None:
        log("watch", **row)
        if track is not None:
            track(row)
        for number in set(row["too_few_data"]) - warned:
            warned.add(number)
            gap, error = row["gaps"][number]
            progress.say(
                f"too few training data on {trainer.tasks[number].gaussian.shape}: at step {row['step']} the held-out"
                f" loss exceeds that on the training data by {gap:.2g} +- {error:.1g} per site; generate more"
            )

    watching = None
    if section.watch_every:
        watching = Watching(section.watch_every, Watcher(card), report, section.early_stop)
    with progress.task("training", section.steps) as task:
        trainer.run(
            checkpoint,
            section.checkpoint_every,
            log=record if trainer.ranks.writes else None,
            progress=lambda step, steps, loss: task.reach(step, loss=loss),
            stop=stop,
            watching=watching,
        )
    if track is not None:
        track.close()
    return rows[-1]


def _about(card: Card, trainer: Trainer, last: Mapping[str, Any]) -> Description:
    """The training, as a model's card tells it."""
    about: Description = {
        **{key: value for key, value in asdict(trainer.plan).items() if value is not None},
        "held_out": card.training.held_out,
        "configurations": sum(len(task.data.train) for task in trainer.tasks),
        "seconds": trainer.seconds,
        "device": describe_device(trainer.gaussian.device),
        **{key: last[key] for key in ("loss", "held_out_loss") if key in last},
    }
    if trainer.w0 is not None:
        about["w0_fitted"] = trainer.w0
    if trainer.finished:
        about["stopped_early_at"] = trainer.step
    return about


def _save_models(card: Card, trainer: Trainer, about: Description, folder: Path) -> ScoreModel:
    """Write the last weights and, where they differ, the best ones: one is the model, the other goes to a subfolder."""
    own, *further = trainer.tasks
    networks: dict[str, tuple[int | None, nn.Module]] = {"last": (trainer.step, trainer.averaged())}
    if trainer.best.weights and trainer.best.step != trainer.step:
        best = copy.deepcopy(trainer.averaged())
        best.load_state_dict(trainer.best.weights)
        networks["best"] = (trainer.best.step, best)
    kept = card.training.keep if card.training.keep in networks else "last"
    # the one that is kept goes last: with its card the folder is a model
    for name in sorted(networks, key=lambda name: name == kept):
        place = folder if name == kept else folder / name
        if (place / "card.toml").exists():
            continue  # of a call that was killed after this
        step, network = networks[name]
        text = {**about, "training": {**about["training"], "step": step}} if len(networks) > 1 else about
        model = finish_model(network, own.gaussian, trainer.noise, own.data, text, card.run.seed, further)
        row = bill.training_row(
            bill.SCORE_MATCHING, model.fingerprint(), trainer.seconds, model.shape, about["training"]["device"]
        )
        model.card[bill.KEY] = [*about[bill.KEY], row]
        store_grid(card, model)
        model.card["metrics"] = metrics(card, model, own.data)
        save_model(model, place)
    return model


def weighed(proposal: Proposal, phis: FloatArray, rng: np.random.Generator | None = None) -> FloatArray:
    """log q of held-out fields, (n,), for the figures of a model that may be hardly trained.

    Where the proposal finds no noise that leads to a field, `weigh` gives NaN, which chains refuse. Here one
    integration upwards takes its place: the figures then show how bad the model is, instead of ending its training.

    Parameters
    ----------
    proposal : Proposal
    phis : ndarray, shape (n, *lattice), float64
    rng : numpy.random.Generator, optional
        For proposals that draw a hidden path.

    Returns
    -------
    ndarray, shape (n,), float64
    """
    log_q = proposal.weigh(phis, cast("np.random.Generator", rng))  # a proposal without paths wants none
    lost = np.isnan(log_q)
    if lost.any() and hasattr(proposal, "estimate"):
        log_q[lost] = proposal.estimate(phis[lost])
    return log_q


@torch_defaults()
def metrics(card: Card, model: ScoreModel, data: TrainingData) -> Description:
    """ESS both ways, as the model's card states it; the report measures it on more configurations.

    Returns
    -------
    dict
        TOML-able.
    """
    # of the ODE, unless its divergence costs backward passes: that could take longer than the training
    route = "ode" if isinstance(model.network, ClosedFormTrace) else "sde"
    proposal: Any = plain_proposal(card, model, route)
    rng = Streams(card.run.seed).child("metrics").generator("propose")
    draw = proposal.draw(N_METRICS, rng)
    some = evenly(data.held_out, N_METRICS)
    forward = -model.action(some) - weighed(proposal, some, rng)
    found = {
        "ess_reverse": ess_reverse(-model.action(draw.phi) - draw.log_q),
        "ess_forward": ess_forward(by_chain(forward, len(data.held_out), data.held_out_chains)),
    }
    pairs = {name: [estimate.value, estimate.error] for name, estimate in found.items()}
    scheme = {key: getattr(card.sampling.ode, key) for key in ("method", "grid")} if route == "ode" else {}
    return {"proposal": route, "steps": proposal.steps, **scheme, "n": N_METRICS, **pairs}

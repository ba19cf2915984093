"""Stage train: a score network on an ensemble, into a model folder."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from .. import bill
from ..atomic import claimed
from ..build.device import describe_device, pick_device
from ..build.learned import store_grid
from ..build.network import build_network
from ..diffusion.ladder import NoiseRange
from ..gaussian.vacua import check_vacua
from ..host import torch_defaults
from ..job.log import JsonLog
from ..job.progress import Progress
from ..model.storage import load_model, read_card, save_model
from ..networks.contract import Conditioned
from ..training import Task, Trainer, TrainingPlan, Watching
from ..training.calibrate import finish_model
from ..training.ranks import ALONE, data_parallel, local_device
from .fine_law import coarse_theory
from .finish import finishing
from .finish_cost import finish_work
from .first_weights import require_first_weights
from .model_metrics import metrics, weighed
from .model_place import CHECKPOINT, LOG, clear_checkpoint, holds_model
from .sources import Source, fingerprints, gaussian_of, open_sources, references
from .watch import Tracker, Watcher

if TYPE_CHECKING:
    from torch import nn

    from ..config import Card
    from ..ensemble import Ensemble
    from ..fine import CoarseSites
    from ..model.score_model import ScoreModel
    from ..training.ranks import Ranks
    from ..types import Description, PathLikeStr
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
    gaussians = references(sources, section.phase)
    tasks = [Task(gaussian, source.data, source.frequency) for gaussian, source in zip(gaussians, sources, strict=True)]
    # the noise has to drown the largest fluctuation of all, which need not be the zero mode's
    widest = max(task.gaussian.g_max for task in tasks)
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
    require_first_weights(card)
    device = local_device(pick_device(card.training.device))
    with data_parallel(device) as ranks, ExitStack() as open_files:
        if not ranks.writes:
            progress, log = Progress(), JsonLog()
        else:
            open_files.enter_context(claimed(folder))
            if holds_model(folder, resume):  # another process has finished it meanwhile
                return load_model(folder, action=theory, shape=card.shape)
            log = JsonLog(folder / LOG) if listens else log
        theory_of, law_seconds = None, [0.0]
        if card.training.sites == "coarse":

            def theory_of(ensemble: Ensemble) -> CoarseSites:
                theory, law_seconds[0] = coarse_theory(card, ensemble, folder, ranks, progress, log, stop)
                return theory

        sources, about = open_sources(card, ensembles, device, open_files, log, gate, theory_of)
        trainer = build_trainer(card, sources, ranks, progress.say)
        trainer.sources = cast(Any, fingerprints(about))  # declared by its empty default alone
        if card.training.init is not None:  # its weights were paid for
            about[bill.KEY] = bill.extended(bill.rows_of(read_card(card.training.init)), about[bill.KEY])
        last = _run(card, trainer, checkpoint, progress, log, stop)
        if not ranks.writes:
            return None
        about["training"] = _about(card, trainer, last, law_seconds[0])
        model = _save_models(card, trainer, about, folder, progress)
        clear_checkpoint(folder)
    log("trained", folder=folder.name, fingerprint=model.fingerprint(), seconds=trainer.seconds)
    return model


def _run(
    card: Card, trainer: Trainer, checkpoint: Path, progress: Progress, log: JsonLog, stop: StopCheck | None
) -> Mapping[str, Any]:
    """Run the trainer with log, progress, curves and checkpoints; returns the last row of the log."""
    section = card.training
    warned: set[int] = set()
    track = Tracker(checkpoint.parent / "tensorboard") if section.tensorboard and trainer.ranks.writes else None

    def record(row: Mapping[str, Any]) -> None:
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
            progress.warn(
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
    return trainer.last_row


def _about(card: Card, trainer: Trainer, last: Mapping[str, Any], law_seconds: float) -> Description:
    """The training, as a model's card tells it; the seconds are those of the law of the fine sites, too."""
    about: Description = {
        **{key: value for key, value in asdict(trainer.plan).items() if value is not None},
        "held_out": card.training.held_out,
        "configurations": sum(len(task.data.train) for task in trainer.tasks),
        "seconds": trainer.seconds + law_seconds,
        "device": describe_device(trainer.gaussian.device),
        **{key: last[key] for key in ("loss", "held_out_loss") if key in last},
    }
    if card.training.sites == "coarse":
        about["fine_steps"] = card.training.fine_steps
    if trainer.w0 is not None:
        about["w0_fitted"] = trainer.w0
    if trainer.finished:
        about["stopped_early_at"] = trainer.step
    return about


def _save_models(card: Card, trainer: Trainer, about: Description, folder: Path, progress: Progress) -> ScoreModel:
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
        with finishing(progress, finish_work(card, trainer.tasks, network, figures=False)) as done:
            model = finish_model(network, own.gaussian, trainer.noise, own.data, text, card.run.seed, further)
            row = bill.training_row(
                bill.SCORE_MATCHING,
                model.fingerprint(),
                about["training"]["seconds"],
                model.shape,
                about["training"]["device"],
            )
            model.card[bill.KEY] = [*about[bill.KEY], row]
            done()
            store_grid(card, model)
            done()
            model.card["metrics"] = metrics(card, model, own.data)
            done()
        save_model(model, place)
    return model

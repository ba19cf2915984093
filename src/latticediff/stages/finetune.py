"""Stage finetune: a trained model, its ensembles, and training through the flow, into another model folder."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from .. import bill
from ..atomic import claimed
from ..build.device import describe_device, pick_device
from ..build.learned import store_grid
from ..errors import CardError, UserError
from ..fine import CoarseSites
from ..gaussian.reference import GaussianReference
from ..host import torch_defaults
from ..job.log import JsonLog
from ..job.progress import Progress
from ..model.score_model import ScoreModel
from ..model.storage import load_model, save_model
from ..training import Task
from ..training.calibrate import finish_model
from ..training.finetune import FineTuner, FineTuningPlan
from ..training.ranks import data_parallel, local_device
from .finetune_figures import figures, summary
from .finish import finishing
from .finish_cost import finish_work
from .train import (
    CHECKPOINT,
    clear_checkpoint,
    fingerprints,
    gaussian_of,
    holds_model,
    metrics,
    open_sources,
)

if TYPE_CHECKING:
    from ..config import Card
    from ..types import PathLikeStr
    from .contract import StopCheck
    from .train import Source

__all__ = ["NothingGained", "figures", "finetune", "plan_of", "summary"]

LOG_EVERY = 10


def plan_of(card: Card) -> FineTuningPlan:
    """The `FineTuningPlan` of a card.

    Parameters
    ----------
    card : latticediff.config.Card

    Returns
    -------
    FineTuningPlan

    Raises
    ------
    CardError
        The card asks for no fine-tuning.
    """
    if not card.finetune.steps:
        raise CardError("finetune.steps = 0 leaves the model as it is; say e.g. --set finetune.steps=300")
    keys = {field.name for field in fields(FineTuningPlan)} - {"seed"}
    return FineTuningPlan(**{key: getattr(card.finetune, key) for key in keys}, seed=card.run.seed)


class NothingGained(UserError):
    """Fine-tuning was stopped by its guard before it had gained anything."""


@torch_defaults()
def finetune(
    card: Card,
    start: PathLikeStr,
    ensembles: PathLikeStr | Sequence[PathLikeStr],
    folder: PathLikeStr,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    log: JsonLog | None = None,
    stop: StopCheck | None = None,
    gate: bool = True,
) -> ScoreModel | None:
    """Fine-tune a model on an ensemble of its theory, or on several, and write another model folder.

    Parameters
    ----------
    card : latticediff.config.Card
    start : path-like or str
        Model folder, or name of a shipped model; it is not changed.
    ensembles : path-like or sequence of path-like
        See `latticediff.stages.train.train`. The new model is of their theories, the first its own; one that
        the model has not seen gets a propagator measured on its data.
    folder : path-like
        Model folder to write; while the work is unfinished it holds a checkpoint.
    resume, progress, log, stop, gate : optional
        See `latticediff.stages.train.train`.

    Returns
    -------
    ScoreModel or None
        Frozen; ``card["finetune"]`` has the figures before and after, and why the guard stopped, if it did. None in all
        processes but the first under torchrun.

    Raises
    ------
    FileError, ModelError
        A model or checkpoint is in the way, or model or ensemble is of another action or lattice.
    GateError
        The ensemble is not fit to train on.
    StopRequested
        `stop` gave a reason; the checkpoint is written.
    NothingGained
        The guard objected before anything was gained; nothing is written.
    CardError
        The card asks for no fine-tuning.
    """
    folder, progress, log = Path(folder), progress or Progress(), log or JsonLog()
    theory: Any = card.theory()  # a model refuses any but its own
    if holds_model(folder, resume):
        return load_model(folder, action=theory, shape=card.shape)
    model = load_model(start, local_device(pick_device(card.training.device)), theory, card.shape)
    if (sites := getattr(model.action, "sites", "all")) != card.training.sites:
        raise UserError(
            f"{start} is a model of {sites} sites, the card has training.sites = {card.training.sites}; say"
            f" --set training.sites={sites}"
        )
    with data_parallel(model.gaussian.device) as ranks, ExitStack() as open_files:
        if not ranks.writes:
            progress, log = Progress(), JsonLog()
        else:
            open_files.enter_context(claimed(folder))
            if holds_model(folder, resume):  # another process has finished it meanwhile
                return load_model(folder, action=theory, shape=card.shape)
        device = model.gaussian.device
        known = (lambda _: model.action) if isinstance(model.action, CoarseSites) else None  # with its law
        sources, about = open_sources(card, ensembles, device, open_files, log, gate, known)
        tasks = [Task(_background(model, source), source.data, source.frequency) for source in sources]
        _warn_of_fluctuations(card, model, tasks, progress)
        network = copy.deepcopy(model.network)
        tuner = FineTuner(network, tasks, model.noise, plan_of(card), card.finetune.method, ranks)
        tuner.sources = cast(Any, [model.fingerprint(), *fingerprints(about)])  # declared by its empty default alone
        _run(card, tuner, start, folder, progress, log, stop)
        if not ranks.writes:
            return None
        # what describes the first training stays true of the network
        about |= {key: model.card[key] for key in ("training", "licence") if key in model.card}
        own, *further = tasks
        with finishing(progress, finish_work(card, tasks, tuner.network, figures=True)) as done:
            tuned = finish_model(
                tuner.averaged(), own.gaussian, model.noise, own.data, about, card.run.seed, further=further
            )
            done()
            shown = [own, *(task for task in further if not task.gaussian.has_disorder)]
            own_figures, *further_figures = (
                {
                    when: figures(card, ScoreModel.for_flow(of.network, task.gaussian, of.noise), task.data)
                    for when, of in (("before", model), ("after", tuned))
                }
                for task in shown
            )
            done()
            tuned.card["finetune"] = {
                **asdict(tuner.plan),
                "method": tuner.method.name,
                "model": model.fingerprint(),
                "steps_done": tuner.step,
                "stopped": tuner.stopped,
                "seconds": tuner.seconds,
                "seconds_before": bill.finetuning_seconds(model.card),
                "device": describe_device(device),
                **own_figures,
            }
            if further_figures:
                tuned.card["finetune"]["further"] = [
                    {"theory": str(task), **found} for task, found in zip(shown[1:], further_figures, strict=True)
                ]
            row = bill.training_row(
                bill.FINE_TUNING, tuned.fingerprint(), tuner.seconds, tuned.shape, describe_device(device)
            )
            tuned.card[bill.KEY] = bill.extended(bill.rows_of(model.card), [*about[bill.KEY], row])
            store_grid(card, tuned)
            done()
            tuned.card["metrics"] = metrics(card, tuned, own.data)
            done()
        save_model(tuned, folder)
        clear_checkpoint(folder)
    log("finetuned", folder=folder.name, fingerprint=tuned.fingerprint(), seconds=tuner.seconds)
    return tuned


def _background(model: ScoreModel, source: Source) -> GaussianReference:
    """The reference of an ensemble's theory: with the model's propagator if it knows one, else with a measured one."""
    action: Any = source.action  # refused if it has no Gaussian reference
    if model.gaussian.has_disorder:
        return model.at(action).gaussian
    for member in model.theories():
        if member.is_of(action, source.data.shape):
            here = model.gaussian
            return GaussianReference(
                action, member.propagator, here.device, vacuum=here.vacuum, one_sided=here.one_sided
            )
    return gaussian_of(source, model.gaussian.phase)


def _warn_of_fluctuations(card: Card, model: ScoreModel, tasks: Iterable[Task], progress: Progress) -> None:
    """Warn of ensembles whose fluctuations are too large for the model's largest noise."""
    for task in tasks:
        wanted = card.training.sigma_max_factor * task.gaussian.g_max**0.5
        if model.noise.sigma_max < (1 - 1e-6) * wanted:
            progress.warn(
                f"the noise of {model.noise.sigma_max:.3g} hardly drowns the fluctuations of {task}; sigma_max ="
                f" {wanted:.3g} would: train on this ensemble first"
            )


def _run(
    card: Card,
    tuner: FineTuner,
    start: PathLikeStr,
    folder: Path,
    progress: Progress,
    log: JsonLog,
    stop: StopCheck | None,
) -> None:
    """Run the tuner with log, progress and checkpoints.

    Raises
    ------
    NothingGained
        No checkpoint is left.
    """
    with progress.task("fine-tuning", card.finetune.steps) as task:
        tuner.run(
            folder / CHECKPOINT,
            card.finetune.checkpoint_every,
            log=lambda row: log("finetuning", **row),
            log_every=LOG_EVERY,
            progress=lambda step, steps, spread: task.reach(step, log_weight_variance=spread),
            stop=stop,
        )
    if tuner.stopped:
        log("guard", reason=tuner.stopped)
        if not tuner.ranks.writes:
            return
        if tuner.good_step == 0:
            clear_checkpoint(folder)
            raise NothingGained(
                f"fine-tuning gained nothing: {tuner.stopped}, which are those of {start}. Nothing was written;"
                " lower finetune.learning_rate, or raise finetune.integration_steps"
            )
        progress.warn(f"stopped by the guard at {tuner.stopped}")

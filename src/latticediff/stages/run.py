"""The main job: generate, train, fine-tune, sample, weigh, report, in one folder that can be resumed."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import FileError, StopRequested
from ..host import torch_defaults
from ..job.folder import RunFolder
from ..job.log import JsonLog
from ..job.progress import Progress
from .generate import generate
from .sample_hmc import baseline

if TYPE_CHECKING:
    from pathlib import Path

    from ..config import Card
    from ..types import PathLikeStr
    from .beside import Beside
    from .contract import StopCheck

__all__ = ["do_stage", "finetuned", "run"]

CAREFUL = 0.2  # of the learning rate, where fine-tuning at the card's own gains nothing


@torch_defaults()
def run(
    card: Card,
    out: PathLikeStr,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    stop: StopCheck | None = None,
) -> RunFolder:
    """Run every stage of a card into the folder `out`.

    Parameters
    ----------
    card : latticediff.config.Card
    out : path-like
        New, empty, or with `resume` a folder of this same card.
    resume : bool
        Skip finished stages and go on inside the unfinished one.
    progress : Progress, optional
    stop : callable, optional
        See `latticediff.signals.Stop`.

    Returns
    -------
    RunFolder

    Raises
    ------
    FileError
        The folder is not free.
    GateError
        The ensemble is not fit to train on; change the card and take another folder.
    CardError
        A network that cannot be built, or whose divergence is too expensive for the ODE route.
    UserError
        A model of ``sampling.beside`` that is not there or does not fit; nothing was begun.
    StopRequested
        `stop` gave a reason; everything done is saved.
    """
    from ..build.network import check_network  # imports torch, and `latticediff --help` must not
    from .beside import models_beside
    from .first_weights import require_first_weights

    check_network(card)
    require_first_weights(card)
    progress, place = progress or Progress(), RunFolder(out, card, resume)
    # whatever is wrong with one of them is said before hours are spent; a finished run needs them no more
    further = () if place.is_finished("report") else models_beside(card)
    with place as folder:
        if folder.is_finished("report"):
            progress.say(f"{folder.path} is finished; open {folder.path / 'report.html'}")
            return folder
        log = JsonLog(folder.log)
        log("run", card=card.digest(), name=card.run.name, resumed=bool(resume))
        common: dict[str, Any] = {"progress": progress, "stop": stop}
        resumable = {**common, "log": log, "resume": True}
        made = [folder.ensemble]
        do_stage(folder, log, stop, "generate", lambda: generate(card, folder.ensemble, **resumable), made)
        hmc = folder.chain("hmc")
        do_stage(folder, log, stop, "sample_hmc", lambda: baseline(card, folder.ensemble, hmc, **resumable), [hmc])
        from ..build.learned import route_named, routes_of
        from .report import report
        from .sample import sample
        from .train import train
        from .weigh import weigh

        do_stage(
            folder,
            log,
            stop,
            "train",
            lambda: train(card, folder.ensemble, folder.score, gate=False, **resumable),
            [folder.score],
        )
        if card.finetune.steps:
            do_stage(folder, log, stop, "finetune", lambda: finetuned(card, folder, **resumable), [folder.model])
        for route in routes_of(card):
            chain, weights = folder.chain(route), folder.weights(route)
            model = folder.score if route_named(route).weights == "score" else folder.model
            do_stage(
                folder,
                log,
                stop,
                f"sample_{route}",
                partial(sample, card, model, route, chain, **resumable),
                [chain],
            )
            do_stage(
                folder,
                log,
                stop,
                f"weigh_{route}",
                partial(weigh, card, folder.ensemble, model, route, weights, **common),
                [weights],
            )
        for beside in further:
            _beside(beside, folder, log, stop, resumable, common)
        if further:
            _prices(folder, further, log, stop, progress)
        do_stage(folder, log, stop, "report", lambda: report(folder, progress, further))
        return folder


def _beside(
    beside: Beside,
    folder: RunFolder,
    log: JsonLog,
    stop: StopCheck | None,
    resumable: dict[str, Any],
    common: dict[str, Any],
) -> None:
    """Sample a further model and weigh the run's held-out configurations with it."""
    from .beside import ROUTE, require_sampled
    from .sample import sample
    from .weigh import weigh

    (sampling, weighing), (chain, weights) = beside.stages, folder.beside(beside.key)
    card, model = beside.card, beside.model
    named: dict[str, Any] = {"name": beside.key, "streams": beside.streams("sample")}
    work: Callable[[], object] = partial(sample, card, model, ROUTE, chain, **named, **resumable)
    do_stage(folder, log, stop, sampling, work, [chain])
    require_sampled(beside, chain)
    named = {"name": beside.key, "streams": beside.streams("weigh")}
    work = partial(weigh, card, folder.ensemble, model, ROUTE, weights, **named, **common)
    do_stage(folder, log, stop, weighing, work, [weights])


def _prices(
    folder: RunFolder, further: Collection[Beside], log: JsonLog, stop: StopCheck | None, progress: Progress
) -> None:
    """Measure the processor time of all chains in turn, where models are compared."""
    from ..build.device import pick_device
    from ..build.learned import route_named, routes_of
    from .beside import ROUTE
    from .prices import Learned, prices

    card = folder.card
    if pick_device(card.sampling.device).type != "cpu":
        progress.say("no processor time is measured: the networks are not evaluated by the processor")
        return
    learned = [
        Learned(
            route,
            card,
            folder.score if route_named(route).weights == "score" else folder.model,
            route,
            folder.chain(route),
        )
        for route in routes_of(card)
    ]
    learned += [Learned(b.key, b.card, b.model, ROUTE, folder.beside(b.key)[0]) for b in further]
    work = partial(prices, card, folder.chain("hmc"), learned, folder.prices, progress=progress, stop=stop)
    do_stage(folder, log, stop, "prices", work, [folder.prices])


def finetuned(card: Card, folder: RunFolder, *, progress: Progress, log: JsonLog, **options: Any) -> None:
    """Fine-tune; more carefully if that gains nothing; if that gains nothing either, keep the model as it is."""
    from ..model.storage import load_model, save_model
    from ..training.loop import Diverged
    from .finetune import NothingGained, finetune
    from .model_place import clear_checkpoint

    section = card.finetune
    careful = {"learning_rate": CAREFUL * section.learning_rate, "integration_steps": 2 * section.integration_steps}
    attempts = section, section.model_copy(update=careful)
    for attempt in attempts:
        try:
            changed = card.model_copy(update={"finetune": attempt})
            finetune(
                changed, folder.score, folder.ensemble, folder.model, gate=False, progress=progress, log=log, **options
            )
            return
        except (NothingGained, Diverged) as exc:
            progress.warn(str(exc))
            clear_checkpoint(folder.model)
    progress.warn("going on with the score-matched model, as it is")
    save_model(load_model(folder.score), folder.model)


def do_stage(
    folder: RunFolder,
    log: JsonLog,
    stop: StopCheck | None,
    name: str,
    work: Callable[[], object],
    outputs: Collection[Path] = (),
) -> None:
    """Do `work`, which writes `outputs`, unless stage `name` is finished; its seconds are recorded however it ends."""
    if folder.is_finished(name):
        folder.require_output(name)
        log("skip", stage=name)
        return
    if stop is not None and (reason := stop()):
        raise StopRequested(f"{reason} before {name}; run the same command with --resume to go on", reason.exit_code)
    log("begin", stage=name)
    began = time.perf_counter()

    def note(finished: bool) -> None:
        seconds = time.perf_counter() - began
        folder.record(name, seconds, finished, outputs)
        log("end", stage=name, finished=finished, seconds=seconds)

    try:
        work()
    except BaseException:
        with suppress(FileError):  # of a disk that is full already; what went wrong first is what to tell
            note(finished=False)
        raise
    note(finished=True)

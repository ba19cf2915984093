"""Stage study: every cell of a study that is missing, then all samplers of a theory timed in turn, then the page."""

from __future__ import annotations

import json
import multiprocessing
import os
import shlex
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..atomic import claimed, entries_of, sealed_text
from ..digests import check_digest, with_digest
from ..errors import CardError, FileError, StopRequested, UserError
from ..job.progress import Progress
from ..report.study import write_study
from ..signals import StopReason
from ..streams import Streams
from ..study.cell import Cell, read_result, write_result
from ..study.chains import run_chain
from ..study.gathered import gathered
from ..study.kernels import begin, rebuild
from ..study.plan import Plan, estimated, is_done, plan_study
from ..study.samplers import SAMPLERS
from ..study.timing import APART, ROUND_SECONDS, ROUNDS, timed
from ..untrusted import parse_json, printable, read_text, status
from .study_models import Wanted, models_wanted, train_model

if TYPE_CHECKING:
    from ..study.card import StudyCard
    from ..types import Description, PathLikeStr
    from .contract import StopCheck

__all__ = ["rewrite_page", "study", "work"]

DOCUMENT = "study.json"
WARM = 50  #: updates before timing: clusters and proposals cost what they do in equilibrium


def study(
    card: StudyCard,
    out: PathLikeStr,
    *,
    jobs: int = 1,
    part: tuple[int, int] | None = None,
    models_alone: bool = False,
    progress: Progress | None = None,
    stop: StopCheck | None = None,
    command: str = "",
) -> Description:
    """Run what is missing of a study, and write ``study.json``, ``study.html`` and figures.

    Parameters
    ----------
    card : StudyCard
    out : path-like
        Folder of the study, made if missing. Results of other cards in it are left alone.
    jobs : int
        Processes that run chains at once; timing is always done alone.
    part : (int, int), optional
        ``(k, n)``: run every n-th cell from the k-th on, k from 1, and nothing else, as a job of an array does.
    models_alone : bool
        Train the models that are missing, and nothing else; parts of an array want them to be there.
    progress, stop
        See `latticediff.stages.generate.generate`; a stop waits for the cells that run.
    command : str
        What the page says that it was made by.

    Returns
    -------
    dict
        The document, as of `latticediff.study.gathered.gathered`.

    Raises
    ------
    CardError, FileError, ModelError
        As `plan_study`; a part wants a model that is still to be trained; the folder belongs to something else, or a
        result in it is damaged.
    UserError
        `jobs` or `part` make no sense.
    StopRequested
        `stop` gave a reason; finished cells are kept, and the page shows them.
    """
    progress, out = progress or Progress(), Path(out)
    if jobs < 1:
        raise UserError(f"jobs is {jobs}; expected at least 1")
    if part is not None and not 1 <= part[0] <= part[1]:
        raise UserError(f"part is {part[0]}/{part[1]}; expected k/n with 1 <= k <= n")
    plan = plan_study(card, out)  # what it refuses, it refuses before anything is written
    _require_own(out)
    wanted = models_wanted(card, out)
    if part is not None and wanted:
        raise CardError(
            f"{len(wanted)} models are still to be trained ({wanted[0].title} first), and parts of an array do not;"
            " run the command once with --models instead of --part"
        )
    with nullcontext() if part is not None else claimed(out):
        untrained, reason = _train(wanted, progress, stop)
        if wanted:  # what was trained has its cells now
            plan = plan_study(card, out)
        for line in plan.skipped:
            progress.say(f"skipped: {line}")
        if models_alone or reason:
            if reason:
                raise StopRequested(f"{reason}; what is trained is kept, run the same command again", reason.exit_code)
            return {}
        (out / "cells").mkdir(parents=True, exist_ok=True)
        todo = [cell for cell in plan.cells.values() if not is_done(read_result(out, cell))]
        if part is not None:
            mine = list(plan.cells.values())[part[0] - 1 :: part[1]]
            todo = [cell for cell in todo if cell in mine]
        reason = _run_all(out, todo, jobs, progress, stop)
        if part is None and not reason:
            reason = _time_all(plan, out, progress, stop)
        document: Description = {}
        if part is None:
            document = _gather(plan, out, command, untrained)
    if reason:
        raise StopRequested(
            f"{reason}; {len(todo)} cells were to run, what is done is kept, run the same command again",
            reason.exit_code,
        )
    return document


def _require_own(out: Path) -> None:
    """Refuse a folder that holds something else."""
    names = entries_of(out)
    if names and "cells" not in names and DOCUMENT not in names:
        raise FileError(
            f"{out} is no folder of a study, it holds {printable(sorted(names)[0], 80)}; choose another --out"
        )


def _train(wanted: list[Wanted], progress: Progress, stop: StopCheck | None) -> tuple[list[str], Any]:
    """Train what is wanted; gives what could not be trained, and the reason of a stop, or None."""
    failed: list[str] = []
    for model in wanted:
        if stop is not None and (reason := stop()):
            return failed, reason
        progress.say(f"training the {model.title}, in {model.folder}")
        try:
            train_model(model, progress, stop)
        except StopRequested as exc:
            return failed, StopReason(str(exc), exc.exit_code)
        except UserError as exc:  # the other cells go on
            failed.append(f"{model.title}: {' '.join(str(exc).split())}")
            progress.say(f"failed: {failed[-1]}")
    return failed, None


def _run_all(out: Path, todo: list[Cell], jobs: int, progress: Progress, stop: StopCheck | None) -> Any:
    """Run cells and write what they found; gives the reason of a stop, or None."""
    with progress.task("cells", len(todo)) as task:
        if jobs == 1 or len(todo) < 2:
            for cell in todo:
                if stop is not None and (reason := stop()):
                    return reason
                progress.say(f"{cell.title}, {estimated(cell):.0f} s at most")
                _keep(out, cell, work(cell), progress)
                task.advance()
            return None
        threads = max(1, (os.cpu_count() or 1) // jobs)
        context = multiprocessing.get_context("spawn")  # threads do not survive a fork
        with ProcessPoolExecutor(jobs, context, _few_threads, (threads,)) as pool:
            # the longest first: none of them is left for the end
            waiting = {pool.submit(work, cell): cell for cell in sorted(todo, key=estimated, reverse=True)}
            for future in as_completed(waiting):
                if future.cancelled():
                    continue
                _keep(out, waiting[future], _found(future), progress)
                task.advance()
                if stop is not None and (reason := stop()):
                    pool.shutdown(wait=False, cancel_futures=True)
                    for running, cell in waiting.items():
                        if running is not future and not running.cancelled() and not read_result(out, cell):
                            _keep(out, cell, _found(running), progress)
                    return reason
    return None


def _found(future: Future[Description]) -> Description:
    try:
        return future.result()
    except BrokenProcessPool:
        return {"failed": "its process was killed, for lack of memory perhaps; run again with fewer --jobs"}


def _few_threads(threads: int) -> None:
    import numba

    # a terminal asks every process to stop: the one that leads decides, and cells that run are finished
    for name in ("SIGINT", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)

    numba.set_num_threads(min(threads, numba.get_num_threads()))


def work(cell: Cell) -> Description:
    """The result of a cell, or why there is none; whatever goes wrong, the other cells go on."""
    began = time.perf_counter()
    try:
        found = run_chain(cell)
    except UserError as exc:
        found = {"failed": " ".join(str(exc).split())}
    except Exception as exc:  # a defect is recorded whole, and is no reason to lose the night's other cells
        told = " ".join(str(exc).split())
        found = {"failed": f"{type(exc).__name__}: {told}", "traceback": traceback.format_exc()}
    return {**found, "seconds": time.perf_counter() - began}


def _keep(out: Path, cell: Cell, found: Description, progress: Progress) -> None:
    write_result(out, cell, found)
    if "failed" in found:
        progress.say(f"failed: {cell.title}: {found['failed']}")


def _time_all(plan: Plan, out: Path, progress: Progress, stop: StopCheck | None) -> Any:
    """Time the chains of every theory in turn, where that is not done; gives the reason of a stop, or None."""
    with progress.task("timing", len(plan.theories)) as task:
        for number in range(len(plan.theories)):
            if stop is not None and (reason := stop()):
                return reason
            timing = plan.timing(number, out)
            if timing is not None and not is_done(read_result(out, timing)):
                try:
                    found = _timed(plan, number, out, timing)
                except UserError as exc:
                    found = {"failed": " ".join(str(exc).split())}
                _keep(out, timing, found, progress)
                for warning in found.get("warnings", ()):
                    progress.say(f"warning: {warning}")
            task.advance()
    return None


def _timed(plan: Plan, number: int, out: Path, timing: Cell) -> Description:
    chains: dict[str, Any] = {}
    streams = Streams(timing.seed).child("study").child("timing")
    for name in timing.settings["cells"]:
        cell = plan.cells[number, name]
        result: Any = read_result(out, cell)
        built = rebuild(cell, result)
        state = begin(cell, built, streams.child(name))
        warm = 2 if SAMPLERS[name].is_learned else WARM
        chains[name] = built.kernel, built.kernel.advance(state, streams.child(name), warm, warm)[0]
    began = time.perf_counter()
    prices = timed(chains, streams.child("in turn"), ROUND_SECONDS, ROUNDS)
    disturbed = [name for name, price in prices.items() if price.is_disturbed]
    warnings = [
        f"{timing.label}: processor and wall time of {', '.join(disturbed)} differ by more than {100 * APART:.0f} %,"
        f" the machine had other work; remove cells/{timing.digest}.json and run again on a quiet one"
    ]
    return {
        "kind": "timing",
        "seconds_per_update": {
            name: {"processor": list(price.processor), "wall": list(price.wall)} for name, price in prices.items()
        },
        "threads": 1,
        "rounds": ROUNDS,
        "warnings": warnings if disturbed else [],
        "seconds": time.perf_counter() - began,
    }


def _results(plan: Plan, out: Path) -> Iterator[tuple[tuple[int, str], Description]]:
    for key, cell in plan.cells.items():
        found = read_result(out, cell)
        if found is not None:
            yield key, {**found, "digest": cell.digest}


def _gather(plan: Plan, out: Path, command: str, untrained: list[str]) -> Description:
    """``study.json`` and the page of what is there."""
    timings: dict[int, Description] = {}
    for number in range(len(plan.theories)):
        timing = plan.timing(number, out)
        found = None if timing is None else read_result(out, timing)
        if found is not None:
            timings[number] = found
    command = command or f"latticediff study CARD --out {shlex.quote(out.name)}"
    document = gathered(plan.card, plan.theories, dict(_results(plan, out)), timings, plan.skipped, command, untrained)
    sealed_text(out / "card.toml", plan.card.to_toml())
    sealed_text(out / DOCUMENT, json.dumps(with_digest(document), indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    write_study(document, out)
    return document


def rewrite_page(folder: PathLikeStr, say: Callable[[str], object] | None = None) -> dict[str, Path]:
    """The page of a study once more, from its ``study.json`` alone.

    Raises
    ------
    FileError
        The folder holds no study, or one that has not come so far, or ``study.json`` is damaged.
    """
    folder = Path(folder)
    path = folder / DOCUMENT
    if status(path) is None:
        if status(folder / "cells") is not None:
            raise FileError(
                f"{folder} holds cells but no {DOCUMENT}; finish the study: latticediff study CARD --out {folder}"
            )
        raise FileError(
            f"{folder} holds no study; give the --out of `latticediff study` (a run writes its page itself,"
            " `latticediff compare` that of ensemble files)"
        )
    document = parse_json(read_text(path, "the document of a study"), path)
    if not isinstance(document, dict) or "study_version" not in document:
        raise FileError(f"{path} is no document of a study; restore it, or run the study again")
    written = write_study(check_digest(document, path, "run the study again, finished cells are kept"), folder)
    if say is not None:
        say(f"wrote {written['html']}")
    return written

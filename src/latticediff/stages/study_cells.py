"""Running the cells of a study that are missing, one after the other or in processes; one that fails stops no other."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..job.progress import Progress
from ..study.cell import Cell, read_result, write_result
from ..study.chains import run_chain
from ..study.plan import estimated

if TYPE_CHECKING:
    from ..types import Description
    from .contract import StopCheck

__all__ = ["keep", "run_all", "tried", "work"]


def run_all(out: Path, todo: list[Cell], jobs: int, progress: Progress, stop: StopCheck | None) -> Any:
    """Run cells and write what they found; gives the reason of a stop, or None."""
    with progress.task("cells", len(todo), work=sum(map(estimated, todo))) as task:
        if jobs == 1 or len(todo) < 2:
            for cell in todo:
                if stop is not None and (reason := stop()):
                    return reason
                progress.say(f"{cell.title}, {estimated(cell):.0f} s at most")
                found = work(cell)
                keep(out, cell, found, progress)
                task.advance(1, estimated(cell), **_worth_showing(found))
            return None
        threads = max(1, (os.cpu_count() or 1) // jobs)
        context = multiprocessing.get_context("spawn")  # threads do not survive a fork
        with ProcessPoolExecutor(jobs, context, _few_threads, (threads,)) as pool:
            # the longest first: none of them is left for the end
            waiting = {pool.submit(work, cell): cell for cell in sorted(todo, key=estimated, reverse=True)}
            for future in as_completed(waiting):
                if future.cancelled():
                    continue
                found = _found(future)
                keep(out, waiting[future], found, progress)
                task.advance(1, estimated(waiting[future]), **_worth_showing(found))
                if stop is not None and (reason := stop()):
                    pool.shutdown(wait=False, cancel_futures=True)
                    for running, cell in waiting.items():
                        if running is not future and not running.cancelled() and not read_result(out, cell):
                            keep(out, cell, _found(running), progress)
                    return reason
    return None


def _worth_showing(found: Description) -> dict[str, float]:
    """What those who watch are told of the last cell; nothing of one that failed."""
    if "failed" in found:
        return {}
    told: dict[str, float] = {"tau_int": found["tau_int"]["abs_m"][0], "acceptance": found["acceptance"]}
    ess = found.get("ess_reverse") or found.get("ess_forward")
    return {**told, "ESS": ess[0]} if ess else told


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
    return tried(lambda: run_chain(cell))


def tried(job: Callable[[], Description]) -> Description:
    """What a job finds, or why it finds nothing, and its seconds."""
    began = time.perf_counter()
    try:
        found = job()
    except UserError as exc:
        found = {"failed": " ".join(str(exc).split())}
    except Exception as exc:  # a defect is recorded whole, and is no reason to lose the night's other cells
        told = " ".join(str(exc).split())
        found = {"failed": f"{type(exc).__name__}: {told}", "traceback": traceback.format_exc()}
    return {**found, "seconds": time.perf_counter() - began}


def keep(out: Path, cell: Cell, found: Description, progress: Progress) -> None:
    write_result(out, cell, found)
    if "failed" in found:
        progress.say(f"failed: {cell.title}: {found['failed']}")

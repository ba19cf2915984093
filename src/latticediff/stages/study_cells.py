"""Running the cells of a study that are missing, one after the other or in processes; one that fails stops no other."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..job.processes import SPAWN, processes
from ..job.progress import Progress
from ..study.cell import Cell, read_result, write_result
from ..study.chains import run_chain
from ..study.outlook import Outlook
from ..study.plan import estimated
from .study_board import SECONDS, Board, Throttled

if TYPE_CHECKING:
    from ..types import Description
    from .contract import StopCheck

__all__ = ["keep", "run_all", "tried", "work"]

BEGINS, REACHES = "begins", "reaches"


def run_all(
    out: Path, todo: list[Cell], jobs: int, progress: Progress, stop: StopCheck | None, outlook: Outlook
) -> Any:
    """Run cells and write what they found; gives the reason of a stop, or None."""
    with progress.task("cells", len(todo)) as task:
        board = Board(task, outlook)
        if jobs == 1 or len(todo) < 2:
            for cell in todo:
                if stop is not None and (reason := stop()):
                    return reason
                progress.say(f"{cell.title}, {estimated(cell):.0f} s at most")
                board.begin(cell.digest)
                found = work(cell, Throttled(partial(board.reach, cell.digest)))
                keep(out, cell, found, progress)
                board.end(cell.digest, found)
            return None
        told = SPAWN.SimpleQueue()
        with processes(jobs, _tell_to, told) as pool:
            # the longest first: none of them is left for the end
            waiting = {pool.submit(_told_work, cell): cell for cell in sorted(todo, key=estimated, reverse=True)}
            for future in _as_completed(waiting, told, board):
                found = _found(future)
                keep(out, waiting[future], found, progress)
                board.end(waiting[future].digest, found)
                if stop is not None and (reason := stop()):
                    pool.shutdown(wait=False, cancel_futures=True)
                    for running, cell in waiting.items():
                        if running is not future and not running.cancelled() and not read_result(out, cell):
                            keep(out, cell, _found(running), progress)
                    return reason
    return None


def _as_completed(waiting: Iterable[Future[Description]], told: Any, board: Board) -> Iterator[Future[Description]]:
    """Futures as they end; meanwhile the board gets what the processes tell."""
    open_ones = set(waiting)
    while open_ones:
        ended, open_ones = wait(open_ones, timeout=SECONDS, return_when=FIRST_COMPLETED)
        while not told.empty():
            what, *about = told.get()
            (board.begin if what == BEGINS else board.reach)(*about)
        yield from (future for future in ended if not future.cancelled())


def _found(future: Future[Description]) -> Description:
    try:
        return future.result()
    except BrokenProcessPool:
        return {"failed": "its process was killed, for lack of memory perhaps; run again with fewer --jobs"}


_queue: Any = None  # of a process that runs cells: where it tells how far they are


def _tell_to(told: Any) -> None:
    global _queue  # a process has one
    _queue = told


def _told_work(cell: Cell) -> Description:
    """`work` in a process of its own."""
    _queue.put((BEGINS, cell.digest))
    return work(cell, Throttled(lambda phase, share: _queue.put((REACHES, cell.digest, phase, share))))


def work(cell: Cell, tell: Callable[[str, float], object] | None = None) -> Description:
    """The result of a cell, or why there is none; whatever goes wrong, the other cells go on."""
    return tried(lambda: run_chain(cell, tell=tell))


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

"""Stage propose, shared by processes: a pool for each of several streams, the same whoever fills it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import FileError, StopRequested, UserError
from ..job.processes import check_jobs, processes
from ..job.progress import Progress
from ..pool import open_pool
from ..pool.files import checked_suffix
from .propose import described, propose

if TYPE_CHECKING:
    from ..types import PathLikeStr
    from .contract import StopCheck

__all__ = ["paths_of", "propose_many"]


def paths_of(path: PathLikeStr, first: int, streams: int) -> list[Path]:
    """Where the pools of so many streams go: ``pool-0.h5``, ``pool-1.h5``, ... for ``pool.h5`` from stream 0 on."""
    path = Path(path)
    return [path.with_name(f"{path.stem}-{first + k}{path.suffix}") for k in range(streams)]


def propose_many(
    name: PathLikeStr,
    n: int,
    path: PathLikeStr,
    streams: int,
    *,
    jobs: int = 1,
    stream: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
    stop: StopCheck | None = None,
    **arguments: Any,
) -> list[Path]:
    """Fill a pool for each of the streams `stream`, `stream` + 1, ...

    Every pool has the bits that `propose` gives it alone, whatever the number of processes. Pools that are there
    already, whole and of the same header, are kept, so that the same command goes on after a stop.

    Parameters
    ----------
    name, n, device, progress, stop
        As of `propose`; `n` draws in each pool. ``cuda`` is shared out: process k of several works on device k.
    path : path-like
        Gives the names; see `paths_of`.
    streams : int
    jobs : int
        Processes.
    stream : int
        The first one.
    **arguments
        Further ones of `propose`.

    Returns
    -------
    list of Path

    Raises
    ------
    FileError, ModelError, UserError
        As `propose`; a pool of another header is in the way; a process was killed.
    StopRequested
        `stop` gave a reason; pools that are whole are kept.
    """
    progress = progress or Progress()
    check_jobs(jobs)
    if streams < 1:
        raise UserError(f"streams = {streams}; expected at least 1")
    checked_suffix(path)
    paths = paths_of(path, stream, streams)
    orders = [
        (str(name), n, str(where), {**arguments, "stream": stream + k, "device": _device(device, k, jobs)})
        for k, where in enumerate(paths)
    ]
    with progress.task("pools", streams) as task:
        if jobs == 1:
            for order in orders:
                _fill(*order, stop)
                task.advance(1)
                _stop_if_told(stop)
            return paths
        with processes(jobs) as pool:
            waiting = [pool.submit(_fill, *order) for order in orders]
            try:
                for future in as_completed(waiting):
                    future.result()
                    task.advance(1)
                    _stop_if_told(stop)
            except BrokenProcessPool:
                raise UserError(
                    "a process was killed, for lack of memory perhaps; the same command with fewer --jobs goes on"
                ) from None
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
    return paths


def _device(device: str, k: int, jobs: int) -> str:
    if device != "cuda" or jobs == 1:
        return device
    import torch

    return f"cuda:{k % max(1, min(jobs, torch.cuda.device_count()))}"


def _fill(name: str, n: int, path: str, arguments: Mapping[str, Any], stop: StopCheck | None = None) -> None:
    """A pool by `propose`, unless it is there."""
    if Path(path).exists():
        with contextlib.closing(open_pool(path)) as pool:
            found = pool.header
        names = ("route", "seed", "stream", "device", "options")
        wanted, _ = described(name, n, **{key: arguments[key] for key in names if key in arguments})
        if found != wanted:
            different = [key for key, value in wanted.fields().items() if found.fields()[key] != value]
            raise FileError(f"{path} is a pool of another {different[0]}; choose another --out, or remove it")
        return
    propose(name, n, path, **arguments, stop=stop)


def _stop_if_told(stop: StopCheck | None) -> None:
    if stop is not None and (reason := stop()):
        raise StopRequested(
            f"{reason} while proposing; whole pools are kept: the same command makes the others", reason.exit_code
        )

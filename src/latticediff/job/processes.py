"""Processes of one machine that share work: spawned, with a share of the threads each; only the leader is stopped."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from ..errors import UserError

__all__ = ["SPAWN", "check_jobs", "processes"]

SPAWN = multiprocessing.get_context("spawn")  #: threads do not survive a fork


def check_jobs(jobs: int) -> None:
    """Refuse a number of processes that is none.

    Raises
    ------
    UserError
        `jobs` is below 1.
    """
    if jobs < 1:
        raise UserError(f"jobs is {jobs}; expected at least 1")


def processes(jobs: int, begin: Callable[..., object] | None = None, *arguments: Any) -> ProcessPoolExecutor:
    """Executor of so many processes, each with its share of this machine's threads.

    Parameters
    ----------
    jobs : int
    begin : callable, optional
        Called in each process when it begins, with the `arguments`; both can be pickled.

    Returns
    -------
    ProcessPoolExecutor

    Raises
    ------
    UserError
        As `check_jobs`.
    """
    check_jobs(jobs)
    threads = max(1, (os.cpu_count() or 1) // jobs)
    return ProcessPoolExecutor(jobs, SPAWN, _begin, (threads, begin, arguments))


def _begin(threads: int, begin: Callable[..., object] | None, arguments: tuple[Any, ...]) -> None:
    import numba

    # a terminal asks every process to stop: the one that leads decides, and work that runs is finished
    for name in ("SIGINT", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)

    numba.set_num_threads(min(threads, numba.get_num_threads()))
    if begin is not None:
        begin(*arguments)

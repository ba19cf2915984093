"""Processes of one machine that share work: spawned, with a share of the threads each; only the leader is stopped."""

from __future__ import annotations

import multiprocessing
import os
import signal
from concurrent.futures import ProcessPoolExecutor

from ..errors import UserError

__all__ = ["check_jobs", "processes"]


def check_jobs(jobs: int) -> None:
    """Refuse a number of processes that is none.

    Raises
    ------
    UserError
        `jobs` is below 1.
    """
    if jobs < 1:
        raise UserError(f"jobs is {jobs}; expected at least 1")


def processes(jobs: int) -> ProcessPoolExecutor:
    """Executor of so many processes, each with its share of this machine's threads.

    Parameters
    ----------
    jobs : int

    Returns
    -------
    ProcessPoolExecutor
        Its processes are spawned, since threads do not survive a fork.

    Raises
    ------
    UserError
        As `check_jobs`.
    """
    check_jobs(jobs)
    threads = max(1, (os.cpu_count() or 1) // jobs)
    return ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _few_threads, (threads,))


def _few_threads(threads: int) -> None:
    import numba

    # a terminal asks every process to stop: the one that leads decides, and work that runs is finished
    for name in ("SIGINT", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)

    numba.set_num_threads(min(threads, numba.get_num_threads()))

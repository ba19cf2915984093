"""What one stage costs, and how long a piece of work takes: the measure that all estimates share."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

from ...lattice import volume
from ...types import Shape

__all__ = ["FILE_SECONDS", "Cost", "ensemble_bytes", "timed"]

PROBE_SECONDS = 1.0  # of each measurement, at most
ENOUGH = (25, 0.25)  # calls and seconds, both: a median of so many moves little, and a plan of twelve is not waited for
FILE_SECONDS = 0.5  #: of a stage, for opening, checking and sealing files


class Cost(NamedTuple):
    """What one stage costs."""

    seconds: float  #: wall time
    memory: float  #: bytes beyond those of the probe
    disk: float  #: bytes that stay


def timed(work: Callable[[], object]) -> float:
    """Median seconds of a call of `work`, repeated until it is `ENOUGH`, for `PROBE_SECONDS` at most.

    The first call compiles and is left out.

    The median, since on a busy machine a few calls out of many take ten times as long.
    """
    work()
    began = last = time.perf_counter()
    spent: list[float] = []
    while not spent or last - began < (PROBE_SECONDS if len(spent) < ENOUGH[0] else ENOUGH[1]):
        work()
        now = time.perf_counter()
        spent.append(now - last)
        last = now
    return statistics.median(spent)


def ensemble_bytes(n_cfg: int, n_updates: int, n_chains: int, shape: Shape, columns: int) -> int:
    """Size of an ensemble file; its history takes `columns` bytes for each update of a chain."""
    return 8 * n_cfg * (volume(shape) + 3) + n_updates * (8 + n_chains * columns)

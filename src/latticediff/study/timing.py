"""What an update costs: all samplers of one theory in turn, in rounds, so that what else the machine does meets all."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ..streams import Streams

__all__ = ["APART", "ROUNDS", "ROUND_SECONDS", "Price", "in_turn", "median_of", "one_thread", "timed"]

ROUNDS, ROUND_SECONDS = 7, 0.3
APART = 0.10  #: processor and wall time that differ by more are warned of
MAD_ERROR = 1.4826 * 1.2533  #: standard error of a median over MAD / sqrt(n), for Gaussian scatter


class Price(NamedTuple):
    """Seconds per update of one chain among many: median of the rounds, and its error."""

    processor: tuple[float, float]  #: all threads of the process together
    wall: tuple[float, float]

    @property
    def is_disturbed(self) -> bool:
        """Whether processor and wall time differ by more than `APART`: the machine had other work, or waited."""
        return abs(self.processor[0] / self.wall[0] - 1) > APART


@contextmanager
def one_thread() -> Iterator[None]:
    """A context in which compiled kernels, and torch where it is loaded, run on one thread."""
    import sys

    import numba

    before = numba.get_num_threads()
    torch: Any = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch else 1
    numba.set_num_threads(1)
    if torch:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        numba.set_num_threads(before)
        if torch:
            torch.set_num_threads(threads)


def timed(
    chains: Mapping[str, tuple[Any, Any]], streams: Streams, seconds: float = ROUND_SECONDS, rounds: int = ROUNDS
) -> dict[str, Price]:
    """Processor and wall seconds per update of one chain, of kernels measured in turn on one thread.

    Parameters
    ----------
    chains : mapping of str to (Kernel, ChainState)
        What is drawn is thrown away.
    streams : Streams
    seconds : float
        Of each kernel and round, about.
    rounds : int

    Returns
    -------
    dict of str to Price
    """
    with one_thread():
        found = in_turn(chains, streams, seconds, range(rounds))
    return {name: Price(*map(median_of, zip(*rows, strict=True))) for name, rows in found.items()}


def in_turn(
    chains: Mapping[str, tuple[Any, Any]], streams: Streams, seconds: float, rounds: Iterable[object]
) -> dict[str, list[tuple[float, float]]]:
    """Processor and wall seconds per update of one chain, by name and round; one round for each item of `rounds`.

    Other arguments as of `timed`; threads are those of the caller.
    """
    lengths: dict[str, int] = {}
    states: dict[str, Any] = {}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in chains}
    for name, (kernel, start) in chains.items():
        # what a first call compiles, and a density that is not known yet, are no cost of an update
        states[name], _ = kernel.advance(start, streams, 1, 1)
        began = time.perf_counter()
        kernel.advance(states[name], streams, 2, 2)
        lengths[name] = max(2, int(2 * seconds / (time.perf_counter() - began)))
    for _ in rounds:
        for name, (kernel, _) in chains.items():
            n, state = lengths[name], states[name]
            cpu, wall = time.process_time(), time.perf_counter()
            kernel.advance(state, streams, n, n)
            spent = time.process_time() - cpu, time.perf_counter() - wall
            found[name].append((spent[0] / (n * len(state.phi)), spent[1] / (n * len(state.phi))))
    return found


def median_of(values: Sequence[float]) -> tuple[float, float]:
    """Median and its error, from the median distance to it: a round that was disturbed counts little."""
    middle = statistics.median(values)
    spread = statistics.median(abs(value - middle) for value in values)
    return middle, MAD_ERROR * spread / math.sqrt(len(values))

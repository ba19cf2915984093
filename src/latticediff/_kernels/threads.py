"""Groups of chains over threads.

Compiled loops release the interpreter lock, so ordinary threads do: Numba's own parallel loops
would double the compilation time and bring a second OpenMP runtime beside torch's. The number of
threads is Numba's (`numba.set_num_threads`, NUMBA_NUM_THREADS).
"""

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba

__all__ = ["over_groups"]

_SMALL = 2_000_000  # site updates below this take about a millisecond: not worth a thread
_pools: dict[int, ThreadPoolExecutor] = {}


def over_groups(function: Callable[..., object], n_groups: int, work: int, *arguments: Any) -> None:
    """``function(first, last, *arguments)`` for every group, in chunks over threads.

    Parameters
    ----------
    function : dispatcher
        Runs the groups ``first .. last - 1``; groups share nothing that is written.
    n_groups : int
    work : int
        Site updates in all, to decide whether threads pay.
    """
    n_threads = min(numba.get_num_threads(), n_groups)
    if n_threads < 2 or work < _SMALL:
        function(0, n_groups, *arguments)
        return
    if n_threads not in _pools:
        _pools[n_threads] = ThreadPoolExecutor(n_threads, thread_name_prefix="latticediff")
    # four chunks a thread even out what a busy machine does to one of them
    n_chunks = min(n_groups, 4 * n_threads)
    cuts = [n_groups * k // n_chunks for k in range(n_chunks + 1)]
    tasks = [_pools[n_threads].submit(function, a, b, *arguments) for a, b in itertools.pairwise(cuts)]
    for task in tasks:
        task.result()


# the threads of a pool do not survive a fork
os.register_at_fork(after_in_child=_pools.clear)

"""A search for the cheapest HMC, shown as a task: force evaluations spent, of those that a search typically takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..hmc.search import typical_evaluations
from ..job.progress import Progress

__all__ = ["shown_search"]


@contextmanager
def shown_search(progress: Progress | None, budget: int | None, n_chains: int) -> Iterator[Callable[[int], object]]:
    """A context that gives what a search takes as its `tell`.

    Parameters
    ----------
    progress : Progress, optional
    budget : int, optional
        Of the search; default that of `latticediff.hmc.search.search`.
    n_chains : int
    """
    goal = max(1, int(typical_evaluations(budget, n_chains)))
    with (progress or Progress()).task("searching the cheapest HMC", goal) as task:
        # one that goes on beyond what is typical is never quite done
        yield lambda spent: task.reach(min(spent, int(0.99 * goal)))

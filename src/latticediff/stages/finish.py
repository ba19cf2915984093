"""What is left of a training after its last step, shown as it goes on: score power, time grid, figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..job.progress import Progress

__all__ = ["FINISHING", "finishing"]

FINISHING = "finishing the model"  #: as progress calls it


@contextmanager
def finishing(progress: Progress, parts: Mapping[str, int]) -> Iterator[Callable[[], None]]:
    """Show the work that follows the last step: one line that names its parts, and a bar of what they cost.

    Parameters
    ----------
    progress : Progress
    parts : mapping of str to int
        Their names, in order, and the work of each, in any unit.

    Yields
    ------
    callable
        To be called without arguments after each part.
    """
    progress.say(f"{FINISHING}: {', '.join(parts)}")
    left = iter(parts.values())
    with progress.task(FINISHING, sum(parts.values())) as task:
        yield lambda: task.advance(next(left))

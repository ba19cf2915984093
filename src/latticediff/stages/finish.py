"""What is left of a training after its last step, shown as it goes on: score power, time grid, figures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..job.progress import Progress

__all__ = ["FINISHING", "finishing"]

FINISHING = "finishing the model"  #: as progress calls it


@contextmanager
def finishing(progress: Progress, *parts: str) -> Iterator[Callable[[], None]]:
    """Show the work that follows the last step: one line that names its parts, and a bar that counts them.

    Parameters
    ----------
    progress : Progress
    *parts : str
        Their names, in order.

    Yields
    ------
    callable
        To be called without arguments after each part.
    """
    progress.say(f"{FINISHING}: {', '.join(parts)}")
    with progress.task(FINISHING, len(parts)) as task:
        yield task.advance

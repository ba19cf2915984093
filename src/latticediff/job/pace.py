"""How fast a task goes, and how long it will still take."""

from __future__ import annotations

import time
from typing import NamedTuple

__all__ = ["Ahead", "Pace"]


class Ahead(NamedTuple):
    """What is known of the time that is left, where the speed so far does not tell it."""

    seconds_left: float
    share: float  #: of all the time, that has passed
    at: str  #: what runs now, for people


class Pace:
    """Units of work done, and when; the first piece of work compiles, so speed is measured from its end on."""

    def __init__(self) -> None:
        self._from: tuple[float, float] | None = None

    def seconds_left(self, done: float, total: float) -> float | None:
        """Time that `total` units will still take now that `done` of them are; None while that is not known."""
        now = time.monotonic()
        if self._from is None:
            self._from = now, done
        began, already = self._from
        if not (now > began and done > already):
            return None
        return (total - done) * (now - began) / (done - already)

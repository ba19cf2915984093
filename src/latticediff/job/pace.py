"""How fast a task goes, and how long it will still take."""

from __future__ import annotations

import time

__all__ = ["Pace"]


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

"""What those who watch a study are shown while its cells run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..job.pace import Ahead
from ..study.outlook import Outlook

if TYPE_CHECKING:
    from ..job.progress import Task
    from ..types import Description

__all__ = ["SECONDS", "Board", "Throttled", "ahead_of"]

SECONDS = 0.5  #: between two words of a chain about itself, and between two looks at those of processes


class Board:
    """What those who watch are shown: cells that are done, where those that run are, and the time left of all."""

    def __init__(self, task: Task, outlook: Outlook) -> None:
        self._task, self._outlook = task, outlook
        self._last: dict[str, float] = {}

    def begin(self, digest: str) -> None:
        """A cell begins."""
        self._outlook.begin(digest, time.monotonic())
        self._show(0)

    def reach(self, digest: str, phase: str, share: float) -> None:
        """A cell that runs, which may be one that has begun in a process of its own, has come so far."""
        self._outlook.reach(digest, phase, share, time.monotonic())
        self._show(0)

    def end(self, digest: str, found: Description) -> None:
        """A cell has ended."""
        self._last = _worth_showing(found)
        self._outlook.end(digest, time.monotonic(), "failed" in found)
        self._show(1)

    def _show(self, n: int) -> None:
        self._task.advance(n, ahead=ahead_of(self._outlook), **self._last)


def ahead_of(outlook: Outlook) -> Ahead:
    """What an outlook says now."""
    now = time.monotonic()
    return Ahead(outlook.left(now), outlook.share(now), outlook.at())


class Throttled:
    """Passes on what a chain tells of itself: every new phase, and of one phase a word every `SECONDS`."""

    def __init__(self, tell: Callable[[str, float], object]) -> None:
        self._tell, self._phase, self._when = tell, "", -math.inf

    def __call__(self, phase: str, share: float) -> None:
        now = time.monotonic()
        if phase != self._phase or now - self._when >= SECONDS:
            self._phase, self._when = phase, now
            self._tell(phase, share)


def _worth_showing(found: Description) -> dict[str, float]:
    """What those who watch are told of the last cell; nothing of one that failed."""
    if "failed" in found:
        return {}
    told: dict[str, float] = {"tau_int": found["tau_int"]["abs_m"][0], "acceptance": found["acceptance"]}
    ess = found.get("ess_reverse") or found.get("ess_forward")
    return {**told, "ESS": ess[0]} if ess else told

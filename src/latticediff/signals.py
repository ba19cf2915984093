"""Stop politely: signals and deadlines ask, the running block finishes, the state is saved.

`Stop` is a context manager and the ``stop`` callable of `latticediff.ensemble.run_chain`::

    with Stop(max_walltime=3600) as stop:
        run_chain(kernel, start, "ens.h5", 10000, stop=stop)
"""

import re
import signal
import threading
import time
from types import FrameType
from typing import Any, Self

from .errors import UserError

__all__ = ["Stop", "StopReason", "parse_duration"]

#: asked to stop by the user, by the system or batch queue, and by a queue's advance warning
SIGNALS = ("SIGINT", "SIGTERM", "SIGUSR1")
DEADLINE_EXIT_CODE = 75  # EX_TEMPFAIL: run me again


class StopReason(str):
    """The reason for a stop, in words, and the exit code of a program that stops for it."""

    exit_code: int = DEADLINE_EXIT_CODE

    def __new__(cls, text: str, exit_code: int = DEADLINE_EXIT_CODE) -> "StopReason":
        reason = super().__new__(cls, text)
        reason.exit_code = exit_code
        return reason


def parse_duration(text: str | float) -> float:
    """Seconds in ``"90"``, ``"1:30:00"`` (h:m:s), ``"2-00:00:00"`` (days) or ``"1h30m"``.

    Raises
    ------
    UserError
        Not one of these forms, or not positive.
    """
    text = str(text).strip()
    clock = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text)
    units = re.fullmatch(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?", text)
    found = clock or units
    parts = found.groups() if found else ()
    seconds = sum(float(part or 0) * scale for part, scale in zip(parts, (86400, 3600, 60, 1), strict=False))
    if not seconds > 0:
        raise UserError(f"duration is {text!r}; expected seconds, h:m:s or a form such as 1h30m, above zero")
    return seconds


class Stop:
    """Callable that gives the reason to stop, or None.

    The first SIGINT, SIGTERM or SIGUSR1 sets a flag; a second SIGINT raises KeyboardInterrupt at once.
    Handlers can be set in the main thread only; elsewhere only the deadline works.

    Parameters
    ----------
    max_walltime : float, optional
        Seconds from now. The stop comes early enough that another block of the longest length seen so
        far, and half as much again, would not end too late.
    """

    def __init__(self, max_walltime: float | None = None) -> None:
        self._deadline = None if max_walltime is None else time.monotonic() + max_walltime
        self._last_call, self._longest = time.monotonic(), 0.0
        self._received: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for name in SIGNALS:
                number = getattr(signal, name, None)  # SIGUSR1 does not exist everywhere
                if number is not None:
                    self._previous[number] = signal.signal(number, self._handle)
        self._last_call = time.monotonic()
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._received is not None:
            raise KeyboardInterrupt
        self._received = self._received or number

    def __call__(self) -> StopReason | None:
        now = time.monotonic()
        self._longest = max(self._longest, now - self._last_call)
        self._last_call = now
        if self._received is not None:
            name = signal.Signals(self._received).name
            return StopReason(f"stopped by {name}", 128 + self._received)
        if self._deadline is not None and now + 1.5 * self._longest >= self._deadline:
            return StopReason("the time limit is near")
        return None

"""Progress: a bar with ETA on a terminal, one line a minute elsewhere, only warnings when quiet.

A stage says ``with progress.task("training", total) as task: task.advance(n, loss=0.3)``.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from ..types import PathLikeStr
from ..untrusted import printable
from .pace import Ahead, Pace
from .status import Status, written

__all__ = ["Progress", "Task", "make_progress"]

SECONDS_BETWEEN_LINES = 60.0
SECONDS_BETWEEN_BARS = 0.25


class Task:
    """A piece of work that takes a while, and how much of it is done; this one shows nothing.

    Parameters
    ----------
    name : str
    total : int
        Units.
    initial : int
        Those that are done before.
    work : float, optional
        All that is to be done, where units differ in length: the time left follows from it. Default: `total`.
    """

    def __init__(self, name: str, total: int, initial: int = 0, work: float | None = None) -> None:
        self.name, self.total, self.done = name, total, initial
        self.work: float = total if work is None else work
        self.worked: float = initial

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        pass

    def advance(self, n: int = 1, work: float | None = None, ahead: Ahead | None = None, **info: float) -> None:
        """Count `n` more units as done, `work` of all the work; `info` are numbers worth showing.

        With `ahead` the time left is what it says, not that of the speed so far; `n` may be 0 then.
        """
        self.done += n
        self.worked += n if work is None else work

    def reach(self, done: int, **info: float) -> None:
        """Set the number of units that are done in all; `info` as in `advance`."""
        self.advance(done - self.done, None, None, **info)


class _BarTask(Task):
    def __init__(self, name: str, total: int, initial: int = 0, work: float | None = None) -> None:
        from tqdm import tqdm

        super().__init__(name, total, initial, work)
        # tqdm's own guess would count what the first piece of work compiles
        shape = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"
        self._bar = tqdm(total=total, initial=initial, desc=name, unit_scale=True, dynamic_ncols=True, bar_format=shape)
        self._pace, self._shown = Pace(), -math.inf

    def advance(self, n: int = 1, work: float | None = None, ahead: Ahead | None = None, **info: float) -> None:
        super().advance(n, work)
        if ahead is not None:
            self._foresee(n, ahead, info)
            return
        seconds = self._pace.seconds_left(self.worked, self.work)
        left = [] if seconds is None else [f"about {_short(seconds)} left"]
        numbers = [f"{key} {value:.4g}" for key, value in info.items()]
        self._bar.set_postfix_str(", ".join(left + numbers), refresh=False)
        self._bar.update(n)

    def _foresee(self, n: int, ahead: Ahead, info: dict[str, float]) -> None:
        """A bar of the time, and not of units that differ in length by orders of magnitude."""
        self._bar.bar_format = "{desc}: {percentage:3.0f}%|{bar}| [{elapsed}{postfix}]"
        self._bar.set_description_str(f"{self.name} {self.done} of {self.total}", refresh=False)
        numbers = [f"{key} {value:.4g}" for key, value in info.items()]
        words = [f"about {_short(ahead.seconds_left)} left", *([ahead.at] if ahead.at else []), *numbers]
        self._bar.set_postfix_str(printable(", ".join(words)), refresh=False)
        self._bar.n = ahead.share * self.total
        if n or time.monotonic() - self._shown > SECONDS_BETWEEN_BARS:
            self._shown = time.monotonic()
            self._bar.refresh()

    def __exit__(self, *exc_info: object) -> None:
        self._bar.close()


def _short(seconds: float) -> str:
    """Seconds in at most four characters or so: ``42 s``, ``12 min``, ``3.4 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


class _LineTask(Task):
    def __init__(self, name: str, total: int, initial: int = 0, work: float | None = None) -> None:
        super().__init__(name, total, initial, work)
        self._said, self._pace = time.monotonic(), Pace()

    def advance(self, n: int = 1, work: float | None = None, ahead: Ahead | None = None, **info: float) -> None:
        super().advance(n, work)
        now = time.monotonic()
        seconds = self._pace.seconds_left(self.worked, self.work) if ahead is None else ahead.seconds_left
        if now - self._said < SECONDS_BETWEEN_LINES:
            return
        self._said = now
        left = "" if seconds is None else f", about {seconds:.0f} s left"
        numbers = "".join(f", {key} {value:.4g}" for key, value in info.items())
        at = f" ({ahead.share:.0%}), {ahead.at}" if ahead is not None and ahead.at else ""
        print(printable(f"{self.name}: {self.done} of {self.total}{at}{left}{numbers}"), file=sys.stderr, flush=True)


class _WrittenTask(Task):
    """Another task, and beside it how much is done in the file of a `Status`."""

    def __init__(self, shown: Task, status: Status) -> None:
        super().__init__(shown.name, shown.total, shown.done, shown.work)
        self._shown, self._status = shown, status

    def __enter__(self) -> Self:
        self._shown.__enter__()
        self._status.begin(self.name, self.done, self.total)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._shown.__exit__(*exc_info)

    def advance(self, n: int = 1, work: float | None = None, ahead: Ahead | None = None, **info: float) -> None:
        super().advance(n, work)
        self._shown.advance(n, work, ahead, **info)
        self._status.reach(self.done, self.total, info, (self.worked, self.work), ahead)


class Progress:
    """How tasks and messages are shown; the kind is chosen by `make_progress`."""

    def __init__(self, task: type[Task] = Task, quiet: bool = True, warns: bool | None = None) -> None:
        self._task, self._quiet = task, quiet
        self._status: Status | None = None
        self._warns = not quiet if warns is None else warns

    def task(self, name: str, total: int, initial: int = 0, work: float | None = None) -> Task:
        """A context manager that shows how much of `name` is done; arguments as of `Task`."""
        shown = self._task(name, total, initial, work)
        return shown if self._status is None else _WrittenTask(shown, self._status)

    @contextmanager
    def seen_at(self, out: PathLikeStr) -> Iterator[None]:
        """Let `latticediff watch OUT` see the tasks of this context."""
        with written(out) as status:
            self._status = status
            try:
                yield
            finally:
                self._status = None

    def say(self, line: str) -> None:
        """Print a line for people to standard error; results go to standard output by other ways."""
        if not self._quiet:
            print(printable(line), file=sys.stderr, flush=True)

    def warn(self, line: str) -> None:
        """Print ``warning: line`` to standard error, on the command line even if ``--quiet``."""
        if self._quiet and self._warns:
            print(printable(f"warning: {line}"), file=sys.stderr, flush=True)
        else:
            self.say(f"warning: {line}")


def make_progress(quiet: bool = False) -> Progress:
    """A bar on a terminal, lines elsewhere, nothing but warnings if `quiet`."""
    if quiet:
        return Progress(warns=True)
    return Progress(_BarTask if sys.stderr.isatty() else _LineTask, quiet=False)

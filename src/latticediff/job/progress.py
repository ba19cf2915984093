"""Progress: a bar with ETA on a terminal, one line a minute elsewhere, nothing when quiet.

A stage says ``with progress.task("training", total) as task: task.advance(n, loss=0.3)``.
"""

import sys
import time

from ..untrusted import printable

__all__ = ["Progress", "Task", "make_progress"]

SECONDS_BETWEEN_LINES = 60.0


class Task:
    """One thing that takes a while; this one says nothing."""

    def __init__(self, name, total, initial=0):
        self.name, self.total, self.done = name, total, initial

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        pass

    def advance(self, n=1, **info):
        """`n` more units are done; `info` are numbers worth showing."""
        self.done += n

    def reach(self, done, **info):
        """`done` units are done in all."""
        self.advance(done - self.done, **info)


class _BarTask(Task):
    def __init__(self, name, total, initial=0):
        from tqdm import tqdm

        super().__init__(name, total, initial)
        self._bar = tqdm(total=total, initial=initial, desc=name, unit_scale=True, dynamic_ncols=True)

    def advance(self, n=1, **info):
        super().advance(n)
        if info:
            self._bar.set_postfix({key: f"{value:.4g}" for key, value in info.items()}, refresh=False)
        self._bar.update(n)

    def __exit__(self, *exc_info):
        self._bar.close()


class _LineTask(Task):
    def __init__(self, name, total, initial=0):
        super().__init__(name, total, initial)
        self._began = self._said = time.monotonic()
        self._initial = initial

    def advance(self, n=1, **info):
        super().advance(n)
        now = time.monotonic()
        if now - self._said < SECONDS_BETWEEN_LINES:
            return
        self._said = now
        rate = (self.done - self._initial) / (now - self._began)
        left = f", about {(self.total - self.done) / rate:.0f} s left" if rate > 0 else ""
        numbers = "".join(f", {key} {value:.4g}" for key, value in info.items())
        print(printable(f"{self.name}: {self.done} of {self.total}{left}{numbers}"), file=sys.stderr, flush=True)


class Progress:
    """How tasks and messages are shown; the kind is chosen by `make_progress`."""

    def __init__(self, task=Task, quiet=True):
        self._task, self._quiet = task, quiet

    def task(self, name, total, initial=0):
        """A context manager that shows how far `name` is."""
        return self._task(name, total, initial)

    def say(self, line):
        """A line for a person, on standard error; results go to standard output by other ways."""
        if not self._quiet:
            print(printable(line), file=sys.stderr, flush=True)


def make_progress(quiet=False):
    """The progress that fits where standard error goes."""
    if quiet:
        return Progress()
    return Progress(_BarTask if sys.stderr.isatty() else _LineTask, quiet=False)

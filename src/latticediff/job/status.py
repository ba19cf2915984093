"""How far a command is, in a small file beside its output, for `latticediff watch` in another terminal or node.

The file ``OUT.progress.json`` is there as long as the command runs: replaced as a whole at most once a second, and
after 20 to 40 seconds of silence once more; removed at the end. One that stays behind is of a command that was killed.
"""

from __future__ import annotations

import json
import math
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..atomic import sealed_text
from ..errors import FileError
from ..types import PathLikeStr
from ..untrusted import parse_json, read_bytes
from .pace import Ahead, Pace

__all__ = ["Status", "read_status", "status_path", "written"]

SECONDS = 1.0  #: between two writings
BEAT = 20.0  #: after which a command whose work is silent says that it lives
BYTES = 1 << 16  #: a status is some hundred


def status_path(out: PathLikeStr) -> Path:
    """Where the command that writes `out` says how far it is."""
    path = Path(out).absolute()
    return path.with_name(f"{path.name}.progress.json")


class Status:
    """What is written: the task at hand, those that are done, and the time left of this one.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self.path, self.past = path, list[str]()
        self.has_written = False
        self._name, self._pace, self._last, self._began = "", Pace(), -math.inf, datetime.now(UTC)
        self._row: dict[str, Any] = {}
        self._lock = threading.Lock()

    def begin(self, name: str, done: int, total: int) -> None:
        """A new task begins, with `done` of `total` units done before."""
        if self._name:
            self.past.append(self._name)
        self._name, self._pace, self._last, self._began = name, Pace(), -math.inf, datetime.now(UTC)
        self._write(done, total, {}, None)

    def reach(
        self,
        done: int,
        total: int,
        numbers: dict[str, float],
        work: tuple[float, float] | None = None,
        ahead: Ahead | None = None,
    ) -> None:
        """`done` units are done, and of the work as much; written if the last writing is long enough ago.

        With `ahead` the time left is what it says, of all tasks of the command.
        """
        left = self._pace.seconds_left(*(work or (done, total))) if ahead is None else ahead.seconds_left
        if time.monotonic() - self._last >= SECONDS or done >= total:
            self._write(done, total, numbers, left, ahead)

    def _write(
        self, done: int, total: int, numbers: dict[str, float], left: float | None, ahead: Ahead | None = None
    ) -> None:
        self._last = time.monotonic()
        row = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "task": self._name,
            "done": done,
            "total": total,
            "began": self._began.isoformat(timespec="seconds"),
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds_left": left,
            "numbers": {key: value if math.isfinite(value) else None for key, value in numbers.items()},
            "past": self.past,
            **({} if ahead is None else {"share": ahead.share, "at": ahead.at}),
        }
        self.has_written = True
        with self._lock:
            self._row = row
            self._seal(row)

    def _seal(self, row: dict[str, Any]) -> None:
        with suppress(FileError, OSError):  # nobody's work ends because a spectator sees nothing
            sealed_text(self.path, json.dumps(row), sync=False)

    def beat(self, ended: threading.Event) -> None:
        """Write the last row once more every `BEAT` seconds, until it has ended: units may take many minutes."""
        while not ended.wait(BEAT):
            with self._lock:
                if not self._row or time.monotonic() - self._last < BEAT:
                    continue
                left = self._row["seconds_left"]
                passed = time.monotonic() - self._last
                now = datetime.now(UTC).isoformat(timespec="seconds")
                self._seal({**self._row, "written": now, "seconds_left": left and max(0.0, left - passed)})


@contextmanager
def written(out: PathLikeStr) -> Iterator[Status]:
    """A `Status` in the file of `out`, which is removed at the end however that comes."""
    status, ended = Status(status_path(out)), threading.Event()
    heart = threading.Thread(target=status.beat, args=(ended,), name="progress", daemon=True)
    heart.start()
    try:
        yield status
    finally:
        ended.set()
        heart.join()
        # else it may be that of the command which has the output claimed
        if status.has_written or _left_behind(status.path):
            with suppress(OSError):
                status.path.unlink(missing_ok=True)


def _left_behind(path: Path) -> bool:
    """Whether a status is there of a process of this machine that has ended: one that was killed after its work."""
    try:
        row = parse_json(read_bytes(path, "the progress of a command", BYTES), path)
        pid = row["pid"]
        if row["host"] != socket.gethostname() or type(pid) is not int or pid < 1:
            return False
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (FileError, OSError, KeyError, TypeError, OverflowError):
        return False
    return False


def read_status(out: PathLikeStr) -> dict[str, Any] | None:
    """The status of the command that writes `out`; None if none is running.

    Raises
    ------
    FileError
        The file is none of ours.
    """
    path = status_path(out)
    if not path.exists():
        return None
    row = parse_json(read_bytes(path, "the progress of a command", BYTES), path)
    wanted = ("task", "done", "total", "written", "past", "numbers")
    if not isinstance(row, dict) or any(key not in row for key in wanted):
        raise FileError(f"{path} is no progress of a command; remove it")
    return row

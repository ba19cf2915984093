"""The run's log: one JSON object a line, appended, flushed at once.

Every row has ``time`` (ISO, UTC) and ``event``; the rest belongs to the event.
"""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

from ..atomic import open_own
from ..errors import FileError
from ..untrusted import parse_json, read_bytes, status

__all__ = ["JsonLog", "read_log"]

LOG_BYTES = 4 << 30  #: a row a step for a hundred million steps is less


class JsonLog:
    """Append-only log file; `path` None keeps nothing.

    Raises
    ------
    FileError
        If the file cannot be written.
    """

    def __init__(self, path=None):
        self._file = None
        if path is None:
            return
        path = Path(path)
        try:
            torn = path.exists() and path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")
            self._file = os.fdopen(open_own(path, os.O_WRONLY | os.O_APPEND), "a", encoding="utf-8")
        except OSError as exc:
            raise FileError(f"cannot write log {path}: {exc.strerror}") from None
        if torn:  # a killed process left half a line; the next row must not be glued to it
            self._file.write("\n")

    def __call__(self, event, **fields):
        """Append one row; NaN and infinities become null, since JSON has no word for them."""
        if self._file is None:
            return
        row = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **fields}
        self._file.write(json.dumps(_finite(row), default=_plain, allow_nan=False) + "\n")
        self._file.flush()


def read_log(path, event=None):
    """Rows of a log in order, those of one `event` if asked; a torn line is skipped."""
    path = Path(path)
    if status(path) is None:
        return []
    rows = []
    for line in read_bytes(path, "a log", LOG_BYTES).decode(errors="replace").splitlines():
        try:
            row = parse_json(line, path)
        except FileError:
            continue
        if isinstance(row, dict) and event in (None, row.get("event")):
            rows.append(row)
    return rows


def _plain(value):
    """NumPy scalars and arrays, paths: what JSON does not know."""
    return _finite(value.tolist()) if hasattr(value, "tolist") else str(value)


def _finite(value):
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    return value

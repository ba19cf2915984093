"""The run's log: one JSON object a line, appended, flushed at once.

Every row has ``time`` (ISO, UTC) and ``event``; the rest belongs to the event. It ends with ``crc32``, that of the row
without it, begun with that of the row before: the report shows numbers of the log, and a changed or a missing row is
refused. Rows of older versions have none.
"""

import json
import os
import re
import zlib
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from ..atomic import disk_error, open_own
from ..errors import FileError
from ..untrusted import parse_json, read_bytes, status

__all__ = ["JsonLog", "read_log"]

LOG_BYTES = 4 << 30  #: a row a step for a hundred million steps is less


class JsonLog:
    """Append-only log file; `path` None keeps nothing.

    Raises
    ------
    FileError
        If the file cannot be written, now or at a later row.
    """

    def __init__(self, path=None):
        self._file = None
        if path is None:
            return
        self._path = path = Path(path)
        try:
            self._file = os.fdopen(open_own(path, os.O_RDWR | os.O_APPEND), "a", encoding="utf-8")
            self._crc = _last_sum(path)
        except OSError as exc:
            raise FileError(f"cannot write log {path}: {exc.strerror}") from None

    def __call__(self, event, **fields):
        """Append one row; NaN and infinities become null, since JSON has no word for them."""
        if self._file is None:
            return
        row = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **fields}
        text = json.dumps(_finite(row), default=_plain, allow_nan=False)
        self._crc = zlib.crc32(text.encode(), self._crc)
        try:
            self._file.write(f'{text[:-1]}, "crc32": "{self._crc:08x}"}}\n')
            self._file.flush()
        except OSError as exc:
            file, self._file = self._file, None  # half a row may be there; none must follow it
            with suppress(OSError):
                file.close()
            raise disk_error(exc, self._path) from None


def _last_sum(path):
    """Sum of the last row of a log, 0 if there is none; half a line, which a killed process left, is dropped."""
    content = Path(path).read_bytes()
    if content and not content.endswith(b"\n"):
        os.truncate(path, content.rfind(b"\n") + 1)
    for line in reversed(content[: content.rfind(b"\n") + 1].decode(errors="replace").split("\n")):
        if found := _SUMMED.fullmatch(line):
            return int(found[2], 16)
    return 0


_SUMMED = re.compile(r'(.*), "crc32": "([0-9a-f]{8})"\}')


def read_log(path, event=None):
    """Rows of a log in order, those of one `event` if asked; half a line at the end is skipped.

    Raises
    ------
    FileError
        A row is not what was written.
    """
    path = Path(path)
    if status(path) is None:
        return []
    rows, old, new, torn, crc = [], False, False, None, 0
    *lines, _ = read_bytes(path, "a log", LOG_BYTES).decode(errors="replace").split("\n")
    for number, line in enumerate(lines, 1):
        if found := _SUMMED.fullmatch(line):
            line, new = found[1] + "}", True
            crc = zlib.crc32(line.encode(), crc)
            if crc != int(found[2], 16):
                raise FileError(f"{path} is damaged: line {number}, or one before it, is not as written; restore it")
        try:
            row = parse_json(line, path)
        except FileError:
            # versions that wrote no sums left the torn line of a killed process where it was
            torn = torn if torn is not None or (old and not new) else number
            continue
        old = old or found is None
        if isinstance(row, dict) and event in (None, row.get("event")):
            rows.append(row)
    if new and torn is not None:
        raise FileError(f"{path} is damaged: line {torn} is no JSON; restore it")
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

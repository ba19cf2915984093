"""The run's log: one JSON object a line, appended, flushed at once.

Every row has ``time`` (ISO, UTC) and ``event``; the rest belongs to the event. It ends with ``crc32``, the checksum of
the row without it, which continues that of the row before. The report shows numbers of the log, so a row that was
changed or is missing is refused. Rows of older versions have no checksum.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from ..atomic import disk_error, open_own
from ..errors import FileError
from ..types import PathLikeStr
from ..untrusted import parse_json, read_bytes, status

__all__ = ["JsonLog", "read_log"]

LOG_BYTES = 4 << 30  #: a row a step for a hundred million steps is less


class JsonLog:
    """Append-only log file.

    Parameters
    ----------
    path : path-like, optional
        Without it nothing is kept.

    Raises
    ------
    FileError
        If the file cannot be written, now or at a later row.
    """

    def __init__(self, path: PathLikeStr | None = None) -> None:
        self._file: IO[str] | None = None
        if path is None:
            return
        self._path = path = Path(path)
        try:
            self._file = os.fdopen(open_own(path, os.O_RDWR | os.O_APPEND), "a", encoding="utf-8")
            self._crc = _last_sum(path)
        except OSError as exc:
            raise FileError(f"cannot write log {path}: {exc.strerror}") from None

    def __call__(self, event: str, **fields: Any) -> None:
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


def _last_sum(path: Path) -> int:
    """Checksum of the last row of a log, 0 if there is none; half a line, which a killed process left, is dropped."""
    content = Path(path).read_bytes()
    if content and not content.endswith(b"\n"):
        os.truncate(path, content.rfind(b"\n") + 1)
    for line in reversed(content[: content.rfind(b"\n") + 1].decode(errors="replace").split("\n")):
        if found := _SUMMED.fullmatch(line):
            return int(found[2], 16)
    return 0


_SUMMED = re.compile(r'(.*), "crc32": "([0-9a-f]{8})"\}')


def read_log(path: PathLikeStr, event: str | None = None) -> list[dict[str, Any]]:
    """Read the rows of a log in order, or only those of one `event`; half a line at the end is skipped.

    Raises
    ------
    FileError
        A row is not what was written.
    """
    path = Path(path)
    if status(path) is None:
        return []
    rows: list[dict[str, Any]] = []
    torn: int | None = None
    old, new, crc = False, False, 0
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


def _plain(value: Any) -> Any:
    """What JSON knows for what it does not: lists and numbers for NumPy's, text for paths and all else."""
    return _finite(value.tolist()) if hasattr(value, "tolist") else str(value)


def _finite(value: Any) -> Any:
    """The same tree with None for every float that is not finite."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    return value

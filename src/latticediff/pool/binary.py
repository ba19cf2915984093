"""Pools as a text header and plain numbers, for codes that read no HDF5: C, C++, Fortran, Julia in ten lines.

The header is lines of a name, a blank and a value, the last line is ``end``; it is filled up with line feeds to
``header_bytes``, a multiple of 4096. Then follow `n` records of S, log_q and phi (C order), float64, little-endian.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..atomic import whole
from ..errors import FileError
from ..types import PathLikeStr
from ..untrusted import first_bytes, parse_json, printable, regular_file
from .header import SCHEMA, VERSION, PoolHeader, Rows, as_records, data_digest, record_type

__all__ = ["BinaryPool", "write_binary"]

PAGE, LONGEST = 4096, 1 << 20
DIGITS = 20  #: of the number of consumed draws, which is overwritten in place


def _text(header: PoolHeader, digest: str) -> tuple[bytes, int]:
    """The header as bytes, and where in it the number of consumed draws stands."""
    first = f"{SCHEMA} {VERSION}\nheader_bytes {{size:08d}}\nconsumed "
    told = header.fields() | {
        "shape": " ".join(map(str, header.shape)),
        "is_deterministic": int(header.is_deterministic),
        **{name: json.dumps(getattr(header, name), sort_keys=True) for name in ("action", "proposal", "model")},
    }
    lines = [f"{name} {value}" for name, value in told.items()]
    lines += ["record action log_q phi", "dtype <f8", f"data_sha256 {digest}", "end", ""]
    size = -(-(len(first) + DIGITS + sum(len(line.encode()) + 1 for line in lines)) // PAGE) * PAGE
    begin = first.format(size=size)
    text = (begin + "\n".join([f"{0:0{DIGITS}d}", *lines])).encode()
    return text.ljust(size, b"\n"), len(begin.encode())


def write_binary(path: PathLikeStr, header: PoolHeader, blocks: Iterator[Rows]) -> str:
    """Write a pool of `header.n` draws, whole or not at all; returns the digest of the draws."""
    with whole(path) as file:
        file.write(_text(header, "0" * 64)[0])
        digest, _ = data_digest(blocks, lambda rows: file.write(as_records(rows).tobytes()))
        file.seek(0)
        file.write(_text(header, digest)[0])
    return digest


class BinaryPool:
    """An open binary pool; see `latticediff.pool.header.Pool`."""

    consumed_as_text = True

    def __init__(self, path: PathLikeStr) -> None:
        self.path = Path(path)
        size = regular_file(path, "a pool")
        told = self._told(first_bytes(path, min(size, LONGEST)))
        self.data_sha256 = str(told.pop("data_sha256", ""))
        start = int(told.pop("header_bytes"))
        known = {name: told[name] for name in PoolHeader.__dataclass_fields__ if name in told}
        self.header = PoolHeader.from_fields(known, path)
        wanted = start + self.header.n * 8 * (2 + math.prod(self.header.shape))
        if size != wanted:
            raise FileError(
                f"{path} has {size} bytes; {self.header.n} draws on {self.header.shape} take {wanted}: the pool is"
                " truncated or damaged, propose again"
            )
        kind = record_type(self.header.shape)
        self._records: Any = np.memmap(path, kind, "r", start, (self.header.n,)) if self.header.n else np.empty(0, kind)

    def _told(self, data: bytes) -> dict[str, Any]:
        """The header as it is written, line by line."""
        first, _, rest = data.partition(b"\n")
        if first != f"{SCHEMA} {VERSION}".encode():
            raise FileError(f"{self.path} is no pool of this version; it begins with {printable(first[:40])!r}")
        lines, end, _ = rest.partition(b"\nend\n")
        told: dict[str, Any] = {}
        at = len(first) + 1
        for line in lines.split(b"\n"):
            name, _, value = line.decode("utf-8", "replace").partition(" ")
            if name == "consumed":
                self.consumed_at = at + len("consumed ")
            told[name] = value
            at += len(line) + 1
        if not end or not str(told.get("header_bytes")).isdecimal() or len(str(told.get("consumed"))) != DIGITS:
            raise FileError(f"{self.path}: its header is damaged or cut; propose again")
        for name in ("n", "evaluations_per_draw", "seed", "stream", "is_deterministic"):
            if name in told and told[name].isdecimal() and len(told[name]) < 300:
                told[name] = bool(int(told[name])) if name == "is_deterministic" else int(told[name])
        if "shape" in told:
            told["shape"] = [int(word) if word.isdecimal() and len(word) < 20 else 0 for word in told["shape"].split()]
        for name in ("action", "proposal", "model"):
            if name in told:
                told[name] = parse_json(told[name], self.path)
        return told

    def rows(self, start: int, stop: int) -> Rows:
        """Draws `start` to `stop`, float64."""
        part = self._records[start:stop]
        return Rows(*(np.array(part[name], np.float64) for name in ("phi", "action", "log_q")))

    def close(self) -> None:
        """Let go of the file."""
        self._records = self._records[:0].copy()

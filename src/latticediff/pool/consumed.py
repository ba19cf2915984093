"""How many draws of a pool have been used: a number in the file itself, so that copies tell it too.

It is overwritten in place, eight bytes or twenty digits, under a lock, and on disk before a chain uses the draws: after
a kill draws may be lost, which `propose` makes again to the same bits, but none is used twice.
"""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from ..atomic import disk_error, sync_file
from ..errors import FileError

if TYPE_CHECKING:
    from .header import Pool

__all__ = ["claim", "consumed", "release"]


def _read(descriptor: int, pool: Pool) -> int:
    width = 20 if pool.consumed_as_text else 8
    data = os.pread(descriptor, width, pool.consumed_at)
    if pool.consumed_as_text:
        found = int(data) if data.isdigit() and len(data) == width else -1
    else:
        found = int.from_bytes(data, "little", signed=True)
    if not 0 <= found <= pool.header.n:
        raise FileError(f"{pool.path}: the number of consumed draws is damaged; propose again")
    return found


def _write(descriptor: int, pool: Pool, number: int) -> None:
    data = f"{number:020d}".encode() if pool.consumed_as_text else number.to_bytes(8, "little", signed=True)
    os.pwrite(descriptor, data, pool.consumed_at)
    sync_file(descriptor)


def consumed(pool: Pool) -> int:
    """Draws of a pool that have been used."""
    descriptor = os.open(pool.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _read(descriptor, pool)
    finally:
        os.close(descriptor)


def _change(pool: Pool, before: int, after: int) -> bool:
    """Set the number to `after` if it is `before`; returns whether it was."""
    try:
        descriptor = os.open(pool.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX)  # not flock, which HDF5 uses for itself
            if _read(descriptor, pool) != before:
                return False
            _write(descriptor, pool, after)
            return True
        finally:
            os.close(descriptor)
    except OSError as exc:
        raise disk_error(exc, pool.path) from exc


def claim(pool: Pool, start: int, stop: int) -> None:
    """Mark draws `start` to `stop` as used.

    Raises
    ------
    FileError
        Some of them have been used before, or the file cannot be written.
    """
    if not _change(pool, start, stop):
        raise FileError(f"{pool.path}: its draws are being used by another program; propose a pool for each chain")


def release(pool: Pool, start: int, stop: int) -> None:
    """Undo `claim`, where nothing was made of the draws."""
    _change(pool, stop, start)

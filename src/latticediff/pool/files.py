"""Pools by the suffix of their file: ``.h5`` and ``.hdf5``, or ``.bin``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..atomic import refuse_existing, require_space
from ..ensemble.stored import open_h5
from ..errors import FileError, UserError
from ..types import PathLikeStr
from ..untrusted import first_bytes, regular_file
from .binary import BinaryPool, write_binary
from .hdf5 import Hdf5Pool, write_hdf5
from .header import SCHEMA, PoolHeader, Rows, data_digest, record_type

if TYPE_CHECKING:
    from .header import Pool

__all__ = ["checked_suffix", "is_pool", "open_pool", "require_digest", "write_pool"]

BYTES = 32 << 20  #: read at a time


def checked_suffix(path: PathLikeStr) -> str:
    """``"hdf5"`` or ``"binary"``; raises `UserError` for other suffixes."""
    kind = {".h5": "hdf5", ".hdf5": "hdf5", ".bin": "binary"}.get(Path(path).suffix.lower())
    if kind is None:
        raise UserError(
            f"{path}: a pool is .h5 (HDF5) or .bin (text header and plain numbers), not {Path(path).suffix!r}"
        )
    return kind


def write_pool(path: PathLikeStr, header: PoolHeader, blocks: Iterator[Rows]) -> str:
    """Write a pool.

    Parameters
    ----------
    path : path-like
        Must not exist; ``.h5``, ``.hdf5`` or ``.bin``.
    header : PoolHeader
    blocks : iterator of Rows
        `header.n` draws in all.

    Returns
    -------
    str
        SHA-256 of the draws.

    Raises
    ------
    UserError
        Another suffix.
    FileError
        `path` exists or cannot be written.
    """
    kind = checked_suffix(path)
    refuse_existing(path)
    require_space(path, header.n * record_type(header.shape).itemsize)
    return (write_hdf5 if kind == "hdf5" else write_binary)(path, header, blocks)


def open_pool(path: PathLikeStr) -> Pool:
    """Open a pool.

    Raises
    ------
    FileError
        Missing, damaged, truncated, or no pool.
    """
    regular_file(path, "a pool")
    is_hdf5 = first_bytes(path, 8) == b"\x89HDF\r\n\x1a\n"
    return Hdf5Pool(path) if is_hdf5 else BinaryPool(path)


def is_pool(path: PathLikeStr) -> bool:
    """Whether a file says that it is a pool; nothing else of it is looked at."""
    if not Path(path).is_file():
        return False
    begin = first_bytes(path, len(SCHEMA) + 1)
    if begin[:8] != b"\x89HDF\r\n\x1a\n":
        return begin == f"{SCHEMA} ".encode()
    with open_h5(path) as store:
        return store.has_attribute("schema") and str(store.attribute("schema")) == SCHEMA


def require_digest(pool: Pool) -> None:
    """Read all draws of a pool and compare their digest; raises `FileError` if they were changed."""
    n, step = pool.header.n, max(1, BYTES // record_type(pool.header.shape).itemsize)
    found, _ = data_digest(pool.rows(start, min(start + step, n)) for start in range(0, n, step))
    if found != pool.data_sha256:
        raise FileError(f"{pool.path}: its draws are not those that were written; propose again, to the same bits")

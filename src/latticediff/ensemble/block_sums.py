"""CRC-32 of blocks of rows: made while a data set is written, compared when rows of it are read."""

import zlib

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import FileError
from ..types import PathLikeStr
from .stored import Store
from .tables import AnyArray

__all__ = ["SEAL", "BlockSums", "Blocks", "as_bytes", "damaged_rows", "read_blocks"]

BLOCK_BYTES = 64 << 10
READ_BYTES = 4 << 20
SEAL = "seal"


def _little(rows: ArrayLike) -> AnyArray:
    """`rows` in little-endian byte order and one piece."""
    rows = np.asarray(rows)
    return np.ascontiguousarray(rows, rows.dtype.newbyteorder("<"))


def as_bytes(rows: ArrayLike) -> memoryview | bytes:
    """The bytes of `rows`, little-endian."""
    rows = _little(rows)
    return rows.data.cast("B") if rows.size else b""


class BlockSums:
    """CRC-32 of consecutive blocks of rows; the sums do not depend on how many rows each `update` brings."""

    def __init__(self, row_bytes: int) -> None:
        self.rows = max(1, BLOCK_BYTES // max(1, row_bytes))  #: rows of a block; the last one may have fewer
        self._row_bytes, self._open, self._crc = row_bytes, 0, 0
        self._sums: list[int] = []

    def update(self, rows: AnyArray) -> None:
        """Add the next `rows`."""
        view, start = as_bytes(rows), 0
        while start < len(rows):
            n = min(self.rows - self._open, len(rows) - start)
            self._crc = zlib.crc32(view[start * self._row_bytes : (start + n) * self._row_bytes], self._crc)
            self._open, start = self._open + n, start + n
            if self._open == self.rows:
                self._sums.append(self._crc)
                self._open, self._crc = 0, 0

    def result(self) -> NDArray[np.uint32]:
        """One sum for each block, shape (n_blocks,), uint32."""
        return np.array(self._sums + [self._crc] * (self._open > 0), "<u4")


class Blocks:
    """Stored CRC-32 of the blocks of one data set; `check` compares rows with them.

    Parameters
    ----------
    name : str
        Path of the data set.
    path : path
        Path of the file, for messages.
    rows : int
        Rows of a block; the last one may have fewer.
    sums : ndarray, shape (n_blocks,), uint32
    """

    def __init__(self, name: str, path: PathLikeStr, rows: int, sums: NDArray[np.uint32]) -> None:
        self.name, self.path, self.rows, self.sums = name, path, rows, sums

    def around(self, start: int, stop: int, n_rows: int) -> tuple[int, int]:
        """``(first, one past the last)`` of the rows that have to be read in order to check rows `start` to `stop`."""
        return start // self.rows * self.rows, min(-(-stop // self.rows) * self.rows, n_rows)

    def damaged(self, start: int, rows: AnyArray) -> list[tuple[int, int]]:
        """``(first, last)`` row of every block in `rows` that does not have its sum; `start` begins a block."""
        view, size = as_bytes(rows), rows[:1].nbytes
        found: list[tuple[int, int]] = []
        for low in range(0, len(rows), self.rows):
            high = min(low + self.rows, len(rows))
            number = (start + low) // self.rows
            if number >= len(self.sums) or zlib.crc32(view[low * size : high * size]) != self.sums[number]:
                found.append((start + low, start + high - 1))
        return found

    def check(self, start: int, rows: AnyArray) -> None:
        """Raise `FileError` if `rows` are not what was written; their first one, number `start`, begins a block."""
        if found := self.damaged(start, rows):
            first, last = found[0]
            raise FileError(
                f"{self.path} is damaged: rows {first} to {last} of /{self.name} are not what was written;"
                " restore the file or make it again (`repair` saves what is whole)"
            )


def read_blocks(file: Store, name: str) -> Blocks:
    """`Blocks` of the data set `name` of an ensemble file."""
    path = f"{SEAL}/{name}"
    return Blocks(name, file.path, file.attribute_int("rows", path, least=1), file.data(path, "u", 1, 4)[()])


def damaged_rows(file: Store, name: str) -> list[tuple[int, int]]:
    """``(first, last)`` row of every block of a data set that is not what was written."""
    blocks, data = read_blocks(file, name), file.data(name)
    found: list[tuple[int, int]] = []
    step = max(1, READ_BYTES // BLOCK_BYTES) * blocks.rows
    for start in range(0, len(data), step):
        found += blocks.damaged(start, data[start : start + step])
    return found

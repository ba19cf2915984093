"""Rows of an ensemble on disk, of one file or of the parts of a run in a row, compared with their sums when read.

A file with a seal has a CRC-32 for each block of rows: the blocks that rows lie in are read, and compared. A file of
schema version 1 has one SHA-256 for a data set: it is computed, over all parts, when rows are read for the first time.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from ..errors import FileError
from ..types import BoolArray, IntArray, PathLikeStr
from .digest import UNDIGESTED, RunningDigest
from .seal import Blocks, damaged_parts, damaged_rows, is_sealed, read_blocks
from .stored import Data, Store, open_h5
from .tables import AnyArray

__all__ = ["Part", "Rows"]

_T = TypeVar("_T")
_PHI = "configurations/phi"
_BATCH_BYTES = 4 << 20  # fits the cache


class Part(NamedTuple):
    """One file of an ensemble."""

    path: PathLikeStr
    n_cfg: int
    n_updates: int
    sealed: bool


class Rows:
    """Rows of the data sets of an ensemble.

    Parameters
    ----------
    files : list of path
    measure : callable
        ``measure(store) -> Part`` of an open file; raises `FileError` if it is no part of the ensemble.
    checksums : dict, optional
        SHA-256 of every data set by path, for parts without a seal; default: those in the first part. With an empty
        dict, nothing is compared.
    check : bool
        False reads without comparing.

    Attributes
    ----------
    parts : list of Part
    """

    def __init__(
        self,
        files: Sequence[PathLikeStr],
        measure: Callable[[Store], Part],
        checksums: Mapping[str, str] | None,
        check: bool,
    ) -> None:
        self._handle: tuple[PathLikeStr, Store] | None = None
        self._check, self._checksums = check, checksums
        self._blocks: dict[tuple[PathLikeStr, str], Blocks] = {}
        self._seen: dict[PathLikeStr, BoolArray] = {}  #: blocks of the fields that were compared
        self._compared: set[str] = set()
        self.parts: list[Part] = []
        try:
            for path in files:
                with self.open(path) as file:
                    self.parts.append(measure(file))
        except BaseException:
            self.close()  # nobody else can: the caller gets no object
            raise
        self._ends = {
            "configurations": np.cumsum([part.n_cfg for part in self.parts]),
            "history": np.cumsum([part.n_updates for part in self.parts]),
        }

    @property
    def first(self) -> PathLikeStr:
        """Path of the first part."""
        return self.parts[0].path

    @property
    def is_sealed(self) -> bool:
        """Whether every part has a seal."""
        return all(part.sealed for part in self.parts)

    @contextmanager
    def open(self, path: PathLikeStr) -> Iterator[Store]:
        """A part as a `Store`."""
        # one handle is kept: a run of thousands of segments would otherwise meet the limit on open files
        if self._handle is None or self._handle[0] != path:
            self.close()
            self._handle = (path, open_h5(path))
        yield self._handle[1]

    def opened(self, path: PathLikeStr, look: Callable[[Store], _T]) -> _T:
        """What `look` returns for the part at `path`."""
        with self.open(path) as file:
            return look(file)

    def close(self) -> None:
        """Close the part that is open."""
        if self._handle is not None:
            self._handle[1].close()
        self._handle = None

    def count(self, name: str) -> int:
        """Number of rows of a data set, all parts together."""
        return int(self._ends[name.split("/")[0]][-1])

    def _overlaps(self, name: str, start: int, stop: int) -> Iterator[tuple[PathLikeStr, int, int]]:
        """``(path, low, high)`` of every part that holds some of rows `start` to `stop`, counted from its beginning."""
        begin = 0
        for part, end in zip(self.parts, self._ends[name.split("/")[0]], strict=True):
            low, high = max(start, begin), min(stop, int(end))
            if low < high:
                yield part.path, low - begin, high - begin
            begin = int(end)

    def read(self, name: str, start: int = 0, stop: int | None = None) -> AnyArray:
        """Rows `start` to `stop` of the data set `name`, in the type in which they are stored.

        Raises
        ------
        FileError
            The rows are not what was written, or cannot be read.
        """
        start, stop, _ = slice(start, stop).indices(self.count(name))
        self._compare_whole(name)
        found = []
        for path, low, high in self._overlaps(name, start, stop):
            with self.open(path) as file:
                found.append(self._read_part(file, name, low, high))
        if not found:
            with self.open(self.first) as file:
                return file.data(name)[:0]  # no rows, but of the right shape and type
        return found[0] if len(found) == 1 else np.concatenate(found)

    def _read_part(self, file: Store, name: str, start: int, stop: int) -> AnyArray:
        """Rows `start` to `stop` of one part."""
        data, blocks = file.data(name), self._blocks_of(file, name)
        if blocks is None:
            return data[start:stop]
        first, last = blocks.around(start, stop, len(data))
        rows = data[first:last]
        blocks.check(first, rows)
        return rows[start - first : stop - first]

    def take(self, numbers: ArrayLike) -> AnyArray:
        """Rows of ``configurations/phi`` by number, ascending without repetition.

        Of a file with a seal, each block of rows is compared the first time only.

        Raises
        ------
        FileError
            The rows are not what was written, or cannot be read.
        """
        numbers, begin, found = np.asarray(numbers), 0, []
        self._compare_whole(_PHI)
        for part, end in zip(self.parts, self._ends["configurations"], strict=True):
            here = numbers[(numbers >= begin) & (numbers < end)] - begin
            if len(here):
                with self.open(part.path) as file:
                    found.append(self._take_part(file, here))
            begin = int(end)
        return np.concatenate(found)

    def _take_part(self, file: Store, numbers: IntArray) -> AnyArray:
        """Rows of the fields of one part, by number within it."""
        data, blocks = file.data(_PHI), self._blocks_of(file, _PHI)
        # HDF5 selects scattered rows a hundred times slower than the page cache gives them; chunked data, as other
        # programs may write them, have no place of their own
        offset = data.offset
        rows: AnyArray | Data = data
        if offset is not None:
            rows = np.memmap(file.path, data.dtype, "r", offset, data.shape)
        if blocks is not None:
            seen = self._seen.setdefault(file.path, np.zeros(len(blocks.sums), bool))
            for block in np.unique(numbers // blocks.rows):
                if not seen[block]:
                    start = int(block) * blocks.rows
                    blocks.check(start, np.asarray(rows[start : start + blocks.rows]))
                    seen[block] = True
        return np.asarray(rows[numbers])

    def _blocks_of(self, file: Store, name: str) -> Blocks | None:
        """`Blocks` of a data set of an open part; None where there are none, or where nothing is to be compared."""
        if not self._check or not is_sealed(file):
            return None
        key = file.path, name
        if key not in self._blocks:
            self._blocks[key] = read_blocks(file, name)
        return self._blocks[key]

    def damaged(self, name: str) -> list[tuple[int, int]]:
        """``(first, last)`` of every stretch of rows that is not what was written, in an ensemble of one part."""
        if self.is_sealed:
            whole = "blocks" not in self.opened(self.first, damaged_parts)
            return self.opened(self.first, lambda file: damaged_rows(file, name)) if whole else []
        return [] if self._is_whole(name) else [(0, self.count(name) - 1)]

    def _compare_whole(self, name: str) -> None:
        """Raise `FileError` if a data set of parts without a seal does not have its SHA-256; it is computed once."""
        if self.is_sealed or not self._check or name in self._compared:
            return
        if not self._is_whole(name):
            raise FileError(
                f"{self.first} is damaged: /{name} does not have its checksum; restore the file or make it again"
                " (`repair` saves what is whole)"
            )
        self._compared.add(name)

    def _is_whole(self, name: str) -> bool:
        """Whether a data set has its SHA-256; True if none is known."""
        if name.removeprefix("history/") in UNDIGESTED or self._checksums == {}:
            return True
        if self._checksums is None:
            self._checksums = self.opened(self.first, lambda file: file.json("checksums"))
        digest = RunningDigest()
        for part in self.parts:
            with self.open(part.path) as file:
                data = file.data(name)
                size = max(1, _BATCH_BYTES * max(1, len(data)) // max(1, data.size * data.dtype.itemsize))
                for start in range(0, max(1, len(data)), size):
                    digest.update(name, data[start : start + size])
        return digest.result()[name] == self._checksums.get(name)

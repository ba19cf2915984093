"""Rows of an ensemble on disk, of one file or of the parts of a run one behind the other, compared when they are read.

A file with a seal has a CRC-32 for each block of rows: the blocks that rows lie in are read, and compared. A file of
schema version 1 has one SHA-256 for a data set: it is computed, over all parts, when rows are read for the first time.
"""

from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from ..errors import FileError
from .digest import UNDIGESTED, RunningDigest
from .seal import damaged_parts, damaged_rows, is_sealed, read_blocks
from .stored import open_h5

__all__ = ["Part", "Rows"]

_PHI = "configurations/phi"
_BATCH_BYTES = 4 << 20  # fits the cache


class Part(NamedTuple):
    """One file of an ensemble."""

    path: object
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
        SHA-256 of every data set by path, for parts without a seal; default: those in the first part. An empty one
        knows nothing, and nothing is compared.
    check : bool
        False reads without looking.

    Attributes
    ----------
    parts : list of Part
    """

    def __init__(self, files, measure, checksums, check):
        self._handle, self._check, self._checksums = (None, None), check, checksums
        self._blocks, self._seen, self._compared = {}, {}, set()
        self.parts = []
        for path in files:
            with self.open(path) as file:
                self.parts.append(measure(file))
        self._ends = {
            "configurations": np.cumsum([part.n_cfg for part in self.parts]),
            "history": np.cumsum([part.n_updates for part in self.parts]),
        }

    @property
    def first(self):
        """Path of the first part."""
        return self.parts[0].path

    @property
    def is_sealed(self):
        return all(part.sealed for part in self.parts)

    @contextmanager
    def open(self, path):
        """A part as a `Store`."""
        # one handle is kept: a run of thousands of segments would otherwise meet the limit on open files
        if self._handle[0] != path:
            self.close()
            self._handle = (path, open_h5(path))
        yield self._handle[1]

    def opened(self, path, look):
        """``look(store)`` of a part."""
        with self.open(path) as file:
            return look(file)

    def close(self):
        if self._handle[1] is not None:
            self._handle[1].close()
        self._handle = (None, None)

    def count(self, name):
        """Number of rows of a data set, all parts together."""
        return int(self._ends[name.split("/")[0]][-1])

    def _overlaps(self, name, start, stop):
        """``(path, low, high)`` of every part that rows `start` to `stop` lie in, counted from its beginning."""
        begin = 0
        for part, end in zip(self.parts, self._ends[name.split("/")[0]], strict=True):
            low, high = max(start, begin), min(stop, int(end))
            if low < high:
                yield part.path, low - begin, high - begin
            begin = int(end)

    def read(self, name, start=0, stop=None):
        """Rows `start` to `stop` of the data set `name`.

        Raises
        ------
        FileError
            They are not what was written.
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

    def _read_part(self, file, name, start, stop):
        data, blocks = file.data(name), self._blocks_of(file, name)
        if blocks is None:
            return data[start:stop]
        first, last = blocks.around(start, stop, len(data))
        rows = data[first:last]
        blocks.check(first, rows)
        return rows[start - first : stop - first]

    def take(self, numbers):
        """Rows of ``configurations/phi`` by number, ascending without repetition; a block is compared once."""
        numbers, begin, found = np.asarray(numbers), 0, []
        self._compare_whole(_PHI)
        for part, end in zip(self.parts, self._ends["configurations"], strict=True):
            here = numbers[(numbers >= begin) & (numbers < end)] - begin
            if len(here):
                with self.open(part.path) as file:
                    found.append(self._take_part(file, here))
            begin = int(end)
        return np.concatenate(found)

    def _take_part(self, file, numbers):
        data, blocks = file.data(_PHI), self._blocks_of(file, _PHI)
        # HDF5 selects scattered rows a hundred times slower than the page cache gives them; chunked data, as other
        # programs may write them, have no place of their own
        plain = data.offset is not None
        rows = np.memmap(file.path, data.dtype, "r", data.offset, data.shape) if plain else data
        if blocks is not None:
            seen = self._seen.setdefault(file.path, np.zeros(len(blocks.sums), bool))
            for block in np.unique(numbers // blocks.rows):
                if not seen[block]:
                    start = int(block) * blocks.rows
                    blocks.check(start, np.asarray(rows[start : start + blocks.rows]))
                    seen[block] = True
        return np.asarray(rows[numbers])

    def _blocks_of(self, file, name):
        """`Blocks` of a data set of an open part; None where there are none, or nobody wants them compared."""
        if not self._check or not is_sealed(file):
            return None
        key = file.path, name
        if key not in self._blocks:
            self._blocks[key] = read_blocks(file, name)
        return self._blocks[key]

    def damaged(self, name):
        """``(first, last)`` of the rows of a single part that are not what was written."""
        if self.is_sealed:
            whole = "blocks" not in self.opened(self.first, damaged_parts)
            return self.opened(self.first, lambda file: damaged_rows(file, name)) if whole else []
        return [] if self._is_whole(name) else [(0, self.count(name) - 1)]

    def _compare_whole(self, name):
        """Compare a data set of parts without a seal with its SHA-256, once."""
        if self.is_sealed or not self._check or name in self._compared:
            return
        if not self._is_whole(name):
            raise FileError(
                f"{self.first} is damaged: /{name} does not have its checksum; restore the file or make it again"
                " (`repair` saves what is whole)"
            )
        self._compared.add(name)

    def _is_whole(self, name):
        """Whether a data set has its SHA-256, as far as there is one."""
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

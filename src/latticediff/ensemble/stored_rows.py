"""The rows of an ensemble as arrays: fields and history, all of them, in batches, or chain by chain."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from ..errors import FileError
from ..types import FloatArray, Shape
from .rows import Rows
from .schema import CONFIGURATIONS
from .structure import is_bool
from .tables import AnyArray, Columns, Piece

__all__ = ["StoredRows"]

_BATCH_BYTES = 32 << 20
_COPY_BYTES = 4 << 20  # fits the cache and reused memory: copying by 4 MB took half the time of 32 MB


class StoredRows:
    """What `Ensemble` reads rows with; every row is compared with its sum when it is read, see `rows`."""

    path: Path
    shape: Shape
    n_chains: int
    n_cfg: int  #: configurations of all chains
    n_updates: int  #: rows of the history
    history_names: tuple[str, ...]
    _rows: Rows

    def read(self, name: str, start: int = 0, stop: int | None = None) -> AnyArray:
        """Rows `start` to `stop` of ``configurations/<name>``.

        Parameters
        ----------
        name : {"phi", "update", "series", "action"}
        start, stop : int
            As of a slice; default: all rows.

        Returns
        -------
        ndarray
            (n, *lattice) float64 of ``phi``; (n,) float64 of ``action``, int64 of ``update``, int32 of ``series``.

        Raises
        ------
        FileError
            The rows are not what was written, or cannot be read.
        """
        return self._rows.read(f"configurations/{name}", start, stop)

    def phis(self, start: int = 0, stop: int | None = None) -> FloatArray:
        """Configurations `start` to `stop`, (n, *lattice) float64, ordered by update, then by chain; see `read`."""
        return self.read("phi", start, stop)

    def take(self, numbers: ArrayLike) -> FloatArray:
        """A few configurations by number, (n, *lattice) float64.

        Parameters
        ----------
        numbers : array_like of int, shape (n,)
            Ascending, without repetition, from 0 to ``n_cfg - 1``.

        Raises
        ------
        FileError
            The rows are not what was written, or cannot be read.
        """
        return self._rows.take(numbers)

    def batches(self, size: int | None = None) -> Iterator[FloatArray]:
        """Iterate over `phis` in batches of `size` configurations (default about 32 MB, whole updates)."""
        for start, stop in self.batch_bounds(size):
            yield self.phis(start, stop)

    def batch_bounds(self, size: int | None = None, n_bytes: int = _BATCH_BYTES) -> list[tuple[int, int]]:
        """``(start, stop)`` of consecutive batches of `size` configurations.

        The default size holds whole updates, as many as fit into `n_bytes` and at least one.
        """
        if size is None:
            rows = max(1, n_bytes // (8 * int(np.prod(self.shape)) * self.n_chains))
            size = rows * self.n_chains
        return [(start, min(start + size, self.n_cfg)) for start in range(0, self.n_cfg, size)]

    def pieces(self, size: int | None = None) -> Iterator[Piece]:
        """``(configurations, history)`` of the whole ensemble for `write_ensemble`, history first."""
        rows = max(1, _BATCH_BYTES // (8 * self.n_chains))
        for start in range(0, self.n_updates, rows):
            yield {}, {name: self.history(name, start, start + rows) for name in self.history_names}
        for start, stop in self.batch_bounds(size, _COPY_BYTES):
            yield {name: self.read(name, start, stop) for name in CONFIGURATIONS}, {}

    def series_array(self, name: str = "action") -> AnyArray:
        """A dataset with one number for each configuration as (n_chains, n_cfg / n_chains), one row for each chain."""
        return self.by_chain(self.read(name))

    def by_chain(self, values: ArrayLike) -> AnyArray:
        """Reorder values of all configurations, (n_cfg, ...), to (n_chains, n_cfg / n_chains, ...).

        Raises
        ------
        FileError
            There are more or fewer values than configurations.
        """
        values = np.asarray(values)
        if len(values) != self.n_cfg:
            raise FileError(f"{self.path} has {self.n_cfg} configurations; got {len(values)} values")
        return values.reshape(-1, self.n_chains, *values.shape[1:]).swapaxes(0, 1)

    def history(self, name: str, start: int = 0, stop: int | None = None) -> AnyArray:
        """Rows `start` to `stop` of column `name` of the history, one row for each update, all by default.

        Returns
        -------
        ndarray, shape (n, n_chains), or (n,) for ``seconds``
            float64, int64 or bool, as the kernel recorded it.

        Raises
        ------
        FileError
            The kernel recorded no such column, or the rows are not what was written.
        """
        if name not in self.history_names:
            raise FileError(f"{self.path} has no history of {name}; it has {', '.join(self.history_names) or 'none'}")
        rows = self._rows.read(f"history/{name}", start, stop)
        with self._rows.open(self._rows.first) as file:
            return rows.astype(bool) if is_bool(file, name) else rows

    def columns(self) -> Columns:
        """The columns of the history as `write_ensemble` wants them."""
        with self._rows.open(self._rows.first) as file:
            found = {name: file.data(f"history/{name}") for name in self.history_names}
            return {name: (data.dtype, is_bool(file, name), data.ndim == 2) for name, data in found.items()}

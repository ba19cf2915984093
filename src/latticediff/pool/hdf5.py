"""Pools as HDF5: data sets ``phi``, ``action``, ``log_q``, the header as attributes of the root."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..ensemble.files import canonical_json, sealed
from ..ensemble.stored import open_h5
from ..errors import FileError
from ..types import PathLikeStr
from .header import SCHEMA, VERSION, PoolHeader, Rows, data_digest

__all__ = ["Hdf5Pool", "write_hdf5"]

TEXTS = ("model", "model_sha256", "proposal_sha256")
NUMBERS = ("evaluations_per_draw", "stream")


def write_hdf5(path: PathLikeStr, header: PoolHeader, blocks: Iterator[Rows]) -> str:
    """Write a pool of `header.n` draws, whole or not at all; returns the digest of the draws."""
    with sealed(path) as (file, check):
        told, at = header.fields(), 0
        file.attrs["schema"], file.attrs["schema_version"] = SCHEMA, VERSION
        for name in TEXTS:
            file.attrs[name] = told[name]
        for name in (*NUMBERS, "is_deterministic"):
            file.attrs[name] = np.int64(told[name])
        file.attrs["seed"] = str(header.seed)  # may be larger than any integer of HDF5
        file.attrs["shape"] = np.array(header.shape, np.int64)
        for name in ("action", "proposal"):
            file.attrs[name] = canonical_json(told[name])
        file["consumed"] = np.int64(0)
        for name in ("action", "log_q"):
            file.create_dataset(name, (header.n,), "<f8")
        file.create_dataset("phi", (header.n, *header.shape), "<f8")

        def put(rows: Rows) -> None:
            nonlocal at
            for name, values in rows._asdict().items():
                file[name][at : at + len(values)] = values
            at += len(rows.log_q)
            check()

        digest, _ = data_digest(blocks, put)
        file.attrs["data_sha256"] = digest
    return digest


class Hdf5Pool:
    """An open HDF5 pool; see `latticediff.pool.header.Pool`."""

    consumed_as_text = False

    def __init__(self, path: PathLikeStr) -> None:
        self.path = Path(path)
        self._file = open_h5(path)
        try:
            self._look()
        except BaseException:
            self._file.close()
            raise

    def _look(self) -> None:
        file = self._file
        is_pool = file.has_attribute("schema") and str(file.attribute("schema")) == SCHEMA
        if not is_pool or file.attribute_int("schema_version") != VERSION:
            raise FileError(f"{self.path} is HDF5 but no pool of this version; `latticediff propose` writes them")
        told: dict[str, Any] = {name: file.attribute_text(name) for name in TEXTS}
        told |= {name: file.attribute_int(name) for name in NUMBERS}
        told["is_deterministic"] = bool(file.attribute_int("is_deterministic"))
        seed = file.attribute_text("seed")
        told["seed"] = int(seed) if seed.isdecimal() and len(seed) < 300 else -1
        extents = np.atleast_1d(np.asarray(file.attribute("shape")))
        told["shape"] = extents.tolist() if extents.dtype.kind in "iu" and extents.ndim == 1 else []
        told |= {name: file.attribute_json(name) for name in ("action", "proposal")}
        self._data = {name: file.data(name, "f", itemsize=8) for name in ("phi", "action", "log_q")}
        told["n"] = len(self._data["log_q"]) if self._data["log_q"].ndim == 1 else -1
        self.header = PoolHeader.from_fields(told, self.path)
        n, shape = self.header.n, self.header.shape
        for name, wanted in (("phi", (n, *shape)), ("action", (n,))):
            if self._data[name].shape != wanted:
                raise FileError(f"{self.path}: {name} has shape {self._data[name].shape}; expected {wanted}")
        self.data_sha256 = file.attribute_text("data_sha256")
        offset = file.data("consumed", "i", ndim=0, itemsize=8).offset
        if offset is None:
            raise FileError(f"{self.path}: /consumed was stored anew by another program; propose again")
        self.consumed_at = offset

    def rows(self, start: int, stop: int) -> Rows:
        """Draws `start` to `stop`, float64."""
        found = (np.asarray(self._data[name][start:stop], np.float64) for name in ("phi", "action", "log_q"))
        return Rows(*found)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

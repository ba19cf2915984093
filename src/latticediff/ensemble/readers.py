"""Readers of foreign configuration files, found by name through the entry-point group ``latticediff.readers``.

A reader is a function ``reader(path, **options) -> Foreign``. Fields come as something that can be
sliced along its first axis, so that a file may be larger than memory.
"""

from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from .. import registry
from ..errors import FileError, UserError
from .files import open_h5

__all__ = ["Foreign", "choose_reader", "read_hdf5", "read_npy", "read_npz", "read_raw"]

_SUFFIXES = {".npy": "npy", ".npz": "npz", ".h5": "hdf5", ".hdf5": "hdf5", ".bin": "raw", ".dat": "raw", ".raw": "raw"}


class Foreign(NamedTuple):
    """What a reader gives."""

    phis: object  #: (n_cfg, *lattice), sliceable, real numbers
    action: np.ndarray | None = None  #: (n_cfg,), values of S the file claims, if it does


def _numpy(load, path):
    try:
        return load()
    except (ValueError, EOFError, OSError) as exc:
        raise FileError(f"{path} cannot be read: {exc}") from exc


def read_npy(path):
    """A ``.npy`` array (n_cfg, *lattice), memory-mapped."""
    return Foreign(_numpy(lambda: np.load(path, mmap_mode="r", allow_pickle=False), path))


def read_npz(path, dataset=None, action_dataset=None):
    """One array of a ``.npz``: `dataset`, by default ``phi`` or the only one; S from `action_dataset` or ``action``."""
    archive = _numpy(lambda: np.load(path, allow_pickle=False), path)
    with archive:
        phis, action = _pick(archive, archive.files, path, dataset, action_dataset)
        return Foreign(_numpy(lambda: archive[phis], path), archive[action] if action else None)


def read_raw(path, shape=None, dtype="<f8", offset=0):
    """Numbers without a header: `shape` of one configuration, C order, `offset` bytes skipped.

    Raises
    ------
    UserError
        `shape` is missing, or `dtype` is no type of real numbers.
    FileError
        The size is no whole number of configurations.
    """
    if shape is None:
        raise UserError(f"{path} is raw binary; give the lattice shape, for instance shape=(8, 8)")
    try:
        kind = np.dtype(dtype)
    except TypeError:
        raise UserError(f"dtype is {dtype!r}; expected a NumPy type such as '<f8' or '>f4'") from None
    size = Path(path).stat().st_size - offset
    row = kind.itemsize * int(np.prod(shape))
    if size <= 0 or size % row:
        raise FileError(
            f"{path} has {size} bytes after the offset; configurations of {tuple(shape)} {kind} take {row} each"
        )
    return Foreign(np.memmap(path, kind, "r", offset, (size // row, *shape)))


def read_hdf5(path, dataset=None, action_dataset=None):
    """A dataset of a foreign HDF5 file: `dataset`, by default the one called ``phi`` or the only candidate."""
    file = open_h5(path)
    names = []
    file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) and item.ndim else None)
    phis, action = _pick(file, names, path, dataset, action_dataset)
    return Foreign(file[phis], file[action][()] if action else None)


def _pick(archive, names, path, dataset, action_dataset):
    """Names of the datasets that hold fields and action; a guess only where there is no choice."""
    for wanted in (dataset, action_dataset):
        if wanted is not None and wanted not in archive:
            raise FileError(f"{path} has no dataset {wanted!r}; it has {', '.join(names)}")
    if dataset is None:
        called = [
            name for name in names if name.rsplit("/", 1)[-1] in ("phi", "phis", "cfgs", "configs", "configurations")
        ]
        candidates = called or [name for name in names if archive[name].ndim > 1]
        if len(candidates) != 1:
            raise FileError(f"{path} holds {', '.join(names) or 'nothing'}; say which `dataset` has the fields")
        dataset = candidates[0]
    if action_dataset is None:
        called = [name for name in names if name.rsplit("/", 1)[-1] in ("action", "S")]
        action_dataset = called[0] if len(called) == 1 else None
    return dataset, action_dataset


def choose_reader(path, reader=None):
    """The reader called `reader`, or the one that the file's suffix suggests.

    Raises
    ------
    FileError
        `path` does not exist, or the suffix says nothing.
    UserError
        No reader of that name is registered.
    """
    path = Path(path)
    if not path.exists():
        raise FileError(f"{path} does not exist")
    if callable(reader):
        return reader
    name = reader or _SUFFIXES.get(path.suffix.lower())
    if name is None:
        raise FileError(
            f"{path} has suffix {path.suffix!r}; name a reader: {', '.join(sorted(set(_SUFFIXES.values())))}"
        )
    built_in = {"npy": read_npy, "npz": read_npz, "raw": read_raw, "hdf5": read_hdf5}
    return built_in.get(name) or registry.load("readers", name)

"""Readers of foreign configuration files, found by name through the entry-point group ``latticediff.readers``.

A reader is a function ``reader(path, **options) -> Foreign``. Fields come as something that can be
sliced along its first axis, so that a file may be larger than memory.
"""

import lzma
import math
import os
import struct
import tokenize
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from .. import registry
from ..errors import FileError, UserError
from ..lattice import check_shape
from ..untrusted import printable, regular_file, status
from .schema import is_ours
from .seal import SEAL, damaged_rows, is_sealed, require_sealed
from .stored import MOST_COMPRESSED, open_h5

__all__ = ["Foreign", "Reader", "choose_reader", "read_arrays", "read_hdf5", "read_npy", "read_npz", "read_raw"]

_SUFFIXES = {".npy": "npy", ".npz": "npz", ".h5": "hdf5", ".hdf5": "hdf5", ".bin": "raw", ".dat": "raw", ".raw": "raw"}


class Foreign(NamedTuple):
    """What a reader gives."""

    phis: object  #: (n_cfg, *lattice), sliceable, real numbers
    action: np.ndarray | None = None  #: (n_cfg,), values of S the file claims, if it does


class Reader(Protocol):
    """What is registered in the entry-point group ``latticediff.readers``."""

    def __call__(self, path: str | os.PathLike[str], **options: Any) -> Foreign:
        """Open a file; options are the keywords of `convert` that are the reader's own."""
        ...


@contextmanager
def _numpy(path):
    """NumPy and zipfile meet damage with whatever error the damaged byte leads to; only their calls stand below."""
    try:
        yield
    except FileError:
        raise
    except MemoryError:
        raise FileError(f"{path} does not fit into memory; save the fields as .npy, which is read in pieces") from None
    except (ValueError, EOFError, OSError, KeyError, TypeError, OverflowError, RuntimeError, SyntaxError) as exc:
        raise FileError(f"{path} cannot be read: {printable(exc, 200)}") from exc
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, tokenize.TokenError) as exc:
        raise FileError(f"{path} cannot be read: {printable(exc, 200)}") from exc


def read_npy(path):
    """A ``.npy`` array (n_cfg, *lattice), memory-mapped."""
    regular_file(path, "a .npy file")
    with _numpy(path):
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.ndarray):
            array.close()
            raise FileError(f"{path} is an archive of arrays; read it as .npz (--reader npz)")
        return Foreign(array)


def read_npz(path, dataset=None, action_dataset=None):
    """One array of a ``.npz``: `dataset`, by default ``phi`` or the only one; S from `action_dataset` or ``action``."""
    regular_file(path, "a .npz file")
    with _numpy(path):
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise FileError(f"{path} is a single array; read it as .npy (--reader npy)")
        with archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.zip.infolist()}
            shapes = {name: shape for name, info in members.items() if (shape := _member_shape(archive.zip, info))}
            found = _pick(shapes, path, dataset, action_dataset)
            for name in filter(None, found):
                _require_room(members[name], path)
            return Foreign(*(archive[name] if name else None for name in found))


def read_arrays(path):
    """All arrays of a ``.npz`` by name; small ones."""
    regular_file(path, "a .npz file")
    with _numpy(path):
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise FileError(f"{path} is a single array; expected an archive of arrays (.npz)")
        with archive:
            for info in archive.zip.infolist():
                _require_room(info, path)
            return {name: archive[name] for name in archive.files}


def _member_shape(archive, info):
    """Shape of an array in a ``.npz``, from its first bytes; None of what is no array of numbers."""
    if not info.filename.endswith(".npy"):
        return None
    with archive.open(info) as member:
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        version = np.lib.format.read_magic(member)
        shape, _, dtype = read.get(version, np.lib.format.read_array_header_2_0)(member)
    if dtype.kind not in "fiu":
        return None
    if math.prod(shape) * dtype.itemsize > info.file_size or min(shape, default=0) < 0:
        raise FileError(f"{archive.filename}: {printable(info.filename)} is too short for its shape {shape}")
    return shape


def _require_room(info, path):
    """Raise `FileError` before an archive is unpacked that memory cannot hold: kilobytes may declare terabytes."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if info.file_size > memory // 2 or info.file_size > MOST_COMPRESSED * max(info.compress_size, 1):
        raise FileError(
            f"{path}: {printable(info.filename)} unpacks from {info.compress_size} to {info.file_size} bytes, and this"
            f" machine has {memory}; save the fields as .npy, which is read in pieces"
        )


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
    except (TypeError, ValueError, SyntaxError):
        kind = np.dtype("V")
    if kind.kind not in "fiu":
        raise UserError(f"dtype is {dtype!r}; expected a NumPy type of real numbers such as '<f8' or '>f4'")
    shape = check_shape(shape)
    if offset < 0:
        raise UserError(f"offset is {offset}; expected the number of bytes before the fields, at least 0")
    size = regular_file(path, "a file of numbers") - offset
    row = kind.itemsize * math.prod(shape)
    if size <= 0 or size % row:
        raise FileError(
            f"{path} has {size} bytes after the offset; configurations of {tuple(shape)} {kind} take {row} each"
        )
    with _numpy(path):
        return Foreign(np.memmap(path, kind, "r", offset, (size // row, *shape)))


def read_hdf5(path, dataset=None, action_dataset=None):
    """A dataset of a foreign HDF5 file: `dataset`, by default the one called ``phi`` or the only candidate."""
    file = open_h5(path)
    try:
        ours = is_ours(file) and is_sealed(file)  # then damage shows
        names = (name for name in file.datasets() if not (ours and name.startswith(f"{SEAL}/")))
        shapes = {name: shape for name in names if (shape := file.shape(name))}
        phis, action = _pick(shapes, path, dataset, action_dataset, file)
        if ours:
            require_sealed(file)
            for name in (name for name in (phis, action) if f"{SEAL}/{name}" in file):
                if damaged := damaged_rows(file, name):
                    raise FileError(
                        f"{path} is damaged: rows {damaged[0][0]} to {damaged[0][1]} of /{name}; restore it"
                    )
        return Foreign(file.data(phis), file.data(action, ndim=1)[:] if action else None)
    except BaseException:
        file.close()
        raise


def _pick(shapes, path, dataset, action_dataset, known=None):
    """Names of the datasets that hold fields and action; a guess only where there is no choice."""
    listed = printable(", ".join(shapes), 300)
    for wanted in (dataset, action_dataset):
        if wanted is not None and wanted not in (shapes if known is None else known):
            raise FileError(f"{path} has no dataset {wanted!r}; it has {listed}")
    if dataset is None:
        called = [
            name for name in shapes if name.rsplit("/", 1)[-1] in ("phi", "phis", "cfgs", "configs", "configurations")
        ]
        candidates = called or [name for name, shape in shapes.items() if len(shape) > 1]
        if len(candidates) != 1:
            raise FileError(f"{path} holds {listed or 'nothing'}; say which `dataset` has the fields")
        dataset = candidates[0]
    if action_dataset is None:
        called = [name for name in shapes if name.rsplit("/", 1)[-1] in ("action", "S")]
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
    if callable(reader):
        if status(path) is None:
            raise FileError(f"{path} does not exist")
        return reader  # an own format may well be a directory
    regular_file(path, "a file of configurations")
    name = reader or _SUFFIXES.get(path.suffix.lower())
    if name is None:
        raise FileError(
            f"{path} has suffix {path.suffix!r}; name a reader: {', '.join(sorted(set(_SUFFIXES.values())))}"
        )
    built_in = {"npy": read_npy, "npz": read_npz, "raw": read_raw, "hdf5": read_hdf5}
    return built_in.get(name) or registry.load("readers", name)

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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from .. import registry
from ..arrays import real_array
from ..errors import FileError, UserError
from ..lattice import check_shape
from ..types import Extents, PathLikeStr, Shape
from ..untrusted import first_bytes, printable, regular_file, status
from .arrangement import Axis, turned
from .named_fields import pick
from .schema import is_ours
from .seal import SEAL, damaged_rows, is_sealed, require_sealed
from .stored import MOST_COMPRESSED, open_h5
from .tables import AnyArray, Numbers

__all__ = [
    "Foreign",
    "Reader",
    "choose_reader",
    "read_arrays",
    "read_hdf5",
    "read_npy",
    "read_npz",
    "read_numbers",
    "read_raw",
]

_SUFFIXES = {
    **{".npy": "npy", ".npz": "npz", ".h5": "hdf5", ".hdf5": "hdf5", ".jld2": "hdf5"},
    **{".bin": "raw", ".dat": "raw", ".raw": "raw"},
}
_POOL = b"latticediff-pool "  #: with which files begin that `latticediff.pool.binary` writes
_COLUMN_MAJOR = (".jld2",)  # files whose arrays have their axes in the opposite order to what their program shows


class Foreign(NamedTuple):
    """What a reader gives."""

    phis: Numbers  #: (n_cfg, *lattice), sliceable along its first axis, real numbers
    action: AnyArray | None = None  #: (n_cfg,), values of S according to the file; None if it has none


#: the contract of the entry-point group ``latticediff.readers``: ``reader(path, **options)``, whose options are the
#: keywords of `convert` that are the reader's own
Reader = Callable[..., Foreign]


@contextmanager
def _numpy(path: PathLikeStr) -> Iterator[None]:
    """Turn what NumPy and zipfile raise at a damaged file, which may be nearly anything, into `FileError`."""
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


def read_npy(path: PathLikeStr, axis: Axis = 0) -> Foreign:
    """Fields from a ``.npy`` array (n_cfg, *lattice), memory-mapped.

    Parameters
    ----------
    path : path
    axis : int or "last"
        Axis that counts the configurations.

    Raises
    ------
    FileError
        The file is damaged, or holds something else.
    UserError
        It has no such axis.
    """
    regular_file(path, "a .npy file")
    with _numpy(path):
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.ndarray):
            array.close()
            raise FileError(f"{path} is an archive of arrays; read it as .npz (--reader npz)")
        return Foreign(turned(array, axis, path))


def read_npz(
    path: PathLikeStr, dataset: str | None = None, action_dataset: str | None = None, axis: Axis = 0
) -> Foreign:
    """Fields, and S if it is there, from arrays of a ``.npz``.

    Parameters
    ----------
    path : path
    dataset : str, optional
        Array with the fields; default: the one called ``phi`` (or phis, cfgs, configs, configurations), or the only
        one with more than one axis. A pattern such as ``cfg_*`` takes one configuration from each array that it stands
        for, in natural order: ``cfg_2`` before ``cfg_10``.
    action_dataset : str, optional
        Array with the values of S, or a pattern for one value in each; default: the one called ``action`` or ``S``.
    axis : int or "last"
        Axis that counts the configurations.

    Raises
    ------
    FileError
        The file is damaged or no archive, an array is missing or too large, or it is unclear which one has the fields.
    UserError
        The array has no such axis.
    """
    with _archive(path, "read it as .npy (--reader npy)") as (archive, zipped, members):
        shapes = {name: shape for name, info in members.items() if (shape := _member_shape(zipped, info))}
        found = pick(shapes, path, dataset, action_dataset, members)
        for name in (*found.fields, *found.action):
            _require_room(members[name], path)
        get = archive.__getitem__
        return Foreign(found.read_fields(get, path, axis), found.read_action(get, path))


@contextmanager
def _archive(
    path: PathLikeStr, remedy: str = "expected an archive of arrays (.npz)"
) -> Iterator[tuple[np.lib.npyio.NpzFile, zipfile.ZipFile, dict[str, zipfile.ZipInfo]]]:
    """An open ``.npz``, its container, and the members of that by the names of the arrays."""
    regular_file(path, "a .npz file")
    with _numpy(path):
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise FileError(f"{path} is a single array; {remedy}")
        with archive:
            assert archive.zip is not None  # it was just opened
            yield archive, archive.zip, {info.filename.removesuffix(".npy"): info for info in archive.zip.infolist()}


def read_arrays(path: PathLikeStr) -> dict[str, AnyArray]:
    """All arrays of a ``.npz`` by name; they must fit into memory.

    Raises
    ------
    FileError
        The file is damaged or no archive, or an array is too large.
    """
    with _archive(path) as (archive, _, members):
        for info in members.values():
            _require_room(info, path)
        return {name: archive[name] for name in archive.files}


def read_numbers(path: PathLikeStr, name: str) -> float | None:
    """A single number of a ``.npz`` by name; None if there is none.

    Raises
    ------
    FileError
        The file is damaged or no archive.
    """
    with _archive(path) as (archive, zipped, members):
        shape = _member_shape(zipped, members[name]) if name in members else None
        if shape is None or math.prod(shape) != 1:
            return None
        _require_room(members[name], path)
        return float(real_array(archive[name], f"{name} in {path}").reshape(()))


def _member_shape(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Shape | None:
    """Shape of an array in a ``.npz``, from its first bytes; None if it is no array of numbers, be they complex."""
    if not info.filename.endswith(".npy"):
        return None
    with archive.open(info) as member:
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        version = np.lib.format.read_magic(member)
        shape, _, dtype = read.get(version, np.lib.format.read_array_header_2_0)(member)
    if dtype.kind not in "fiuc":  # complex fields are there, and refused by those who asked for them
        return None
    if math.prod(shape) * dtype.itemsize > info.file_size or min(shape, default=0) < 0:
        raise FileError(f"{archive.filename}: {printable(info.filename)} is too short for its shape {shape}")
    return shape


def _require_room(info: zipfile.ZipInfo, path: PathLikeStr) -> None:
    """Raise `FileError` if memory cannot hold the array once it is unpacked: kilobytes may declare terabytes."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if info.file_size > memory // 2 or info.file_size > MOST_COMPRESSED * max(info.compress_size, 1):
        raise FileError(
            f"{path}: {printable(info.filename)} unpacks from {info.compress_size} to {info.file_size} bytes, and this"
            f" machine has {memory}; save the fields as .npy, which is read in pieces"
        )


def read_raw(path: PathLikeStr, shape: Extents | None = None, dtype: DTypeLike = "<f8", offset: int = 0) -> Foreign:
    """Fields from a file of numbers without a header, memory-mapped.

    Parameters
    ----------
    path : path
    shape : tuple of int
        Of one configuration, in C order; must be given.
    dtype : dtype
        Type of the numbers.
    offset : int
        Bytes before the first number.

    Raises
    ------
    UserError
        `shape` is missing or no lattice, `dtype` is no type of real numbers, or `offset` is negative.
    FileError
        The file is missing, or its size is no whole number of configurations.
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
    if first_bytes(path, len(_POOL)) == _POOL:
        raise FileError(f"{path} is a pool of draws, with a header and their densities; propose it as .h5 instead")
    row = kind.itemsize * math.prod(shape)
    if size <= 0 or size % row:
        raise FileError(
            f"{path} has {size} bytes after the offset; configurations of {tuple(shape)} {kind} take {row} each"
        )
    with _numpy(path):
        return Foreign(np.memmap(path, kind, "r", offset, (size // row, *shape)))


def read_hdf5(
    path: PathLikeStr, dataset: str | None = None, action_dataset: str | None = None, axis: Axis = 0
) -> Foreign:
    """Fields, and S if it is there, from datasets of an HDF5 file; parameters as of `read_npz`.

    Julia stores its arrays column by column, so an array of size (L_1, L_2, n_cfg) is a data set of shape
    (n_cfg, L_2, L_1). In a file with the suffix ``.jld2`` axes are therefore taken in the order in which Julia shows
    them, and `axis` counts them so, from 0: ``last`` for this array.

    Raises
    ------
    FileError
        The file is damaged or no HDF5, a dataset is missing, or it is unclear which one has the fields.
    UserError
        The data set has no such axis.
    """
    file = open_h5(path)
    try:
        ours = is_ours(file) and is_sealed(file)  # then damage shows
        names = [name for name in file.datasets() if not (ours and name.startswith(f"{SEAL}/"))]
        shapes = {name: shape for name in names if (shape := file.shape(name))}
        found = pick(shapes, path, dataset, action_dataset, names, file)
        if ours:
            require_sealed(file)
            for name in (name for name in (*found.fields, *found.action) if f"{SEAL}/{name}" in file):
                if damaged := damaged_rows(file, name):
                    raise FileError(
                        f"{path} is damaged: rows {damaged[0][0]} to {damaged[0][1]} of /{name}; restore it"
                    )
        is_reversed = Path(path).suffix.lower() in _COLUMN_MAJOR
        fields = found.read_fields(file.data, path, axis, is_reversed)
        ndim = None if found.action_each else 1
        return Foreign(fields, found.read_action(lambda name: file.data(name, ndim=ndim), path))
    except BaseException:
        file.close()
        raise


def choose_reader(path: PathLikeStr, reader: str | Reader | None = None) -> Reader:
    """The reader called `reader`, or the one that the suffix of the file suggests; a callable is returned as it is.

    Raises
    ------
    FileError
        `path` does not exist, or its suffix is not known and no reader is named.
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
    built_in: dict[str, Reader] = {"npy": read_npy, "npz": read_npz, "raw": read_raw, "hdf5": read_hdf5}
    found: Reader = built_in.get(name) or registry.load("readers", name)
    return found

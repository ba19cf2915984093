"""A data set of an HDF5 file that is known to hold every number that it declares, and the errors of reading one."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import h5py
import numpy as np

from ..errors import FileError
from ..types import IntArray, PathLikeStr, Shape
from ..untrusted import printable, regular_file
from .tables import AnyArray

__all__ = ["MOST_COMPRESSED", "Data", "looking", "require_inside"]

# deflate cannot do better than 1032 to 1
MOST_COMPRESSED = 1100


@contextmanager
def looking(path: PathLikeStr, name: object) -> Iterator[None]:
    """Turn what h5py raises while it reads the item `name` into `FileError`."""
    try:
        yield
    except FileError:
        raise
    except MemoryError:
        raise FileError(f"{path}: {printable(name)} does not fit into memory") from None
    except (KeyError, OSError, RuntimeError, ValueError, TypeError, OverflowError, NotImplementedError) as exc:
        said = printable(exc.args[0] if exc.args else exc, 200)
        raise FileError(f"{path}: {printable(name)} cannot be read ({said}); the file is damaged") from exc


class Data:
    """A data set that is stored in the file; sliced like an array, read when it is sliced."""

    def __init__(self, data: h5py.Dataset, path: PathLikeStr) -> None:
        self._data, self.path = data, path
        self.shape: Shape = data.shape
        self.dtype: np.dtype[Any] = data.dtype
        self.ndim, self.size = len(self.shape), int(data.size)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | IntArray | tuple[()], /) -> AnyArray:
        with looking(self.path, self._data.name):
            found: AnyArray = self._data[rows]
        return found

    @property
    def offset(self) -> int | None:
        """Byte of the file where the numbers begin; None if they are not stored in one piece and unfiltered."""
        with looking(self.path, self._data.name):
            found: int | None = self._data.id.get_offset()
        return found


def require_inside(data: h5py.Dataset, called: str, path: PathLikeStr) -> None:
    """Raise `FileError` unless every number that `data` declares is stored in the file."""
    if data.is_virtual or data.external:
        word = "is a virtual data set" if data.is_virtual else "keeps its numbers in another file"
        raise FileError(f"{called} {word}, which is not followed; copy the numbers into the file (h5repack)")
    if data.shape is None:
        raise FileError(f"{called} is empty; expected numbers")
    declared = math.prod(data.shape) * data.dtype.itemsize
    if declared == 0:
        return
    size, stored, properties = regular_file(path), data.id.get_storage_size(), data.id.get_create_plist()
    layout = properties.get_layout()
    if layout == h5py.h5d.CHUNKED:
        wanted = math.prod(-(-extent // chunk) for extent, chunk in zip(data.shape, data.chunks, strict=True))
        # the number of chunks decides before any is looked for: an index of 2^40 chunks is never walked
        if wanted > size or data.id.get_num_chunks() < wanted or stored > size:
            raise FileError(f"{called} declares shape {data.shape}, of which the file holds {stored} bytes; it is torn")
        most = MOST_COMPRESSED * stored if properties.get_nfilters() else stored
    elif layout == h5py.h5d.CONTIGUOUS:
        offset = data.id.get_offset()
        most = 0 if offset is None else size - offset
    else:
        most = stored
    if declared > most:
        raise FileError(f"{called} declares shape {data.shape}, {declared} bytes, and the file holds {max(most, 0)}")

"""Whether the heaps are sound in which an HDF5 file keeps its strings of variable length.

HDF5 keeps such strings in "global heaps" (file format specification, version 3.0, III.E) and walks from object to
object by their sizes. In a damaged heap a free object of size 0 leads it back to where it stands: HDF5 2.0 then goes
round for ever inside one call, where neither an exception nor Ctrl-C ends it. So the heaps are walked here first.
"""

import mmap
from collections.abc import Iterator

import h5py

from ..errors import FileError
from ..types import PathLikeStr

__all__ = ["require_sound_heaps", "text_length"]

_MARK, _HEAD, _OBJECT = b"GCOL", 16, 16
_SMALL = 64 << 20  #: files up to this size are searched whole, larger ones only where no large data set lies
_LARGE = 1 << 20  #: bytes from which on a data set counts as large


def require_sound_heaps(file: h5py.File, path: PathLikeStr) -> None:
    """Raise `FileError` if a global heap of the open `h5py.File` would not be walked to its end.

    Parameters
    ----------
    file : h5py.File
    path : path-like
        Where it is; read by a memory map.
    """
    with open(path, "rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for start, stop in _stretches(file, len(data)):
            at = data.find(_MARK, start, stop)
            while at >= 0:
                if not _is_walked(data, at):
                    raise FileError(f"{path} is damaged: its heap of strings at byte {at} cannot be read")
                at = data.find(_MARK, at + len(_MARK), stop)


def text_length(data: h5py.Dataset, path: PathLikeStr) -> int:
    """Bytes that a scalar data set of variable-length text declares; HDF5 allocates as many before it reads any."""
    offset = data.id.get_offset()
    if offset is None:
        return 0
    with open(path, "rb") as handle:
        handle.seek(offset)
        return int.from_bytes(handle.read(4), "little")


def _stretches(file: h5py.File, size: int) -> Iterator[tuple[int, int]]:
    """``(first byte, one past the last)`` of the parts of the file that large data sets do not fill."""
    filled: list[tuple[int, int]] = []
    if size > _SMALL:

        def note(_: str, item: h5py.HLObject) -> None:
            if isinstance(item, h5py.Dataset) and item.nbytes > _LARGE:
                offset = item.id.get_offset()
                if offset is not None and offset + item.nbytes <= size:
                    filled.append((offset, offset + item.nbytes))

        file.visititems(note)
    start = 0
    for first, last in sorted(filled):
        if start < first:
            yield start, first
        start = max(start, last)
    if start < size:
        yield start, size


def _is_walked(data: mmap.mmap, at: int) -> bool:
    """Whether the objects of the heap at byte `at` lead from its beginning to its end."""
    size = int.from_bytes(data[at + 8 : at + _HEAD], "little")
    if data[at + 4] != 1:
        return True  # no heap, or one that HDF5 refuses by its version
    end = at + size
    if size < _HEAD or end > len(data):
        return False
    at += _HEAD
    while at + _OBJECT <= end:
        index, length = int.from_bytes(data[at : at + 2], "little"), int.from_bytes(data[at + 8 : at + 16], "little")
        step = _OBJECT + -(-length // 8) * 8 if index else length
        if step < _OBJECT or at + step > end:
            return False
        at += step
    return True

"""HDF5 files that are whole or absent, see `latticediff.atomic`."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import h5py
import numpy as np

from ..atomic import whole
from ..types import PathLikeStr

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer
__all__ = ["canonical_json", "sealed"]


def _plain(value: object) -> Any:
    """NumPy numbers and arrays as Python has them, for JSON."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not JSON-able")


def canonical_json(value: object) -> str:
    """JSON with sorted keys: equal text if and only if equal content."""
    return json.dumps(value, sort_keys=True, default=_plain)


class _Disk(io.RawIOBase):
    """The file under `h5py.File`; hides the first error of the system until `check` is called.

    HDF5 crashes the process when a flush fails while it closes a file (seen with HDF5 2.0 on a full
    disk). So it never hears of the failure: later writes are dropped, and `check` raises.
    """

    def __init__(self, file: io.FileIO) -> None:
        self.file = file
        self.error: OSError | None = None

    def check(self) -> None:
        """Raise the first error, if there was one."""
        if self.error is not None:
            raise self.error

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        return self.file.readinto(buffer)

    def write(self, data: ReadableBuffer) -> int:
        view, done = memoryview(data).cast("B"), 0
        try:
            while done < len(view) and self.error is None:
                done += self.file.write(view[done:])  # a large write may be taken in parts
        except OSError as exc:
            self.error = exc
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        try:
            if self.error is None:
                self.file.truncate(size)
        except OSError as exc:
            self.error = exc
        return self.tell() if size is None else size


@contextmanager
def sealed(path: PathLikeStr) -> Iterator[tuple[h5py.File, Callable[[], None]]]:
    """Write an HDF5 file that appears under `path` only when it is complete and on disk.

    Yields
    ------
    file : h5py.File
    check : callable
        Raises as soon as the disk has refused a write; worth calling between large pieces.

    Raises
    ------
    FileError
        The directory is missing or not writable, or the disk is full.
    """
    with whole(path, buffering=0) as part:
        disk = _Disk(cast(io.FileIO, part))  # what `open` gives without a buffer
        with h5py.File(disk, "w") as file:
            yield file, disk.check
        disk.check()

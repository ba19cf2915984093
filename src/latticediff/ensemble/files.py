"""HDF5 files that are whole or absent, see `latticediff.atomic`."""

import io
import json
import os
from contextlib import contextmanager

import h5py
import numpy as np

from ..atomic import whole

__all__ = ["canonical_json", "sealed"]


def _plain(value):
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not JSON-able")


def canonical_json(value):
    """JSON with sorted keys: equal text if and only if equal content."""
    return json.dumps(value, sort_keys=True, default=_plain)


class _Disk(io.RawIOBase):
    """The file under `h5py.File`; keeps the first error of the system to itself.

    HDF5 crashes the process when a flush fails while it closes a file (seen with HDF5 2.0 on a full
    disk). So it never hears of the failure: later writes are dropped, and `check` raises.
    """

    def __init__(self, file):
        self.file, self.error = file, None

    def check(self):
        if self.error is not None:
            raise self.error

    def seek(self, offset, whence=os.SEEK_SET):
        return self.file.seek(offset, whence)

    def tell(self):
        return self.file.tell()

    def readinto(self, buffer):
        return self.file.readinto(buffer)

    def write(self, data):
        view, done = memoryview(data).cast("B"), 0
        try:
            while done < len(view) and self.error is None:
                done += self.file.write(view[done:])  # a large write may be taken in parts
        except OSError as exc:
            self.error = exc
        return len(view)

    def truncate(self, size=None):
        try:
            if self.error is None:
                self.file.truncate(size)
        except OSError as exc:
            self.error = exc
        return size


@contextmanager
def sealed(path):
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
        disk = _Disk(part)
        with h5py.File(disk, "w") as file:
            yield file, disk.check
        disk.check()

"""HDF5 files that are whole or absent, see `latticediff.atomic`; opened, or refused in one line."""

import io
import json
import os
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from ..atomic import whole
from ..errors import FileError

__all__ = ["canonical_json", "open_h5", "sealed"]


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


def open_h5(path):
    """Open an HDF5 file for reading, or say in one line why it cannot be read."""
    path = Path(path)
    if not path.exists():
        raise FileError(f"{path} does not exist")
    if path.is_dir():
        raise FileError(f"{path} is a directory; expected an HDF5 file")
    try:
        return h5py.File(path, "r")
    except OSError as exc:
        text = str(exc)
        if "truncated" in text:
            raise FileError(f"{path} is truncated; `repair` saves the configurations that are whole") from exc
        if "signature" in text:
            raise FileError(f"{path} is not an HDF5 file") from exc
        raise FileError(f"{path} cannot be opened: {os.strerror(exc.errno) if exc.errno else text}") from exc

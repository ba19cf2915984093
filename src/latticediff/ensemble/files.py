"""Files that are whole or absent: written as ``X.part``, synced, renamed; errors of the disk in one line."""

import errno
import io
import json
import os
import shutil
from contextlib import closing, contextmanager
from pathlib import Path

import h5py
import numpy as np

from ..errors import FileError

__all__ = [
    "canonical_json",
    "disk_error",
    "open_h5",
    "refuse_existing",
    "require_space",
    "sealed",
    "sealed_text",
    "sync_dir",
]

# EFBIG is what a file-size limit (ulimit -f) gives; a quota gives EDQUOT
_FULL = {errno.ENOSPC: "no space left on the disk", errno.EDQUOT: "disk quota exceeded", errno.EFBIG: "file too large"}


def _plain(value):
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not JSON-able")


def canonical_json(value):
    """JSON with sorted keys: equal text if and only if equal content."""
    return json.dumps(value, sort_keys=True, default=_plain)


def disk_error(exc, path):
    """`FileError` that says why `path` could not be written."""
    reason = _FULL.get(exc.errno)
    if reason:
        return FileError(f"cannot write {path}: {reason}; nothing half-written was kept, free space and run again")
    return FileError(f"cannot write {path}: {os.strerror(exc.errno) if exc.errno else exc}")


def refuse_existing(path):
    """Raise `FileError` if `path` exists: nothing is ever overwritten."""
    if os.path.lexists(path):
        raise FileError(f"{path} already exists; choose another name or remove it first")


def require_space(path, n_bytes):
    """Raise `FileError` before a large write that the disk cannot take (a 1 MiB margin included)."""
    folder = Path(path).absolute().parent
    if not folder.is_dir():
        raise FileError(f"cannot write {path}: the directory {folder} does not exist")
    free = shutil.disk_usage(folder).free
    if n_bytes + (1 << 20) > free:
        raise FileError(
            f"cannot write {path}: it needs {n_bytes / 1e6:.1f} MB and {free / 1e6:.1f} MB are free;"
            " free space and run again"
        )


def sync_dir(path):
    """Make renames inside directory `path` durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _seal(part, path):
    handle = os.open(part, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    os.replace(part, path)
    sync_dir(path.absolute().parent)


class _Disk(io.RawIOBase):
    """The file under `h5py.File`; keeps the first error of the system to itself.

    HDF5 crashes the process when a flush fails while it closes a file (seen with HDF5 2.0 on a full
    disk). So it never hears of the failure: later writes are dropped, and `check` raises.
    """

    def __init__(self, path):
        self.file = open(path, "wb+", buffering=0)  # noqa: SIM115  closed by `close`
        self.error = None

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

    def close(self):
        self.file.close()
        super().close()


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
    path = Path(path)
    part = path.with_name(path.name + ".part")
    try:
        with closing(_Disk(part)) as disk:
            with h5py.File(disk, "w") as file:
                yield file, disk.check
            disk.check()
        _seal(part, path)
    except BaseException as exc:
        part.unlink(missing_ok=True)
        if isinstance(exc, OSError):
            raise disk_error(exc, path) from exc
        raise


def sealed_text(path, text):
    """Write a small text file whole or not at all."""
    path = Path(path)
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(text, encoding="utf-8")
        _seal(part, path)
    except OSError as exc:
        part.unlink(missing_ok=True)
        raise disk_error(exc, path) from exc


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

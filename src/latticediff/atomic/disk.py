"""The disk itself: its errors in one line, the room on it, and names that are taken."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import FileError

if TYPE_CHECKING:
    from ..types import PathLikeStr

__all__ = ["DISK_FULL", "disk_error", "refuse_existing", "require_space", "sync_dir", "sync_file"]

# EFBIG is what a file-size limit (ulimit -f) gives; a quota gives EDQUOT
DISK_FULL = {
    errno.ENOSPC: "no space left on the disk",
    errno.EDQUOT: "disk quota exceeded",
    errno.EFBIG: "file too large",
}


def disk_error(exc: OSError, path: PathLikeStr) -> FileError:
    """`FileError` that says why `path` could not be written."""
    reason = DISK_FULL.get(exc.errno or 0)
    if reason:
        return FileError(f"cannot write {path}: {reason}; nothing half-written was kept, free space and run again")
    return FileError(f"cannot write {path}: {os.strerror(exc.errno) if exc.errno else exc}")


def refuse_existing(path: PathLikeStr) -> None:
    """Raise `FileError` if `path` exists, or if it cannot be the name of a new file: nothing is ever overwritten."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return
    except (OSError, ValueError) as exc:  # a name too long, a folder that is a file, a NUL in the name
        raise FileError(f"cannot write {path}: {getattr(exc, 'strerror', None) or exc}") from None
    raise FileError(f"{path} already exists; choose another name or remove it first")


def require_space(path: PathLikeStr, n_bytes: int) -> None:
    """Raise `FileError` if the disk of `path` has no room for `n_bytes` and 1 MiB more, or its folder is missing."""
    folder = Path(path).absolute().parent
    if not folder.is_dir():
        raise FileError(f"cannot write {path}: the directory {folder} does not exist")
    free, wanted = shutil.disk_usage(folder).free, n_bytes + (1 << 20)
    if wanted > free:
        figures = _size(wanted), _size(free)
        if figures[0] == figures[1]:
            figures = f"{wanted} bytes", f"{free}"
        raise FileError(
            f"cannot write {path}: it needs {figures[0]} and {figures[1]} are free; free space and run again"
        )


def _size(n_bytes: int) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= scale:
            return f"{n_bytes / scale:.3g} {unit}"
    return f"{n_bytes} bytes"


def sync_file(descriptor: int) -> None:
    """Write what was given to a descriptor to disk, so that it outlasts a power cut."""
    wholly = getattr(fcntl, "F_FULLFSYNC", None)  # macOS, whose fsync may leave it in the memory of the disk
    if wholly is not None:
        try:
            fcntl.fcntl(descriptor, wholly)
            return
        except OSError:  # a file system that does not know it
            pass
    os.fsync(descriptor)


def sync_dir(path: PathLikeStr) -> None:
    """Write the directory `path` itself to disk, so that renames inside it outlast a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        sync_file(handle)
    finally:
        os.close(handle)

"""``X.part``, which a file is while it is written: always made anew, locked, and never followed.

A link of that name in a folder of somebody else would otherwise send our bytes over the file that it points to.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import FileError

if TYPE_CHECKING:
    from ..types import PathLikeStr

__all__ = ["create_part"]


def _is_at(descriptor: int, path: PathLikeStr) -> bool:
    """Whether `path` is the name of the open file `descriptor`."""
    try:
        there = os.lstat(path)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), there)


def create_part(part: Path) -> int:
    """Descriptor of a new, empty, locked file; what a killed process or a stranger left under the name is removed."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    for _ in range(100):
        try:
            descriptor = os.open(part, flags, 0o666)
        except FileExistsError:
            _clear(part)
            continue
        with suppress(OSError):  # some cluster file systems know no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_at(descriptor, part):
            return descriptor
        os.close(descriptor)  # another process took it for a leftover between the two calls
    raise FileError(f"{part} is being written by another process; wait for it or stop it")


def _clear(part: Path) -> None:
    """Remove the file `part`, or the link (never its target); `FileError` if a running process is writing it."""
    if part.is_dir() and not part.is_symlink():
        raise FileError(f"{part} is a directory, where a file is to be written for a while; move it away")
    if _held(part):
        raise FileError(f"{part} is being written by another process; wait for it or stop it")
    part.unlink(missing_ok=True)


def _held(part: Path) -> bool:
    """Whether a running process is writing the file."""
    try:
        # without O_NONBLOCK the opening of a pipe would wait for its other end
        descriptor = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False  # a link, or no permission to read: not ours
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False  # no locks here
    finally:
        os.close(descriptor)
    return False

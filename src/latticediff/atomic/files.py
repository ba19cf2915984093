"""Files that are whole or absent: written as ``X.part``, synced, renamed.

Every file that replaces another one is written here; files of our own bookkeeping (locks, logs) are opened here.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ..errors import FileError
from .disk import disk_error, sync_dir, sync_file
from .part import create_part

if TYPE_CHECKING:
    from ..types import PathLikeStr

__all__ = ["open_own", "scratch", "sealed_bytes", "sealed_text", "whole"]


@contextmanager
def whole(path: PathLikeStr, sync: bool = True, buffering: int = -1) -> Iterator[BinaryIO]:
    """A binary file that appears under `path` only when the block has ended and all is on disk.

    Parameters
    ----------
    path : path-like
        Replaced if it exists; the caller decides whether that is allowed.
    sync : bool
        False for files that are cheap to make again: a power cut may then lose them, a kill may not.
    buffering : int
        As in `open`; 0 for callers that look after short writes themselves.

    Yields
    ------
    file : binary file
        Open for reading and writing.

    Raises
    ------
    FileError
        The directory is missing or not writable, the disk is full, or another process is writing `path`.
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
    try:
        with open(create_part(part), "wb+", buffering) as file:
            try:
                yield file
                file.flush()
                if sync:
                    sync_file(file.fileno())
                os.replace(part, path)
            except BaseException:
                with suppress(OSError):
                    part.unlink(missing_ok=True)
                raise
        if sync:
            sync_dir(path.absolute().parent)
    except OSError as exc:
        raise disk_error(exc, path) from exc


def sealed_bytes(path: PathLikeStr, data: bytes, sync: bool = True) -> None:
    """Write `data` as the file `path`, whole or not at all; see `whole`."""
    with whole(path, sync) as file:
        file.write(data)


def sealed_text(path: PathLikeStr, text: str, sync: bool = True) -> None:
    """Write `text` as the file `path` in UTF-8, whole or not at all; see `whole`."""
    sealed_bytes(path, text.encode(), sync)


@contextmanager
def scratch(path: PathLikeStr, source: PathLikeStr) -> Iterator[Path]:
    """A copy of `source` under the name `path`, removed when the block ends.

    Raises
    ------
    FileError
        `path` is a directory, is being written by another process, or cannot be written.
    """
    path = Path(path)
    try:
        descriptor = create_part(path)
        try:
            with open(source, "rb") as data, open(descriptor, "wb") as copy:
                shutil.copyfileobj(data, copy, 1 << 24)
                copy.flush()
                with suppress(OSError):
                    fcntl.flock(descriptor, fcntl.LOCK_UN)  # HDF5 locks what it opens
                yield path
        finally:
            path.unlink(missing_ok=True)
    except OSError as exc:
        raise disk_error(exc, path) from exc


def open_own(path: PathLikeStr, flags: int) -> int:
    """Descriptor of a file of our own bookkeeping (a lock, a log), made if missing; a link is refused, not followed.

    Parameters
    ----------
    path : path-like
    flags : int
        As in `os.open`: ``os.O_RDWR`` and the like.

    Raises
    ------
    FileError
        `path` is a link, or anything but a regular file.
    OSError
        It cannot be opened.
    """
    try:
        descriptor = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    except OSError as exc:
        if exc.errno == errno.ELOOP:
            raise FileError(f"{path} is a symbolic link; it is not followed, remove it") from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileError(f"{path} is no regular file; remove it")
    return descriptor

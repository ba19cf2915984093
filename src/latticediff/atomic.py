"""Files that are whole or absent: written as ``X.part``, synced, renamed; errors of the disk in one line.

Every file that replaces another one is written here. ``X.part`` is always made anew and never followed: a link of
that name in a folder of somebody else would otherwise send our bytes over the file that it points to.
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

from .errors import FileError

if TYPE_CHECKING:
    from .types import PathLikeStr

__all__ = [
    "DISK_FULL",
    "all_at_once",
    "claimed",
    "disk_error",
    "entries_of",
    "open_own",
    "refuse_existing",
    "require_space",
    "scratch",
    "sealed_bytes",
    "sealed_text",
    "sync_dir",
    "whole",
]

#: where `all_at_once` puts a folder together
PLACE = ".part"

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


def sync_dir(path: PathLikeStr) -> None:
    """Write the directory `path` itself to disk, so that renames inside it outlast a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_at(descriptor: int, path: PathLikeStr) -> bool:
    """Whether `path` is the name of the open file `descriptor`."""
    try:
        there = os.lstat(path)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), there)


def _create_part(part: Path) -> int:
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
        with open(_create_part(part), "wb+", buffering) as file:
            try:
                yield file
                file.flush()
                if sync:
                    os.fsync(file.fileno())
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
        descriptor = _create_part(path)
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


@contextmanager
def claimed(folder: PathLikeStr) -> Iterator[Path]:
    """Make `folder` if it is missing, and keep other processes of ours from writing there while the block runs.

    The lock is on the folder itself, so nothing is left in it and the system lifts it even after kill -9. A folder that
    was made here and is still empty at the end is removed.

    Raises
    ------
    FileError
        Another process is at work there, or the folder cannot be made or opened.
    """
    folder = Path(folder)
    made = not os.path.lexists(folder)
    try:
        descriptor = _open_locked(folder)
    except (FileExistsError, NotADirectoryError):
        raise FileError(f"cannot write into {folder}: a file is in the way; choose another --out") from None
    except OSError as exc:
        raise disk_error(exc, folder) from None
    try:
        yield folder
    finally:
        if made:
            with suppress(OSError):
                folder.rmdir()
        os.close(descriptor)


def _open_locked(folder: Path) -> int:
    """Descriptor of the folder, made if missing, with our lock on it."""
    for _ in range(100):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # its maker removed it between the two calls
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise FileError(f"another process is writing into {folder}; wait for it, or choose another --out") from None
        except OSError:
            return descriptor  # some cluster file systems know no locks: then the user has to take care
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(folder)):
                return descriptor
        os.close(descriptor)
    raise FileError(f"another process makes and removes {folder}; choose another --out")


@contextmanager
def all_at_once(folder: PathLikeStr, last: str) -> Iterator[Path]:
    """A place to put together what `folder` shall hold; all moves there when the block has ended without an error.

    Parameters
    ----------
    folder : path-like
        Must be `claimed` by the caller. Entries of the same names are replaced.
    last : str
        Name of the file that refers to the others. It is moved last: where it is, all of them are.

    Yields
    ------
    place : Path
        An empty folder inside `folder`.

    Raises
    ------
    FileError
        The disk is full, or `folder` cannot be written.
    """
    folder = Path(folder)
    place = folder / PLACE
    try:
        _discard(place)
        place.mkdir()
        try:
            yield place
            names = sorted(os.listdir(place), key=lambda name: name == last)
            for name in reversed(names):
                _discard(folder / name)
            for name in names:
                os.rename(place / name, folder / name)
        finally:
            with suppress(OSError):
                _discard(place)
    except OSError as exc:
        raise disk_error(exc, folder) from exc


def _discard(path: Path) -> None:
    """Remove a file, a link or a whole directory, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def entries_of(folder: PathLikeStr) -> list[str]:
    """Names in `folder`, without what `all_at_once` of a killed process left there; none if there is no folder.

    Raises
    ------
    FileError
        `folder` is a file, or cannot be read.
    """
    try:
        return [name for name in os.listdir(folder) if name != PLACE]
    except FileNotFoundError:
        return []
    except NotADirectoryError:
        raise FileError(f"cannot write into {folder}: a file is in the way; choose another --out") from None
    except OSError as exc:
        raise disk_error(exc, folder) from None

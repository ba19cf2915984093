"""Folders that one process writes at a time, and whose files appear all at once."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import FileError
from .disk import disk_error

if TYPE_CHECKING:
    from ..types import PathLikeStr

__all__ = ["all_at_once", "claimed", "entries_of"]

#: where `all_at_once` puts a folder together
PLACE = ".part"


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

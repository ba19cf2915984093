"""The directory ``X.run`` of an unfinished run: made and removed by a rename, locked; no foreign file is deleted."""

import fcntl
import os
import re
import shutil
from pathlib import Path

from ..atomic import open_own, sealed_text, sync_dir
from ..errors import FileError

__all__ = ["acquire", "birthplace_of", "clear_leftovers", "retire"]

#: what a run directory holds before it has its name: no configuration yet, so nothing is lost with it
_UNBORN = re.compile(r"(run\.json|checkpoint-0\.h5)(\.part)?")
_RETIRED = "retired"


def birthplace_of(run: Path) -> Path:
    """Where the run directory `run` is put together before it gets its name."""
    return run.with_name(run.name + ".new")


def _grave_of(run: Path) -> Path:
    """Where the run directory `run` goes before it is removed."""
    return run.with_name(run.name + ".old")


def clear_leftovers(run: Path) -> None:
    """Remove the directories that a killed process left beside the run directory `run`.

    Raises
    ------
    FileError
        Something of that name is there which this program did not leave; it is not touched.
    """
    for folder, is_ours in ((birthplace_of(run), _never_born), (_grave_of(run), _is_retired)):
        if not os.path.lexists(folder):
            continue
        if folder.is_symlink() or not folder.is_dir() or not is_ours(sorted(os.listdir(folder))):
            raise FileError(f"{folder} is in the way, and no leftover of this program; move it away or remove it")
        _remove(folder)


def _never_born(names: list[str]) -> bool:
    """Whether a directory with these entries is one that never got its name."""
    return all(_UNBORN.fullmatch(name) for name in names)


def _is_retired(names: list[str]) -> bool:
    """Whether a directory with these entries is one whose removal was cut short."""
    return not names or _RETIRED in names


def _remove(folder: Path) -> None:
    """Remove a directory of ours; the mark goes last, so that a removal cut short is recognised."""
    for entry in list(os.scandir(folder)):
        if entry.name != _RETIRED:
            shutil.rmtree(entry.path, ignore_errors=True) if entry.is_dir(follow_symlinks=False) else os.unlink(entry)
    shutil.rmtree(folder, ignore_errors=True)


def retire(run: Path) -> None:
    """Remove a run directory; the rename makes it vanish at once, however long the removal takes."""
    sealed_text(run / _RETIRED, "the run is complete; this directory is being removed\n")
    os.rename(run, _grave_of(run))
    sync_dir(run.absolute().parent)
    _remove(_grave_of(run))


def acquire(run: Path) -> int:
    """Lock a run directory for this process; the system releases the lock even after kill -9.

    Returns
    -------
    int
        Descriptor that holds the lock until it is closed.

    Raises
    ------
    FileError
        Another process has the lock, or something that is no regular file lies in its place.
    """
    handle = open_own(run / "lock", os.O_RDWR)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        os.close(handle)
        raise FileError(f"{run} is being written by another process; wait for it or stop it") from exc
    except OSError:
        pass  # some cluster file systems know no locks: then the user has to take care
    return handle

"""One process at a time at the compiled code on disk.

Numba writes the index of a cache and the code that it names one after the other, without a lock. Processes that
compile different signatures of one kernel at the same time, as the jobs of an array do on a fresh machine, can leave an
index that names the code of another signature: from then on every process runs the wrong machine code, silently.
"""

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

try:
    import fcntl
except ImportError:  # no such locks on this system, and no remedy
    fcntl = None  # type: ignore[assignment]

__all__ = ["LOCK_FILE", "lock_cache"]

LOCK_FILE = "latticediff.lock"
_thread_lock, _depth = threading.RLock(), 0


def lock_cache(dispatcher: Any) -> Any:
    """Let a dispatcher with ``cache=True`` load and save under the lock of its cache's folder; returns it."""
    cache = dispatcher._cache
    for name in ("load_overload", "save_overload"):
        setattr(cache, name, _locked(getattr(cache, name), cache.cache_path))
    return dispatcher


def _locked(method: Callable[..., Any], folder: str) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        with _folder_lock(folder):
            return method(*args, **kwargs)

    return call


@contextlib.contextmanager
def _folder_lock(folder: str) -> Iterator[None]:
    """A lock on a folder, exclusive among processes; a thread that holds it may take it again."""
    global _depth
    with _thread_lock, contextlib.ExitStack() as held:
        if fcntl is not None and _depth == 0:
            # a folder that cannot be written holds no lock, and nobody writes code there either
            with contextlib.suppress(OSError):
                os.makedirs(folder, exist_ok=True)
                handle = held.enter_context(open(os.path.join(folder, LOCK_FILE), "a"))
                fcntl.flock(handle, fcntl.LOCK_EX)  # gone with the handle
        _depth += 1
        try:
            yield
        finally:
            _depth -= 1

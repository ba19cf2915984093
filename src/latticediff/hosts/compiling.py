"""Says when compiled code is made: the first use of a proposal on a machine takes some ten seconds, and looks hung."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["at_first_compilation", "saying_when_compiling"]

_log = logging.getLogger("latticediff")


@contextlib.contextmanager
def at_first_compilation(call: Callable[[], object]) -> Iterator[None]:
    """Context that calls `call` once, when Numba begins to compile code of this package inside of it.

    Code that comes from the cache on disk does not count. Numba's list of listeners is as before at the end.

    Parameters
    ----------
    call : callable
    """
    from numba.core import event

    class Listener(event.Listener):
        called = False

        def on_start(self, found: Any) -> None:
            """Numba begins to compile a function."""
            function = getattr(found.data["dispatcher"], "py_func", None)
            if not self.called and str(getattr(function, "__module__", "")).startswith(f"{__package__.split('.')[0]}."):
                self.called = True
                call()

        def on_end(self, found: Any) -> None:
            """Numba has compiled a function."""

    with event.install_listener("numba:compile", Listener()):
        yield


def saying_when_compiling(what: str) -> contextlib.AbstractContextManager[None]:
    """Context that says once, by the logger ``latticediff``, when Numba compiles code of this package inside of it.

    Parameters
    ----------
    what : str
        What is being used, for the message.
    """
    text = "%s: compiling, some ten seconds; once on this machine (`latticediff warm-up` does it beforehand)"
    return at_first_compilation(lambda: _log.warning(text, what))

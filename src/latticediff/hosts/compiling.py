"""Says when compiled code is made: the first use of a proposal on a machine takes some ten seconds, and looks hung."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

__all__ = ["saying_when_compiling"]

_log = logging.getLogger("latticediff")


@contextlib.contextmanager
def saying_when_compiling(what: str) -> Iterator[None]:
    """Context that says once, by the logger ``latticediff``, when Numba compiles code of this package inside of it.

    Code that comes from the cache on disk is not mentioned. Numba's list of listeners is as before at the end.

    Parameters
    ----------
    what : str
        What is being used, for the message.
    """
    from numba.core import event

    class Listener(event.Listener):
        said = False

        def on_start(self, found: Any) -> None:
            """Numba begins to compile a function."""
            function = getattr(found.data["dispatcher"], "py_func", None)
            if not self.said and str(getattr(function, "__module__", "")).startswith(f"{__package__.split('.')[0]}."):
                self.said = True
                _log.warning(
                    "%s: compiling, some ten seconds; once on this machine (`latticediff warm-up` does it beforehand)",
                    what,
                )

        def on_end(self, found: Any) -> None:
            """Numba has compiled a function."""

    with event.install_listener("numba:compile", Listener()):
        yield

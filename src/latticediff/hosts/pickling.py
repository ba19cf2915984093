"""What makes models and proposals picklable, by whatever door they leave a process.

Theories of odd sites keep tables with functions in them, which are made again from the whole theory. Torch teaches
``multiprocessing`` to send tensors by shared memory and file descriptors, which runs out of descriptors, and hangs
where they cannot be passed; a model is small, so it goes as bytes.
"""

from __future__ import annotations

import copyreg
import pickle
from collections.abc import Callable
from typing import Any

from ..action import OddSites

__all__ = ["ByBytes"]


class ByBytes:
    """Base of objects that are pickled with everything below them by plain `pickle`."""

    def __reduce__(self) -> tuple[Callable[[type, bytes], Any], tuple[type, bytes]]:
        return _restored, (type(self), pickle.dumps(self._kept(), pickle.HIGHEST_PROTOCOL))

    def _kept(self) -> dict[str, Any]:
        """The attributes that another process gets."""
        return dict(self.__dict__)


def _restored(kind: type[ByBytes], data: bytes) -> ByBytes:
    made = kind.__new__(kind)
    made.__dict__.update(pickle.loads(data))
    return made


def _parts(theory: OddSites) -> tuple[type[OddSites], tuple[Any, ...]]:
    return OddSites, (theory.whole,)


copyreg.pickle(OddSites, _parts)  # type: ignore[arg-type]  # its declaration wants a function of any object

"""What makes models and proposals picklable, by whatever door they leave a process.

Theories of a part of the sites keep tables with functions in them, which are made again from the whole theory. Torch
teaches ``multiprocessing`` to send tensors by shared memory and file descriptors, which runs out of descriptors, and
hangs where they cannot be passed; a model is small, so it goes as bytes.
"""

from __future__ import annotations

import copyreg
import pickle
from collections.abc import Callable
from typing import Any

import torch

from ..action import OddSites
from ..fine import CoarseSites, FineLaw
from ..types import Shape

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


def _coarse(theory: CoarseSites) -> tuple[type[CoarseSites], tuple[Any, ...]]:
    return CoarseSites, (theory.law, theory.couplings)


def _law(law: FineLaw) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    return _law_of, (law.site.theory, law.geometry.shape, law.numbers(), any(p.requires_grad for p in law.parameters()))


def _law_of(theory: OddSites, shape: Shape, numbers: dict[str, Any], trains: bool) -> FineLaw:
    law = FineLaw(theory, shape)
    law.load_state_dict({name: torch.as_tensor(values) for name, values in numbers.items()})
    return law.requires_grad_(trains)


def _parts(theory: OddSites) -> tuple[type[OddSites], tuple[Any, ...]]:
    return OddSites, (theory.whole,)


copyreg.pickle(CoarseSites, _coarse)
copyreg.pickle(FineLaw, _law)
copyreg.pickle(OddSites, _parts)  # type: ignore[arg-type]  # its declaration wants a function of any object

"""How other programs lay their configurations out: along another axis, in Fortran order, one data set for each.

Nothing is read here: what comes out is sliced along its first axis like everything else that `convert` reads.
"""

import fnmatch
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ..errors import FileError, UserError
from ..types import PathLikeStr, Shape
from ..untrusted import printable
from .stored_data import Data
from .tables import AnyArray, Numbers

__all__ = ["Axis", "Stacked", "Turned", "matching", "turned"]

Axis = int | str  #: number of an axis from 0, negative from the end, or ``last``; digits will do


def _axis(axis: Axis, ndim: int, path: PathLikeStr) -> int:
    """Number of the axis that is meant, of `ndim`."""
    try:
        found = -1 if axis == "last" else int(axis)
    except (TypeError, ValueError):
        found = ndim
    if isinstance(axis, bool) or not -ndim <= found < ndim:
        raise UserError(
            f"axis is {axis!r}; expected 'last' or a number from 0 to {ndim - 1}, negative from the end, an axis of"
            f" {path}"
        )
    return found % ndim


class Turned:
    """An array whose configurations lie along another axis than the first, or whose axes are in Fortran order.

    Parameters
    ----------
    source : ndarray or Data
    axis : int
        Axis of the configurations, from 0; counted after the reversal.
    is_reversed : bool
        The axes of `source` come in the opposite order, as of an array that Julia or Fortran wrote.
    """

    def __init__(self, source: AnyArray | Data, axis: int, is_reversed: bool = False) -> None:
        order = list(range(source.ndim))[:: -1 if is_reversed else 1]
        self._along = order.pop(axis)  # axis of `source` that counts configurations
        self._order = (self._along, *order)
        self._source = source
        self.shape: Shape = tuple(source.shape[axis] for axis in self._order)
        self.dtype: np.dtype[Any] = source.dtype
        self.ndim = source.ndim

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice, /) -> AnyArray:
        picked: Any = (slice(None),) * self._along + (rows,)
        return np.ascontiguousarray(self._source[picked].transpose(self._order))


class Stacked:
    """Configurations that have a data set each, one after the other.

    Parameters
    ----------
    sources : sequence of ndarray or Data
        One configuration each, of one shape; not empty.
    names : sequence of str
        Of the sources, for messages.
    path : path-like
        For messages.
    is_reversed : bool
        As of `Turned`.

    Raises
    ------
    FileError
        Their shapes differ.
    """

    def __init__(
        self, sources: Sequence[AnyArray | Data], names: Sequence[str], path: PathLikeStr, is_reversed: bool = False
    ) -> None:
        for (name, source), (other, another) in pairwise(zip(names, sources, strict=True)):
            if source.shape != another.shape:
                raise FileError(
                    f"{path}: {printable(name)} has shape {source.shape} and {printable(other)} {another.shape};"
                    " expected configurations of one shape"
                )
        self._sources, self._step = sources, -1 if is_reversed else 1
        self.shape: Shape = (len(sources), *sources[0].shape[:: self._step])
        # one of another type decides, so that complex numbers or text among them are seen
        self.dtype: np.dtype[Any] = next(
            (source.dtype for source in sources if source.dtype.kind not in "fiu"), sources[0].dtype
        )
        self.ndim = len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice, /) -> AnyArray:
        picked = [self._whole(source) for source in self._sources[rows]]
        return np.stack(picked) if picked else np.empty((0, *self.shape[1:]), self.dtype)

    def _whole(self, source: AnyArray | Data) -> AnyArray:
        found: AnyArray = np.asarray(source[()])
        return found.transpose() if self._step < 0 else found


def turned(source: AnyArray | Data, axis: Axis, path: PathLikeStr, is_reversed: bool = False) -> Numbers:
    """`source` with its configurations along the first axis; itself where they are.

    Raises
    ------
    UserError
        `source` has no such axis.
    """
    number = _axis(axis, max(source.ndim, 1), path)
    if not source.ndim or (number == 0 and not is_reversed):
        return source
    return Turned(source, number, is_reversed)


def matching(pattern: str, names: Iterable[str]) -> list[str]:
    """Names that a pattern with ``*``, ``?`` or ``[]`` stands for, in natural order: ``cfg_2`` before ``cfg_10``.

    The wild cards do not reach over a ``/``, as in a shell.
    """
    parts = pattern.split("/")

    def fits(name: str) -> bool:
        own = name.split("/")
        return len(own) == len(parts) and all(map(fnmatch.fnmatchcase, own, parts))

    return sorted(filter(fits, names), key=_natural)


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort key: runs of digits count as numbers, and stand before text."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name, flags=re.ASCII)]

"""Which data sets of a foreign file hold the fields, and which the values of S; guessed only without a choice."""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np

from ..errors import FileError, UserError
from ..types import PathLikeStr, Shape
from ..untrusted import printable
from .arrangement import Axis, Stacked, matching, turned
from .stored import Store
from .stored_data import Data
from .tables import AnyArray, Numbers

__all__ = ["NamedFields", "pick"]

_FIELDS = ("phi", "phis", "cfgs", "configs", "configurations")
_ACTION = ("action", "S")


class NamedFields(NamedTuple):
    """Names of the data sets that hold fields and action."""

    fields: list[str]
    each: bool  #: every one of `fields` is one configuration
    action: list[str]  #: empty if the file has no values of S
    action_each: bool  #: every one of `action` is one number

    def read_fields(
        self, get: Callable[[str], AnyArray | Data], path: PathLikeStr, axis: Axis, is_reversed: bool = False
    ) -> Numbers:
        """Fields (n_cfg, *lattice) of data sets that `get` gives by name; see `turned` and `Stacked`."""
        if not self.each:
            return turned(get(self.fields[0]), axis, path, is_reversed)
        if axis not in (0, "0"):
            raise UserError(f"axis is {axis!r}, and each data set of {path} is one configuration; leave axis out")
        return Stacked([get(name) for name in self.fields], self.fields, path, is_reversed)

    def read_action(self, get: Callable[[str], AnyArray | Data], path: PathLikeStr) -> AnyArray | None:
        """Values of S of the data sets that `get` gives by name; None if there are none."""
        if not self.action:
            return None
        found = [np.asarray(get(name)[()]) for name in self.action]
        if not self.action_each:
            return found[0]
        for name, value in zip(self.action, found, strict=True):
            if value.size != 1:
                raise FileError(f"{path}: {printable(name)} has shape {value.shape}; expected one value of S")
        return np.stack([value.reshape(()) for value in found])


def pick(
    shapes: Mapping[str, Shape],
    path: PathLikeStr,
    dataset: str | None,
    action_dataset: str | None,
    names: Iterable[str],
    known: Store | None = None,
) -> NamedFields:
    """Names of the data sets that hold fields and action.

    Parameters
    ----------
    shapes : dict of str to shape
        Data sets that have axes.
    path : path-like
        For messages.
    dataset, action_dataset : str, optional
        As asked for: a name, or a pattern for one data set per configuration. By default the one that is called so,
        or for the fields the only one with more than one axis.
    names : iterable of str
        All data sets, for patterns.
    known : Store, optional
        Where a name that was asked for must be; by default in `shapes`.

    Raises
    ------
    FileError
        Nothing is called so, or it is unclear which one has the fields.
    """
    listed = printable(", ".join(shapes), 300)
    there: Mapping[str, Shape] | Store = shapes if known is None else known
    everything = list(names)

    def asked(wanted: str) -> tuple[list[str], bool]:
        is_pattern = any(sign in wanted for sign in "*?[") and wanted not in shapes
        found = matching(wanted, everything) if is_pattern else [wanted] if wanted in there else []
        if not found:
            raise FileError(f"{path} has no dataset {wanted!r}; it has {listed}")
        return found, is_pattern

    if dataset is None:
        called = [name for name in shapes if name.rsplit("/", 1)[-1] in _FIELDS]
        candidates = called or [name for name, shape in shapes.items() if len(shape) > 1]
        if len(candidates) != 1:
            raise FileError(
                f"{path} holds {listed or 'nothing'}; say which `dataset` has the fields, by a pattern such as 'cfg_*'"
                " where each configuration has its own"
            )
        fields, each = candidates, False
    else:
        fields, each = asked(dataset)
    if action_dataset is None:
        called = [name for name in shapes if name.rsplit("/", 1)[-1] in _ACTION]
        return NamedFields(fields, each, called if len(called) == 1 else [], False)
    return NamedFields(fields, each, *asked(action_dataset))

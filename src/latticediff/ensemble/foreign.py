"""Asking a reader for the configurations of a file, and what is believed of its answer."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import real_array
from ..asking import asked
from ..errors import FileError, UserError
from .readers import Foreign, Reader

if TYPE_CHECKING:
    from ..types import FloatArray, PathLikeStr

__all__ = ["ask_reader", "checked_action"]


def ask_reader(read: Reader, path: PathLikeStr, **options: Any) -> Foreign:
    """``read(path, **options)``.

    Raises
    ------
    UserError
        The reader does not know an option; or it is of another package, and raised or gave something else.
    """
    call = functools.partial(read, path, **options)
    try:
        found: Any = asked(read, "reader", f"call for {path}", call, passing=(TypeError,))
    except TypeError as exc:
        raise UserError(f"{path}: its reader cannot be asked like this: {exc}") from exc
    if not isinstance(found, Foreign):
        raise UserError(
            f"the reader of {path} returned a {type(found).__name__}; the contract"
            " latticediff.ensemble.readers.Reader wants a Foreign(phis, action)"
        )
    return found


def checked_action(path: PathLikeStr, foreign: Foreign) -> FloatArray | None:
    """Values of S of a file, (n_cfg,) float64; None if it has none.

    Raises
    ------
    FileError
        They are not one number for each configuration.
    UserError
        They are no real numbers.
    """
    if foreign.action is None:
        return None
    n, shape = foreign.phis.shape[0], np.shape(foreign.action)
    if shape != (n,):
        raise FileError(
            f"{path} has {n} configurations and values of the action of shape {shape}; expected one number for each"
        )
    return real_array(foreign.action[:], f"the action in {path}", finite=True)

"""Fields of a file of any kind, checked against a lattice, for stages that take them without a card."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..ensemble.foreign import ask_reader, checked_action
from ..ensemble.readers import choose_reader, read_raw
from ..errors import FileError

if TYPE_CHECKING:
    from ..ensemble.readers import Foreign
    from ..types import FloatArray, PathLikeStr, Shape

__all__ = ["read_fields", "require_theory"]


def read_fields(path: PathLikeStr, shape: Shape, whose: str, reader: str | None = None, **reading: Any) -> Foreign:
    """Fields (n, *shape) of an HDF5, npy, npz or raw file, and its values of S.

    Parameters
    ----------
    path : path-like
    shape : tuple of int
        The lattice; raw files take it too.
    whose : str
        What the lattice is of, for messages.
    reader : str, optional
        Name of a reader; by default the suffix of `path` decides.
    **reading
        Of the reader (``dataset``, ``axis``, ``dtype``, ``offset``); None means not given.

    Returns
    -------
    Foreign

    Raises
    ------
    FileError
        The file is missing or damaged, its fields are of another lattice, or it has not one value of S for each.
    UserError
        The reader does not know an option, or breaks its contract; values of S that are no finite numbers.
    """
    given = {key: value for key, value in reading.items() if value is not None}
    read = choose_reader(path, reader)
    if read is read_raw:
        given["shape"] = shape
    found = ask_reader(read, path, **given)
    if tuple(found.phis.shape[1:]) != shape:
        raise FileError(
            f"{path} holds an array of shape {tuple(found.phis.shape)}; expected (n,"
            f" {', '.join(map(str, shape))}), the lattice of {whose}"
        )
    return found._replace(action=checked_action(path, found))


def require_theory(path: PathLikeStr, stored: FloatArray, action: FloatArray, theory: Any, size: int) -> None:
    """Refuse values of S of a file that are not those of a theory.

    S of the file may have been computed in single precision, and with another constant for each site.

    Parameters
    ----------
    path : path-like
        For the message.
    stored, action : ndarray, shape (n,)
        S of the file, and recomputed.
    theory : Action
        For the message.
    size : int
        Sites of the lattice.

    Raises
    ------
    FileError
        They differ by more than a constant.
    """
    gap = (stored - action) / size
    off = float(np.abs(gap - np.median(gap)).max())
    if not off <= 1e-4 * max(1.0, float(np.abs(stored).max()) / size):
        raise FileError(
            f"{path}: the stored action is not that of {theory!r} (off by up to {off:.3g} per site); weigh with a"
            " model of the file's theory, in its convention"
        )

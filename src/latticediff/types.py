"""Names of the types that signatures share; nothing is computed here."""

from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["BoolArray", "Description", "Extents", "FloatArray", "IntArray", "PathLikeStr", "Shape"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Shape = tuple[int, ...]  #: lattice extents
Extents = Sequence[int]  #: what is taken where a `Shape` is wanted
Description = dict[str, Any]  #: JSON-able: a registered name and the options that build the object again
PathLikeStr = str | PathLike[str]

"""Names of the types that the signatures of this room share; nothing is computed here."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..types import Shape

__all__ = ["AnyArray", "Columns", "DataSets", "Fields", "Numbers", "Piece", "Table"]

AnyArray = NDArray[Any]  #: numbers of whatever type
Columns = dict[str, tuple[np.dtype[Any], bool, bool]]  #: columns of the history by name: dtype, is_bool, per_chain
DataSets = dict[str, tuple[np.dtype[Any], Shape]]  #: dtype and shape of every data set with many rows, by path
Table = Mapping[str, AnyArray]  #: consecutive rows of several data sets, by name
Piece = tuple[Table, Table]  #: rows of the configurations, rows of the history; either may be empty


class Fields(Protocol):
    """Configurations (n_cfg, *lattice) that are read when they are sliced along the first axis."""

    @property
    def shape(self) -> Shape:
        """(n_cfg, *lattice)."""

    @property
    def ndim(self) -> int:
        """Number of axes."""

    def __len__(self) -> int:
        """Number of configurations."""

    def __getitem__(self, rows: slice, /) -> AnyArray:
        """Consecutive configurations."""


class Numbers(Fields, Protocol):
    """Fields whose type is known before they are read."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the numbers."""

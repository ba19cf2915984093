"""Configurations that stay in their file and are read when a batch wants them."""

import os
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ..errors import UserError
from ..types import Extents, IntArray

__all__ = ["WHERE", "StreamedRows", "fits"]

#: Where training data may live.
WHERE = ("auto", "resident", "stream")


class StreamedRows:
    """Looks like a tensor (n, *lattice) float32 as far as training needs it; its rows are read on demand.

    Parameters
    ----------
    read : callable
        ``read(numbers) -> array (len(numbers), *lattice)`` for ascending row numbers without repetition.
    numbers : ndarray of int
        Which rows of the source these are, ascending.
    shape : tuple of int
        Lattice extents.
    device : torch.device
        Where rows go.
    """

    dtype = torch.float32

    def __init__(
        self, read: Callable[[IntArray], ArrayLike], numbers: ArrayLike, shape: Extents, device: torch.device | str
    ) -> None:
        self.read, self.numbers, self.device = read, np.asarray(numbers), torch.device(device)
        self.shape = (len(self.numbers), *shape)

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: slice | Tensor) -> Tensor:
        """Rows by slice or by a tensor of numbers, in that order."""
        wanted = self.numbers[index if isinstance(index, slice) else index.cpu().numpy()]
        unique, inverse = np.unique(wanted, return_inverse=True)
        if not len(unique):
            return torch.zeros(0, *self.shape[1:], device=self.device)
        rows = torch.as_tensor(self.read(unique), dtype=torch.float32)
        return rows[torch.as_tensor(inverse)].to(self.device)

    def split(self, size: int) -> Iterator[Tensor]:
        """Consecutive pieces of at most `size` rows."""
        return (self[start : start + size] for start in range(0, len(self), size))

    def cpu(self) -> "StreamedRows":
        """The same rows, delivered on the CPU."""
        return StreamedRows(self.read, self.numbers, self.shape[1:], "cpu")


def fits(n_bytes: int, device: torch.device | str) -> bool:
    """Whether `n_bytes` take at most half of the free memory of a device."""
    if torch.device(device).type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
    else:
        pages = "SC_AVPHYS_PAGES" if "SC_AVPHYS_PAGES" in os.sysconf_names else "SC_PHYS_PAGES"
        free = os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE")
    return n_bytes <= free / 2


def choose(where: str, n_bytes: int, device: torch.device | str) -> str:
    """``"resident"`` or ``"stream"``.

    Raises
    ------
    UserError
        A word that is none of `WHERE`.
    """
    if where not in WHERE:
        raise UserError(f"training data are to be {where!r}; expected one of {', '.join(WHERE)}")
    if where != "auto":
        return where
    return "resident" if fits(n_bytes, device) else "stream"

"""Colours of lattice sites: those of one colour do not feel each other, so one backward pass serves all of them."""

import itertools
import math

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from ..types import Extents, IntArray

__all__ = ["colouring", "count_colours"]


def _cycle_colours(extent: int, reach: int) -> IntArray:
    """Colours of the sites of a ring, equal ones more than `reach` apart: positions in blocks of nearly one size."""
    blocks = np.array_split(np.arange(extent), max(1, extent // (reach + 1)))
    return np.concatenate([np.arange(len(block)) for block in blocks])


def colouring(shape: Extents, reach: int) -> Tensor:
    """Masks (n_colours, *shape), float64, of sites of one colour: any two are more than `reach` apart along some axis.

    Raises
    ------
    UserError
        `reach` is no whole number of at least 0.
    """
    if reach < 0 or int(reach) != reach:
        raise UserError(f"reach is {reach}; expected a whole number of sites, at least 0")
    rings = [_cycle_colours(extent, int(reach)) for extent in shape]
    masks = []
    for colours in itertools.product(*(range(ring.max() + 1) for ring in rings)):
        selected = np.ix_(*(np.flatnonzero(ring == c) for ring, c in zip(rings, colours, strict=True)))
        mask = np.zeros(shape)
        mask[selected] = 1
        masks.append(mask)
    return torch.as_tensor(np.stack(masks))


def count_colours(shape: Extents, reach: int) -> int:
    """Number of colours that `colouring` needs, without making the masks."""
    return math.prod(int(_cycle_colours(extent, reach).max()) + 1 for extent in shape)

r"""Coarse and fine odd sites of a checkerboard, and which sites a site sees.

The odd sites of even rows, C, and those of odd rows, F, of a lattice L1 x L2 are two arrays of M1 x M2, M = L/2, with
twice the spacing: C[i, j] is the site (2i, 2j+1), F[i, j] the site (2i+1, 2j). Given C, a site of F is coupled to its
four nearest neighbours in F alone, so F is a checkerboard again:

    a: i, j both even        b: i, j both odd        d: i + j odd.

Colours a and b are drawn in two turns each, again as on a checkerboard, which wants M1 and M2 to be multiples of 4.
Fields are rows (C, F) of 2 M1 M2 numbers here.
"""

import functools
import math
from collections.abc import Sequence

import numpy as np

from ..action.checkerboard import half_shape, tables
from ..errors import UserError
from ..lattice import check_shape
from ..types import Extents, FloatArray, IntArray, Shape

__all__ = ["CONTEXTS", "LEARNED", "Geometry", "Offset", "coarse_shape", "rotations"]

Offset = tuple[int, int]  #: in sites of the whole lattice

#: Sites of C within the distance sqrt(26) of a site of F
COARSE = [(x, y) for x in range(-5, 6, 2) for y in range(-5, 6, 2) if x * x + y * y <= 26]
DIAGONAL, STRAIGHT = [(2, 2), (2, -2), (-2, 2), (-2, -2)], [(4, 0), (0, 4), (-4, 0), (0, -4)]
CONTEXTS = (COARSE, COARSE + STRAIGHT, COARSE + DIAGONAL, COARSE + DIAGONAL + STRAIGHT)  #: of the learned colours
LEARNED = len(CONTEXTS)


def coarse_shape(shape: Extents) -> Shape:
    """Extents (M1, M2) of the array of coarse sites of a lattice.

    Raises
    ------
    UserError
        Not two dimensions, an extent that is no multiple of 8, or a first one that is no multiple of the second.
    """
    shape = check_shape(shape)
    if len(shape) != 2 or shape[0] % 8 or shape[1] % 8 or shape[0] % shape[1]:
        try:
            half_shape(shape)
            remedy = "train on the odd sites (training.sites = odd)"
        except UserError:
            remedy = "train on all sites (training.sites = all)"
        raise UserError(
            f"lattice shape {shape} has no array of coarse sites; expected two multiples of 8, the first a multiple of"
            f" the second, such as (16, 16) or (32, 16); else {remedy}"
        )
    return shape[0] // 2, shape[1] // 2


def rotations(offsets: Sequence[Offset]) -> IntArray:
    """Permutations of offsets that the rotations of the square make, (4, m)."""
    place = {offset: number for number, offset in enumerate(offsets)}
    turned = [[(x, y), (-y, x), (-x, -y), (y, -x)] for x, y in offsets]
    return np.array([[place[each[turn]] for each in turned] for turn in range(4)], np.int64)


class Geometry:
    """Flat numbers of sites in rows (C, F) of one lattice.

    Parameters
    ----------
    shape : tuple of int
        (M1, M2), extents of the array of coarse sites, multiples of 4.

    Attributes
    ----------
    colours : list of ndarray
        Sites of F, numbered from 0, of the four learned colours and of d.
    """

    def __init__(self, shape: Shape) -> None:
        self.shape, self.n = shape, math.prod(shape)
        coarse_shape([2 * extent for extent in shape])
        i, j = np.indices(shape)
        half = (i // 2 + j // 2) % 2
        masks = [(i % 2 == p) & (j % 2 == p) & (half == h) for p in (0, 1) for h in (0, 1)] + [(i + j) % 2 == 1]
        self.colours = [np.flatnonzero(mask.ravel()) for mask in masks]

    @property
    def whole(self) -> Shape:
        """Extents of the whole lattice."""
        return 2 * self.shape[0], 2 * self.shape[1]

    def _numbers(self, sites: IntArray, offsets: Sequence[Offset]) -> IntArray:
        """Of what lies at offsets (dx, dy) from sites of F: both odd, a site of C; both even, one of F."""
        M1, M2 = self.shape
        i, j = sites // M2, sites % M2
        found = []
        for dx, dy in offsets:
            if dx % 2:  # (2i + 1 + dx, 2j + dy) = (2i', 2j' + 1)
                found.append((i + (dx + 1) // 2) % M1 * M2 + (j + (dy - 1) // 2) % M2)
            else:
                found.append(self.n + (i + dx // 2) % M1 * M2 + (j + dy // 2) % M2)
        return np.stack(found, -1)

    def context(self, colour: int) -> IntArray:
        """Of what every site of a learned colour sees, (n_sites, m)."""
        return self._numbers(self.colours[colour], CONTEXTS[colour])

    @functools.cached_property
    def beside(self) -> IntArray:
        """Of the three others beside each of the four even sites that touch a site of colour d, (n_sites, 4, 3)."""
        found = []
        for dx, dy in ((1, 0), (0, 1), (-1, 0), (0, -1)):
            # around the even site lie the site itself, one across, two to the sides
            offsets = [(2 * dx, 2 * dy), (dx + dy, dx + dy), (dx - dy, dy - dx)]
            found.append(self._numbers(self.colours[-1], offsets))
        return np.stack(found, 1)

    @functools.cached_property
    def _places(self) -> IntArray:
        """Where every number of a row lies in the array of odd sites (`latticediff.action.checkerboard`), flat."""
        odd = tables(self.whole)[0]
        where = np.empty(math.prod(self.whole), np.int64)
        where[odd] = np.arange(len(odd))
        i, j = np.indices(self.shape).reshape(2, -1)
        width = self.whole[1]
        return where[np.concatenate([2 * i * width + 2 * j + 1, (2 * i + 1) * width + 2 * j])]

    @functools.cached_property
    def _order(self) -> IntArray:
        return np.argsort(self._places)

    def rows(self, odd: FloatArray) -> FloatArray:
        """Rows (n, 2 M1 M2) of arrays of odd sites (n, *half_shape)."""
        return np.take(odd.reshape(len(odd), 2 * self.n), self._places, axis=1)

    def odd(self, rows: FloatArray) -> FloatArray:
        """The inverse of `rows`."""
        return np.take(rows, self._order, axis=1).reshape(len(rows), *half_shape(self.whole))

"""Real Fourier transforms of whole lattices for `splitting`, float64, `vectors.LANES` configurations side by side.

Modes are numbered with the first axis of the lattice innermost, sites with the last one.
"""

from typing import Any, NamedTuple

from ..types import FloatArray, IntArray
from . import vectors
from .columns import back, forth
from .vectors import LANES

__all__ = ["TRANSFORMS", "Basis", "along", "into_modes", "out_of_modes"]

# intrinsics, whose context Numba supplies
load: Any = vectors.load
spread: Any = vectors.spread
store: Any = vectors.store


class Basis(NamedTuple):
    """The transforms of one lattice: `columns.tables`, its extents, and ``1 / sqrt(M)`` of each mode."""

    extents: IntArray
    sizes: IntArray
    order: IntArray
    plain: IntArray
    forth: FloatArray
    back: FloatArray
    inverse_root: FloatArray


def along(basis: Basis, axis: int, field: FloatArray, inverse: bool, scratch: FloatArray) -> None:
    """The transform along one axis in place: two columns are complete in `scratch` before they are written."""
    before, after, extent = 1, 1, basis.extents[axis]
    for other in range(axis):
        before *= basis.extents[other]
    for other in range(axis + 1, basis.extents.size):
        after *= basis.extents[other]
    columns, step = before * after, after * LANES
    n, room = extent * LANES, 4 * extent * LANES
    blocks = basis.back[axis] if inverse else basis.forth[axis]
    sizes, order, plain = basis.sizes[axis], basis.order[axis], basis.plain
    for q in range(0, columns, 2):
        r = min(q + 1, columns - 1)
        first = (q // after * extent * after + q % after) * LANES
        second = (r // after * extent * after + r % after) * LANES
        if inverse:
            back(
                blocks, sizes, order, plain, extent,
                field, first, second, step, scratch, room, room + n, LANES, scratch,
            )  # fmt: skip
        else:
            forth(
                blocks, sizes, order, plain, extent,
                field, first, second, step, scratch, room, room + n, LANES, scratch,
            )  # fmt: skip
        for i in range(extent):
            store(field, first + i * step, load(scratch, room + i * LANES))
            store(field, second + i * step, load(scratch, room + n + i * LANES))


def into_modes(basis: Basis, field: FloatArray, out: FloatArray, upwards: bool, scratch: FloatArray) -> None:
    """Coefficients of `field`, which is overwritten, times sqrt(M) if `upwards`, else over it: a of phi, b of p."""
    for axis in range(basis.extents.size - 1, 0, -1):
        along(basis, axis, field, False, scratch)
    extent = basis.extents[0]
    after = basis.inverse_root.size // extent
    to_modes, sizes, order, plain = basis.forth[0], basis.sizes[0], basis.order[0], basis.plain
    for q in range(0, after, 2):
        r = min(q + 1, after - 1)
        forth(
            to_modes, sizes, order, plain, extent,
            field, q * LANES, r * LANES, after * LANES, out, q * extent * LANES, r * extent * LANES, LANES, scratch,
        )  # fmt: skip
    for k in range(basis.inverse_root.size):
        scale = 1.0 / basis.inverse_root[k] if upwards else basis.inverse_root[k]
        store(out, k * LANES, spread(scale) * load(out, k * LANES))


def out_of_modes(basis: Basis, b: FloatArray, field: FloatArray, scratch: FloatArray) -> None:
    """Momenta on sites from the modes `b`, which are overwritten: the way back of `into_modes`."""
    extent = basis.extents[0]
    after = basis.inverse_root.size // extent
    for k in range(basis.inverse_root.size):
        store(b, k * LANES, spread(1.0 / basis.inverse_root[k]) * load(b, k * LANES))
    to_sites, sizes, order, plain = basis.back[0], basis.sizes[0], basis.order[0], basis.plain
    for q in range(0, after, 2):
        r = min(q + 1, after - 1)
        back(
            to_sites, sizes, order, plain, extent,
            b, q * extent * LANES, r * extent * LANES, LANES, field, q * LANES, r * LANES, after * LANES, scratch,
        )  # fmt: skip
    for axis in range(1, basis.extents.size):
        along(basis, axis, field, True, scratch)


TRANSFORMS = (along, into_modes, out_of_modes)  #: in the order in which they call each other

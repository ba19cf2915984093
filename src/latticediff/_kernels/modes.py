"""Real Fourier transforms of whole lattices for `splitting`, float64, `vectors.LANES` configurations side by side.

What is transformed lies in a buffer of planes, one for each site of the first axis, with `PADDING` between them: else
columns along that axis had strides of powers of two, and met in the same few sets of the cache. Modes are numbered with
the first axis of the lattice innermost, sites with the last one.
"""

from typing import Any, NamedTuple

from ..types import FloatArray, IntArray
from . import vectors
from .columns import back, forth
from .vectors import LANES

__all__ = ["PADDING", "TRANSFORMS", "Basis", "along", "enter", "into_modes", "leave", "out_of_modes"]

PADDING = LANES  #: numbers between two planes of a buffer

# intrinsics, whose context Numba supplies
load: Any = vectors.load
spread: Any = vectors.spread
store: Any = vectors.store


class Basis(NamedTuple):
    """The transforms of one lattice: `folded.tables` in float64, its extents, and ``1 / sqrt(M)`` of each mode."""

    extents: IntArray
    sizes: IntArray
    order: IntArray
    plain: IntArray
    forth: FloatArray
    back: FloatArray
    inverse_root: FloatArray


def enter(start: FloatArray, field: FloatArray, n_planes: int) -> None:
    """Copy plain fields on sites into a buffer of planes."""
    n, pitch = start.size // n_planes, field.size // n_planes
    for p in range(n_planes):
        for i in range(0, n, LANES):
            store(field, p * pitch + i, load(start, p * n + i))


def leave(field: FloatArray, end: FloatArray, n_planes: int) -> None:
    """The inverse of `enter`."""
    n, pitch = end.size // n_planes, field.size // n_planes
    for p in range(n_planes):
        for i in range(0, n, LANES):
            store(end, p * n + i, load(field, p * pitch + i))


def along(basis: Basis, axis: int, field: FloatArray, inverse: bool, scratch: FloatArray) -> None:
    """The transform along an axis but the first, in place: columns are complete in `scratch` before they are written.

    `field` is a buffer of planes, as everywhere in this file and in `splitting`.
    """
    inner, after, extent = 1, 1, basis.extents[axis]
    for other in range(1, axis):
        inner *= basis.extents[other]
    for other in range(axis + 1, basis.extents.size):
        after *= basis.extents[other]
    pitch = field.size // basis.extents[0]
    per_plane, step = inner * after, after * LANES
    columns = basis.extents[0] * per_plane
    n, room = extent * LANES, 4 * extent * LANES
    blocks = basis.back[axis] if inverse else basis.forth[axis]
    sizes, order, plain = basis.sizes[axis], basis.order[axis], basis.plain
    for q in range(0, columns, 2):
        r = min(q + 1, columns - 1)
        first, second = q % per_plane, r % per_plane
        first = q // per_plane * pitch + (first // after * extent * after + first % after) * LANES
        second = r // per_plane * pitch + (second // after * extent * after + second % after) * LANES
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
    after, pitch = basis.inverse_root.size // extent, field.size // extent
    to_modes, sizes, order, plain = basis.forth[0], basis.sizes[0], basis.order[0], basis.plain
    for q in range(0, after, 2):
        r = min(q + 1, after - 1)
        forth(
            to_modes, sizes, order, plain, extent,
            field, q * LANES, r * LANES, pitch, out, q * extent * LANES, r * extent * LANES, LANES, scratch,
        )  # fmt: skip
    for k in range(basis.inverse_root.size):
        scale = 1.0 / basis.inverse_root[k] if upwards else basis.inverse_root[k]
        store(out, k * LANES, spread(scale) * load(out, k * LANES))


def out_of_modes(basis: Basis, b: FloatArray, field: FloatArray, scratch: FloatArray) -> None:
    """Momenta on sites from the modes `b`, which are overwritten: the way back of `into_modes`."""
    extent = basis.extents[0]
    after, pitch = basis.inverse_root.size // extent, field.size // extent
    for k in range(basis.inverse_root.size):
        store(b, k * LANES, spread(1.0 / basis.inverse_root[k]) * load(b, k * LANES))
    to_sites, sizes, order, plain = basis.back[0], basis.sizes[0], basis.order[0], basis.plain
    for q in range(0, after, 2):
        r = min(q + 1, after - 1)
        back(
            to_sites, sizes, order, plain, extent,
            b, q * extent * LANES, r * extent * LANES, LANES, field, q * LANES, r * LANES, pitch, scratch,
        )  # fmt: skip
    for axis in range(1, basis.extents.size):
        along(basis, axis, field, True, scratch)


TRANSFORMS = (enter, leave, along, into_modes, out_of_modes)  #: in the order in which they call each other

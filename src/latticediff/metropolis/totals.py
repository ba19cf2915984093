"""S of proposals, compiled where a kernel for the action is known: a fifth of the time of NumPy's whole arrays."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..action import ON
from ..action.consistency import check_compiled
from ..action.links import only_nearest
from ..action.site_terms import site_terms
from ..errors import UserError
from ..lattice import check_shape
from ..types import FloatArray, IntArray, Shape

__all__ = ["actions_of"]

COST = 2  # of a site, in plain site updates; decides whether threads pay


def actions_of(action: Any) -> Callable[[FloatArray], FloatArray]:
    """A function that gives S of fields (n, *lattice), float64: the action itself, or its compiled form.

    It is compiled for nearest neighbours of one strength and a potential that Numba can call; an own action whose parts
    do not say the same (`latticediff.action.consistency`) is asked itself.
    """
    is_plain = not isinstance(action, ON) and not site_terms(action).are_any
    if not is_plain or not hasattr(action, "numba_potential") or not only_nearest(action):
        return lambda phi: np.asarray(action(phi))
    try:
        check_compiled(action)
    except UserError:
        return lambda phi: np.asarray(action(phi))
    return _Compiled(action)


class _Compiled:
    """`build` of `_kernels.total` for an action; made at the first call, and not kept where it is pickled."""

    def __init__(self, action: Any) -> None:
        self.action = action
        self._made: tuple[Any, tuple[float, ...]] | None = None
        self._tables: dict[Shape, IntArray] = {}

    def __call__(self, phi: FloatArray) -> FloatArray:
        from .._kernels.compile import callable_potential
        from .._kernels.threads import over_groups
        from .._kernels.total import build

        if self._made is None:
            value, derivative, params = callable_potential(self.action)
            self._made = build(value, derivative), params
        kernel, params = self._made
        shape = check_shape(phi.shape[1:], self.action.ndim)
        if shape not in self._tables:
            self._tables[shape] = _forward(shape)
        forward, out = self._tables[shape], np.empty(len(phi))
        rows = np.ascontiguousarray(phi, np.float64).reshape(len(phi), -1, shape[-1])
        over_groups(kernel, len(phi), COST * phi.size, rows, forward, params, float(self.action.hopping), out)
        return out

    def __reduce__(self) -> tuple[type, tuple[Any]]:
        return _Compiled, (self.action,)


def _forward(shape: Shape) -> IntArray:
    """Number of the next row along each axis but the last, (ndim - 1, rows)."""
    numbers = np.arange(int(np.prod(shape[:-1]))).reshape(shape[:-1])
    found = [np.roll(numbers, -1, axis).ravel() for axis in range(len(shape) - 1)]
    return np.array(found, np.int64).reshape(len(shape) - 1, numbers.size)

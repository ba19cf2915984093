"""The law of the fine sites as it draws and weighs: compiled, its densities interpolants that are known to rounding."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._kernels.interpolant import N
from ..types import FloatArray
from .law import ColourLaw, FineLaw

__all__ = ["CompiledLaw"]

COST = 60  # of a site, in plain site updates; decides whether threads pay


class CompiledLaw:
    """Draws of F given C and their density; float64 NumPy in and out.

    Parameters
    ----------
    law : FineLaw
        Its weights are copied.
    """

    def __init__(self, law: FineLaw) -> None:
        site, geometry = law.site, law.geometry
        self.n = geometry.n
        points = np.linspace(-site.edge, site.edge, N)
        step = float(points[1] - points[0])
        self._grid = site.potential(points), site.derivative(points), -site.edge, step, np.float32(site.edge)
        laws: Any = law.laws
        self._colours = tuple(
            (geometry.n + geometry.colours[k], np.ascontiguousarray(geometry.context(k)), *_arrays(part))
            for k, part in enumerate(laws)
        )
        beside = np.ascontiguousarray(geometry.beside.reshape(-1, 12))
        table = np.ascontiguousarray(site.by_powers(), np.float32)
        self._last = geometry.n + geometry.colours[-1], beside, table, np.float32(1 / site.widest)

    def draw(self, coarse: FloatArray, u: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Rows (C, F), (n, 2 M^2), and ``log q(F | C)``, (n,), at the quantiles u.

        Parameters
        ----------
        coarse : ndarray, shape (n, M^2), float64
            Finite.
        u : ndarray, shape (n, M^2), float64
            In (0, 1].
        """
        from .._kernels.fine import draw

        rows = np.zeros((len(coarse), 2 * self.n))
        rows[:, : self.n] = coarse
        return rows, self._run(draw, rows, u)

    def draw_by_key(self, coarse: FloatArray, keys: NDArray[np.uint64]) -> tuple[FloatArray, FloatArray]:
        """`draw` with quantiles that follow from one 64-bit key for each row."""
        from .._kernels.fine import uniforms
        from .._kernels.threads import over_groups

        u = np.empty((len(coarse), self.n))
        over_groups(uniforms, len(u), u.size, np.ascontiguousarray(keys), u)
        return self.draw(coarse, u)

    def weigh(self, rows: FloatArray) -> FloatArray:
        """``log q(F | C)`` of given rows (C, F), (n,): what a draw that ends there is given, to rounding."""
        from .._kernels.fine import weigh

        return self._run(weigh, np.array(rows, np.float64, order="C"), np.broadcast_to(0.5, (len(rows), self.n)).copy())

    def _run(self, kernel: Any, rows: FloatArray, u: FloatArray) -> FloatArray:
        from .._kernels.rows import n_groups
        from .._kernels.threads import over_groups

        log_q = np.empty(len(rows))
        u = np.ascontiguousarray(u)
        over_groups(kernel, n_groups(len(rows)), COST * u.size, rows, u, log_q, self._colours, self._last, self._grid)
        return log_q


def _arrays(part: ColourLaw) -> list[NDArray[np.float32]]:
    """The weights of a colour as the kernel wants them: read, shift, linear, amplitudes, constant; float32."""
    turned = part.turned
    read = part.read[:, turned].detach().numpy()  # (J, 4, m)
    linear = part.linear[:, turned].sum(1).detach().numpy()[::2]  # (3, m)
    is_odd = part.is_odd.numpy()[:, None] > 0
    amplitudes = np.where(is_odd, part.odd.detach().numpy(), part.even.detach().numpy())
    padded = np.pad(linear.T, ((0, 0), (0, 1)))
    shift, constant = part.shift.detach().numpy(), part.constant.detach().numpy()
    arrays = read.transpose(1, 2, 0).ravel(), shift, padded.ravel(), amplitudes, constant
    return [np.ascontiguousarray(array, np.float32) for array in arrays]

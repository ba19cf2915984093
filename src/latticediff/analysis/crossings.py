r"""Where lattices of two sizes are equal, how they grow from one to the other, and the limit of infinite size.

With :math:`Q = \langle m^2 \rangle^2 / \langle m^4 \rangle` and the second-moment :math:`\xi / L` of
`latticediff.analysis.finite_size`, which at a critical point tend to numbers of its class, two sizes L and s L cross at
a k whose distance from k_c falls like :math:`L^{-1/\nu-\omega}` (Binder, Z. Phys. B 43 (1981) 119), and there

.. math:: \frac1\nu \simeq \frac{\log (R'_{sL} / R'_L)}{\log s}, \qquad
          2 - \eta = \frac{\gamma}{\nu} \simeq \frac{\log (\chi_{sL} / \chi_L)}{\log s} .
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..arrays import real_array
from ..errors import UserError
from ..host import numpy_defaults
from ..types import FloatArray
from .finite_size import Curves, roots
from .result import Estimate

__all__ = ["Extrapolated", "Pair", "estimated", "extrapolated"]


@dataclass(frozen=True)
class Pair:
    """Two sizes where one quantity of theirs is equal, row by row, (1 + n_replicas,)."""

    extents: tuple[int, int]
    quantity: str
    coupling: FloatArray
    value: FloatArray  #: of the quantity there
    inverse_nu: FloatArray
    two_minus_eta: FloatArray

    @classmethod
    @numpy_defaults()
    def of(cls, small: Curves, large: Curves, quantity: str) -> "Pair":
        """The crossing of two sizes.

        Parameters
        ----------
        small, large : Curves
            At the same couplings, of as many rows.
        quantity : {"xi", "ratio"}

        Raises
        ------
        UserError
            Curves of the same extent, at different couplings, or that do not cross.
        """
        _require_pair(small, large)
        what = f"{quantity} of L = {small.extent} and {large.extent}"
        k = roots(small.couplings, large.of(quantity) - small.of(quantity), what)
        return cls.at(small, large, quantity, np.where(np.isnan(k), k[0], k))  # of the few rows that have none

    @classmethod
    @numpy_defaults()
    def at(cls, small: Curves, large: Curves, quantity: str, coupling: FloatArray) -> "Pair":
        """The same at any coupling, (1 + n_replicas,), near a crossing: slopes of `quantity`, and susceptibilities.

        Raises
        ------
        UserError
            Curves of the same extent or at different couplings.
        """
        _require_pair(small, large)
        scale = math.log(large.extent / small.extent)
        slopes = large.at(quantity, coupling, 1) / small.at(quantity, coupling, 1)
        chi = large.at("chi", coupling) / small.at("chi", coupling)
        with np.errstate(invalid="ignore"):
            inverse_nu = np.log(slopes) / scale
        extents = small.extent, large.extent
        return cls(extents, quantity, coupling, small.at(quantity, coupling), inverse_nu, np.log(chi) / scale)


def _require_pair(small: Curves, large: Curves) -> None:
    if small.extent >= large.extent or not np.array_equal(small.couplings, large.couplings):
        raise UserError(
            f"curves are of L = {small.extent} and {large.extent} at {len(small.couplings)} and"
            f" {len(large.couplings)} couplings; expected a smaller and a larger one at the same couplings"
        )


@numpy_defaults()
def estimated(rows: FloatArray) -> Estimate:
    """Value of row 0, and the spread of the others as its error."""
    rows = real_array(rows, "rows")
    return Estimate(float(rows[0]), float(np.nanstd(rows[1:], ddof=1)), n=len(rows) - 1)


@dataclass(frozen=True)
class Extrapolated:
    """A fit ``y = y_inf + a L^-power``, row by row."""

    rows: FloatArray  #: y_inf, (1 + n_replicas,)
    amplitude: float
    chi2: float
    dof: int
    power: float


@numpy_defaults()
def extrapolated(extents: Sequence[float], rows: Sequence[FloatArray], power: float) -> Extrapolated:
    """The limit of infinite size, by least squares with the covariance of the resampled rows.

    Neighbouring pairs share a size, so points are correlated, and the covariance is that of the rows.

    Parameters
    ----------
    extents : sequence of float
        L of each point; of a pair, the smaller one.
    rows : sequence of ndarray, shape (1 + n_replicas,)
        Of each point.
    power : float
        Of the leading correction; above 0.

    Returns
    -------
    Extrapolated

    Raises
    ------
    UserError
        Fewer than two points or equal extents, other numbers of rows than extents, or a power that is not above 0.
    """
    if not (0 < power < math.inf) or len(set(extents)) < max(2, len(rows)) or len(extents) != len(rows):
        raise UserError(
            f"a fit with power {power} got {len(rows)} points at L = {list(extents)}; expected two or more, each L"
            " once, and a power above 0"
        )
    y = np.array([real_array(row, "rows", finite=True) for row in rows])
    scale = np.asarray(extents, np.float64) / min(extents)
    design = np.column_stack([np.ones(len(y)), scale**-power])
    inverse = np.linalg.inv(np.cov(y[:, 1:]))
    found = np.linalg.solve(design.T @ inverse @ design, design.T @ inverse) @ y
    left = y[:, 0] - design @ found[:, 0]
    amplitude = float(found[1, 0] * min(extents) ** power)
    return Extrapolated(found[0], amplitude, float(left @ inverse @ left), len(y) - 2, power)

r"""phi^4 with next-nearest couplings along the axes, whose stripes compete with the uniform phase,

.. math:: S = \sum_x \Big[ -c \sum_\mu \phi_x \phi_{x+\mu} - d \sum_{\mu \in axes} \phi_x \phi_{x+2\mu}
          + a \phi_x^2 + b \phi_x^4 \Big], \qquad
          K(k) = 2a - 2c \sum_\mu \cos k_\mu - 2d \sum_{\mu \in axes} \cos 2k_\mu .

For c > 0 and d < 0 the quadratic form is least at k = 0 down to :math:`d = -c/4`, the Lifshitz point, and beyond it
at :math:`\cos k_\mu = -c / (4d)`: d = -c/2 has period six. With all axes alike (the default) these are the components
of k, and stripes run along any of the diagonals; with one axis this is the phi^4 relative of the axial
next-nearest-neighbour Ising model. cond-mat/0212373 simulates a model of this kind; the normalisation here is the
package's own.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

from ..errors import UserError
from .contract import check_options
from .polynomial import Polynomial

__all__ = ["Modulated"]


class Modulated(Polynomial):
    """See the formula of this file.

    Parameters
    ----------
    hopping : float
        c, the coupling of nearest neighbours.
    next_nearest : float
        d, the coupling at distance two along an axis; negative competes with c > 0.
    a, b : float
        Of phi^2 and phi^4.
    ndim : int
        Dimensions, 1 to 4.
    axes : sequence of int, optional
        Those along which d couples; all of them by default.

    Raises
    ------
    UserError
        A number that is not finite, an axis that the lattice lacks, or an action without a lower bound.
    """

    name = "modulated"
    formula = "-hopping sum_mu phi phi(x+mu) - next_nearest sum_mu phi phi(x+2mu) + a phi^2 + b phi^4"

    def __init__(
        self,
        hopping: float,
        next_nearest: float,
        a: float,
        b: float,
        ndim: int = 2,
        axes: Sequence[int] | None = None,
    ) -> None:
        along = range(ndim) if axes is None else axes
        for axis in along:
            if isinstance(axis, bool) or axis not in range(ndim):
                raise UserError(f"axes are {list(along)}; expected numbers from 0 to {ndim - 1}, as in axes = [0]")
        self.axes = tuple(sorted(set(along)))
        links = [([2 * int(i == axis) for i in range(ndim)], next_nearest) for axis in self.axes]
        super().__init__(hopping, (0.0, a, 0.0, b), ndim, links)
        self.next_nearest, self.a, self.b = float(next_nearest), float(a), float(b)

    @property
    def modulation(self) -> float:
        """k of least K(k) along each of the axes: 0 if uniform, ``arccos(-c / (4 d))`` beyond the Lifshitz point."""
        c, d = self.hopping, self.next_nearest
        ends = [0.0, math.pi]
        if d < 0 and abs(c) < -4 * d:
            ends.append(math.acos(-c / (4 * d)))
        return min(ends, key=lambda k: -2 * c * math.cos(k) - 2 * d * math.cos(2 * k))

    @property
    def couplings(self) -> dict[str, float]:
        """The couplings by name."""
        return {"hopping": self.hopping, "next_nearest": self.next_nearest, "a": self.a, "b": self.b}

    def _beside(self) -> dict[str, Any]:
        return {} if len(self.axes) == self.ndim else {"axes": list(self.axes)}

    @classmethod
    def from_options(cls, options: Mapping[str, Any], ndim: int) -> Self:
        """The action that the keys of a card name: ``hopping``, ``next_nearest``, ``a``, ``b`` and ``axes``."""
        check_options(options, ("hopping", "next_nearest", "a", "b", "axes"), cls.name)
        numbers = (options.get("hopping", 1.0), options["next_nearest"], options["a"], options["b"])
        return cls(*numbers, ndim, options.get("axes"))

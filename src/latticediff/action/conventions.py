r"""The normalisations of phi^4 in the literature, and the maps between them and the internal form.

One internal form, :math:`V(\phi) = a \phi^2 + b \phi^4` with hopping coefficient c; a convention has names for its
couplings and the maps to (c, a, b) and back.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import UserError

__all__ = ["CONVENTIONS", "Convention"]


@dataclass(frozen=True)
class Convention:
    """A published normalisation: names of its couplings, and the maps to (c, a, b) and from (c, r, b).

    `excess` gives r = a - d c, the part of a beyond the gradient term of d dimensions. Masses are multiples of it:
    formed from a they would lose the digits of a small mass. `rescale` gives u = s^2 such that
    phi_internal = s * phi_convention brings a theory (c, a, b) to this convention's normalisation, (c u, a u, b u^2).
    """

    name: str
    formula: str
    source: str
    couplings: tuple[str, ...]
    to_internal: Callable[..., tuple[float, float, float]]  #: ``(ndim, **couplings) -> (c, a, b)``
    excess: Callable[..., float]  #: ``(ndim, **couplings) -> r``
    from_internal: Callable[[float, float, float], dict[str, float]]  #: ``(c, r, b) -> couplings``
    rescale: Callable[[float, float, float], float]  #: ``(c, a, b) -> u``


def _unit_potential_scale(c: float, a: float, b: float) -> float:
    """u with a u = 1 - 2 b u^2: the hopping forms fix a + 2 b = 1."""
    if b == 0 and a <= 0:
        raise UserError(f"a = {a} with b = 0 has no hopping form; it needs a > 0")
    half = a / 2
    root = math.hypot(half, math.sqrt(2 * b))
    # of the two forms of the solution the one without a difference
    return 1 / (root + half) if a > 0 else (root - half) / (2 * b)


def _hopping_excess(d: int, beta: float, lam: float) -> float:
    """1 - 2 lam - d beta, rounded once: near the free massless field it is a small difference of large numbers."""
    return math.fsum((1.0, -2 * lam, *(-beta,) * d))


CONVENTIONS = {
    conv.name: conv
    for conv in (
        Convention(
            "A",
            "sum_mu (phi(x+mu) - phi(x))^2 + m2 phi^2 + lam phi^4",
            "Albergo, Kanwar, Shanahan 1904.12072",
            ("m2", "lam"),
            lambda d, m2, lam: (2.0, 2 * d + m2, lam),
            lambda d, m2, lam: m2,
            lambda c, r, b: {"m2": r, "lam": b},
            lambda c, a, b: 2 / c,
        ),
        Convention(
            "H",
            "-2 kappa sum_mu phi phi' + (1 - 2 lam) phi^2 + lam phi^4",
            "Wang, Aarts, Zhou 2309.17082",
            ("kappa", "lam"),
            lambda d, kappa, lam: (2 * kappa, 1 - 2 * lam, lam),
            lambda d, kappa, lam: _hopping_excess(d, 2 * kappa, lam),
            lambda c, r, b: {"kappa": c / 2, "lam": b},
            _unit_potential_scale,
        ),
        Convention(
            "B",
            "-beta sum_mu phi phi' + (1 - 2 lam) phi^2 + lam phi^4",
            "Bosetti, De Palma, Guagnelli 1506.08587",
            ("beta", "lam"),
            lambda d, beta, lam: (beta, 1 - 2 * lam, lam),
            lambda d, beta, lam: _hopping_excess(d, beta, lam),
            lambda c, r, b: {"beta": c, "lam": b},
            _unit_potential_scale,
        ),
        Convention(
            "SL",
            "1/2 sum_mu (d_mu phi)^2 + 1/2 mu0_sq phi^2 + lam/4 phi^4",
            "Schaich, Loinaz 0902.0045",
            ("mu0_sq", "lam"),
            lambda d, mu0_sq, lam: (1.0, d + mu0_sq / 2, lam / 4),
            lambda d, mu0_sq, lam: mu0_sq / 2,
            lambda c, r, b: {"mu0_sq": 2 * r, "lam": 4 * b},
            lambda c, a, b: 1 / c,
        ),
        Convention(
            "N",
            "1/2 sum_mu (d_mu phi)^2 + 1/2 m2 phi^2 + lam/24 phi^4",
            "textbook form with 1/4!",
            ("m2", "lam"),
            lambda d, m2, lam: (1.0, d + m2 / 2, lam / 24),
            lambda d, m2, lam: m2 / 2,
            lambda c, r, b: {"m2": 2 * r, "lam": 24 * b},
            lambda c, a, b: 1 / c,
        ),
    )
}

"""What the fields of all points and sizes say: crossings, kappa_c, exponents, and the coupling f."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from ..action import Phi4
from ..analysis.crossings import Pair, estimated, extrapolated
from ..analysis.finite_size import QUANTITIES, Curves
from ..errors import UserError
from .approach import continuum_limit
from .continuum import critical_ratio
from .meeting import UNIVERSAL, Along

if TYPE_CHECKING:
    from ..types import Description, FloatArray
    from .card import CriticalCard, PointSection
    from .meeting import ByNode

__all__ = ["ISING", "at_point", "continuum_of"]

#: exponents of the 2D Ising class
ISING = {"nu": 1.0, "eta": 0.25, "gamma": 1.75}
OTHER_POWERS = (4 / 3, 2.0)  #: omega, for the error of the power assumed


def _ratio(lam: float, kappa: float, error: float) -> list[float]:
    """f = g / mu^2 at a coupling of convention H, and what its error makes of it."""
    step = 1e-6 * kappa
    value, other = (critical_ratio(Phi4.H(k, lam, 2)) for k in (kappa, kappa + step))
    return [value, abs(other - value) / step * error]


def at_point(card: CriticalCard, point: PointSection, fields: ByNode, sampler: str) -> Description:
    """Everything about one point from one sampler, JSON-able.

    Parameters
    ----------
    card : CriticalCard
    point : PointSection
    fields : dict of int to dict
        L to coupling to `Fields`; at least three sizes.
    sampler : str
        ``"learned"``, or a classical one.

    Returns
    -------
    dict
        ``pairs`` (crossings of each size and the next), ``fixed`` (where xi / L and Q have the values of the 2D Ising
        class), ``limits`` (of both, for xi / L and for Q), ``kappa_c`` (of all four together), ``exponents`` there and
        ``f``; numbers are [value, error].

    Raises
    ------
    UserError
        Curves do not cross in the window of the card, or kappa_c is outside of that of the largest two sizes.
    """
    extents, along = sorted(fields), Along(card, point, fields, sampler)
    pairs = [along.crossing(small, large, quantity) for small, large in pairwise(extents) for quantity in QUANTITIES]
    fixed = {(L, q): along.reaching(L, q) for L in extents for q in QUANTITIES}
    limits = []
    for quantity in QUANTITIES:
        crossing = {pair.extents[0]: pair.coupling for pair in pairs if pair.quantity == quantity}
        reaching = {L: value for (L, q), value in fixed.items() if q == quantity}
        limits += [_limit(card, crossing, "crossings", quantity), _limit(card, reaching, "Ising value", quantity)]
    kappa_c = _together(limits)
    couplings = Phi4.H(kappa=kappa_c["value"], lam=point.lam, ndim=2).in_convention("SL")[0]
    found: Description = {
        "lam": point.lam,
        "sampler": sampler,
        "pairs": [
            {
                "extents": list(pair.extents),
                "quantity": pair.quantity,
                "kappa": estimated(pair.coupling).pair(),
                "value": estimated(pair.value).pair(),
                "universal": UNIVERSAL[pair.quantity],
                "inverse_nu": estimated(pair.inverse_nu).pair(),
                "two_minus_eta": estimated(pair.two_minus_eta).pair(),
            }
            for pair in pairs
        ],
        "fixed": [{"L": L, "quantity": q, "kappa": estimated(value).pair()} for (L, q), value in fixed.items()],
        "kappa_c": kappa_c,
        "limits": limits,
        "exponents": _exponents(
            [(along(small, small), along(large, small)) for small, large in pairwise(extents)], kappa_c
        ),
        "f": _ratio(point.lam, kappa_c["value"], kappa_c["error"]),
        "g": couplings["lam"],
        "mu0_sq": couplings["mu0_sq"],
        "curves": [_curve(along(L, L)) for L in extents],
    }
    if point.known:
        known, error = point.known
        found["known"] = {"kappa_c": point.known, "told": point.told}
        found["known"]["sigma"] = (kappa_c["value"] - known) / math.hypot(kappa_c["error"], error)
    return found


def continuum_of(card: CriticalCard, points: Sequence[Description]) -> Description:
    """f_c from the draws of all points and from what was found elsewhere; nothing for fewer than three couplings.

    Parameters
    ----------
    card : CriticalCard
    points : sequence of dict
        Each with ``samplers``, of which ``learned`` is what `at_point` gave.

    Returns
    -------
    dict
        ``elsewhere`` and ``continuum`` as of `approach.continuum_limit`, both where there are any.
    """
    learned = [point["samplers"]["learned"] for point in points]
    elsewhere = [
        {
            "lam": row.lam,
            "kappa_c": row.kappa_c,
            "told": row.told,
            "g": row.lam / row.kappa_c[0] ** 2,
            "mu0_sq": Phi4.H(row.kappa_c[0], row.lam, 2).in_convention("SL")[0]["mu0_sq"],
            "f": _ratio(row.lam, *row.kappa_c),
        }
        for row in card.elsewhere
    ]
    rows = [*learned, *elsewhere]
    limit = continuum_limit([row["g"] for row in rows], *([row["f"][part] for row in rows] for part in (0, 1)))
    found: Description = {"elsewhere": elsewhere} if elsewhere else {}
    return found if limit is None else {**found, "continuum": {**limit, "elsewhere": len(elsewhere)}}


def _limit(card: CriticalCard, rows: Mapping[int, FloatArray], kind: str, quantity: str) -> Description:
    """kappa_c from couplings by L that tend to it like L^-(1 + omega), nu = 1; the power has an error of its own."""
    kept, omega = sorted(rows)[-card.critical.fit_last :], card.critical.power
    fit = extrapolated(kept, [rows[L] for L in kept], 1 + omega)
    others = [extrapolated(kept, [rows[L] for L in kept], 1 + other).rows[0] for other in OTHER_POWERS]
    # a fit that does not describe the points has a larger error, as in `latticediff.study.fits.power_law`
    statistical = estimated(fit.rows).error * math.sqrt(max(1.0, fit.chi2 / max(fit.dof, 1)))
    systematic = max(abs(float(other - fit.rows[0])) for other in others)
    return {
        "kind": kind,
        "quantity": quantity,
        "value": float(fit.rows[0]),
        "error": math.hypot(statistical, systematic),
        "statistical": statistical,
        "systematic": systematic,
        "extents": kept,
        "amplitude": fit.amplitude,
        "chi2": fit.chi2,
        "dof": fit.dof,
        "power": fit.power,
    }


def _together(limits: list[Description]) -> Description:
    """The middle of the limits with their errors of the power; half of what they span is the systematic error.

    Corrections to scaling differ from limit to limit in size and sign, and none of them is known: how far the limits
    are apart says more of their error than any one of their fits.
    """
    low = min(limit["value"] - limit["systematic"] for limit in limits)
    high = max(limit["value"] + limit["systematic"] for limit in limits)
    statistical, systematic = max(limit["statistical"] for limit in limits), (high - low) / 2
    return {
        "value": (low + high) / 2,
        "error": math.hypot(statistical, systematic),
        "statistical": statistical,
        "systematic": systematic,
    }


def _exponents(lattices: list[tuple[Curves, Curves]], kappa_c: Description) -> Description:
    """nu, eta and gamma from each two sizes at kappa_c, and those of the largest with errors.

    Statistical; systematic: what the error of kappa_c does, half the difference between the slopes of xi / L and of Q,
    and the change from the pair before, in quadrature.
    """
    value, error = kappa_c["value"], kappa_c["error"]
    at = lattices[-1][0].couplings
    if not at[0] < value < at[-1]:
        raise UserError(
            f"kappa_c = {value:.6g} is outside of {at[0]:.6g} to {at[-1]:.6g}, where L = {lattices[-1][0].extent} and"
            f" {lattices[-1][1].extent} are compared; in the card: kappa = {value:.5g}, or a larger critical.window"
        )
    ends = [min(max(value + sign * error, at[0]), at[-1]) for sign in (-1, 1)]
    reach = 2 * error / (ends[1] - ends[0])  # where the error leaves the window, in proportion

    def there(small: Curves, large: Curves, coupling: float) -> dict[str, FloatArray]:
        k = np.full(len(small.m2), min(max(coupling, small.couplings[0]), small.couplings[-1]))
        xi, ratio = (Pair.at(small, large, quantity, k) for quantity in ("xi", "ratio"))
        inverse = (xi.inverse_nu + ratio.inverse_nu) / 2
        half = (xi.inverse_nu - ratio.inverse_nu) / 2
        return {
            "nu": 1 / inverse,
            "eta": 2 - xi.two_minus_eta,
            "gamma": xi.two_minus_eta / inverse,
            "half": half / inverse**2,
        }

    each = [there(*pair, value) for pair in lattices]
    low, high = (there(*lattices[-1], end) for end in ends)
    told: Description = {"extents": [curve.extent for curve in lattices[-1]], "kappa": value}
    for name in ISING:
        estimate = estimated(each[-1][name])
        parts = [reach * (high[name][0] - low[name][0]) / 2, each[-1][name][0] - each[-2][name][0]]
        if name != "eta":
            parts.append(each[-1]["half"][0] * (1 if name == "nu" else 2 - each[-1]["eta"][0]))
        systematic = math.hypot(*map(float, parts))
        total = math.hypot(estimate.error, systematic)
        told[name] = {
            "value": estimate.value,
            "error": total,
            "statistical": estimate.error,
            "systematic": systematic,
            "sigma": (estimate.value - ISING[name]) / total,
            "each": [estimated(pair[name]).pair() for pair in each],
        }
    return told


def _curve(found: Curves) -> Description:
    """xi / L, Q and their errors along the couplings, for figures; and how many fields they rest on."""
    told: Description = {"L": found.extent, "couplings": found.couplings.tolist(), "ess": found.ess.tolist()}
    for quantity in (*QUANTITIES, "chi"):
        rows = found.of(quantity)
        told[quantity] = [rows[0].tolist(), rows[1:].std(axis=0, ddof=1).tolist()]
    return told

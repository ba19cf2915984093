"""What the fields of all points and sizes say: crossings, kappa_c, exponents, the coupling f, and what errors cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from ..action import Phi4
from ..analysis.crossings import Pair, estimated, extrapolated
from ..analysis.finite_size import (
    ISING_RATIO,
    ISING_XI,
    QUANTITIES,
    Curves,
    curves,
)
from .continuum import critical_ratio
from .series import source_of

if TYPE_CHECKING:
    from ..types import Description, FloatArray
    from .card import CriticalCard, PointSection
    from .series import Fields

__all__ = ["ISING", "at_point", "costs_of", "ratio_error"]

#: exponents of the 2D Ising class
ISING = {"nu": 1.0, "eta": 0.25, "gamma": 1.75}
UNIVERSAL = {"xi": ISING_XI, "ratio": ISING_RATIO}
OTHER_POWERS = (4 / 3, 2.0)  #: omega, for the error of the power assumed

ByNode = Mapping[int, Mapping[float, "Fields"]]  #: L -> kappa -> fields


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
        Curves do not cross in the window of the card.
    """
    settings = card.critical
    extents = sorted(fields)
    rows: dict[tuple[int, int], Curves] = {}

    def along(extent: int, small: int) -> Curves:
        if (extent, small) not in rows:
            low, high = card.window(point, small)
            sources = [source_of(found, sampler) for found in fields[extent].values()]
            rng = np.random.default_rng([settings.seed, extent])  # one size, one set of resampled blocks
            at = np.linspace(low, high, settings.couplings)
            rows[extent, small] = curves(sources, at, settings.n_blocks, settings.n_replicas, rng)
        return rows[extent, small]

    pairs = [
        Pair.of(along(small, small), along(large, small), quantity)
        for small, large in pairwise(extents)
        for quantity in QUANTITIES
    ]
    fixed = {(L, q): along(L, L).reaches(q, UNIVERSAL[q]) for L in extents for q in QUANTITIES}
    fixed = {key: np.where(np.isnan(value), value[0], value) for key, value in fixed.items()}
    limits = []
    for quantity in QUANTITIES:
        crossing = {pair.extents[0]: pair.coupling for pair in pairs if pair.quantity == quantity}
        reaching = {L: value for (L, q), value in fixed.items() if q == quantity}
        limits += [_limit(card, crossing, "crossings", quantity), _limit(card, reaching, "Ising value", quantity)]
    kappa_c = _together(limits)
    action = Phi4.H(kappa=kappa_c["value"], lam=point.lam, ndim=2)
    step = 1e-6 * kappa_c["value"]
    slope = (critical_ratio(Phi4.H(kappa_c["value"] + step, point.lam, 2)) - critical_ratio(action)) / step
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
        "f": [critical_ratio(action), abs(slope) * kappa_c["error"]],
        "g": action.in_convention("SL")[0]["lam"],
        "mu0_sq": action.in_convention("SL")[0]["mu0_sq"],
        "curves": [_curve(along(L, L)) for L in extents],
    }
    if point.known:
        known, error = point.known
        found["known"] = {"kappa_c": point.known, "told": point.told}
        found["known"]["sigma"] = (kappa_c["value"] - known) / math.hypot(kappa_c["error"], error)
    return found


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
    low, high = (there(*lattices[-1], value + sign * error) for sign in (-1, 1))
    told: Description = {"extents": [curve.extent for curve in lattices[-1]], "kappa": value}
    for name in ISING:
        estimate = estimated(each[-1][name])
        parts = [(high[name][0] - low[name][0]) / 2, each[-1][name][0] - each[-2][name][0]]
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


def ratio_error(n_blocks: int) -> float:
    """Relative error of a ratio of two squared bootstrap errors, each of `n_blocks` blocks."""
    return 2 * math.sqrt(2 / (2 * (n_blocks - 1)))


def costs_of(fields: ByNode, tables: Mapping[str, Description], paid: Mapping[int, Description]) -> list[Description]:
    """Processor seconds for the error of the coupling where xi / L has its universal value, size by size.

    Parameters
    ----------
    fields : dict
        As of `at_point`.
    tables : dict of str to dict
        Sampler to what `at_point` gave for it.
    paid : dict of int to dict
        L to the seconds that its model cost: ``training`` and ``data``.

    Returns
    -------
    list of dict
        For each size and sampler ``seconds`` spent, ``error`` of the coupling, and ``seconds_for_error``: what it would
        take for the error that the draws have, from error^2 ~ 1 / seconds.
    """
    rows = []
    for L, nodes in fields.items():
        reference = _error_at(tables["learned"], L)
        for sampler, table in tables.items():
            seconds = sum(found.about["seconds"][sampler] for found in nodes.values())
            told = [found.about["samplers"][sampler] for found in nodes.values()]
            evaluations = sum(row.get("evaluations", math.nan) for row in told)
            error = _error_at(table, L)
            factor = (error / reference) ** 2
            rows.append(
                {
                    "L": L,
                    "sampler": sampler,
                    "seconds": seconds,
                    "error": error,
                    "seconds_for_error": seconds * factor,
                    "evaluations_for_error": evaluations * factor if math.isfinite(evaluations) else None,
                    "seconds_per_evaluation": seconds / evaluations if math.isfinite(evaluations) else None,
                    "training": paid[L]["training"] if sampler == "learned" else 0.0,
                    "data": paid[L]["data"] if sampler == "learned" else 0.0,
                    "tau_int": [[row["thin"] * x for x in row["tau_int"]] for row in told if "tau_int" in row],
                    "ess": [row["ess"] for row in told if "ess" in row],
                    "pareto_k": [row["pareto_k"] for row in told if "pareto_k" in row],
                }
            )
    return rows


def _error_at(table: Description, extent: int) -> float:
    return float(next(row["kappa"][1] for row in table["fixed"] if row["L"] == extent and row["quantity"] == "xi"))

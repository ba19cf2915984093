"""Tables of the page of a critical point, from its document ``critical.json`` alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..critical.continuum import F_CONTINUUM
from .blocks import Table
from .numbers import count, seconds, value_error

__all__ = ["DASH", "ISING", "SAMPLERS", "continuum_tables", "cost_tables", "coupling_tables", "exponent_tables"]

Document = Mapping[str, Any]
DASH = "–"
SAMPLERS = {"learned": "learned draws", "hmc": "searched HMC", "cluster": "HMC and clusters"}
QUANTITY = {"xi": "ξ/L", "ratio": "Q"}
ISING = {"nu": ("ν", 1.0), "eta": ("η", 0.25), "gamma": ("γ", 1.75)}


def coupling_tables(document: Document) -> list[Table]:
    """kappa_c and the couplings that it is the limit of."""
    return [_limits(document), _fixed(document)]


def exponent_tables(document: Document) -> list[Table]:
    """Exponents at kappa_c, and at each crossing."""
    return [_exponents(document), _pairs(document)]


def continuum_tables(document: Document) -> list[Table]:
    """f of every point, and the limit of vanishing g where there are enough of them."""
    return [_continuum(document), *([_approach(document["continuum"])] if "continuum" in document else [])]


def cost_tables(document: Document) -> list[Table]:
    """Samplers, and the models of each size."""
    return [_costs(document), _models(document)]


def _each(document: Document) -> Iterable[tuple[Mapping[str, Any], str, Mapping[str, Any]]]:
    for point in document["points"]:
        for sampler, found in point["samplers"].items():
            yield point, sampler, found


def _limits(document: Document) -> Table:
    rows = []
    for point, sampler, found in _each(document):
        together = {**found["kappa_c"], "kind": "all four", "extents": (), "chi2": 0.0, "dof": 0}
        for fit in (*found["limits"], together):
            rows.append(
                (
                    f"{point['lam']:g}",
                    SAMPLERS[sampler],
                    fit["kind"] + (f" of {QUANTITY[fit['quantity']]}" if "quantity" in fit else ""),
                    ", ".join(map(str, fit["extents"])),
                    value_error(fit["value"], fit["error"]),
                    f"{fit['statistical']:.1e}",
                    f"{fit['systematic']:.1e}",
                    f"{fit['chi2']:.1f} / {fit['dof']}" if fit["dof"] else DASH,
                )
            )
    caption = (
        "kappa_c, the limit of couplings that tend to it like L^-(1 + omega),"
        f" omega = {document['card']['critical']['power']:g}. Crossings: where a size and"
        " the next have equal xi/L or Q, which supposes no class; Ising value: where one has the value of the 2D Ising"
        " class on a torus. Systematic error: the largest shift with omega = 4/3 or 2; all four: the middle of what"
        " they span with it, and half of that."
    )
    if any(len(point["samplers"]) > 1 for point in document["points"]):
        caption += " Classical samplers had as many processor seconds as the draws."
    return Table(caption, ("lam", "sampler", "of", "L", "kappa_c", "statistical", "systematic", "chi² / dof"), rows)


def _fixed(document: Document) -> Table:
    rows = []
    for point, sampler, found in _each(document):
        for row in found["fixed"]:
            rows.append(
                (
                    f"{point['lam']:g}",
                    SAMPLERS[sampler],
                    str(row["L"]),
                    QUANTITY[row["quantity"]],
                    value_error(*row["kappa"]),
                )
            )
    return Table("Couplings at which xi/L = 0.9050488 and Q = 0.856216.", ("lam", "sampler", "L", "of", "kappa"), rows)


def _exponents(document: Document) -> Table:
    rows = []
    for point, sampler, found in _each(document):
        for name, (label, exact) in ISING.items():
            one = found["exponents"][name]
            rows.append(
                (
                    f"{point['lam']:g}",
                    SAMPLERS[sampler],
                    f"{label} ({exact:g})",
                    *(value_error(one["value"], one["error"]), f"{one['statistical']:.1e}", f"{one['systematic']:.1e}"),
                    f"{one['sigma']:+.1f}",
                    ", ".join(value_error(*pair) for pair in one["each"]),
                )
            )
    caption = (
        "Exponents at kappa_c from the largest two sizes (in brackets those of the 2D Ising class): nu from the mean"
        " slope of xi/L and Q. Systematic error: the error of kappa_c, half the difference of the slopes, and the"
        " change from the two sizes before, in quadrature. Last column: each two sizes in turn, statistical errors."
    )
    header = ("lam", "sampler", "exponent", "value", "statistical", "systematic", "σ from Ising", "of each two sizes")
    return Table(caption, header, rows)


def _pairs(document: Document) -> Table:
    rows = []
    for point, sampler, found in _each(document):
        for pair in found["pairs"]:
            rows.append(
                (
                    f"{point['lam']:g}",
                    SAMPLERS[sampler],
                    f"{pair['extents'][0]}, {pair['extents'][1]}",
                    QUANTITY[pair["quantity"]],
                    value_error(*pair["kappa"]),
                    f"{value_error(*pair['value'])} ({pair['universal']:g})",
                    value_error(*pair["inverse_nu"]),
                    value_error(*pair["two_minus_eta"]),
                )
            )
    caption = (
        "Where two sizes cross: the coupling, the value there (in brackets that of the 2D Ising class), 1/nu from the"
        " ratio of slopes and 2 - eta = gamma/nu from the ratio of susceptibilities. Ising: 1 and 1.75."
    )
    return Table(caption, ("lam", "sampler", "L", "of", "kappa", "value (Ising)", "1/ν", "2 − η"), rows)


def _continuum(document: Document) -> Table:
    rows = []
    here = [{**point["samplers"]["learned"], "told": "the draws"} for point in document["points"]]
    for found in (*here, *document.get("elsewhere", ())):
        rows.append(
            (
                f"{found['lam']:g}",
                found["told"] or "elsewhere",
                f"{found['g']:.5g}",
                f"{found['mu0_sq']:.6g}",
                value_error(*found["f"]),
                f"{found['f'][0] - F_CONTINUUM[0]:+.3f}",
            )
        )
    caption = (
        "f = g / mu^2 at kappa_c, with S = 1/2 (dphi)^2 + 1/2 mu0^2 phi^2 + g/4 phi^4 and mu^2 = mu0^2 + 3 g A(mu^2), A"
        f" the tadpole of the infinite lattice; the continuum, g to 0, has {value_error(*F_CONTINUUM)} (arXiv"
        " 2512.16536)."
    )
    if "continuum" not in document:
        caption += " Three or more couplings are extrapolated; here are fewer."
    return Table(caption, ("lam", "kappa_c of", "g", "mu0²", "f", "f − f_c"), rows)


def _approach(continuum: Mapping[str, Any]) -> Table:
    rows = [
        (
            fit["form"],
            value_error(fit["value"], fit["error"]),
            *(f"{parameter:.3g}" for parameter in fit["parameters"][1:]),
            f"{fit['chi2']:.1f} / {fit['dof']}" if fit["dof"] else DASH,
        )
        for fit in continuum["fits"]
    ]
    told = continuum["value"], continuum["statistical"], continuum["systematic"]
    rows.append(("the first two", value_error(told[0], continuum["error"]), DASH, DASH, DASH))
    caption = (
        "f_c from a fit of f(g) = f_c + g (a + l(g)) + b times the next order; l(g), both logarithms of the first"
        " order, is known. The next order is g^2 times a polynomial in T = log(32 f_c / g) / 4 pi, of which the first"
        f" two fits take either end. The result is their middle; statistical error {told[1]:.1e}, half of their"
        f" difference {told[2]:.1e}. The last, f_c + g (a + b log g), knows no factor and is not in the result."
    )
    return Table(caption, ("next order", "f_c", "a", "b", "chi² / dof"), rows)


def _costs(document: Document) -> Table:
    rows = []
    for point in document["points"]:
        for row in point["costs"]:
            taus = ", ".join(value_error(*pair) for pair in row["tau_int"]) or DASH
            evaluations = row["evaluations_for_error"]
            rows.append(
                (
                    f"{point['lam']:g}",
                    str(row["L"]),
                    SAMPLERS[row["sampler"]] + (", search ended by its budget" if row.get("search_ended") else ""),
                    f"{row['error']:.2e}",
                    seconds(row["seconds"]),
                    seconds(row["seconds_for_error"]),
                    DASH if evaluations is None else count(evaluations),
                    taus,
                )
            )
    caption = (
        "Processor seconds of sampling, draws and chains in turn on one thread; the error of the coupling where xi/L ="
        " 0.9050488; the seconds and evaluations (gradients of S for HMC, of the network for draws) that each takes for"
        " the error of the draws, error² ∝ 1/seconds; tau_int of m² in updates, at each coupling. Neither the search"
        " for HMC's settings nor the thermalisation of its chains is charged."
    )
    return Table(
        caption, ("lam", "L", "sampler", "error", "spent", "for equal error", "evaluations", "τ_int of m²"), rows
    )


def _models(document: Document) -> Table:
    rows = []
    for point in document["points"]:
        for row in point["costs"]:
            if row["sampler"] == "learned":
                doubling = point["doubling"][str(row["L"])]
                rows.append(
                    (
                        f"{point['lam']:g}",
                        str(row["L"]) + (" (fine-tuning gained nothing)" if row.get("untuned") else ""),
                        ", ".join(f"{ess:.3f}" for ess in row["ess"]),
                        ", ".join(f"{k:.2f}" for k in row["pareto_k"]),
                        ", ".join(f"{spread:.1e}" for spread in doubling),
                        seconds(row["training"]),
                        seconds(row["data"]),
                        seconds(row["seconds"]),
                    )
                )
    caption = (
        "The conditioned model of each size: ESS and Pareto k of its weights at each coupling, spread of log_q under"
        " twice the integration steps (no average is off by more of its standard deviations), wall seconds of training"
        " with all ancestors and of data, processor seconds of drawing."
    )
    return Table(caption, ("lam", "L", "ESS", "Pareto k", "doubling", "training", "data", "draws"), rows)

"""Figures of a critical point: what crosses, couplings and exponents against the size, f against g."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...critical.approach import Approach
from ..style import COLOURS, DASHES, MARKERS, FigureRecord, legend, new_figure, styled

__all__ = ["draw_critical"]

UNIVERSAL = {"xi": 0.9050488, "ratio": 0.856216}
LABELS = {"xi": r"$\xi / L$", "ratio": r"$Q = \langle m^2 \rangle^2 / \langle m^4 \rangle$"}
QUANTITY = {"xi": "ξ/L", "ratio": "Q"}
FITS = {
    "g^2": "known logarithms, $g^2$",
    "g^2 T^4": "known logarithms, $g^2 T^4$",
    "g log g, free": r"$g$ and $g \log g$",
}


def draw_critical(document: Mapping[str, Any]) -> list[FigureRecord]:
    """One figure of curves for each point, one of all couplings and exponents against L, and one of the continuum.

    Parameters
    ----------
    document : dict
        ``critical.json``.
    """
    with styled():
        records = [*(_curves(point) for point in document["points"]), _sizes(document)]
        return [*records, _continuum(document["continuum"])] if "continuum" in document else records


def _curves(point: Mapping[str, Any]) -> FigureRecord:
    found = point["samplers"]["learned"]
    figure, axes = new_figure(5.2, nrows=2, sharex=True)
    centre, rows = found["kappa_c"]["value"], []
    for number, curve in enumerate(found["curves"]):
        x = np.asarray(curve["couplings"])
        look: dict[str, Any] = {"color": COLOURS[number % len(COLOURS)], "ls": DASHES[number % len(DASHES)]}
        for ax, quantity in zip(axes, LABELS, strict=True):
            value, error = map(np.asarray, curve[quantity])
            ax.fill_between(x, value - error, value + error, color=look["color"], alpha=0.3, lw=0)
            ax.plot(x, value, label=f"L = {curve['L']}", **look)
            rows += [(curve["L"], quantity, k, v, e) for k, v, e in zip(x, value, error, strict=True)]
    widest = found["curves"][min(1, len(found["curves"]) - 1)]["couplings"]
    for ax, quantity in zip(axes, LABELS, strict=True):
        ax.axhline(UNIVERSAL[quantity], color="#777777", lw=0.8, ls=":", zorder=0)
        ax.axvline(centre, color="#777777", lw=0.8, ls=":", zorder=0)
        ax.set(ylabel=LABELS[quantity], xlim=(widest[0], widest[-1]))
    axes[1].set_xlabel("kappa")
    legend(figure, axes[0], "upper left")
    return FigureRecord(
        f"crossings-lam{point['lam']:g}",
        f"Crossings at lam = {point['lam']:g}",
        "Correlation length over L and Q along kappa, of the draws of all couplings, reweighted; bands are errors."
        " Dotted: the values of the 2D Ising class on a torus, and kappa_c.",
        f"Two panels over kappa: curves of {len(found['curves'])} sizes that cross near {centre:.5f}.",
        figure,
        ("L", "quantity", "kappa", "value", "error"),
        rows,
    )


def _sizes(document: Mapping[str, Any]) -> FigureRecord:
    figure, axes = new_figure(6.6, nrows=3, sharex=True)
    axes[0].set_yscale("symlog", linthresh=1e-4)  # before the points, whose margins are on this scale
    rows: list[tuple[Any, ...]] = []
    series_of = [(number, point, quantity) for number, point in enumerate(document["points"]) for quantity in LABELS]
    for place, (number, point, quantity) in enumerate(series_of):
        found = point["samplers"]["learned"]
        look: dict[str, Any] = {
            "color": COLOURS[number % len(COLOURS)],
            "marker": MARKERS[number % len(MARKERS)],
            "mfc": COLOURS[number % len(COLOURS)] if quantity == "xi" else "white",
            "ls": "",
            "label": f"lam = {point['lam']:g}, {QUANTITY[quantity]}",
        }
        shift = 1.03 ** (place - (len(series_of) - 1) / 2)  # beside each other
        pairs = [pair for pair in found["pairs"] if pair["quantity"] == quantity]
        series = [
            [(row["L"], *row["kappa"]) for row in found["fixed"] if row["quantity"] == quantity],
            [(pair["extents"][0], *pair["inverse_nu"]) for pair in pairs],
            [(pair["extents"][0], *pair["two_minus_eta"]) for pair in pairs],
        ]
        centre = found["kappa_c"]["value"]
        series[0] = [(L, value / centre - 1, error / centre) for L, value, error in series[0]]
        for ax, name, points in zip(axes, ("kappa / kappa_c - 1", "1/nu", "2 - eta"), series, strict=True):
            x, y, error = zip(*points, strict=True)
            ax.errorbar(np.asarray(x) * shift, y, error, **look)
            rows += [(point["lam"], quantity, name, *entry) for entry in points]
    for ax, label, exact in zip(
        axes, (r"$\kappa / \kappa_c - 1$", r"$1/\nu$", r"$2 - \eta$"), (0.0, 1.0, 1.75), strict=True
    ):
        ax.axhline(exact, color="#777777", lw=0.8, ls=":", zorder=0)
        ax.set_ylabel(label)
    extents = sorted({row["L"] for point in document["points"] for row in point["samplers"]["learned"]["fixed"]})
    axes[2].set_xscale("log")
    axes[2].set_xticks(extents, [str(extent) for extent in extents])
    axes[2].minorticks_off()
    axes[2].set_xlabel("L (of pairs, the smaller one)")
    legend(figure, axes[0], outside=True)
    return FigureRecord(
        "sizes",
        "Against the size",
        "Couplings at which xi/L and Q have their values of the 2D Ising class, relative to kappa_c; 1/nu and 2 - eta"
        " at the crossings of L and the next size. Dotted: the limit, and the Ising exponents.",
        "Three panels over L: couplings that tend to kappa_c, 1/nu near 1, 2 - eta near 1.75.",
        figure,
        ("lam", "quantity", "what", "L", "value", "error"),
        rows,
    )


def _continuum(continuum: Mapping[str, Any]) -> FigureRecord:
    figure, ax = new_figure(3.8)
    g = np.linspace(0, 1.1 * max(continuum["g"]), 200)[1:]
    rows = [
        ("found", x, f, error) for x, f, error in zip(continuum["g"], continuum["f"], continuum["errors"], strict=True)
    ]
    for number, fit in enumerate(continuum["fits"]):
        look: dict[str, Any] = {"color": COLOURS[number + 1], "ls": DASHES[number], "label": FITS[fit["form"]]}
        y = Approach(fit["form"], tuple(fit["parameters"]), fit["error"], fit["chi2"], fit["dof"]).at(g)
        ax.plot(g, y, **look)
        rows += [(fit["form"], float(x), float(value), "") for x, value in zip(g[::4], y[::4], strict=True)]
    ax.errorbar(continuum["g"], continuum["f"], continuum["errors"], color=COLOURS[0], marker="o", ls="", label="found")
    near = -0.02 * g[-1]  # what is at g = 0, beside each other
    ax.errorbar(
        [near], [continuum["value"]], [continuum["error"]], color=COLOURS[0], marker="s", ls="", label="its limit"
    )
    ax.errorbar(
        [2 * near],
        continuum["published"][:1],
        continuum["published"][1:],
        color="#000000",
        marker="X",
        ls="",
        label="published",
    )
    ax.set(xlabel=r"$g$", ylabel=r"$f = g / \mu^2$")
    legend(figure, ax, outside=True)
    return FigureRecord(
        "continuum",
        "Towards the continuum",
        "The critical f against the lattice coupling g, fits of it, and left of g = 0 their limit and the published"
        " value. Lines: known logarithms and either end of the next order; the last knows no factor of a logarithm.",
        f"Points at {len(continuum['g'])} couplings, three curves that fall and rise, and two values at g = 0.",
        figure,
        ("what", "g", "f", "error"),
        rows,
    )

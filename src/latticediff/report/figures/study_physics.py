"""Figures of what a study has measured about the theory: finite-size scaling, propagator, masses."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..numbers import value_error
from ..style import FigureRecord, Spot, legend, new_figure
from .study_axes import Document, dress, hardest, horizontal, looks, plot, points_of

__all__ = ["finite_size", "propagator"]

PANELS = ("binder", "chi")
SYMBOLS = {"binder": "Binder cumulant", "chi": "χ"}


def finite_size(document: Document) -> FigureRecord | None:
    """Binder cumulant and susceptibility of every sampler, beside values that are known."""
    axis, xs = horizontal(document)
    figure, axes = new_figure(3.0, ncols=2)
    rows: list[tuple[Any, ...]] = []
    hover: dict[str, str] = {}
    spots: list[Spot] = []
    samplers = looks(document)
    for ax, key in zip(axes, PANELS, strict=True):
        for number, (sampler, (colour, marker, _)) in enumerate(samplers.items()):
            points = points_of(document, sampler, "derived", key)
            shift = 1 + 0.012 * (number - len(samplers) / 2)  # beside each other, not on top of each other
            label, look = document["samplers"][sampler]["label"], {"color": colour, "marker": marker, "mfc": "white"}
            plot(ax, points, label, hover, f"{key}-{sampler}", ax is axes[0], shift, **look)
            rows += [(sampler, key, *point) for point in points]
        for x, theory in zip(xs, document["theories"], strict=True):
            if pair := theory.get("known", {}).get(key):
                first = not any(row[0] == "known" for row in rows)
                ax.errorbar(x, *pair, color="black", marker="_", ms=14, ls="", label="known" if first else None)
                rows.append(("known", key, x, *pair))
                spots.append(Spot(ax, (x, pair[0]), f"known at {x:g}: {value_error(*pair)}"))
        if any(row[1] == key for row in rows):
            dress(ax, axis, [row[2] for row in rows if row[0] != "known"] or [1.0], log=key == "chi")
        ax.set_ylabel(SYMBOLS[key])
    if not rows:
        return None
    legend(figure, axes[0], outside=True)
    return FigureRecord(
        "finite_size",
        "Binder cumulant and susceptibility",
        "U = 1 − ⟨m⁴⟩/(3⟨m²⟩²) and χ = V⟨m²⟩ of every sampler, drawn a little beside each other; bars: values that the"
        " card gives as known.",
        f"Binder cumulant and susceptibility against {axis}, all samplers.",
        figure,
        ("sampler", "quantity", axis, "value", "error"),
        rows,
        hover,
        spots,
    )


def propagator(document: Document) -> FigureRecord | None:
    """G(k) along an axis, and the effective mass."""
    place, here = hardest(document, "propagator")
    if not here:
        return None
    extent = max(document["theories"][here[0].cell["theory"]]["shape"])
    figure, (left, right) = new_figure(3.2, ncols=2)
    rows: list[Any] = []
    spots: list[Spot] = []
    for number, (cell, sampler, label, colour, marker, _) in enumerate(here):
        found = np.array(cell["propagator"])
        p2 = 4 * np.sin(np.pi * np.arange(len(found)) / extent) ** 2
        look = {"color": colour, "marker": marker, "mfc": "white", "ls": ""}
        left.errorbar(p2, found[:, 0], found[:, 1], label=label, **look)
        masses = [(t, *pair) for t, pair in enumerate(cell["effective_mass"]) if pair]
        for t, value, error in masses:
            at = t + 0.06 * (number - len(here) / 2)  # beside each other
            right.errorbar(at, value, error, **look)
            spots.append(Spot(right, (at, value), f"{label}: effective mass {value_error(value, error)} at t = {t}"))
        rows += [(sampler, "G", float(x), *map(float, pair)) for x, pair in zip(p2, found, strict=True)]
        spots += [
            Spot(left, (float(x), float(value)), f"{label}: G = {value_error(float(value), float(error))} at {x:.4g}")
            for x, (value, error) in zip(p2, found, strict=True)
        ]
        rows += [(sampler, "m_eff", *mass) for mass in masses]
    left.set(xlabel="lattice momentum squared", ylabel="G", yscale="log")
    right.set(xlabel="t", ylabel="effective mass", ylim=(0, None))
    legend(figure, left, outside=True)
    return FigureRecord(
        "propagator",
        f"Propagator and effective mass, {place}",
        "G(k) = ⟨|φ_k|²⟩/V for momenta along the longest axes against 4 sin²(k/2), and the mass from neighbouring time"
        " slices (periodic), up to where it is known. Errors from the spread of the chains.",
        f"Propagator and effective mass at {place}, all samplers.",
        figure,
        ("sampler", "quantity", "x", "value", "error"),
        rows,
        spots=spots,
    )

"""Figures of the fields of a study, where |m| is slowest: configurations side by side, the ways from noise to field."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...types import FloatArray
from ..style import FigureRecord, Spot, new_figure
from .images import draw_film, height_of, image, reach_of, scale, site_rows
from .study_axes import Document, hardest, told_field

__all__ = ["configurations", "film"]


def _window(document: Document, theory: int, plane: Any) -> str:
    """What is said of a plane that is less than the whole lattice."""
    height, width = np.shape(plane)
    whole = document["theories"][theory]["shape"]
    return "" if whole == [height, width] else f" A plane of {height}×{width} sites is shown."


def configurations(document: Document) -> FigureRecord | None:
    """One configuration of every sampler, side by side."""
    place, here = hardest(document, "configuration")
    if not here:
        return None
    fields = [np.array(shown.cell["configuration"]) for shown in here]
    columns = 2 if len(here) == 4 else min(3, len(here))
    lines = -(-len(here) // columns)
    height = 0.9 + lines * height_of(fields[0], columns)
    figure, axes = new_figure(height, nrows=lines, ncols=columns, squeeze=False)
    rows: list[Any] = []
    spots: list[Spot] = []
    for ax, shown, field in zip(axes.flat, here, fields, strict=False):
        drawn = image(ax, field, reach_of(fields))
        ax.set_title(shown.label, fontsize=9)
        rows += site_rows(field, shown.sampler)
        spots.append(told_field(ax, field, shown.label))
    for ax in axes.flat[len(here) :]:
        ax.set_axis_off()
    scale(figure, axes, drawn, "φ")
    return FigureRecord(
        "configurations",
        f"One configuration of every sampler, {place}",
        "The last field of the first chain of every sampler, all on one scale of colours."
        + _window(document, here[0].cell["theory"], fields[0]),
        f"One field of every sampler at {place} as a picture.",
        figure,
        ("sampler", "y", "x", "phi"),
        rows,
        spots=spots,
    )


def film(document: Document) -> FigureRecord | None:
    """One draw of every learned sampler at falling noise, a row each."""
    place, here = hardest(document, "film")
    if not here:
        return None
    films: list[tuple[FloatArray, FloatArray]] = [
        (np.array(shown.cell["film"]["sigma"]), np.array(shown.cell["film"]["fields"], float)) for shown in here
    ]
    columns = max(len(sigma) for sigma, _ in films)
    # a line of words more: the sampler's
    height = 0.1 + sum(height_of(fields[0], columns) + 0.2 for _, fields in films)
    figure, axes = new_figure(height, nrows=len(films), ncols=columns, squeeze=False)
    rows: list[Any] = []
    spots: list[Spot] = []
    for line, shown, (sigma, fields) in zip(axes, here, films, strict=True):
        rows += draw_film(line[: len(sigma)], sigma, fields, shown.sampler)
        line[0].set_title(f"{shown.label}\n{line[0].get_title(loc='left')}")
        for ax, level, field in zip(line, sigma, fields, strict=False):
            spots.append(told_field(ax, field, f"{shown.label}, σ = {level:.2g}" if level else f"{shown.label}, φ"))
        for ax in line[len(sigma) :]:
            ax.set_axis_off()
    grey = any(bool(np.isnan(fields).any()) for _, fields in films)
    return FigureRecord(
        "film",
        f"From noise to field, {place}",
        "One draw of every model on its way: x_σ = φ + noise of width σ, at falling σ, by the probability flow (ODE) or"
        " along a path of the reverse SDE. Flows of the same sites begin with the same noise. Each picture has"
        " its own colour scale, since noise is larger than field."
        + (" Grey sites are drawn at the end, from their law given the others." if grey else "")
        + _window(document, here[0].cell["theory"], films[0][1][0]),
        f"Rows of images for {', '.join(shown.label for shown in here)}: noise at first, then patches of either sign"
        " that sharpen into a configuration.",
        figure,
        ("sampler", "sigma", "y", "x", "value"),
        rows,
        spots=spots,
    )

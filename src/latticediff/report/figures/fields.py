"""Figures of the fields themselves: configurations side by side, their site values, the way from noise to field."""

from typing import Any

import numpy as np

from ...types import FloatArray
from ..model import RunResult
from ..style import FigureRecord, chain_styles, legend, new_figure, sigma_axis
from .images import draw_film, height_of, image, reach_of, scale, site_rows

__all__ = ["configurations", "film", "site_values"]


def configurations(run: RunResult) -> FigureRecord | None:
    """Some configurations of every chain, one row each, on one colour scale."""
    chains = [chain for chain in run.chains if chain.configurations is not None]
    if not chains:
        return None
    pictures: list[FloatArray] = [chain.configurations for chain in chains if chain.configurations is not None]
    columns = max(map(len, pictures))
    height, width = pictures[0].shape[1:]
    reach, tall = reach_of(pictures), height_of(pictures[0][0], columns)
    figure, axes = new_figure(0.9 + len(chains) * tall, nrows=len(chains), ncols=columns, squeeze=False)
    rows: list[Any] = []
    for line, chain, planes in zip(axes, chains, pictures, strict=True):
        for number, ax in enumerate(line):
            if number < len(planes):
                drawn = image(ax, planes[number], reach)
                rows += site_rows(planes[number], chain.name, number)
            else:
                ax.set_axis_off()
        line[0].set_title(chain.label)
    scale(figure, axes, drawn, "φ")
    extents = "×".join(map(str, run.shape))
    window = "" if run.shape == (height, width) else f" A plane of {height}×{width} sites of each is shown."
    labels = ", ".join(chain.label for chain in chains)
    return FigureRecord(
        "configurations",
        "Configurations",
        f"{columns} configurations of {extents} sites from each sampler, far apart in its run, on one colour scale. "
        f"The rows are different configurations of one distribution: they should look alike, not be alike.{window}",
        f"Rows of square images of the field, blue below and red above zero, for {labels}; the rows look alike.",
        figure,
        ("chain", "configuration", "y", "x", "phi"),
        rows,
    )


def film(run: RunResult) -> FigureRecord | None:
    """One draw at falling noise."""
    shown = run.film
    if shown is None:
        return None
    n = len(shown.sigma)
    columns = min(n, 3)
    lines = -(-n // columns)
    tall = height_of(shown.fields[0], columns)
    figure, axes = new_figure(0.1 + lines * tall, nrows=lines, ncols=columns, squeeze=False)
    rows = draw_film(axes.flat[:n], shown.sigma, shown.fields)
    for ax in axes.flat[n:]:
        ax.set_axis_off()
    left = np.isnan(shown.fields).any()
    return FigureRecord(
        "film",
        "From noise to field",
        f"One draw of {shown.label} along the probability flow: x_σ = φ + noise of width σ, at falling σ. Each picture"
        " has its own colour scale, since noise is larger than field."
        + (" Grey sites are drawn at the end, from their exact distribution given the others." if left else ""),
        f"{n} images of one field: noise at first, then patches of either sign that sharpen into a configuration.",
        figure,
        ("sigma", "y", "x", "value"),
        rows,
    )


def site_values(run: RunResult) -> FigureRecord | None:
    """Histogram of phi_x with errors, and its difference from the reference in sigma."""
    chains = [chain for chain in run.chains if chain.site_values is not None]
    if not chains:
        return None
    styles, compare = chain_styles(run), len(chains) > 1
    figure, axes = new_figure(
        4.2 if compare else 2.9,
        nrows=1 + compare,
        sharex=True,
        squeeze=False,
        gridspec_kw={"height_ratios": [2.2, 1][: 1 + compare]},
    )
    first, rows = chains[0].site_values, []
    assert first is not None
    centres, width = 0.5 * (first.edges[1:] + first.edges[:-1]), first.edges[1] - first.edges[0]
    for i, chain in enumerate(chains):
        found = chain.site_values
        assert found is not None
        colour, marker, dashes = styles[chain.name]
        axes[0, 0].stairs(found.density, found.edges, color=colour, ls=dashes, lw=1.2, label=chain.label)
        pulls: list[float | None] = [None] * len(centres)
        if i and np.array_equal(found.edges, first.edges):
            some = np.minimum(found.density, first.density) > 0.01 * first.density.max()
            total = np.where(some, np.hypot(found.error, first.error), 0.0)
            difference = found.density - first.density
            pulls = [float(d / s) if s > 0 else None for d, s in zip(difference, total, strict=True)]
            at = centres + 0.7 * width * ((i + 0.5) / len(chains) - 0.5)
            drawn = [(x, p) for x, p in zip(at, pulls, strict=True) if p is not None]
            if drawn:
                axes[1, 0].plot(*zip(*drawn, strict=True), color=colour, marker=marker, ls="", ms=3.5)
        columns = (found.edges[:-1], found.edges[1:], found.density, found.error)
        rows += [(chain.name, *map(float, row), p) for row, p in zip(zip(*columns, strict=True), pulls, strict=True)]
    axes[0, 0].set(ylabel="probability density", ylim=(0, None))
    legend(figure, axes[0, 0], outside=True)
    if compare:
        sigma_axis(axes[1, 0])
    axes[-1, 0].set_xlabel("φ")
    below = (
        f" Below: difference from {chains[0].label} in combined standard errors, bins above 1 % of the peak;"
        " neighbouring bins are correlated."
        if compare
        else ""
    )
    return FigureRecord(
        "site_values",
        "Distribution of φ",
        f"Histogram of the field at a site, all sites alike. Errors from the scatter of the chains.{below}",
        "Histograms of the site values, one per sampler, lying on one another within errors.",
        figure,
        ("chain", "phi_low", "phi_high", "density", "error", "difference_sigma"),
        rows,
    )

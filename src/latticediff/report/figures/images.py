"""What all pictures of fields share: colours, one scale for several, the rows of their CSV, the frames of a film."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...types import FloatArray
from ..style import WIDTH

__all__ = ["draw_film", "height_of", "image", "reach_of", "scale", "site_rows"]

#: blue and red for the signs, the same lightness for both, white at zero
COLOURS = "RdBu_r"
TITLE = 0.28  #: inches of a line of words above a picture


def image(ax: Axes, plane: FloatArray, reach: float) -> Any:
    """Draw a plane (a, b), colours from -reach to reach; gives what a colour bar wants."""
    drawn = ax.imshow(plane, cmap=COLOURS, vmin=-reach, vmax=reach, interpolation="nearest")
    # an SVG names a picture by its pixels otherwise, and so twice where two are the same
    drawn.set_gid(f"picture-{sum(len(other.images) for other in ax.figure.axes)}")
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    ax.spines[:].set(visible=True, linewidth=0.6, color="#555555")
    return drawn


def reach_of(planes: Sequence[FloatArray]) -> float:
    """Where the colours of several planes end: one site in a hundred lies beyond."""
    return float(np.quantile(np.abs(np.concatenate([np.ravel(plane) for plane in planes])), 0.99)) or 1.0


def height_of(plane: FloatArray, columns: int) -> float:
    """Inches of a line of pictures of that shape with its words, of which `columns` stand beside each other."""
    height, width = plane.shape
    return min(1.0, height / width) * (WIDTH - 0.3) / columns + TITLE


def scale(figure: Figure, axes: Any, drawn: Any, label: str) -> None:
    """The colour bar of pictures that share one scale, below them."""
    bar = figure.colorbar(drawn, ax=axes, location="bottom", aspect=40, shrink=0.7, pad=0.03)
    bar.set_label(label)
    bar.outline.set(linewidth=0.6)  # type: ignore[operator]


def site_rows(plane: FloatArray, *before: Any) -> list[Any]:
    """``(*before, y, x, value)`` of every site of a plane that has a value."""
    return [(*before, y, x, float(v)) for (y, x), v in np.ndenumerate(plane) if np.isfinite(v)]


def draw_film(axes: Sequence[Axes], sigma: FloatArray, fields: FloatArray, *before: Any) -> list[Any]:
    """Draw fields (n, a, b) at falling noise, each on a scale of its own; gives the rows of their CSV."""
    rows: list[Any] = []
    for ax, level, plane in zip(axes, sigma, fields, strict=True):
        image(ax, plane, 2.2 * float(np.sqrt(np.nanmean(plane**2))) or 1.0)
        ax.set_facecolor("#cccccc")  # sites that are drawn at the end
        ax.set_title("the field φ" if level == 0 else f"σ = {level:.2g}")
        rows += site_rows(plane, *before, float(level))
    return rows

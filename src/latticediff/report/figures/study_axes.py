"""What the figures of a study share: what varies along it, looks of the samplers, points that say their values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..numbers import value_error
from ..style import COLOURS, DASHES, MARKERS, Spot, log_axis

__all__ = [
    "Document",
    "Shown",
    "dress",
    "hardest",
    "horizontal",
    "looks",
    "plot",
    "points_of",
    "spots_of",
    "told_field",
]

Document = Mapping[str, Any]


class Shown(NamedTuple):
    """A cell, and how its sampler looks in every figure."""

    cell: Any
    sampler: str
    label: str
    colour: str
    marker: str
    dashes: Any


def horizontal(document: Document) -> tuple[str, list[float]]:
    """What varies along a study, "L" or the name of a coupling, and its value for every theory."""
    extents = [float(theory["shape"][0]) for theory in document["theories"]]
    if len(set(extents)) > 1 or len(extents) == 1:
        return "L", extents
    names = list(dict.fromkeys(key for theory in document["theories"] for key in theory["couplings"]))
    for name in names:
        values = [theory["couplings"].get(name) for theory in document["theories"]]
        if None not in values and len(set(values)) > 1:
            return name, values
    return "L", extents


def looks(document: Document) -> dict[str, tuple[Any, ...]]:
    """Colour, marker and dashes of every sampler of the card."""
    n = len(COLOURS)
    return {
        name: (COLOURS[i % n], MARKERS[(i + i // n) % n], DASHES[(i + i // n) % n])
        for i, name in enumerate(document["samplers"])
    }


def hardest(document: Document, key: str) -> tuple[str, list[Shown]]:
    """Where |m| of the reference, else of any sampler, is slowest of all theories with cells that have `key`.

    Returns
    -------
    str
        Label of the theory.
    list of Shown
        Those cells, in the order of the samplers of the card; none where no cell has the key.
    """
    having = [cell for cell in document["cells"] if cell.get(key)]
    theories = {cell["theory"] for cell in having}
    cells = [cell for cell in document["cells"] if cell["theory"] in theories]
    if not cells:
        return "", []
    slow = max(cells, key=lambda cell: (cell["sampler"] == document["reference"], cell["tau_int"]["abs_m"][0]))
    here = [cell for cell in having if cell["theory"] == slow["theory"]]
    return document["theories"][slow["theory"]]["label"], list(_shown(document, here))


def _shown(document: Document, cells: Iterable[Any]) -> Iterator[Shown]:
    order, styles = list(document["samplers"]), looks(document)
    for cell in sorted(cells, key=lambda cell: order.index(cell["sampler"])):
        name = cell["sampler"]
        yield Shown(cell, name, document["samplers"][name]["label"], *styles[name])


def points_of(document: Document, sampler: str, *keys: str) -> list[tuple[float, float, float]]:
    """(x, value, error) of a pair that lies under `keys` in the cells of a sampler, ascending in x."""
    _, xs = horizontal(document)
    points = []
    for cell in document["cells"]:
        found: Any = cell if cell["sampler"] == sampler else None
        for key in keys:
            found = found.get(key) if found else None
        if found:
            points.append((xs[cell["theory"]], found[0], found[1]))
    return sorted(points)


def plot(
    ax: Any,
    points: list[tuple[float, float, float]],
    label: str,
    hover: dict[str, str],
    name: str,
    in_legend: bool = True,
    shift: float = 1.0,
    **look: Any,
) -> None:
    """Points with errors, each an artist of its own that says its value under the pointer; drawn at `shift` times x."""
    for number, (x, value, error) in enumerate(points):
        drawn = ax.errorbar(x * shift, value, error, ls="", label=label if number == 0 and in_legend else None, **look)
        gid = f"point-{name}-{number}"
        drawn.lines[0].set_gid(gid)
        hover[gid] = f"{label.split(', z')[0]} at {x:g}: {value_error(value, error)}"


def spots_of(ax: Any, points: Iterable[tuple[float, float]], words: str) -> Iterator[Spot]:
    """Spots along a line; `words` has ``{x}`` and ``{y}`` where their values go, four digits of each."""
    for x, y in points:
        yield Spot(ax, (float(x), float(y)), words.format(x=f"{x:.4g}", y=f"{y:.4g}"))


def told_field(ax: Any, field: Any, label: str) -> Spot:
    """The spot of a picture of a field: its mean and the range of its values, NaN left out."""
    mean, low, high = np.nanmean(field), np.nanmin(field), np.nanmax(field)
    return Spot(ax, None, f"{label}: mean {mean:.4g}, from {low:.4g} to {high:.4g}")


def dress(ax: Any, axis: str, x: list[float], log: bool = False) -> None:
    """Name the abscissa, and give extents a logarithmic one with their own ticks; `log` for the ordinate, too."""
    ax.set_xlabel(axis)
    if axis == "L" and len(set(x)) > 1:
        ax.set_xscale("log")
        ax.set_xticks(sorted(set(x)), [f"{value:g}" for value in sorted(set(x))])
        ax.set_xticks([], minor=True)
    if log:
        log_axis(ax)

"""Figures of a study: tau_int, cost and ESS against L or against a coupling, amortisation, histories."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..numbers import value_error
from ..style import COLOURS, DASHES, MARKERS, TAU, FigureRecord, legend, new_figure, styled

__all__ = ["draw_study", "horizontal"]

Document = Mapping[str, Any]


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


def _looks(document: Document) -> dict[str, tuple[Any, ...]]:
    """Colour, marker and dashes of every sampler of the card."""
    n = len(COLOURS)
    return {
        name: (COLOURS[i % n], MARKERS[(i + i // n) % n], DASHES[(i + i // n) % n])
        for i, name in enumerate(document["samplers"])
    }


def _points(document: Document, sampler: str, *keys: str) -> list[tuple[float, float, float]]:
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


def draw_study(document: Document) -> list[FigureRecord]:
    """Every figure for which the document has numbers.

    Parameters
    ----------
    document : dict
        ``study.json``.
    """
    with styled():
        records = [
            _against(document, ("tau_int", "abs_m"), f"{TAU} of |m|", "tau_int", "Autocorrelation of |m|", _TAU_TOLD),
            _against(
                document,
                ("cost", "processor_seconds", "abs_m"),
                "seconds per independent |m|",
                "cost",
                "What an independent |m| costs",
                _COST_TOLD,
            ),
            _ess(document),
            _amortised(document),
            _histories(document),
        ]
    return [record for record in records if record is not None]


_TAU_TOLD = (
    "τ_int = 1/2 + Σ ρ in updates of each sampler; 0.5 is independent. Lines: fits of a power of L, drawn where they"
    " were fitted."
)
_COST_TOLD = (
    "Processor time of 2 τ_int updates of one chain among many on one thread, all samplers of one theory measured in"
    " turn; training is not in it. Lines: fits of a power of L."
)


def _against(
    document: Document, keys: tuple[str, ...], ylabel: str, name: str, title: str, told: str
) -> FigureRecord | None:
    """A quantity of |m| against L on logarithmic axes, with its fits."""
    axis, _ = horizontal(document)
    figure, ax = new_figure(3.6)
    rows: list[tuple[Any, ...]] = []
    hover: dict[str, str] = {}
    of = "tau_int" if keys[0] == "tau_int" else keys[1]
    for sampler, (colour, marker, dashes) in _looks(document).items():
        points = _points(document, sampler, *keys)
        if not points:
            continue
        fits = (f for f in document["fits"] if (f["sampler"], f["observable"], f["of"]) == (sampler, "abs_m", of))
        fit = next(fits, None) if axis == "L" else None
        label = document["samplers"][sampler]["label"]
        label += f", z = {fit['z']:.2f} ± {fit['error']:.2f}" if fit else ""
        x = np.array([point[0] for point in points])
        _plot(ax, points, label, hover, sampler, color=colour, marker=marker)
        if fit:
            span = np.geomspace(max(fit["fit_from"], x.min()), x.max(), 20)
            ax.plot(span, np.exp(fit["offset"]) * span ** fit["z"], color=colour, ls=dashes, lw=1)
        rows += [(sampler, *point) for point in points]
    if not rows:
        return None
    _dress(ax, axis, [row[1] for row in rows], log=True)
    ax.set_ylabel(ylabel)
    legend(figure, ax, outside=True)
    low, high = min(row[2] for row in rows), max(row[2] for row in rows)
    alt = f"{title} against {axis}, from {low:.3g} to {high:.3g}."
    return FigureRecord(name, title, told, alt, figure, ("sampler", axis, "value", "error"), rows, hover)


def _plot(
    ax: Any, points: list[tuple[float, float, float]], label: str, hover: dict[str, str], name: str, **look: Any
) -> None:
    """Points with errors, each an artist of its own that says its value under the pointer."""
    for number, (x, value, error) in enumerate(points):
        drawn = ax.errorbar(x, value, error, ls="", label=label if number == 0 else None, **look)
        gid = f"point-{name}-{number}"
        drawn.lines[0].set_gid(gid)
        hover[gid] = f"{label.split(', z')[0]} at {x:g}: {value_error(value, error)}"


def _dress(ax: Any, axis: str, x: list[float], log: bool = False) -> None:
    ax.set_xlabel(axis)
    if axis == "L" and len(set(x)) > 1:
        ax.set_xscale("log")
        ax.set_xticks(sorted(set(x)), [f"{value:g}" for value in sorted(set(x))])
        ax.set_xticks([], minor=True)
    if log:
        ax.set_yscale("log")


def _ess(document: Document) -> FigureRecord | None:
    """ESS of the proposals, over their draws and over fields of the target."""
    axis, _ = horizontal(document)
    figure, ax = new_figure(3.2)
    rows: list[tuple[Any, ...]] = []
    hover: dict[str, str] = {}
    for sampler, (colour, marker, _) in _looks(document).items():
        for direction, face in (("reverse", colour), ("forward", "white")):
            points = _points(document, sampler, f"ess_{direction}")
            if points:
                label = f"{document['samplers'][sampler]['label']}, {direction}"
                ax.plot([p[0] for p in points], [p[1] for p in points], color=colour, ls=":")
                _plot(ax, points, label, hover, f"{sampler}-{direction}", color=colour, marker=marker, mfc=face)
                rows += [(sampler, direction, *point) for point in points]
    if not rows:
        return None
    _dress(ax, axis, [row[2] for row in rows])
    ax.set(ylim=(0, 1.04), ylabel="ESS")
    legend(figure, ax, outside=True)
    return FigureRecord(
        "ess",
        "Effective sample size of the proposals",
        "1 is perfect. Filled: reverse, over what the model draws; open: forward, over fields of classical chains,"
        " which sees what the model never draws.",
        f"ESS against {axis}, between {min(r[3] for r in rows):.2g} and {max(r[3] for r in rows):.2g}.",
        figure,
        ("sampler", "direction", axis, "ess", "error"),
        rows,
        hover,
    )


def _amortised(document: Document) -> FigureRecord | None:
    """Total processor time for N independent |m| at the theory where the reference pays most."""
    priced = [cell for cell in document["cells"] if "processor_seconds" in cell["cost"]]
    theirs = [cell for cell in priced if cell["sampler"] == document["reference"]]
    if not theirs:
        return None
    hard = max(theirs, key=lambda cell: cell["cost"]["processor_seconds"]["abs_m"][0])["theory"]
    here = [cell for cell in priced if cell["theory"] == hard]
    setups = [(cell.get("training_seconds") or 0) + (cell.get("data_seconds") or 0) for cell in here]
    if not any(setups):
        return None
    each = [cell["cost"]["processor_seconds"]["abs_m"][0] for cell in here]
    top = 10 * max([1e3, *(setup / cost for setup, cost in zip(setups, each, strict=True))])
    n = np.geomspace(1, top, 61)
    figure, ax = new_figure(3.4)
    looks, rows = _looks(document), []
    for cell, setup, cost in zip(here, setups, each, strict=True):
        colour, _, dashes = looks[cell["sampler"]]
        total = setup + n * cost
        ax.loglog(n, total, color=colour, ls=dashes, label=document["samplers"][cell["sampler"]]["label"])
        rows += [(cell["sampler"], float(a), float(b)) for a, b in zip(n, total, strict=True)]
    ax.set(xlabel="independent |m|", ylabel="seconds, training included", xlim=(1, top))
    legend(figure, ax, outside=True)
    label = document["theories"][hard]["label"]
    return FigureRecord(
        "amortised",
        f"When does training pay? {label}",
        "Processor time for N independent |m|, with the seconds of training and of its data from the first one on;"
        " where lines cross, training has paid for itself.",
        f"Total time against number of independent values at {label}, one line for each sampler.",
        figure,
        ("sampler", "n", "seconds"),
        rows,
    )


def _histories(document: Document) -> FigureRecord | None:
    """m of one chain, update by update, at the hardest theory."""
    cells = document["cells"]
    if not cells:
        return None
    hard = max(cells, key=lambda cell: (cell["sampler"] == document["reference"], cell["tau_int"]["abs_m"][0]))[
        "theory"
    ]
    here = [cell for cell in cells if cell["theory"] == hard]
    shown = min(200, *(len(cell["history"]) for cell in here)) if len(here) > 1 else 200
    figure, axes = new_figure(0.6 + 0.75 * len(here), nrows=len(here), sharex=True, sharey=True, squeeze=False)
    looks, rows = _looks(document), []
    for ax, cell in zip(axes[:, 0], here, strict=True):
        m = cell["history"][:shown]
        ax.plot(range(1, len(m) + 1), m, color=looks[cell["sampler"]][0], lw=0.9)
        ax.set_title(document["samplers"][cell["sampler"]]["label"], fontsize=9)
        ax.grid(visible=False)
        rows += [(cell["sampler"], number, value) for number, value in enumerate(m, 1)]
    axes[-1, 0].set(xlabel="update")
    figure.supylabel("m", fontsize=10)
    label = document["theories"][hard]["label"]
    return FigureRecord(
        "history",
        f"Magnetisation, update by update, {label}",
        "The first chain of every sampler after thermalisation; updates of different samplers differ in price.",
        f"Histories of m at {label}, one panel for each sampler.",
        figure,
        ("sampler", "update", "m"),
        rows,
    )

"""Figures of a study: tau_int, cost and ESS against L or against a coupling, amortisation, histories."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..numbers import seconds, value_error
from ..style import TAU, FigureRecord, Spot, legend, new_figure, styled
from .study_axes import Document, dress, horizontal, looks, plot, points_of
from .study_chains import acceptance, autocorrelations, histograms, histories, log_weights, pilots
from .study_fields import configurations, film
from .study_physics import finite_size, propagator

__all__ = ["draw_study"]


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
            histories(document),
            autocorrelations(document),
            histograms(document),
            log_weights(document),
            film(document),
            pilots(document),
            acceptance(document),
            finite_size(document),
            propagator(document),
            configurations(document),
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
    for sampler, (colour, marker, dashes) in looks(document).items():
        points = points_of(document, sampler, *keys)
        if not points:
            continue
        fits = (f for f in document["fits"] if (f["sampler"], f["observable"], f["of"]) == (sampler, "abs_m", of))
        fit = next(fits, None) if axis == "L" else None
        label = document["samplers"][sampler]["label"]
        label += f", z = {fit['z']:.2f} ± {fit['error']:.2f}" if fit else ""
        x = np.array([point[0] for point in points])
        plot(ax, points, label, hover, sampler, color=colour, marker=marker)
        if fit:
            span = np.geomspace(max(fit["fit_from"], x.min()), x.max(), 20)
            ax.plot(span, np.exp(fit["offset"]) * span ** fit["z"], color=colour, ls=dashes, lw=1)
        rows += [(sampler, *point) for point in points]
    if not rows:
        return None
    dress(ax, axis, [row[1] for row in rows], log=True)
    ax.set_ylabel(ylabel)
    legend(figure, ax, outside=True)
    low, high = min(row[2] for row in rows), max(row[2] for row in rows)
    alt = f"{title} against {axis}, from {low:.3g} to {high:.3g}."
    return FigureRecord(name, title, told, alt, figure, ("sampler", axis, "value", "error"), rows, hover)


def _ess(document: Document) -> FigureRecord | None:
    """ESS of the proposals, over their draws and over fields of the target."""
    axis, _ = horizontal(document)
    figure, ax = new_figure(3.2)
    rows: list[tuple[Any, ...]] = []
    hover: dict[str, str] = {}
    for sampler, (colour, marker, _) in looks(document).items():
        for direction, face in (("reverse", colour), ("forward", "white")):
            points = points_of(document, sampler, f"ess_{direction}")
            if points:
                label = f"{document['samplers'][sampler]['label']}, {direction}"
                ax.plot([p[0] for p in points], [p[1] for p in points], color=colour, ls=":")
                plot(ax, points, label, hover, f"{sampler}-{direction}", color=colour, marker=marker, mfc=face)
                rows += [(sampler, direction, *point) for point in points]
    if not rows:
        return None
    dress(ax, axis, [row[2] for row in rows])
    spots: list[Spot] = []
    if axis == "L":
        rows += _beside_ess(document, ax, rows)
        spots += [
            Spot(
                ax,
                (x, ess),
                f"{who}, published, at {x:g}: {value_error(ess)}"
                if kind == "published"
                else f"{document['samplers'][who]['label']}, {kind}, at {x:g}: {value_error(ess)}",
            )
            for who, kind, x, ess, _ in rows
            if kind not in ("reverse", "forward")
        ]
    ax.set(ylim=(0, 1.04), ylabel="ESS")
    legend(figure, ax, outside=True)
    return FigureRecord(
        "ess",
        "Effective sample size of the proposals",
        "1 is perfect. Filled: reverse, over what the model draws; open: forward, over fields of classical chains,"
        " which sees what the model never draws. Grey line: what the quality of the smallest lattice would give if"
        " every site added the same to the variance of log_weight, ESS to the power of the number of sites.",
        f"ESS against {axis}, between {min(r[3] for r in rows):.2g} and {max(r[3] for r in rows):.2g}.",
        figure,
        ("sampler", "direction", axis, "ess", "error"),
        rows,
        hover,
        spots,
    )


def _beside_ess(document: Document, ax: Any, rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Draw what equal quality per site would give, and what others have published; their rows of the CSV."""
    more: list[tuple[Any, ...]] = []
    for sampler in dict.fromkeys(row[0] for row in rows):
        mine = [row for row in rows if row[:2] == (sampler, "reverse") and 0 < row[3] < 1]
        if len(mine) < 2:
            continue
        _, _, first, ess, _ = mine[0]
        dimension = len(document["theories"][0]["shape"])
        span = np.geomspace(first, mine[-1][2], 40)
        label = "equal quality per site" if not more else None
        ax.plot(span, ess ** ((span / first) ** dimension), color="#999999", lw=0.9, label=label)
        more += [(sampler, "equal quality per site", x, ess ** ((x / first) ** dimension), 0.0) for *_, x, _, _ in mine]
    for number, row in enumerate(document.get("card", {}).get("published", ())):
        ax.plot(row["L"], row["ess"], "*", color="black", mfc="none", ms=8, label="published" if not number else None)
        more.append((row["told"], "published", row["L"], row["ess"], 0.0))
    return more


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
    styles, rows = looks(document), []
    spots: list[Spot] = []
    for cell, setup, cost in zip(here, setups, each, strict=True):
        colour, _, dashes = styles[cell["sampler"]]
        total = setup + n * cost
        name = document["samplers"][cell["sampler"]]["label"]
        ax.loglog(n, total, color=colour, ls=dashes, label=name)
        spots += [Spot(ax, (a, b), f"{name}: {a:.3g} values in {seconds(b)}") for a, b in zip(n, total, strict=True)]
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
        spots=spots,
    )

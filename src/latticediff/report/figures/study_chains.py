"""Figures of the chains of a study where |m| is slowest: histories, autocorrelation, histograms, weights, pilots."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..numbers import value_error
from ..style import FigureRecord, Spot, legend, log_axis, new_figure, plain_numbers
from .study_axes import Document, hardest, spots_of

__all__ = ["acceptance", "autocorrelations", "histograms", "histories", "log_weights", "pilots"]

UPDATES = 200  #: of a history, at most


def histories(document: Document) -> FigureRecord | None:
    """m of one chain, update by update."""
    place, here = hardest(document, "history")
    if not here:
        return None
    figure, axes = new_figure(0.6 + 0.75 * len(here), nrows=len(here), sharex=True, sharey=True, squeeze=False)
    rows: list[Any] = []
    spots: list[Spot] = []
    for ax, shown in zip(axes[:, 0], here, strict=True):
        m = shown.cell["history"][:UPDATES]
        ax.plot(range(1, len(m) + 1), m, color=shown.colour, lw=0.9)
        ax.set_title(shown.label, fontsize=9)
        ax.grid(visible=False)
        rows += [(shown.sampler, number, value) for number, value in enumerate(m, 1)]
        spots += spots_of(ax, enumerate(m, 1), f"{shown.label} at update {{x}}: m = {{y}}")
    axes[-1, 0].set(xlabel="update")
    figure.supylabel("m", fontsize=10)
    return FigureRecord(
        "history",
        f"Magnetisation, update by update, {place}",
        "The first chain of every sampler after thermalisation; updates of different samplers differ in price.",
        f"Histories of m at {place}, one panel for each sampler.",
        figure,
        ("sampler", "update", "m"),
        rows,
        spots=spots,
    )


def autocorrelations(document: Document) -> FigureRecord | None:
    """rho(t) of |m|, and where its sum is cut."""
    place, here = hardest(document, "autocorrelation")
    if not here:
        return None
    figure, ax = new_figure(3.2)
    rows: list[Any] = []
    spots: list[Spot] = []
    for cell, sampler, label, colour, marker, dashes in here:
        window = cell.get("window", {}).get("abs_m")
        rho = cell["autocorrelation"]
        last = len(rho) if window is None else min(len(rho), 2 * window + 1)
        ax.plot(range(1, last), rho[1:last], color=colour, ls=dashes, label=label)
        if window is not None and 0 < window < len(rho):
            ax.plot(window, rho[window], marker, color=colour)
        spots += spots_of(ax, list(enumerate(rho))[1:last], f"{label}: ρ({{x}}) = {{y}}, window {window or 0}")
        rows += [(sampler, t, value) for t, value in enumerate(rho)]
    ax.axhline(0, color="black", lw=0.8)
    ax.set(xscale="log", xlabel="t, updates", ylabel="ρ(t) of |m|")
    legend(figure, ax, outside=True)
    return FigureRecord(
        "autocorrelation",
        f"Autocorrelation of |m|, {place}",
        "τ_int is 1/2 plus the sum of ρ up to the window, which a marker shows (automatic, by"
        " the Gamma method); drawn up to twice the window. A sampler whose window is below one update has no marker.",
        f"Autocorrelation function of |m| at {place}, one line for each sampler.",
        figure,
        ("sampler", "t", "rho"),
        rows,
        spots=spots,
    )


def _steps(ax: Any, told: Any, **look: Any) -> list[tuple[float, float]]:
    """A histogram as a normalised line; its (centre of a bin, density)."""
    counts = np.array(told["counts"], float)
    edges = np.linspace(told["low"], told["high"], len(counts) + 1)
    width = edges[1] - edges[0]
    if not width > 0:
        return []
    density = counts / counts.sum() / width
    ax.stairs(density, edges, **look)
    return [(float(x), float(y)) for x, y in zip((edges[:-1] + edges[1:]) / 2, density, strict=True)]


def histograms(document: Document) -> FigureRecord | None:
    """Distribution of m."""
    place, here = hardest(document, "histogram")
    if not here:
        return None
    figure, ax = new_figure(3.0)
    rows: list[Any] = []
    spots: list[Spot] = []
    for shown in here:
        look = {"color": shown.colour, "ls": shown.dashes, "lw": 1.1, "label": shown.label}
        bins = _steps(ax, shown.cell["histogram"], **look)
        rows += [(shown.sampler, x, y) for x, y in bins]
        spots += spots_of(ax, bins, f"{shown.label}: density {{y}} at m = {{x}}")
    ax.set(xlabel="m", ylabel="density")
    legend(figure, ax, outside=True)
    return FigureRecord(
        "histogram",
        f"Distribution of the magnetisation, {place}",
        "All chains of every sampler; one that rarely changes the sign of m has lopsided peaks.",
        f"Histograms of m at {place}, one line for each sampler.",
        figure,
        ("sampler", "m", "density"),
        rows,
        spots=spots,
    )


def log_weights(document: Document) -> FigureRecord | None:
    """log_weight of proposals, among draws and among fields of the target."""
    place, here = hardest(document, "log_weights")
    if not here:
        return None
    figure, ax = new_figure(3.0)
    rows: list[Any] = []
    spots: list[Spot] = []
    for shown in here:
        for kind, dashes, words in (("drawn", "-", "its draws"), ("given", ":", "fields of the target")):
            if told := shown.cell["log_weights"].get(kind):
                look = {"color": shown.colour, "ls": dashes, "lw": 1.2, "label": f"{shown.label}, {words}"}
                bins = _steps(ax, told, **look)
                rows += [(shown.sampler, kind, x, y) for x, y in bins]
                spots += spots_of(ax, bins, f"{shown.label}, {words}: density {{y}} at {{x}}")
    ax.set(xlabel="log_weight, less its mean", ylabel="density")
    legend(figure, ax, outside=True)
    return FigureRecord(
        "log_weight",
        f"Weights of proposals, {place}",
        "log_weight = −S − log q, narrow where the model is good. Draws and fields of the target have the same width"
        " if the model misses nothing; a tail to the right of the dotted line would be what it rarely proposes.",
        f"Histograms of log_weight at {place}.",
        figure,
        ("sampler", "fields", "log_weight", "density"),
        rows,
        spots=spots,
    )


def pilots(document: Document) -> FigureRecord | None:
    """What the searches for the cheapest HMC have tried: cost against trajectory length."""
    place, here = hardest(document, "kernel")
    here = [shown for shown in here if _pilots(shown.cell)]
    if not here:
        return None
    figure, (left, right) = new_figure(3.2, ncols=2, sharey=True)
    rows: list[Any] = []
    spots: list[Spot] = []
    for cell, sampler, name, colour, marker, _ in here:
        tried = _pilots(cell)
        for ax, key in ((left, "trajectory_length"), (right, "target_acceptance")):
            ax.errorbar(
                [pilot[key] for pilot in tried],
                [pilot["cost"][0] for pilot in tried],
                [pilot["cost"][1] for pilot in tried],
                ls="",
                color=colour,
                marker=marker,
                mfc="white",
                label=name if ax is left else None,
            )
            spots += [
                Spot(
                    ax,
                    (pilot[key], pilot["cost"][0]),
                    f"{name}, length {pilot['trajectory_length']:.3g}, acceptance {pilot['target_acceptance']:.2g}:"
                    f" {value_error(*pilot['cost'])} gradients",
                )
                for pilot in tried
            ]
        rows += [(sampler, p["trajectory_length"], p["target_acceptance"], *p["cost"]) for p in tried]
    left.set(xlabel="trajectory length", ylabel="gradients per independent |m|", xscale="log")
    plain_numbers(left.xaxis)
    log_axis(left)  # and with it the right one
    right.set(xlabel="acceptance aimed at")
    legend(figure, left, outside=True)
    return FigureRecord(
        "pilots",
        f"What the search for the cheapest HMC has tried, {place}",
        "Every pilot chain with its cost, 2 τ_int (gradients of an update and its overhead), against the length of"
        " its trajectories and against the acceptance that its step size aimed at.",
        f"Cost of the pilots of the searches at {place} against trajectory length and acceptance.",
        figure,
        ("sampler", "trajectory_length", "acceptance", "cost", "error"),
        rows,
        spots=spots,
    )


def acceptance(document: Document) -> FigureRecord | None:
    """Acceptance against the knob: what the tuning of trajectories has met at every step size."""
    place, here = hardest(document, "kernel")
    tuned = [(shown, found) for shown in here if (found := _tuned(shown.cell["kernel"]))]
    if not tuned:
        return None
    figure, ax = new_figure(3.0)
    rows: list[Any] = []
    spots: list[Spot] = []
    for shown, (length, _, met) in tuned:
        sizes = [length / steps for steps, _ in met]
        shares = [share for _, share in met]
        ax.plot(sizes, shares, shown.marker, color=shown.colour, mfc="white", label=shown.label)
        ax.plot(sizes[-1], shares[-1], shown.marker, color=shown.colour)
        rows += [(shown.sampler, size, steps, share) for size, (steps, share) in zip(sizes, met, strict=True)]
        spots += spots_of(ax, zip(sizes, shares, strict=True), f"{shown.label}: acceptance {{y}} at step size {{x}}")
    for aim in sorted({target for _, (_, target, _) in tuned}):
        ax.axhline(aim, color="#999999", lw=0.9, label="aimed at")
    ax.set(xlabel="step size", ylabel="acceptance", ylim=(None, 1))
    legend(figure, ax, outside=True)
    return FigureRecord(
        "acceptance",
        f"Acceptance against step size, {place}",
        "Every round of the tuning of a trajectory of given length, some tens of updates of all chains; filled: the"
        " last one. Mixtures show the tuning of the trajectories in them.",
        f"Acceptance of the rounds of tuning against step size at {place}.",
        figure,
        ("sampler", "step_size", "n_steps", "acceptance"),
        rows,
        spots=spots,
    )


def _tuned(kernel: Any) -> tuple[float, float, list[Any]] | None:
    """Trajectory length, acceptance aimed at and the (steps, acceptance) of a tuning; of a mixture, of its first."""
    for part in (kernel, *(kernel or {}).get("parts", ())):
        tuning = (part or {}).get("tuning") or {}
        if tuning.get("n_steps_and_acceptance"):
            return part["trajectory_length"], tuning["target_acceptance"], tuning["n_steps_and_acceptance"]
    return None


def _pilots(cell: Any) -> list[Any]:
    """The pilots of a cell's search that have a cost; HMC alone has some."""
    search = ((cell["kernel"] or {}).get("tuning") or {}).get("search") or {}
    found = []
    for pilot in search.get("pilots", ()):
        tau, cost = pilot.get("tau_int"), pilot.get("cost")
        if tau and cost and None not in cost:
            found.append(pilot)
    return found

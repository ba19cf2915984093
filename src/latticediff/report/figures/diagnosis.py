"""Figures of a diagnosis: weights, tails, noise levels, shares of the variance, integration error."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from ...types import FloatArray
from ..style import COLOURS, FigureRecord, new_figure, styled

if TYPE_CHECKING:
    from ..diagnosis import Diagnosis

__all__ = ["draw_diagnosis"]

N_SHOWN = 2000  # points of a scatter plot; more is a black spot


def _finite(values: ArrayLike) -> FloatArray:
    values = np.asarray(values, np.float64).ravel()
    return values[np.isfinite(values)]


def _bins(n: int) -> int:
    """Bins of a histogram of n entries: one and a half times those of Rice's rule, for the tails; 50 at most."""
    return int(np.clip(3 * n ** (1 / 3), 10, 50))


def weights(d: "Diagnosis") -> FigureRecord:
    """Histograms of log_weight over draws and over exact configurations, with the identity between them."""
    log_z = d.free_energy.bridge.value
    reverse, forward = _finite(d.log_weight_reverse) - log_z, _finite(d.log_weight_forward) - log_z
    low, high = np.quantile(reverse, 0.0005), max(reverse.max(), forward.max())
    pad = 0.03 * (high - low) or 0.1
    edges = np.linspace(min(low, forward.min()) - pad, high + pad, _bins(min(len(reverse), len(forward))) + 1)
    centres = 0.5 * (edges[1:] + edges[:-1])
    figure, ax = new_figure(2.9)
    densities = [np.histogram(v, edges)[0] / len(v) / np.diff(edges) for v in (reverse, forward)]
    ax.stairs(densities[0], edges, color=COLOURS[0], lw=1.2, fill=True, alpha=0.25, label="draws (reverse)")
    ax.stairs(densities[1], edges, color="black", lw=1.2, ls="--", label="exact configurations (forward)")
    ax.plot(centres, densities[0] * np.exp(centres), color="#777777", lw=1.0, ls=":", label="eˣ × reverse")
    positive = np.concatenate([v[v > 0] for v in densities])
    ax.set(yscale="log", ylabel="density", ylim=(0.5 * positive.min(), 20 * positive.max()))
    ax.set_xlabel("x = log_weight − log Z")
    ax.legend(loc="upper left", ncols=2)
    return FigureRecord(
        "weights",
        "log_weight, reverse and forward",
        "log_weight = −S − log_q relative to log Z. An exact proposal would be a spike at 0. In theory the forward "
        "density is eˣ times the reverse one (dotted); forward weight to the right of it is what the model misses.",
        "Histograms of the log weight over draws and over exact configurations on a logarithmic scale.",
        figure,
        ("x_low", "x_high", "reverse", "forward"),
        [tuple(map(float, row)) for row in zip(edges[:-1], edges[1:], *densities, strict=True)],
    )


def tails(d: "Diagnosis") -> FigureRecord:
    """log_weight against the largest |phi| of the configuration: where baselines fail."""
    log_z = d.free_energy.bridge.value
    figure, ax = new_figure(2.9)
    rows = []
    for label, log_weight, largest, colour, marker in (
        ("draws", d.log_weight_reverse, d.largest_reverse, COLOURS[0], "o"),
        ("exact configurations", d.log_weight_forward, d.largest_forward, COLOURS[1], "s"),
    ):
        x, y = np.ravel(largest), np.ravel(log_weight) - log_z
        keep = np.flatnonzero(np.isfinite(y))
        keep = keep[:: max(1, len(keep) // N_SHOWN)]
        ax.plot(x[keep], y[keep], color=colour, marker=marker, ls="", ms=2, alpha=0.4, label=label)
        rows += [(label, float(a), float(b)) for a, b in zip(x[keep], y[keep], strict=True)]
    ax.axhline(0, color="black", lw=0.8)
    ax.set(xlabel="largest |φ| of the configuration", ylabel="log_weight − log Z")
    ax.legend(loc="upper left", ncols=2, markerscale=2)
    ax.margins(y=0.2)
    return FigureRecord(
        "tails",
        "Weights and large fields",
        "log_weight against the largest single |φ|. Exact configurations that climb at the right edge are the ones a "
        "chain sticks at; the draws do not show them.",
        "Scatter of log weight against the largest field, draws and exact configurations in one band.",
        figure,
        ("kind", "largest_phi", "log_weight"),
        rows,
    )


def levels(d: "Diagnosis") -> FigureRecord | None:
    """Score error by noise level, and its running integral."""
    found = d.score_error
    if found is None:
        return None
    figure, axes = new_figure(4.2, nrows=2, sharex=True, gridspec_kw={"height_ratios": [1.5, 1]})
    sites = d.volume
    axes[0].errorbar(found.sigma, found.error / sites, found.uncertainty / sites, color=COLOURS[0], marker="o", ls="-")
    axes[0].axhline(0, color="black", lw=0.8)
    axes[0].set(ylabel="σ² ⟨|Δs|²⟩ / V", xscale="log")
    steps = 0.5 * (found.error[1:] + found.error[:-1]) * np.diff(np.log(found.sigma))
    running = np.concatenate([[0.0], np.cumsum(steps)])
    axes[1].plot(found.sigma, running, color=COLOURS[0], marker="o")
    half = 0.5 * d.weights.log_weight_std**2
    axes[1].axhline(half, color=COLOURS[1], ls="--", label="½ var(log_weight)")
    axes[1].set(xlabel="noise level σ", ylabel="integral up to σ")
    axes[1].set_ylim(top=1.45 * max(half, running.max()))
    axes[0].ticklabel_format(axis="y", style="sci", scilimits=(-3, 3), useMathText=True)
    axes[1].legend(loc="upper left")
    return FigureRecord(
        "levels",
        "Score error by noise level",
        "Squared error of the score times σ², per site, the noise of the target taken out by two independent draws "
        "from the posterior. Its integral over log σ is the divergence of the reverse SDE's paths in nats; that of a "
        "proposal with Gaussian log_weight is half the variance (dashed).",
        "Score error against noise level with error bars, and its running integral.",
        figure,
        ("sigma", "error", "uncertainty", "remembered", "integral"),
        [
            tuple(map(float, row))
            for row in zip(found.sigma, found.error, found.uncertainty, found.remembered, running, strict=True)
        ],
    )


def shares(d: "Diagnosis") -> FigureRecord | None:
    """Share of the variance of log_weight explained by momentum shells and local operators."""
    groups = (("shells", "momentum shells p̂²"), ("operators", "local operators"), ("together", "all of a kind"))
    names = [(group, title, *row) for group, title in groups for row in d.shares[group]]
    figure, ax = new_figure(1.0 + 0.21 * len(names))
    position, ticks, rows = 0.0, [], []
    previous = None
    for group, title, label, value, error in names:
        position += 0.6 if previous not in (None, group) else 0.0
        colour = COLOURS[[g for g, _ in groups].index(group)]
        first = {"label": title} if group != previous else {}
        ax.barh(position, value, xerr=error, color=colour, height=0.8, error_kw={"lw": 0.8}, **first)
        ticks.append((position, label))
        rows.append((group, label, float(value), float(error)))
        position, previous = position + 1, group
    ax.set_yticks(*zip(*ticks, strict=True))
    ax.invert_yaxis()
    ax.axvline(0, color="black", lw=0.8)
    ax.set_xlabel("share of the variance of log_weight (adjusted R²)")
    ax.grid(axis="y", visible=False)
    ax.set_xlim(right=max(0.1, 1.9 * max(v for *_, v, _ in names)))
    ax.legend(loc="upper right")  # the longest bars are below
    return FigureRecord(
        "shares",
        "What explains log_weight",
        "Adjusted R² of a linear regression of log_weight over draws on the power of each momentum shell, on each "
        "local operator, and on all of a kind at once. What nothing explains is spread over many local errors.",
        "Horizontal bars, most of them short.",
        figure,
        ("kind", "of", "share", "error"),
        rows,
    )


def doubling(d: "Diagnosis") -> FigureRecord | None:
    """Histogram of the integration error of log_q."""
    if d.doubling is None:
        return None
    epsilon = _finite(d.doubling)
    figure, ax = new_figure(2.4)
    density, edges = np.histogram(epsilon, _bins(len(epsilon)))
    ax.stairs(density, edges, color=COLOURS[0], fill=True, alpha=0.5)
    ax.axvline(0, color="black", lw=0.8)
    ax.set(xlabel="ε = log_q − log_q with twice the steps", ylabel="configurations")
    ax.ticklabel_format(axis="x", style="sci", scilimits=(-2, 2), useMathText=True)
    return FigureRecord(
        "doubling",
        "Integration error",
        "Change of log_q on exact configurations when the integrator's steps are doubled. The mean shifts log Z only; "
        "the spread is what a chain can notice.",
        "Histogram of the change of log q.",
        figure,
        ("low", "high", "count"),
        [tuple(map(float, row)) for row in zip(edges[:-1], edges[1:], density, strict=True)],
    )


def draw_diagnosis(d: "Diagnosis") -> list[FigureRecord]:
    """All figures for which the diagnosis has data, as a list of `FigureRecord`."""
    with styled():
        records = [make(d) for make in (weights, tails, levels, shares, doubling)]
    return [record for record in records if record is not None]

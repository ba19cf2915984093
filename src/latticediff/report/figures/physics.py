"""Figures of the physics: observables against the reference, propagator, two-point function."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ...observables.table import OBSERVABLES as TABLE
from ...observables.table import REPORTED
from ..model import RunResult
from ..numbers import OBSERVABLES, differences
from ..style import FigureRecord, chain_styles, legend, log_axis, new_figure, sigma_axis

__all__ = ["correlator", "effective_mass", "observables", "propagator"]

# mathtext, since the symbols' subscripts are not in every font
SYMBOLS = {name: TABLE[name].average_symbol(name, tex=True) for name in REPORTED}


def observables(run: RunResult) -> FigureRecord | None:
    """Differences from the reference in sigma, one row per observable."""
    others = [(chain, differences(chain, run.reference)) for chain in run.chains[1:]]
    names = [n for n in OBSERVABLES if any(diff.get(n) is not None for _, diff in others)]
    if not names:
        return None
    styles = chain_styles(run)
    figure, ax = new_figure(0.9 + 0.42 * len(names))
    rows = []
    ax.axvspan(-3, 3, color="#eeeeee", lw=0, zorder=0)
    ax.axvspan(-1, 1, color="#dddddd", lw=0, zorder=0)
    ax.axvline(0, color="black", lw=0.8)
    for i, (chain, diff) in enumerate(others):
        colour, marker, _ = styles[chain.name]
        shift = 0.5 * ((i + 0.5) / len(others) - 0.5)
        points = [(diff[n], row + shift) for row, n in enumerate(names) if diff.get(n) is not None]
        ax.plot(*zip(*points, strict=True), color=colour, marker=marker, ms=7, ls="", label=chain.label)
        for n in names:
            value, error = chain.observables.get(n, (None, None))
            rows.append((chain.name, n, value, error, *run.reference.observables.get(n, (None, None)), diff.get(n)))
    reach = max(abs(row[-1]) for row in rows if row[-1] is not None)
    reach = max(3.5, 1.1 * reach)
    reference = run.reference.label if len(run.reference.label) <= 30 else "the reference"
    ax.set(xlim=(-reach, reach), ylim=(len(names) - 0.5, -0.5), xlabel=f"difference from {reference} (σ)")
    ax.set_yticks(range(len(names)), [SYMBOLS[n] for n in names])
    ax.tick_params(axis="y", length=0, labelsize=11)
    ax.grid(False)
    legend(figure, ax, outside=True)
    worst = max((row for row in rows if row[-1] is not None), key=lambda row: abs(row[-1]))
    return FigureRecord(
        "observables",
        "Observables against the reference",
        f"Each observable's difference from {run.reference.label} in units of the combined standard error; bands at 1σ "
        "and 3σ. The points of one algorithm are correlated, since they come from the same configurations.",
        f"Dot plot of {len(names)} observables; the largest difference is {abs(worst[-1]):.1f} standard errors.",
        figure,
        ("chain", "observable", "value", "error", "reference_value", "reference_error", "difference_sigma"),
        rows,
    )


def _curves(
    run: RunResult, attribute: str, abscissa: str, xlabel: str, ylabel: str, log: bool
) -> tuple[Figure, list[Any], Any] | None:
    """A curve with errors per chain on top; below, the difference from the first chain in sigma."""
    chains = [chain for chain in run.chains if getattr(chain, attribute) is not None]
    if not chains:
        return None
    styles = chain_styles(run)
    compare = len(chains) > 1
    figure, axes = new_figure(
        4.2 if compare else 2.9,
        nrows=1 + compare,
        sharex=True,
        squeeze=False,
        gridspec_kw={"height_ratios": [2.2, 1][: 1 + compare]},
    )
    rows, first = [], getattr(chains[0], attribute)
    x0 = getattr(first, abscissa)
    step = 0.5 * np.diff(np.unique(x0)).min() if len(np.unique(x0)) > 1 else 0.0
    for i, chain in enumerate(chains):
        curve = getattr(chain, attribute)
        x = getattr(curve, abscissa)
        colour, marker, _ = styles[chain.name]
        shift = step * ((i + 0.5) / len(chains) - 0.5)
        axes[0, 0].errorbar(x + shift, curve.value, curve.error, color=colour, marker=marker, ls="", label=chain.label)
        if i == 0:  # a line through the reference only: shifted lines would look like a difference
            axes[0, 0].plot(x, curve.value, color=colour, lw=0.7, alpha=0.6)
        pulls: list[float | None] = [None] * len(x)
        if chain is not chains[0] and len(x) == len(x0) and np.allclose(x, x0):
            total = np.hypot(curve.error, first.error)
            pulls = [float(d / s) if s > 0 else None for d, s in zip(curve.value - first.value, total, strict=True)]
            drawn = [(a, b) for a, b in zip(x + shift, pulls, strict=True) if b is not None]
            if drawn:
                axes[1, 0].plot(*zip(*drawn, strict=True), color=colour, marker=marker, ls="")
        rows += [
            (chain.name, float(a), float(v), float(e), p)
            for a, v, e, p in zip(x, curve.value, curve.error, pulls, strict=True)
        ]
    positive = min(getattr(c, attribute).value.min() for c in chains) > 0
    axes[0, 0].set(ylabel=ylabel)
    if log and positive:
        log_axis(axes[0, 0])
    legend(figure, axes[0, 0], "upper center", outside=len(chains) > 3)  # a taller one would cover points
    if compare:
        sigma_axis(axes[1, 0])
    axes[-1, 0].set_xlabel(xlabel)
    below = f" Below: difference from {chains[0].label} in combined standard errors." if compare else ""
    return figure, rows, below


def propagator(run: RunResult) -> FigureRecord | None:
    """G(k) against the lattice momentum squared."""
    drawn = _curves(run, "propagator", "p_hat_squared", r"$\hat p^2$", r"$G(k)=\langle|\phi_k|^2\rangle/V$", log=True)
    if drawn is None:
        return None
    figure, rows, below = drawn
    return FigureRecord(
        "propagator",
        "Propagator",
        "Two-point function in momentum space against p̂² = Σ 4 sin²(k/2), lattice units, equal p̂² averaged; points are "
        f"shifted sideways a little for legibility. The leftmost point is the zero mode, G(0) = χ.{below}",
        "Propagator falling with momentum, the algorithms on one another.",
        figure,
        ("chain", "p_hat_squared", "g", "error", "difference_sigma"),
        rows,
    )


def correlator(run: RunResult) -> FigureRecord | None:
    """Momentum-projected two-point function against Euclidean time."""
    drawn = _curves(run, "correlator", "timeslice", "timeslice", "C(timeslice)", log=True)
    if drawn is None:
        return None
    figure, rows, below = drawn
    return FigureRecord(
        "correlator",
        "Two-point function",
        "Zero-momentum two-point function between time slices, not subtracted, lattice units; neighbouring points are "
        f"correlated.{below}",
        "Two-point function against time, symmetric about half the lattice.",
        figure,
        ("chain", "timeslice", "c", "error", "difference_sigma"),
        rows,
    )


def effective_mass(run: RunResult) -> FigureRecord | None:
    """Effective mass from neighbouring time slices."""
    drawn = _curves(run, "effective_mass", "timeslice", "timeslice", r"$m_{\mathrm{eff}}$(timeslice)", log=False)
    if drawn is None:
        return None
    figure, rows, below = drawn
    return FigureRecord(
        "effective_mass",
        "Effective mass",
        "The mass m that solves C(t)/C(t+1) = cosh m(T/2 − t) / cosh m(T/2 − t − 1), lattice units; a plateau is the "
        "mass of the lightest state. In a phase with ⟨m⟩ ≠ 0 it falls to zero, since nothing is subtracted from C. "
        f"Points without an error, where C does not fall by more than its noise, are left out.{below}",
        "Effective mass against time, the algorithms on one another.",
        figure,
        ("chain", "timeslice", "m_eff", "error", "difference_sigma"),
        rows,
    )

"""Figures of the price: training, seconds per independent sample, where training pays."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..model import ChainResult, Pair, RunResult
from ..numbers import TAU_NAMES, break_even, cost_ratio, count, seconds, setup_total
from ..style import TAU, FigureRecord, chain_styles, legend, log_axis, new_figure

__all__ = ["amortised", "cost", "training"]

SETUP_GREYS = ("#666666", "#aaaaaa", "#d0d0d0", "#888888")


def training(run: RunResult) -> FigureRecord | None:
    """Loss against the training step, raw and averaged over about 2 % of the run."""
    losses = [
        (row["step"], row["loss"])
        for row in run.training
        if row.get("step") is not None and row.get("loss") is not None
    ]
    if len(losses) < 2:
        return None
    step, loss = np.array(losses, np.float64).T
    span = max(1, len(loss) // 50)
    smooth = np.convolve(loss, np.ones(span) / span, mode="valid")
    middle = np.convolve(step, np.ones(span) / span, mode="valid")
    figure, ax = new_figure(2.9)
    finite = np.isfinite(loss)
    if span > 1:
        ax.plot(step[finite], loss[finite], color="#0072B2", lw=0.5, alpha=0.35, label="each logged step")
    ax.plot(middle, smooth, color="#0072B2", lw=1.6, label=f"mean of {span}" if span > 1 else "loss")
    if finite.any() and 0 < 3 * loss[finite].min() < loss[finite].max():
        log_axis(ax)
    ax.set(xlabel="training step", ylabel="loss")
    ax.legend(loc="upper right")
    return FigureRecord(
        "training",
        "Training loss",
        "Denoising score-matching loss of the logged steps. Its floor is the noise of the target, not zero, so the "
        "quality of the model shows in the effective sample size rather than here.",
        "Loss falling with the training step towards a noise floor.",
        figure,
        ("step", "loss"),
        [(float(s), float(v)) for s, v in losses],
    )


def _priced(run: RunResult) -> list[tuple[ChainResult, Pair]]:
    return [
        (c, p) for c in run.chains if (p := c.per_independent_sample(c.seconds_per_update)) is not None and p[0] > 0
    ]


def cost(run: RunResult) -> FigureRecord | None:
    """Seconds per independent sample, and what was paid before the first one."""
    priced = _priced(run)
    if not priced:
        return None
    styles = chain_styles(run)
    with_setup = any(setup_total(chain) > 0 for chain, _ in priced)
    height = 0.5 + (1 + with_setup) * (0.7 + 0.33 * len(priced))
    figure, axes = new_figure(height, nrows=1 + with_setup, squeeze=False)
    labels = [textwrap.fill(chain.label, 20) for chain, _ in priced]
    narrow = max(map(len, labels)) > 12  # long names take the width that the remark would need
    ax, rows = axes[0, 0], []
    widest = max(value for _, (value, _) in priced)
    cheapest = min(value for _, (value, _) in priced)
    far = widest > 30 * cheapest  # bars of a linear scale would vanish, bars of a logarithmic one mislead: points
    for y, (chain, (value, error)) in enumerate(priced):
        colour, marker, _ = styles[chain.name]
        if far:
            ax.errorbar(value, y, xerr=error or None, color=colour, marker=marker, ms=8)
        else:
            ax.barh(y, value, height=0.6, color=colour, xerr=error or None, error_kw={"lw": 1})
        slowest: Any = chain.slowest
        over = "" if narrow else f" (2 {TAU} of {TAU_NAMES.get(slowest, slowest)})"
        end = (value + (error or 0)) * (1.4 if far else 1) + (0 if far else 0.02 * widest)
        ax.text(end, y, seconds(value, error) + over, va="center", fontsize=9)
        rows.append((chain.name, "per independent sample", value, error))
    if far:
        decades = np.log10(widest / cheapest)
        ax.set(xscale="log", xlim=(cheapest / 2, widest * 10 ** (0.3 + 0.8 * decades)))
        ax.set_title("One independent sample (s)")
    else:
        scale, unit = next((s, u) for s, u in ((1e-6, "µs"), (1e-3, "ms"), (1.0, "s")) if widest < 1000 * s or s == 1.0)
        ax.xaxis.set_major_formatter(lambda x, _: f"{x / scale:g}")
        ax.set(xlim=(0, 1.75 * widest), title=f"One independent sample ({unit})")
    _rows_axis(ax, labels)
    if with_setup:
        ax = axes[1, 0]
        items = list(dict.fromkeys(item for chain, _ in priced for item in chain.setup_seconds))
        longest = max(setup_total(chain) for chain, _ in priced)
        left = np.zeros(len(priced))
        for i, item in enumerate(items):
            width = np.array([chain.setup_seconds.get(item, 0.0) for chain, _ in priced])
            hatch = ("", "///", "...", "xxx")[i % 4]
            ax.barh(
                range(len(priced)),
                width,
                0.6,
                left,
                color=SETUP_GREYS[i % 4],
                label=item,
                hatch=hatch,
                edgecolor="white",
            )
            left += width
            rows += [
                (chain.name, f"before the first sample: {item}", float(w), None)
                for (chain, _), w in zip(priced, width, strict=True)
            ]
        for y, total in enumerate(left):
            ax.text(total + 0.02 * longest, y, seconds(total), va="center", fontsize=9)
        ax.set(xlim=(0, 1.3 * longest), title="Before the first sample (s)")
        _rows_axis(ax, labels)
        legend(figure, ax, outside=True)
    return FigureRecord(
        "cost",
        "Seconds per independent sample",
        f"{'Top: wall' if with_setup else 'Wall'} time of 2τ_int updates, with τ_int of the slowest observable of each "
        "algorithm; error from that of τ_int."
        + (" Bottom: everything paid before the first sample, on its own scale." if with_setup else ""),
        "Horizontal bars: "
        + "; ".join(f"{chain.label} {seconds(*p)}" for chain, p in priced)
        + " per independent sample.",
        figure,
        ("chain", "item", "seconds", "error"),
        rows,
    )


def _rows_axis(ax: Any, labels: Sequence[str]) -> None:
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(labels) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="y", visible=False)


def amortised(run: RunResult) -> FigureRecord | None:
    """Total seconds against the number of independent samples, set-up included."""
    priced = _priced(run)
    if len(priced) < 2 or not any(setup_total(chain) > 0 for chain, _ in priced):
        return None
    styles = chain_styles(run)
    figure, ax = new_figure(3.4)
    crossings = {}
    for chain, _ in priced[1:]:
        if cost_ratio(chain, run.reference) and (crossing := break_even(chain, run.reference)):
            crossings[chain.name] = crossing
    # to a decade beyond the point where set-up stops to matter
    even = [setup_total(chain) / price[0] for chain, price in priced if setup_total(chain) > 0]
    top = 10 * max([1e3, *crossings.values(), *even])
    n = np.geomspace(1, top, 121)
    rows = []
    for chain, (price, _) in priced:
        colour, _, dashes = styles[chain.name]
        total = setup_total(chain) + n * price
        label = chain.label
        if crossing := crossings.get(chain.name):
            label += f", break-even at {count(crossing)}"
            ax.plot(crossing, setup_total(chain) + crossing * price, "o", color=colour, ms=6, mfc="white", zorder=3)
        ax.loglog(n, total, color=colour, ls=dashes, label=label)
        rows += [(chain.name, float(a), float(b)) for a, b in zip(n, total, strict=True)]
    ax.set(xlabel="independent samples N", ylabel="total wall time (s)", xlim=(1, top))
    legend(figure, ax, "upper left")
    said = (
        "Circles: where a line crosses that of the reference, and training has paid for itself."
        if crossings
        else f"The lines do not cross in favour of a learned sampler: {run.reference.label} is cheaper per sample here."
    )
    return FigureRecord(
        "amortised",
        "When does training pay?",
        "Total seconds for N independent samples, data generation and training included from the first sample on. "
        + said,
        "Total time against number of samples on logarithmic axes, one line per algorithm.",
        figure,
        ("chain", "n_samples", "total_seconds"),
        rows,
    )

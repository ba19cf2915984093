"""Figures of the Markov chains: history, autocorrelation, distribution of m, log_weights."""

import numpy as np

from ...types import FloatArray
from ..model import ChainResult, RunResult
from ..numbers import TAU_NAMES, value_error
from ..style import TAU, FigureRecord, chain_styles, is_crowded, legend, new_figure, sigma_axis

__all__ = ["autocorrelation", "distribution", "history", "log_weights"]

HISTORY_UPDATES = 400  # more and the reference is a solid band; the CSV holds what is drawn
N_BLOCKS = 24  # for the error of a histogram bin


def history(run: RunResult) -> FigureRecord | None:
    """|m| against updates, one chain of each algorithm, stacked panels on one scale."""
    chains = [chain for chain in run.chains if "abs_m" in chain.series]
    if not chains:
        return None
    styles = chain_styles(run)
    figure, axes = new_figure(0.9 + 1.1 * len(chains), nrows=len(chains), sharex=True, sharey=True, squeeze=False)
    rows = []
    # all panels as long as the shortest chain
    updates = min(HISTORY_UPDATES, *(chain.thin * chain.series["abs_m"].shape[1] for chain in chains))
    for ax, chain in zip(axes[:, 0], chains, strict=True):
        colour = styles[chain.name][0]
        shown = chain.series["abs_m"][0, : max(2, updates // chain.thin)]
        update = chain.thin * (1 + np.arange(len(shown)))
        ax.plot(update, shown, color=colour, lw=0.9, drawstyle="steps-post")
        if "abs_m" in chain.observables:
            ax.axhline(chain.observables["abs_m"][0], color="#555555", lw=0.8, ls=":")
        tau = f"   {TAU}(|m|) = {value_error(*chain.tau_int['abs_m'])}" if "abs_m" in chain.tau_int else ""
        ax.set_title(f"{chain.label}{tau}")
        rows += [(chain.name, int(u), float(v)) for u, v in zip(update, shown, strict=True)]
    axes[0, 0].set_ylim(bottom=0)
    axes[0, 0].margins(x=0.01)
    axes[-1, 0].set_xlabel("update")
    figure.supylabel("|m|", fontsize=10)
    labels = ", ".join(chain.label for chain in chains)
    return FigureRecord(
        "history",
        "History of |m|",
        f"The modulus of the mean field over the first {updates} recorded updates of one chain of each "
        "algorithm, on one scale. Slow wandering is autocorrelation; flat pieces are rejected proposals, which belong "
        "to the ensemble. Dotted: the mean over the whole run.",
        f"Stacked line plots of |m| against update for {labels}.",
        figure,
        ("chain", "update", "abs_m"),
        rows,
    )


def autocorrelation(run: RunResult) -> FigureRecord | None:
    """rho(t) of m and |m| with errors, in updates."""
    names = [n for n in ("m", "abs_m") if any(n in chain.autocorrelation for chain in run.chains)]
    if not names:
        return None
    styles = chain_styles(run)
    # with many chains one legend serves both panels, and tau_int is left to the table
    crowded = is_crowded([chain.label for chain in run.chains])
    figure, axes = new_figure(0.7 + 2.1 * len(names), nrows=len(names), sharex=False, squeeze=False)
    rows = []
    for ax, name in zip(axes[:, 0], names, strict=True):
        longest = max((c.tau_int[name][0] for c in run.chains if name in c.tau_int), default=20.0)
        horizon = max(12.0, 6 * longest)
        for chain in run.chains:
            curve = chain.autocorrelation.get(name)
            if curve is None:
                continue
            colour, marker, dashes = styles[chain.name]
            keep = curve.t <= horizon
            t, rho, error = curve.t[keep], curve.rho[keep], curve.error[keep]
            tau = f", {TAU} = {value_error(*chain.tau_int[name])}" if name in chain.tau_int and not crowded else ""
            ax.fill_between(t, rho - error, rho + error, color=colour, alpha=0.35, lw=0.5)
            every = max(1, len(t) // 20)
            ax.plot(t, rho, color=colour, ls=dashes, marker=marker, markevery=every, label=chain.label + tau)
            rows += [(name, chain.name, float(x), float(y), float(e)) for x, y, e in zip(t, rho, error, strict=True)]
        ax.axhline(0, color="black", lw=0.8)
        ax.set(ylabel=f"ρ(t) of {TAU_NAMES[name]}", xlim=(0, horizon), ylim=(min(-0.1, ax.get_ylim()[0]), 1.02))
        if not crowded:
            ax.legend(loc="upper right")
    if crowded:
        legend(figure, axes[0, 0])
    axes[-1, 0].set_xlabel("separation t (updates)")
    return FigureRecord(
        "autocorrelation",
        "Autocorrelation",
        "Normalised autocorrelation functions of m and |m|; bands are one standard error. Time is counted in updates "
        "of each algorithm, whose prices differ (see the cost figures). τ_int = 1/2 + Σ ρ(t), so 0.5 is independent.",
        "Curves of rho of t for m and |m|, one per algorithm, falling from one to zero.",
        figure,
        ("observable", "chain", "t", "rho", "error"),
        rows,
    )


def _block_histogram(series: FloatArray, edges: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Density per bin with the error from the scatter of about `N_BLOCKS` blocks of the chains."""
    n_chains, n = series.shape
    per_chain = min(-(-N_BLOCKS // n_chains), n)
    pieces = [piece for row in series for piece in np.array_split(row, per_chain)]
    shares = np.array([np.histogram(piece, edges)[0] / len(piece) for piece in pieces]) / np.diff(edges)
    error = shares.std(axis=0, ddof=1) / np.sqrt(len(pieces)) if len(pieces) > 1 else np.zeros(len(edges) - 1)
    return np.histogram(series, edges)[0] / series.size / np.diff(edges), error


def distribution(run: RunResult) -> FigureRecord | None:
    """Histogram of m with errors, and its difference from the reference in sigma."""
    chains = [chain for chain in run.chains if "m" in chain.series]
    if not chains:
        return None
    styles = chain_styles(run)
    reach = max(np.abs(chain.series["m"]).max() for chain in chains) * 1.001 or 1.0
    edges = np.linspace(-reach, reach, 32)  # 31 bins, symmetric: one is centred on m = 0
    centres = 0.5 * (edges[1:] + edges[:-1])
    compare = len(chains) > 1
    figure, axes = new_figure(
        4.2 if compare else 2.9,
        nrows=1 + compare,
        sharex=True,
        squeeze=False,
        gridspec_kw={"height_ratios": [2.2, 1][: 1 + compare]},
    )
    rows, first = [], None
    width = 0.7 * (edges[1] - edges[0])
    for i, chain in enumerate(chains):
        colour, marker, _ = styles[chain.name]
        density, error = _block_histogram(chain.series["m"], edges)
        shift = width * ((i + 0.5) / len(chains) - 0.5)
        axes[0, 0].stairs(density, edges, color=colour, lw=0.8, alpha=0.7)
        axes[0, 0].errorbar(
            centres + shift, density, error, color=colour, marker=marker, ls="", ms=3.5, label=chain.label
        )
        pulls: list[float | None] = [None] * len(centres)
        if first is None:
            first = density, error
        else:
            # in the far tails an error from a handful of entries means little
            some = np.minimum(density, first[0]) > 0.01 * first[0].max()
            total = np.where(some, np.hypot(error, first[1]), 0.0)
            pulls = [float((a - b) / s) if s > 0 else None for a, b, s in zip(density, first[0], total, strict=True)]
            drawn = [(x, p) for x, p in zip(centres + shift, pulls, strict=True) if p is not None]
            if drawn:
                axes[1, 0].plot(*zip(*drawn, strict=True), color=colour, marker=marker, ls="", ms=3.5)
        rows += [
            (chain.name, float(c), float(d), float(e), p)
            for c, d, e, p in zip(centres, density, error, pulls, strict=True)
        ]
    axes[0, 0].set(ylabel="probability density", ylim=(0, None))
    legend(figure, axes[0, 0])
    if compare:
        sigma_axis(axes[1, 0])
    axes[-1, 0].set_xlabel("m")
    below = (
        f" Below: difference from {chains[0].label} in combined standard errors, bins above 1 % of the peak."
        if compare
        else ""
    )
    return FigureRecord(
        "distribution",
        "Distribution of m",
        "Histogram of the mean field m; it is symmetric in m → −m because the action is. Errors from the scatter of "
        f"about {N_BLOCKS} blocks of the chains.{below}",
        "Histograms of m, one per algorithm, lying on one another within errors.",
        figure,
        ("chain", "m", "density", "error", "difference_sigma"),
        rows,
    )


def log_weights(run: RunResult) -> FigureRecord | None:
    """Histograms of log_weight over proposals and over held-out data, with the identity between them."""
    # a proposal whose every weight is zero has no histogram; its ESS says enough
    chains = [c for c in run.chains if c.log_weight_reverse is not None and np.isfinite(c.log_weight_reverse).any()]
    if not chains:
        return None
    styles = chain_styles(run)
    figure, axes = new_figure(0.6 + 2.3 * len(chains), nrows=len(chains), squeeze=False)
    rows, cut = [], 0.0
    for ax, chain in zip(axes[:, 0], chains, strict=True):
        colour = styles[chain.name][0]
        drawn = chain.log_weight_reverse
        assert drawn is not None  # such chains were left out
        reverse = drawn[np.isfinite(drawn)]
        # log of the mean weight estimates log Z: weights are shown relative to it
        log_z = reverse.max() + np.log(np.exp(reverse - reverse.max()).sum() / len(drawn))
        reverse = reverse - log_z
        forward = chain.log_weight_forward
        forward = None if forward is None else forward[np.isfinite(forward)] - log_z
        both = reverse if forward is None else np.concatenate([reverse, forward])
        low = np.quantile(reverse, 0.0005)
        high = both.max()
        pad = 0.03 * (high - low) or 0.1
        edges = np.linspace(low - pad, high + pad, 61)
        cut = max(cut, 1 - float((reverse >= edges[0]).sum()) / len(drawn))
        for values, kind, style in ((reverse, "proposals (reverse)", "-"), (forward, "held-out data (forward)", "--")):
            if values is None:
                continue
            density = np.histogram(values, edges)[0] / len(values) / np.diff(edges)
            fill = {"fill": True, "alpha": 0.25} if kind.startswith("prop") else {}
            ax.stairs(density, edges, color=colour if fill else "black", lw=1.2, ls=style, label=kind, **fill)
            if kind.startswith("prop"):
                centres = 0.5 * (edges[1:] + edges[:-1])
                ax.plot(centres, density * np.exp(centres), color="#777777", lw=1.0, ls=":", label="eˣ × reverse")
            rows += [
                (chain.name, kind.split(" (")[1][:-1], float(a), float(b), float(d))
                for a, b, d in zip(edges[:-1], edges[1:], density, strict=True)
            ]
        tops = [patch.get_data().values for patch in ax.patches]
        smallest = min(values[values > 0].min() for values in tops)
        ax.set(yscale="log", ylabel="density", ylim=(0.5 * smallest, 12 * max(v.max() for v in tops)))
        ax.set_title(_ess_title(chain))
        ax.legend(loc="upper left", ncols=2)
    axes[-1, 0].set_xlabel("x = log_weight − log(mean weight)")
    note = f" At most {100 * cut:.2g} % of the proposals lie left of the frame." if cut > 0 else ""
    return FigureRecord(
        "log_weight",
        "Weights, reverse and forward",
        "log_weight = −S − log_q over proposals (reverse) and over held-out reference data (forward), relative to the "
        "logarithm of the mean weight. An exact proposal would be a spike at 0. In theory the forward density is eˣ "
        "times the reverse one (dotted); forward weight to the right of it would be configurations that the model "
        f"misses and at which a chain sticks.{note}",
        "Histograms of the log weight on a logarithmic scale, reverse and forward nearly equal.",
        figure,
        ("chain", "kind", "x_low", "x_high", "density"),
        rows,
    )


def _ess_title(chain: ChainResult) -> str:
    parts = [chain.label]
    if chain.ess_reverse is not None:
        parts.append(f"ESS reverse {value_error(*chain.ess_reverse)}")
    if chain.ess_forward is not None:
        parts.append(f"forward {value_error(*chain.ess_forward)}")
    return ", ".join(parts)

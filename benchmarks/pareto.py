"""What a better ESS costs: shipped networks of both families with few and many evaluations, and the Pareto front.

    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/pareto.py [--json] [--L 8 16 32 64] > docs/pareto.jsonl
    python benchmarks/pareto.py --plot docs/pareto.jsonl     # docs/figures/pareto.png

Steps are `FACTORS` times those of the model's own grid, each with a grid fitted to the model; above `LARGEST` sites
only the model's own, since a fit takes minutes there. Rows: ``model, L, features, evaluations, ess_reverse [v, e],
tau_int_abs_m [v, e], processor_seconds_per_proposal, processor_seconds_per_independent_abs_m, doubling_spread, bias``
(largest product of the spread and a correlation with |m|, m^2, phi^2, S: what an average is off by, in its standard
deviations), ``front`` (no other row of this L is both cheaper and better).
"""

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
from matplotlib.lines import Line2D

from latticediff.analysis import ess_reverse, field_series, integration_bias, tau_int
from latticediff.metropolis import IndependenceMetropolis, doubling_error
from latticediff.model.shipped import model_names
from latticediff.model.storage import load_model
from latticediff.proposal import proposal_for
from latticediff.proposal.grid import own_scheme
from latticediff.report.style import COLOURS, MARKERS, TAU, new_figure, styled
from latticediff.streams import Streams

FIGURE = Path(__file__).parent.parent / "docs" / "figures" / "pareto.png"
FACTORS = (0.6, 0.75, 1.0, 1.4)
LARGEST = 2048
SITES = 2**21  # of all draws of a row
FAMILIES = {"coarse": "-coarse", "fast": "-fast", "odd sites": "-odd", "accurate": ""}
SOUND = 2e-3  # bias, in standard deviations of an observable, above which a point is drawn open


def proposals(model, factors=FACTORS):
    """Proposals of one model with its own and other numbers of steps."""
    own = own_scheme(model)
    for factor in factors:
        if factor == 1.0:
            yield proposal_for(model)
        elif math.prod(model.lattice) <= LARGEST and own.get("grid") == "optimised":
            yield proposal_for(model, steps=max(6, round(factor * own["steps"])), grid="optimised")


def row(name, model, proposal, seed):
    """One point: ESS, price and bias of a proposal."""
    volume, streams = math.prod(model.lattice), Streams(seed).child(f"{name}-{proposal.steps}")
    n = max(200, SITES // volume)
    proposal.draw(32, streams.generator("warm"))
    began = time.process_time()
    draw = proposal.draw(n, streams.generator("draw"))
    seconds = (time.process_time() - began) / n
    kernel = IndependenceMetropolis(proposal, model.theory)
    state = kernel.hot_start(20, streams)
    _, block = kernel.advance(state, streams.child("chain"), max(20, n // 20))
    tau = tau_int(np.abs(block.phi.mean(axis=(2, 3))).T)
    error = doubling_error(proposal, draw.phi[:400], draw.log_q[:400])
    known = np.isfinite(error)  # with very few steps some fields cannot be inverted to the noise they came from
    found = integration_bias(error[known], field_series(draw.phi[:400][known], model.theory))
    ess = ess_reverse(-model.theory(draw.phi) - draw.log_q)
    return {
        "model": name,
        "L": model.lattice[0],
        "features": model.network.features,
        "evaluations": proposal.evaluations_per_draw,
        "ess_reverse": [ess.value, ess.error],
        "tau_int_abs_m": [tau.value, tau.error],
        "processor_seconds_per_proposal": seconds,
        "processor_seconds_per_independent_abs_m": 2 * tau.value * seconds,
        "doubling_spread": found.std,
        "bias": found.std * max(abs(value) for value, _ in found.correlations.values()),
    }


def with_front(rows):
    """Rows of one L with ``front``."""
    price = "processor_seconds_per_proposal"
    return [
        {**one, "front": not any(o[price] < one[price] and o["ess_reverse"] > one["ess_reverse"] for o in rows)}
        for one in rows
    ]


def plot(rows):
    """ESS lost against the price of an independent |m|."""
    with styled():
        figure, ax = new_figure(4.2)
        extents = sorted({row["L"] for row in rows})
        for extent, colour in zip(extents, COLOURS, strict=False):
            here = [row for row in rows if row["L"] == extent]
            for end, marker in zip(FAMILIES.values(), MARKERS, strict=False):
                mine = [row for row in here if row["model"] == f"phi4-A-L{extent}{end}"]
                for sound in (True, False):
                    some = [row for row in mine if (row["bias"] <= SOUND) == sound]
                    ax.plot(
                        [1e6 * row["processor_seconds_per_independent_abs_m"] for row in some],
                        [1 - row["ess_reverse"][0] for row in some],
                        marker=marker, ls="", color=colour, mfc=colour if sound else "none",
                    )  # fmt: skip
                for row in mine:
                    at = 1e6 * row["processor_seconds_per_independent_abs_m"], 1 - row["ess_reverse"][0]
                    ax.annotate(str(row["evaluations"]), at, xytext=(4, 3), textcoords="offset points", fontsize=6)
        ax.set(xscale="log", yscale="log", ylabel="1 - ESS of a proposal")
        ax.set_xlabel(rf"processor time of an independent $|m|$, 2 {TAU} proposals, in µs")
        sizes = [
            Line2D([], [], marker="o", ls="", color=colour, label=f"L = {extent}")
            for extent, colour in zip(extents, COLOURS, strict=False)
        ]
        families = [
            Line2D([], [], marker=marker, ls="", color="0.4", label=family)
            for family, marker in zip(FAMILIES, MARKERS, strict=False)
        ]
        ax.legend(handles=[*sizes, *families], ncols=2, fontsize=7, loc="upper left")
        figure.savefig(FIGURE, dpi=200, metadata={"Software": None})


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON row per line")
    parser.add_argument("--L", type=int, nargs="+", default=[8, 16, 32, 64])
    parser.add_argument("--own", action="store_true", help="the models' own numbers of steps alone: nothing is fitted")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plot", type=Path, metavar="ROWS", help="draw the figure from a file of rows")
    options = parser.parse_args(arguments)
    if options.plot:
        return plot([json.loads(line) for line in options.plot.read_text().splitlines()])
    for extent in options.L:
        names = [name for end in FAMILIES.values() if (name := f"phi4-A-L{extent}{end}") in model_names()]
        rows = []
        for name in names:
            model = load_model(name)
            factors = (1.0,) if options.own else FACTORS
            rows += [row(name, model, proposal, options.seed) for proposal in proposals(model, factors)]
        for one in with_front(rows):
            text = (
                f"{one['model']:18s} {one['evaluations']:3d} evaluations  ESS {one['ess_reverse'][0]:.4f}"
                f"  {1e6 * one['processor_seconds_per_independent_abs_m']:9.4g} us per |m|"
                f"  spread {one['doubling_spread']:.1e}  bias {one['bias']:.1e}{'  front' if one['front'] else ''}"
            )
            print(json.dumps(one) if options.json else text, flush=True)


if __name__ == "__main__":
    main()

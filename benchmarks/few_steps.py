"""How good a proposal is for how many network evaluations: both routes, every scheme, kernel and ladder.

    python benchmarks/few_steps.py MODEL [--sde-model MODEL] [--routes ode sde] [--evaluations 8 16 32 64] [--json]
    python benchmarks/few_steps.py --plot rows.jsonl

The SDE wants score-matched weights and the ODE fine-tuned ones, hence a second model of the same theory. Rows:
``model, shape, route, variant, steps, evaluations, ess_reverse [v, e], ess_forward [v, e], acceptance,
largest_forward_log_weight, doubling_median, doubling_spread, error_median [draws, way up],
milliseconds_per_proposal``. A coarse integrator is not a density: beside the ODE's figures stand the change of
log_weight under doubled steps and its difference from 64 Runge-Kutta steps; where they are not small against the spread
of log_weight its ESS means nothing.
Time grids are uniform, or optimised for the model (seconds to a minute each, unless the model's card has them).
The reverse SDE has no such error at any number of steps. The forward ESS uses fresh HMC chains.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from ess_table import held_out

from latticediff.analysis import ess_forward, ess_reverse, expected_acceptance, largest_above_mean
from latticediff.diffusion.runge_kutta import scheme
from latticediff.metropolis import doubling_error
from latticediff.model.storage import load_model
from latticediff.proposal import OdeProposal, SdeProposal
from latticediff.report.style import COLOURS, DASHES, MARKERS, new_figure, styled
from latticediff.streams import Streams

FIGURE = Path(__file__).parent.parent / "docs" / "figures" / "few-steps.png"
SOUND = 0.01  #: median change of log_weight under doubling above which an ODE's figures are drawn as open symbols
TARGET = 1e-3  #: dotted line: an error that no run of less than a million independent samples can notice
FINE = 64  #: Runge-Kutta steps of the reference
SCHEMES = [("rk4", "uniform"), ("dopri5", "uniform"), ("adams5", "uniform"), ("adams5", "optimised")]
VARIANTS = [
    ("gaussian", "geometric"),
    ("gaussian", "optimised"),
    ("site", "optimised"),
    ("dressed", "geometric"),
    ("dressed", "cosine"),
    ("dressed", "optimised"),
]


def proposals(model, evaluations, routes=("ode", "sde")):
    """``(route, variant, proposal)`` nearest to each number of evaluations."""
    if "ode" in routes:
        for method, grid in SCHEMES:
            per_step = scheme(method).evaluations(1)
            for steps in sorted({max(1, round(n / per_step)) for n in evaluations}):
                yield "ode", f"{method}, {grid} grid", OdeProposal(model, steps, method, grid=grid)
    if "sde" in routes:
        for kernel, ladder in VARIANTS:
            for steps in sorted({max(2, n) for n in evaluations}):
                yield "sde", f"{kernel}, {ladder} ladder", SdeProposal(model, steps, ladder=ladder, kernel=kernel)


def row(route, variant, proposal, phis, n, streams):
    """Measure one proposal with the random numbers that every other one gets too."""
    action = proposal.model.action
    draw = proposal.draw(10, streams.generator("warm-up"))  # compiles
    began = time.perf_counter()
    draw = proposal.draw(n, Streams(streams.seed).generator("draw"))
    seconds = time.perf_counter() - began
    weights = -action(draw.phi) - draw.log_q
    forward = -action(phis) - proposal.weigh(phis, Streams(streams.seed).generator("path"))
    forward[np.isnan(forward)] = np.inf  # a grid so coarse that no draw leads there: ESS 0
    doubling = spread = error = None
    if hasattr(proposal, "doubled"):
        change = doubling_error(proposal, draw.phi, draw.log_q)
        doubling, spread = float(np.median(np.abs(change))), float(change.std())
        error = errors(proposal, phis, streams)
    reverse_ess, forward_ess = ess_reverse(weights), ess_forward(forward)
    return {
        "route": route,
        "variant": variant,
        "steps": proposal.steps,
        "evaluations": proposal.evaluations_per_draw,
        "n": n,
        "ess_reverse": [reverse_ess.value, reverse_ess.error],
        "ess_forward": [forward_ess.value, forward_ess.error],
        "acceptance": expected_acceptance(weights),
        "largest_forward_log_weight": largest_above_mean(forward),
        "doubling_median": doubling,
        "doubling_spread": spread,
        "error_median": error,
        "milliseconds_per_proposal": 1e3 * seconds / n,
    }


def errors(proposal, phis, streams):
    """Median difference of log_weight from a fine integration: of draws at fixed noise, and one way up from fields."""
    fine, action = OdeProposal(proposal.model, FINE), proposal.model.action
    noise = Streams(streams.seed).generator("errors").standard_normal(phis.shape)
    coarse_draw, fine_draw = proposal.transport(noise), fine.transport(noise)
    change = action(coarse_draw.phi) + coarse_draw.log_q - action(fine_draw.phi) - fine_draw.log_q
    return [float(np.median(np.abs(e))) for e in (change, fine.estimate(phis) - proposal.estimate(phis))]


def draw_figure(rows, path):
    """Loss of ESS and, for the ODE, the error of log_weight, against the number of evaluations."""
    with styled():
        figure, panels = new_figure(7.4, nrows=3, sharex=True)
        heads = ("probability-flow ODE; open symbols: too coarse", "reverse SDE", "the ODE's integration error")
        places = ("upper right", "lower left")
        for route, loss, title, place in zip(("ode", "sde"), panels, heads, places, strict=False):
            mine = [r for r in rows if r["route"] == route]
            variants = dict.fromkeys(r["variant"] for r in mine)
            for variant, colour, marker, dashes in zip(variants, COLOURS, MARKERS, DASHES, strict=False):
                line = [r for r in mine if r["variant"] == variant]
                x = np.array([r["evaluations"] for r in line])
                ess, errors = np.array([r["ess_forward"] for r in line]).T
                loss.errorbar(x, 1 - ess, errors, color=colour, ls=dashes, marker=marker, label=variant)
                coarse = np.array([not (r["doubling_median"] or 0) <= SOUND for r in line])
                for which, face in ((~coarse, colour), (coarse, "white")):
                    loss.plot(x[which], (1 - ess)[which], ls="", marker=marker, color=colour, mfc=face, zorder=3)
                if route == "ode":
                    doubling = [r["doubling_median"] for r in line]
                    panels[2].plot(x, doubling, color=colour, ls=dashes, marker=marker)
            loss.set(ylabel="1 − forward ESS", xscale="log", yscale="log", title=title)
            if route == "sde":
                loss.set_ylim(bottom=5e-4)
            loss.legend(loc=place, fontsize=8)
        ticks = sorted({r["evaluations"] for r in rows if r["variant"] == rows[-1]["variant"]})
        panels[2].set_xticks(ticks, [str(tick) for tick in ticks])
        panels[2].minorticks_off()
        panels[2].axhline(SOUND, color="#777777", lw=0.8)
        panels[2].axhline(TARGET, color="#777777", lw=0.8, ls=":")
        panels[2].set(
            yscale="log", ylabel="change, steps doubled", title=heads[2], xlabel="network evaluations of a proposal"
        )
        figure.savefig(path, dpi=200, metadata={"Software": None})


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", help="folder, or the name of a shipped model")
    parser.add_argument("--sde-model", help="in its place for the SDE")
    parser.add_argument("--plot", type=Path, help="draw the figure from rows of an earlier run instead of measuring")
    parser.add_argument("--routes", nargs="+", choices=("ode", "sde"), default=["ode", "sde"])
    parser.add_argument("--evaluations", type=int, nargs="+", default=[4, 8, 15, 20, 30, 48, 64])
    parser.add_argument("--n", type=int, default=2000, help="proposals a row")
    parser.add_argument("--forward", type=int, default=1000, help="HMC configurations a row")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--figure", type=Path, default=FIGURE)
    arguments = parser.parse_args(argv)
    if arguments.plot:
        return draw_figure([json.loads(line) for line in arguments.plot.read_text().splitlines()], arguments.figure)
    if arguments.model is None:
        parser.error("a model, or --plot")
    names, streams = {"ode": arguments.model, "sde": arguments.sde_model or arguments.model}, Streams(arguments.seed)
    first, rows = load_model(arguments.model), []
    models = {route: load_model(names[route], action=first.action, shape=first.shape) for route in arguments.routes}
    phis = held_out(first, arguments.forward, streams.child("hmc"))
    every = (found for route, model in models.items() for found in proposals(model, arguments.evaluations, [route]))
    for route, variant, proposal in every:
        about = {"model": Path(names[route]).name, "shape": list(first.shape)}
        rows.append(found := about | row(route, variant, proposal, phis, arguments.n, streams))
        if arguments.json:
            print(json.dumps(found), flush=True)
            continue
        (reverse, r_error), (forward, f_error) = found["ess_reverse"], found["ess_forward"]
        doubling = ""
        if found["error_median"] is not None:
            drawn, given = found["error_median"]
            doubling = f" doubling {found['doubling_median']:.1e} error {drawn:.1e} (draws) {given:.1e} (given)"
        print(
            f"{route} {variant:26} {found['evaluations']:4d} evaluations: ESS {reverse:.3f}({r_error:.3f})"
            f" forward {forward:.3f}({f_error:.3f}) acceptance {found['acceptance']:.3f}"
            f" {found['milliseconds_per_proposal']:.2f} ms{doubling}",
            flush=True,
        )
    draw_figure(rows, arguments.figure)
    return rows


if __name__ == "__main__":
    main()

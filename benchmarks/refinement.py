"""ESS against network evaluations when a proposal is annealed above its noise, at fixed training.

    python benchmarks/refinement.py [--case phi4-A-L16:ode path/to/model:sde ...] [--scale 1.0] [--json]

Rows: ``model, route, shape, rungs, step, evaluations`` (a draw), ``ess_reverse [v, e]``, ``ess_forward [v, e]``
(fresh HMC configurations weighed along backward paths), ``log_weight_variance``, ``pooled_ess`` (as many plain
draws as rungs, pooled with weight their mean: the same evaluations, no annealing; for a Gaussian log_weight of the
variance s^2 measured at one rung), ``gaussian_ess`` (``exp(-s^2 / rungs)``: moves that forget everything),
``seconds_per_draw``. The step is that of a pilot, `latticediff.proposal.tuned_step`. ``--figure`` draws the rows;
``--rows FILE`` draws those of an earlier run. The ODE takes the model's own scheme, the SDE 30 dressed steps and is
meant for models of score matching alone: the folder ``score`` of a run whose card fine-tunes.
"""

import argparse
import json
import math
import time
from pathlib import Path

from latticediff.analysis import ess_forward, ess_reverse
from latticediff.build.configurations import fresh_configurations
from latticediff.model.storage import load_model
from latticediff.proposal import RefinedProposal, tuned_step
from latticediff.stages.densities import refined
from latticediff.streams import Streams

CASES = ("phi4-A-L16:ode", "phi4-A-L32:ode", "phi4-A-L128:ode")
RUNGS = {"ode": (1, 2, 4, 8), "sde": (1, 4, 16, 64)}
SITES = {"ode": 400_000, "sde": 80_000}  # field values drawn for a row
PILOT = 100  # draws that set the step


def rows(case, scale, seed):
    """Measure one model and route, rung by rung."""
    name, route = case.rsplit(":", 1)
    model = load_model(name)
    n = max(20, int(scale * min(4000, SITES[route] // model.gaussian.volume)))
    streams = Streams(seed).child(f"{model.action!r} {model.shape} {route}")
    inner = refined(model, route)
    step = tuned_step(inner, streams.generator("pilot"), PILOT)
    phis = fresh_configurations(model.action, model.shape, n, streams.child("reference"))
    flat = phis.reshape(-1, *model.shape)
    plain = None
    for rungs in RUNGS[route]:
        proposal = RefinedProposal(inner, rungs, step)
        began = time.process_time()
        draw = proposal.draw(n, streams.generator(f"draw-{rungs}"))
        seconds = (time.process_time() - began) / n
        reverse = -model.action(draw.phi) - draw.log_q
        forward = -model.action(flat) - proposal.weigh(flat, streams.generator(f"path-{rungs}"))
        found, seen = ess_reverse(reverse), ess_forward(forward.reshape(phis.shape[:2]))
        plain = plain or float(reverse.var())
        yield {
            "model": name,
            "route": route,
            "shape": list(model.shape),
            "rungs": rungs,
            "step": step,
            "evaluations": proposal.evaluations_per_draw,
            "n": n,
            "ess_reverse": [found.value, found.error],
            "ess_forward": [seen.value, seen.error],
            "log_weight_variance": float(reverse.var()),
            "pooled_ess": 1 / (1 + math.expm1(plain) / rungs),
            "gaussian_ess": math.exp(-plain / rungs),
            "seconds_per_draw": seconds,
        }


def draw_figure(found, path):
    """Relative variance of the weights, 1/ESS - 1, against evaluations; one panel a route."""
    from latticediff.report.style import COLOURS, MARKERS, legend, new_figure, styled

    def variance(pairs):
        values, errors = zip(*((1 / ess - 1, error / ess**2) for ess, error in pairs), strict=True)
        # a bar that reaches below zero would cover a logarithmic axis
        return values, ([min(e, 0.6 * v) for v, e in zip(values, errors, strict=True)], errors)

    routes = [route for route in ("ode", "sde") if any(row["route"] == route for row in found)]
    titles = {"ode": "probability-flow ODE", "sde": "reverse SDE, 30 steps"}
    with styled():
        figure, axes = new_figure(2.6 * len(routes), nrows=len(routes), squeeze=False)
        for ax, route in zip(axes[:, 0], routes, strict=True):
            models = dict.fromkeys(row["model"] for row in found if row["route"] == route)
            for model, colour, marker in zip(models, COLOURS, MARKERS, strict=False):
                mine = [row for row in found if row["route"] == route and row["model"] == model]
                x, L = [row["evaluations"] for row in mine], mine[0]["shape"][0]
                values, errors = variance([row["ess_forward"] for row in mine])
                ax.errorbar(x, values, errors, color=colour, marker=marker, label=f"L = {L}, forward")
                values, errors = variance([row["ess_reverse"] for row in mine])
                ax.errorbar(
                    x, values, errors, color=colour, marker=marker, mfc="white", ls="", label=f"L = {L}, reverse"
                )
                pooled = [1 / row["pooled_ess"] - 1 for row in mine]
                ax.plot(x, pooled, color=colour, ls="--", lw=1, label=f"L = {L}, pooled")
            ax.set(xscale="log", yscale="log", ylabel="1/ESS − 1", title=titles[route])
            ticks = sorted({row["evaluations"] for row in found if row["route"] == route})
            ax.set_xticks(ticks, [str(t) for t in ticks])
            ax.minorticks_off()
        axes[-1, 0].set_xlabel("network evaluations of one draw")
        legend(figure, axes[0, 0], outside=True)
        figure.savefig(path, dpi=200, metadata={"Software": None})


def _case(text):
    if text.rpartition(":")[2] not in RUNGS:
        raise argparse.ArgumentTypeError(f"got {text!r}; expected a model and a route, as in phi4-A-L16:ode")
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", nargs="+", default=CASES, type=_case, metavar="MODEL:ROUTE")
    parser.add_argument("--scale", type=float, default=1.0, help="draws relative to the default")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--figure", type=Path, help="write the figure there")
    parser.add_argument("--rows", type=Path, help="take the rows of an earlier run with --json; measure nothing")
    arguments = parser.parse_args()
    found = []
    if arguments.rows:
        found = [json.loads(line) for line in arguments.rows.read_text().splitlines()]
    for case in [] if arguments.rows else arguments.case:
        for row in rows(case, arguments.scale, arguments.seed):
            found.append(row)
            if arguments.json:
                print(json.dumps(row), flush=True)
                continue
            print(
                f"{row['model']:12} {row['route']} rungs {row['rungs']:3} step {row['step']:.2f}"
                f" evaluations {row['evaluations']:5}"
                f" ESS {row['ess_reverse'][0]:.3f}({row['ess_reverse'][1]:.3f})"
                f" forward {row['ess_forward'][0]:.3f}({row['ess_forward'][1]:.3f})"
                f" pooled {row['pooled_ess']:.3f} var {row['log_weight_variance']:.3f}"
                f" {1e3 * row['seconds_per_draw']:.2f} ms/draw",
                flush=True,
            )
    if arguments.figure:
        draw_figure(found, arguments.figure)


if __name__ == "__main__":
    main()

"""What the knobs of the learned kernels buy: acceptance, tau_int(|m|) and cost against each, and figures.

    python benchmarks/partial_noise.py [--cases L8 L32 weak] [--moves NAME ...] [--score FOLDER] [--json]
    python benchmarks/partial_noise.py --plot docs/knobs.jsonl --figures docs/figures

Cases: the shipped models at L = 8 and L = 32, and ``weak``, the score-matched network of L = 8 taken to the
line's point at L = 16 without training, where independent proposals are rarely accepted. Moves of the ODE have the
model's own scheme. The SDE wants score-matched weights: phi4-A-L8-score, and at L = 32 the model that ``--score``
names, such as ``score/`` of `latticediff run configs/phi4-A-L32.toml`; without it the SDE's rows of that case are left
out. Rows are those of `latticediff tune`, with ``case`` and ``move``; cost is network evaluations per independent |m|.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import NamedTuple

from latticediff.config import load_card
from latticediff.model.storage import load_model
from latticediff.proposal.grid import own_scheme
from latticediff.report.style import COLOURS, DASHES, MARKERS, TAU, log_axis, new_figure, styled
from latticediff.stages.tune import tune

CONFIGS = Path(__file__).parents[1] / "configs"
SCORE = "phi4-A-L8-score"
EPS = [0.3, 0.5, 0.7, 1.0]
#: name: (route, keys of [sampling.kernel], values)
MOVES = {
    "coloured": ("ode", {"move": "partial"}, EPS),
    "infrared": ("ode", {"move": "partial", "noise": "infrared"}, EPS),
    "white": ("ode", {"move": "partial", "noise": "white", "sigma": 1.0}, None),
    "half path": ("sde", {"move": "partial", "noise": "white", "sigma": 1.0}, None),
    "path coloured": ("sde", {"move": "partial"}, EPS),
    "block": ("ode", {"move": "block", "block": 2}, None),
    "tries": ("ode", {}, [1, 2, 4]),
}
FRACTIONS = [0.08, 0.2, 0.5, 1.0]  #: of the model's largest noise level: sigma of white noise


class Case(NamedTuple):
    """A theory, the models of both routes, and how long to look."""

    card: str
    models: dict  #: by route; None: left out
    blocks: list
    chains: dict  #: by route
    updates: dict


CASES = {
    "L8": Case(
        "phi4-A-L8.toml",
        {"ode": "phi4-A-L8", "sde": SCORE},
        [2, 4, 6, 8],
        {"ode": 40, "sde": 30},
        {"ode": 200, "sde": 120},
    ),
    "L32": Case(
        "phi4-A-L32.toml",
        {"ode": "phi4-A-L32", "sde": None},
        [4, 8, 16, 32],
        {"ode": 20, "sde": 10},
        {"ode": 60, "sde": 30},
    ),
    "weak": Case(
        "phi4-A-L16.toml",
        {"ode": SCORE, "sde": SCORE},
        [4, 8, 12, 16],
        {"ode": 24, "sde": 8},
        {"ode": 300, "sde": 300},
    ),
}


def rows_of(case, name, arguments):
    """One dict per value of the knob, those of the command line or the grid of the case."""
    about, (route, keys, values) = CASES[case], MOVES[name]
    chosen = arguments.score if (case, route) == ("L32", "sde") else about.models[route]
    if chosen is None:
        print(f"{case} {name}: left out, no --score", file=sys.stderr)
        return []
    overrides = [f"sampling.kernel.{key}={value}" for key, value in keys.items()]
    overrides += ["sampling.sde.steps=30", "sampling.sde.kernel=dressed", "sampling.sde.ladder=optimised", "run.seed=3"]
    model = load_model(chosen)
    overrides += [f"sampling.ode.{key}={value}" for key, value in own_scheme(model).items()]
    if name in ("white", "half path"):
        values = [fraction * model.noise.sigma_max for fraction in FRACTIONS]
    values = arguments.values or (about.blocks if name == "block" else values)
    n_chains, n_updates = arguments.chains or about.chains[route], arguments.updates or about.updates[route]
    card = load_card(CONFIGS / about.card, overrides)
    found = tune(card, chosen, route, values, n_chains, n_updates, outside=case == "weak").to_dict()
    row = {"case": case, "move": name, "route": route, "knob": found["knob"]}
    return [{**row, **trial, "n_chains": n_chains, "n_updates": n_updates} for trial in found["trials"]]


def plot(rows, folder):
    """``knobs-<case>.png``: acceptance, tau_int and cost against the knobs, one line a move."""
    looks = dict(zip(MOVES, zip(COLOURS, MARKERS, DASHES, strict=True), strict=True))  # the same in all figures
    labels = {"eps": "ε", "sigma": "σ", "block": "block edge", "tries": "tries"}
    for case in dict.fromkeys(row["case"] for row in rows):
        mine = [row for row in rows if row["case"] == case]
        knobs = [knob for knob in labels if len({row["value"] for row in mine if row["knob"] == knob}) > 1]
        with styled():
            figure, axes = new_figure(5.4, nrows=3, ncols=len(knobs), sharex="col", sharey="row", squeeze=False)
            for column, knob in zip(axes.T, knobs, strict=True):
                for name in dict.fromkeys(row["move"] for row in mine if row["knob"] == knob):
                    line = [row for row in mine if row["move"] == name and row["tau"] is not None]
                    x, tau = [row["value"] for row in line], [row["tau"] for row in line]
                    error, cost = [row["tau_error"] for row in line], [row["cost"] for row in line]
                    costs = [c * e / t for c, e, t in zip(cost, error, tau, strict=True)]
                    colour, marker, dashes = looks[name]
                    look = {"color": colour, "marker": marker, "ls": dashes}
                    label = f"{name}, {line[0]['route'].upper()}" if line else name
                    column[0].plot(x, [row["acceptance"] for row in line], label=label, **look)
                    column[1].errorbar(x, tau, error, **look)
                    column[2].errorbar(x, cost, costs, **look)
                for ax in column[1:]:
                    log_axis(ax)
                column[2].set_xlabel(labels[knob])
                if knob != "eps":
                    ticks = sorted({row["value"] for row in mine if row["knob"] == knob})
                    column[2].set_xscale("log")
                    column[2].set_xticks(ticks, [f"{tick:.2g}" for tick in ticks])
                    column[2].minorticks_off()
            for ax, text in zip(axes[:, 0], ("acceptance", f"{TAU} of |m|", "cost, evaluations"), strict=True):
                ax.set_ylabel(text)
            axes[0, 0].set_ylim(0, 1.03)
            handles = [pair for ax in axes[0] for pair in zip(*ax.get_legend_handles_labels(), strict=True)]
            figure.legend(*zip(*handles, strict=True), loc="outside lower center", ncols=3)
            path = Path(folder) / f"knobs-{case}.png"
            figure.savefig(path, dpi=200, metadata={"Software": None})
        print(path, file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--moves", nargs="+", choices=MOVES, default=list(MOVES))
    parser.add_argument("--values", nargs="+", type=float, help="of the knob, in place of the grid")
    parser.add_argument("--chains", type=int, help="side by side, in place of the case's")
    parser.add_argument("--updates", type=int, help="of each, in place of the case's")
    parser.add_argument("--score", help="score-matched model of the SDE at L = 32")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--plot", type=Path, help="draw figures from rows of an earlier run instead of measuring")
    parser.add_argument("--figures", type=Path, default=Path("."))
    arguments = parser.parse_args()
    if arguments.plot:
        return plot([json.loads(line) for line in arguments.plot.read_text().splitlines()], arguments.figures)
    for case in arguments.cases:
        for name in arguments.moves:
            for row in rows_of(case, name, arguments):
                if arguments.json:
                    print(json.dumps(row), flush=True)
                    continue
                tau = "no move" if row["tau"] is None else f"{row['tau']:.2f}({row['tau_error']:.2f})"
                print(
                    f"{case:5} {name:14} {row['knob']:>6} {row['value']:<6g} acceptance {row['acceptance']:.3f}"
                    f" tau_int(|m|) {tau:>12} cost {row['cost'] or float('inf'):.0f}",
                    flush=True,
                )
    return None


if __name__ == "__main__":
    main()

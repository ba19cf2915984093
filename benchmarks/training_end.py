"""What follows the last step of a training: its processor time, what a dry run says of it, and how good the grids are.

    python benchmarks/training_end.py phi4-A-L8=configs/phi4-A-L8.toml phi4-A-L8-fast=configs/phi4-A-L8-fast.toml

`--json` prints JSON.

For a shipped model and a card of its theory: processor and wall seconds of the score power (on draws of the model in
place of a training's data), of the fit of the time grid and of the ESS of the model's card; the wall time that a dry
run of the card foresees for all of it; and on fresh draws the spread of log_q under doubled steps with the fitted grid,
with the grid that came with the model, and with a uniform one, each with its statistical error. Ratios of wall times
mean something on an idle machine alone.
"""

import argparse
import json
import time

import numpy as np
import torch

from latticediff.build.learned import build_proposal, on_uniform_grid, plain_proposal, store_grid
from latticediff.config import load_card
from latticediff.metropolis import doubling_error
from latticediff.model.score_model import TIME_GRIDS
from latticediff.model.storage import load_model
from latticediff.proposal import OdeProposal
from latticediff.proposal.grid import stored_grid
from latticediff.stages.estimate import probe
from latticediff.stages.model_metrics import metrics
from latticediff.training import TrainingData
from latticediff.training.calibrate import N_LEVELS, SITES, measured_power

CHAINS = 64  # of the data, 8 of them held out


def spread(model, steps, method, grid, n):
    """Standard deviation of the change of log_q under doubled steps on n draws, and its error."""
    proposal = OdeProposal(model, steps, method, grid=grid)
    draw = proposal.draw(n, np.random.default_rng(7))
    change = doubling_error(proposal, draw.phi, draw.log_q)
    change = change[np.isfinite(change)]
    rng = np.random.default_rng(8)
    again = [change[rng.integers(len(change), size=len(change))].std() for _ in range(200)]
    return [float(change.std()), float(np.std(again))]


def row(name, path, n):
    """All figures of one model."""
    model, card = load_model(name), load_card(path, [f"training.init={name}"])
    ode = card.sampling.ode
    shipped = stored_grid(model, ode.steps, ode.method)
    foreseen = probe(card, ["train"])["finish train"].seconds
    whole = build_proposal(on_uniform_grid(card), model, "ode")
    fields = max(2048, 8 * SITES // (7 * model.gaussian.volume)) // CHAINS * CHAINS
    phis = whole.draw(fields, np.random.default_rng(1)).phi
    data = TrainingData(phis, CHAINS, 0.125, torch.device("cpu"), theory=model.action)
    levels = np.linspace(*model.noise.log_range, N_LEVELS)
    plain_proposal(on_uniform_grid(card), model, "ode").weigh(data.held_out[:16])  # compiles
    model.card = {key: value for key, value in model.card.items() if key != TIME_GRIDS}
    parts = {
        "power": lambda: measured_power(model.network, model.gaussian, data, levels),
        "grid": lambda: store_grid(card, model),
        "ess": lambda: metrics(card, model, data),
    }
    processor, wall = {}, {}
    for part, work in parts.items():
        began = time.process_time(), time.perf_counter()
        work()
        processor[part], wall[part] = time.process_time() - began[0], time.perf_counter() - began[1]
    fitted = stored_grid(model, ode.steps, ode.method)
    grids = {"fitted": fitted, "shipped": shipped, "uniform": "uniform"}
    return {
        "model": name,
        "steps": ode.steps,
        "processor_seconds": processor,
        "wall_seconds": wall,
        "foreseen_over_actual": foreseen / sum(wall.values()),
        "doubling_spread": {
            key: spread(model, ode.steps, ode.method, grid, n) for key, grid in grids.items() if grid is not None
        },
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pairs", nargs="+", metavar="MODEL=CARD")
    parser.add_argument("--n", type=int, default=1000, help="fresh draws behind each spread")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    arguments = parser.parse_args()
    for pair in arguments.pairs:
        found = row(*pair.split("=", 1), arguments.n)
        if arguments.json:
            print(json.dumps(found), flush=True)
            continue
        spent = ", ".join(f"{part} {seconds:.1f} s" for part, seconds in found["processor_seconds"].items())
        told = ", ".join(f"{key} {v:.2e}({e:.1e})" for key, (v, e) in found["doubling_spread"].items())
        print(
            f"{found['model']}, {found['steps']} steps: processor time of {spent}; foreseen / actual"
            f" {found['foreseen_over_actual']:.2f}; spread under doubled steps {told}",
            flush=True,
        )


if __name__ == "__main__":
    main()

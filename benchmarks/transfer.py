"""Weights of one lattice used on larger ones: ESS as they are, after a short score matching, after fine-tuning.

    python benchmarks/transfer.py [MODEL] [--to 16:4.98 32:4.572] [--matching 300] [--finetuning 200] [--json]

The line xi = L/4, convention A, m2 = -4: `--to` gives extents with their lam. Rows: ``model, L, lam, stage, steps,
seconds, ess_reverse [v, e], ess_forward [v, e], var_forward`` (per site). Data are drawn afresh (HMC and clusters).
"""

import argparse
import copy
import json
import math
import time

import numpy as np

from latticediff.action import Phi4
from latticediff.analysis import ess_forward, ess_reverse
from latticediff.cluster import Cluster
from latticediff.composite import Sequence
from latticediff.diffusion.ladder import NoiseRange
from latticediff.ensemble import start_fields
from latticediff.gaussian.propagator import measured_propagator, smooth_propagator
from latticediff.gaussian.reference import GaussianReference
from latticediff.hmc import warm_up
from latticediff.model.score_model import ScoreModel
from latticediff.model.storage import load_model
from latticediff.proposal import OdeProposal
from latticediff.streams import Streams
from latticediff.training import Task, Trainer, TrainingData, TrainingPlan
from latticediff.training.data import by_chain
from latticediff.training.finetune import FineTuner, FineTuningPlan

N_CHAINS, THIN = 32, 10
SITES = 2**15  # per step of score matching


def ensemble(action, shape, n, streams):
    """Configurations (n, *lattice), ordered by update, then by chain."""
    phi = start_fields("hot", N_CHAINS, shape, streams, action)
    kernel, state = warm_up(action, phi, streams, 0.85, 1.0)
    kernel = Sequence([kernel, Cluster(action)])
    state, _ = kernel.advance(state, streams.child("warmup"), 500, 500)
    _, block = kernel.advance(state._replace(update=0), streams.child("hmc"), THIN * -(-n // N_CHAINS), THIN)
    return block.phi.reshape(-1, *shape)


def measure(network, gaussian, noise, data, n, steps):
    """ESS both ways and the variance of log_weight per site."""
    power = np.ones((2, *gaussian.shape))
    model = ScoreModel(copy.deepcopy(network).requires_grad_(False), gaussian, noise, np.array(noise.log_range), power)
    proposal, action = OdeProposal(model, steps), gaussian.action
    draw = proposal.draw(n, np.random.default_rng(0))
    phi = data.held_out[:n].double().numpy()
    forward = -action(phi) - proposal.weigh(phi)
    forward[~np.isfinite(forward)] = np.inf
    found = (
        ess_reverse(-action(draw.phi) - draw.log_q),
        ess_forward(by_chain(forward, len(forward), data.held_out_chains)),
    )
    names = zip(("ess_reverse", "ess_forward"), found, strict=True)
    return {name: [estimate.value, estimate.error] for name, estimate in names} | {
        "var_forward": float(forward.var() / gaussian.volume) if np.isfinite(forward).all() else math.inf
    }


def rows(arguments):
    trained = load_model(arguments.model)
    for target in arguments.to:
        extent, lam = int(target.split(":")[0]), float(target.split(":")[1])
        action, shape, streams = Phi4.A(-4.0, lam), (extent, extent), Streams(arguments.seed).child(target)
        data = TrainingData(ensemble(action, shape, arguments.n_data, streams), N_CHAINS)
        half = len(data.train) // 2
        parts = (part.double().numpy() for part in (data.train[:half], data.train[half:]))
        propagator = smooth_propagator(*(measured_propagator([part], shape) for part in parts))
        gaussian = GaussianReference(action, propagator)
        noise = NoiseRange(trained.noise.sigma_min, 2 * float(propagator.flat[0]) ** 0.5)
        network, task = copy.deepcopy(trained.network).requires_grad_(True), Task(gaussian, data)

        def row(stage, steps, seconds, network=network, task=task, noise=noise, lam=lam):
            about = {
                "model": arguments.model,
                "L": task.gaussian.shape[0],
                "lam": lam,
                "stage": stage,
                "steps": steps,
            }
            found = measure(network, task.gaussian, noise, task.data, arguments.n, arguments.steps)
            return {**about, "seconds": seconds, **found}

        yield row("as they are", 0, 0.0)
        batch = max(1, SITES // gaussian.volume)
        plan = TrainingPlan(steps=arguments.matching, batch=batch, learning_rate=2e-3, warmup=30, ema_decay=0.98)
        began = time.perf_counter()
        network.load_state_dict(Trainer(network, task, noise, plan).run().state_dict())
        yield row("score matching", arguments.matching, time.perf_counter() - began)
        plan = FineTuningPlan(steps=arguments.finetuning, batch=max(2, SITES // 4 // gaussian.volume), check_every=0)
        began = time.perf_counter()
        network.load_state_dict(FineTuner(network, task, noise, plan).run().state_dict())
        yield row("and fine-tuning", arguments.finetuning, time.perf_counter() - began)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="phi4-A-L8")
    parser.add_argument("--to", nargs="+", default=["16:4.98", "32:4.572"], help="extent:lam")
    parser.add_argument("--matching", type=int, default=300, help="steps of score matching")
    parser.add_argument("--finetuning", type=int, default=200, help="steps of fine-tuning after it")
    parser.add_argument("--n", type=int, default=500, help="proposals, and held-out configurations")
    parser.add_argument("--n-data", type=int, default=6400)
    parser.add_argument("--steps", type=int, default=16, help="Runge-Kutta steps")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    arguments = parser.parse_args()
    for row in rows(arguments):
        print(json.dumps(row) if arguments.json else row, flush=True)


if __name__ == "__main__":
    main()

"""ESS of the shipped models, measured afresh: proposals of the ODE route, and HMC configurations weighed by it.

    python benchmarks/ess_table.py [--models NAME ...] [--n 10000] [--forward 2500] [--steps N] [--method M]
        [--grid G] [--json]

Rows: ``model, action, couplings, shape, parameters, training_seconds, inherited_seconds, data_seconds,
training_device, method, grid, evaluations, n, ess_reverse [v, e], ess_forward [v, e], acceptance, tau_int_abs_m [v, e],
doubling_median, doubling_spread, seconds_per_proposal``; seconds of training are those of the model and of all models
that its weights came from, `inherited_seconds` the part of the latter; `integration_error.py` measures the doubling in
full. Published points of exact, likelihood-weighted sampling on the same line of couplings stand beside them in the
table. The forward ESS uses fresh HMC chains, not the training data. Every model takes the integrator that it brings
along (`latticediff.proposal.grid.own_scheme`), unless told otherwise.
"""

import argparse
import json
import time

import numpy as np

from latticediff import bill
from latticediff.analysis import ess_forward, ess_reverse, tau_int
from latticediff.cluster import Cluster
from latticediff.composite import Sequence
from latticediff.ensemble import start_fields
from latticediff.hmc import warm_up
from latticediff.metropolis import IndependenceMetropolis, doubling_error
from latticediff.model.shipped import model_names
from latticediff.model.storage import load_model
from latticediff.proposal import proposal_for
from latticediff.proposal.grid import own_scheme
from latticediff.streams import Streams

#: (L, ESS, what): exact sampling of 2D phi^4 along xi = L/4, convention A, m2 = -4
PUBLISHED = [(32, 0.66, "continuous flow, 2021"), (32, 0.904, "continuous flow, GPU hours, 2022")]
N_CHAINS = 50
N_DOUBLING = 300
WARMUP, THIN = 400, 15


def held_out(model, n, streams):
    """Configurations (n, *lattice) of fresh chains: HMC, with a cluster update after each trajectory."""
    phi = start_fields("hot", N_CHAINS, model.lattice, streams, model.theory)
    kernel, state = warm_up(model.theory, phi, streams, 0.85, 1.0)
    # tau_int of m and of |m| is a few updates at all of these points (docs/classical.md)
    kernel = Sequence([kernel, Cluster(model.theory)])
    state, _ = kernel.advance(state, streams.child("warmup"), WARMUP, WARMUP)
    _, block = kernel.advance(state._replace(update=0), streams.child("hmc"), THIN * -(-n // N_CHAINS), THIN)
    return block.phi.swapaxes(0, 1).reshape(-1, *model.lattice)[:n]


def row(name, n, n_forward, seed, **scheme):
    """Measure one model; of `scheme`, None stands for its own."""
    model, streams = load_model(name), Streams(seed).child(name)
    scheme = own_scheme(model, **scheme)
    proposal = proposal_for(model, **scheme)
    kernel = IndependenceMetropolis(proposal, model.theory)
    state = kernel.hot_start(N_CHAINS, streams)
    state, _ = kernel.advance(state, streams, 10, 10)
    began = time.perf_counter()
    state, block = kernel.advance(state, streams, -(-n // N_CHAINS))
    seconds = time.perf_counter() - began
    weights = block.info["log_weight"].ravel()
    abs_m = np.abs(block.phi.reshape(*block.phi.shape[:2], -1).mean(axis=2)).T
    phis = held_out(model, n_forward, streams)
    forward = -model.theory(phis) - proposal.weigh(phis)
    some = phis[:N_DOUBLING]
    doubling = doubling_error(proposal, some, -model.theory(some) - forward[:N_DOUBLING])
    reverse_ess, forward_ess, tau = ess_reverse(weights), ess_forward(forward), tau_int(abs_m)
    return {
        "model": name,
        "action": model.theory.describe()["convention"],
        "couplings": dict(model.theory.couplings),
        "shape": list(model.lattice),
        "parameters": sum(p.numel() for p in model.network.parameters()),
        "training_seconds": bill.training_seconds(model.card),
        "inherited_seconds": bill.inherited_seconds(model.card),
        "data_seconds": bill.data_seconds(model.card),
        "training_device": model.card["training"]["device"],
        "method": scheme["method"],
        "grid": scheme["grid"],
        "evaluations": proposal.evaluations_per_draw,
        "n": len(weights),
        "ess_reverse": [reverse_ess.value, reverse_ess.error],
        "ess_forward": [forward_ess.value, forward_ess.error],
        "largest_forward_log_weight": float(forward.max() - forward.mean()),
        "acceptance": float(block.info["accepted"].mean()),
        "tau_int_abs_m": [tau.value, tau.error],
        "doubling_median": float(np.median(np.abs(doubling))),
        "doubling_spread": float(doubling.std()),
        "seconds_per_proposal": seconds / len(weights),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=model_names())
    parser.add_argument("--n", type=int, default=10_000, help="proposals per model")
    parser.add_argument("--forward", type=int, default=2500, help="HMC configurations per model")
    parser.add_argument("--steps", type=int, help="integration steps; default: the model's own")
    parser.add_argument("--method", help="integrator; default: the model's own")
    parser.add_argument("--grid", help="uniform or optimised; default: the model's own")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    arguments = parser.parse_args()
    for name in arguments.models:
        scheme = {"steps": arguments.steps, "method": arguments.method, "grid": arguments.grid}
        found = row(name, arguments.n, arguments.forward, arguments.seed, **scheme)
        if arguments.json:
            print(json.dumps(found), flush=True)
            continue
        shape = "x".join(map(str, found["shape"]))
        reverse, forward, tau = found["ess_reverse"], found["ess_forward"], found["tau_int_abs_m"]
        print(
            f"{name:14} {shape:8} ESS {reverse[0]:.4f}({reverse[1]:.4f}) forward {forward[0]:.4f}({forward[1]:.4f})"
            f" acceptance {found['acceptance']:.3f} tau_int(|m|) {tau[0]:.3f}({tau[1]:.3f})"
            f" {found['evaluations']} evaluations, doubling {found['doubling_spread']:.1e}"
            f" {1e3 * found['seconds_per_proposal']:.3f} ms/proposal,"
            f" trained {found['training_seconds']:.0f} s on {found['training_device']}, of them"
            f" {found['inherited_seconds']:.0f} s models whose weights it began with",
            flush=True,
        )
        for L, ess, what in PUBLISHED:
            if found["shape"] == [L, L]:
                print(f"{'published':14} {shape:8} ESS {ess} ({what})", flush=True)


if __name__ == "__main__":
    main()

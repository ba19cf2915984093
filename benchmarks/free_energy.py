"""log Z of the shipped models from their densities, beside thermodynamic integration by HMC. Long: minutes.

    python benchmarks/free_energy.py [--models phi4-A-L8 phi4-A-L16] [--nodes 12] [--updates 4000] [--n 10000] [--json]

Integration runs from a free theory, where log Z is a closed form, along a straight line of actions
``S_t = S_0 + t (S_1 - S_0)``: ``log Z_1 = log Z_0 - int_0^1 <S_1 - S_0>_t dt``, with Gauss-Legendre nodes and one
set of chains (a trajectory and one cluster update each) at every node. `quadrature_change` is the result less that
of about half as many nodes: the integrand is smooth, and this should be below the error.
Rows: ``model, shape, log_z_integration [v, e], quadrature_change, log_z_draws [v, e], log_z_bridge [v, e], sigma``
(bridge less integration in both errors), ``integration_seconds, density_seconds`` (processor time; training is not
in it), ``variance_ratio``: how many times more seconds integration would need for the bridge's error.
"""

import argparse
import json
import math
import time

import numpy as np

from latticediff.action import Phi4, free_log_z
from latticediff.analysis import mean
from latticediff.cluster import Cluster
from latticediff.composite import Sequence
from latticediff.ensemble import start_fields
from latticediff.hmc import warm_up
from latticediff.model.storage import load_model
from latticediff.stages.densities import measure_free_energy
from latticediff.streams import Streams

N_CHAINS = 64
THIN, WARMUP = 4, 200


def free_theory(action):
    """A free theory of the same hopping: m2 such that fluctuations of a site are of the target's size."""
    return Phi4.A(1.0, 0.0, action.ndim)


def between(start, end, t):
    """The action ``start + t (end - start)``, in convention A."""
    m2, lam = ((1 - t) * start.couplings[name] + t * end.couplings[name] for name in ("m2", "lam"))
    return Phi4.A(m2, lam, start.ndim)


def slope(start, end, t, shape, updates, streams):
    """``-<S_1 - S_0>_t`` with its error."""
    action = between(start, end, t)
    kernel, state = warm_up(action, start_fields("hot", N_CHAINS, shape, streams, action), streams)
    kernel = Sequence([kernel, Cluster(action)])
    state, _ = kernel.advance(state._replace(update=0), streams.child("warmup"), WARMUP, WARMUP)
    _, block = kernel.advance(state._replace(update=0), streams.child("chain"), updates, THIN)
    phis = block.phi
    found = mean((start(phis) - end(phis)).T)
    return found.value, found.error


def integrate(action, shape, n_nodes, updates, streams):
    """log Z of the action by Gauss-Legendre quadrature, its error, and both per node count."""
    start = free_theory(action)
    x, weights = np.polynomial.legendre.leggauss(n_nodes)
    values = [
        slope(start, action, t, shape, updates, streams.child(f"{n_nodes}-node-{i}"))
        for i, t in enumerate(0.5 * (x + 1))
    ]
    slopes, errors = np.array(values).T
    return free_log_z(start, shape) + 0.5 * weights @ slopes, 0.5 * math.hypot(*(weights * errors))


def row(name, n_nodes, updates, n, seed):
    """One model."""
    model, streams = load_model(name), Streams(seed).child(name)
    if model.action.convention != "A":
        raise SystemExit(f"{name} is in convention {model.action.convention}; the path is written for A")
    began = time.process_time()
    value, error = integrate(model.action, model.shape, n_nodes, updates, streams)
    long = time.process_time() - began
    coarse, _ = integrate(model.action, model.shape, n_nodes // 2 + 1, updates, streams)
    began = time.process_time()
    # log Z takes the mean of the integration error in full: finer than what the model's chains need
    found = measure_free_energy(name, n=n, steps=16, method="rk4", seed=seed)
    short = time.process_time() - began
    estimates = found.estimates
    bridge = estimates.bridge
    return {
        "model": name,
        "shape": list(model.shape),
        "nodes": n_nodes,
        "log_z_integration": [float(value), float(error)],
        "quadrature_change": float(value - coarse),
        "log_z_draws": estimates.reverse.pair(),
        "log_z_bridge": bridge.pair(),
        "integration_error": found.integration.mean,
        "sigma": float((bridge.value - value) / math.hypot(error, bridge.error)),
        "integration_seconds": long,
        "density_seconds": short,
        "variance_ratio": float((error / bridge.error) ** 2 * long / short),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["phi4-A-L8", "phi4-A-L16"])
    parser.add_argument("--nodes", type=int, default=12)
    parser.add_argument("--updates", type=int, default=4000, help="of each of 64 chains at every node")
    parser.add_argument("--n", type=int, default=10_000, help="draws, and as many configurations")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    arguments = parser.parse_args()
    for name in arguments.models:
        found = row(name, arguments.nodes, arguments.updates, arguments.n, arguments.seed)
        if arguments.json:
            print(json.dumps(found), flush=True)
            continue
        print(
            f"{name:12} integration {found['log_z_integration'][0]:.4f}({found['log_z_integration'][1]:.4f})"
            f" [nodes {found['quadrature_change']:+.4f}]  bridge {found['log_z_bridge'][0]:.4f}"
            f"({found['log_z_bridge'][1]:.4f})  difference {found['sigma']:+.1f} sigma"
            f"  {found['integration_seconds']:.0f} s against {found['density_seconds']:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()

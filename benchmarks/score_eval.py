"""One score-plus-divergence evaluation of the default network: nanoseconds per site, and the distance to the limit.

    python benchmarks/score_eval.py [--L 8 16 32 64] [--features 24] [--threads 1 2] [--components N] [--json]

Every row is the median of repeated passages of the probability flow, everything counted (transforms, network,
divergence, Runge-Kutta sums), divided by sites and evaluations; with `--components` the network is that of O(N)
theories, and a site counts N times. Passages of all engines at one size are made in turns. `compiled` is what
proposals use on the CPU, `torch` the same network by plain torch operations (on CUDA too, where there is a device).
GFLOP/s counts multiplications and additions of kernels, transforms and activations; the limit is what a large float32
matrix product reaches on the same threads in the same run.
"""

import argparse
import copy
import json
import statistics
import time

import numba
import numpy as np
import torch

from latticediff.action import ON, Phi4
from latticediff.diffusion.compiled import CompiledFlow
from latticediff.diffusion.flow import ProbabilityFlow
from latticediff.diffusion.ladder import NoiseRange
from latticediff.diffusion.runge_kutta import scheme
from latticediff.gaussian.reference import GaussianReference
from latticediff.lattice import p_hat_squared
from latticediff.networks.ridge.network import RidgeNetwork
from latticediff.networks.ridge.vector import VectorRidgeNetwork

STEPS = 4


def flops_per_site(network, L):
    """Multiplications and additions of one evaluation per site, 2D."""
    taps = len(network.offsets)
    core = 2 * network.features * taps * (network.inputs + network.outputs)
    transforms = (network.inputs + network.outputs) * 2 * 2 * L  # of two axes, L products each
    return core + transforms + 30 * network.features


def peak_gflops(threads):
    """Float32 matrix product on `threads` threads, GFLOP/s, best of ten."""
    torch.set_num_threads(threads)
    a = torch.randn(1024, 1024)
    best = min(_timed(lambda: a @ a) for _ in range(10))
    return 2 * 1024**3 / best / 1e9


def _timed(work):
    began = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def passage(kind, network, gaussian, n, device):
    """A callable that runs one passage for `n` configurations, and its number of evaluations."""
    grid = NoiseRange(0.02, 4 * gaussian.g_max**0.5).grid(STEPS)
    noise = np.random.default_rng(0).standard_normal((n, *gaussian.shape))
    if kind == "compiled":
        flow = CompiledFlow(network, gaussian, grid, scheme("rk4"))
        return lambda: flow.down(noise), flow.evaluations
    flow = ProbabilityFlow(copy.deepcopy(network).to(device), gaussian.to(device=device), grid, scheme("rk4"))
    precision = torch.float64 if getattr(network, "double_state", False) else torch.float32
    y = torch.as_tensor(noise, dtype=precision, device=device)
    return lambda: flow.down(y), flow.evaluations


def theory_and_network(L, features, components):
    """A reference on LxL and a network of random amplitudes, for one component (None) or several."""
    torch.manual_seed(0)
    propagator = 1 / (p_hat_squared((L, L)) * 2 + 0.5)
    if components is None:
        network, action = RidgeNetwork(2, features=features), Phi4.A(-4.0, 5.0)
    else:
        network, action = VectorRidgeNetwork(3, features=features), ON("A", {"m2": -4.0, "lam": 5.0}, components)
        propagator = np.broadcast_to(propagator, (components, L, L)).copy()
    torch.nn.init.normal_(network.amplitude.weight, std=0.1)  # amplitudes of zero would be no test of accuracy
    return network.requires_grad_(False), GaussianReference(action, propagator)


def on(threads, work):
    """Seconds of a passage on so many threads."""
    numba.set_num_threads(threads)
    torch.set_num_threads(threads)
    return _timed(work)


def rows(arguments):
    cases = [("compiled", "cpu", t) for t in arguments.threads] + [("torch", "cpu", max(arguments.threads))]
    if torch.cuda.is_available():
        cases.append(("torch", "cuda", 1))
    limits = {t: peak_gflops(t) for t in arguments.threads}
    for L in arguments.L:
        network, gaussian = theory_and_network(L, arguments.features, arguments.components)
        sizes = [max(16, (2**20 if device == "cuda" else 2**16) // L**2) for _, device, _ in cases]
        passages = [
            passage(kind, network, gaussian, n, device) for n, (kind, device, _) in zip(sizes, cases, strict=True)
        ]
        for work, _ in passages:
            work()  # compiles
        turns = [
            [on(threads, work) for (work, _), (_, _, threads) in zip(passages, cases, strict=True)]
            for _ in range(arguments.repeats)
        ]
        medians = [statistics.median(spent) for spent in zip(*turns, strict=True)]
        for n, (_, evaluations), (kind, device, threads), seconds in zip(sizes, passages, cases, medians, strict=True):
            ns = seconds / (n * gaussian.volume * evaluations) * 1e9
            gflops = flops_per_site(network, L) / ns
            row = {"network": network.name, "engine": kind, "L": L, "batch": n, "device": device, "threads": threads}
            row |= {"ns_per_site": ns, "gflops": gflops}
            if device == "cpu":
                row["fraction_of_limit"] = gflops / limits[threads]
            yield row


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--L", type=int, nargs="+", default=[8, 16, 32, 64])
    parser.add_argument("--features", type=int, default=24)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--components", type=int, help="of an O(N) theory; default: phi^4")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    arguments = parser.parse_args()
    for row in rows(arguments):
        print(json.dumps(row) if arguments.json else row, flush=True)


if __name__ == "__main__":
    main()

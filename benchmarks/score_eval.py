"""One score-plus-divergence evaluation of the default network: nanoseconds per site, and the distance to the limit.

    python benchmarks/score_eval.py [--L 8 16 32 64] [--features 24] [--threads 1 2] [--json]

Every row is the median of repeated passages of the probability flow, everything counted (transforms, network,
divergence, Runge-Kutta sums), divided by sites and evaluations; `compiled` is what proposals use on the CPU,
`torch` the same network by plain torch operations (on CUDA too, where there is a device). GFLOP/s counts
multiplications and additions of kernels, transforms and activations; the limit is what a large float32 matrix
product reaches on the same threads in the same run.
"""

import argparse
import json
import statistics
import time

import numba
import numpy as np
import torch

from latticediff.action import Phi4
from latticediff.diffusion.compiled import CompiledFlow
from latticediff.diffusion.flow import ProbabilityFlow
from latticediff.diffusion.ladder import NoiseRange
from latticediff.diffusion.runge_kutta import scheme
from latticediff.gaussian.reference import GaussianReference
from latticediff.lattice import p_hat_squared
from latticediff.networks.ridge.network import RidgeNetwork

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
    flow = ProbabilityFlow(network.to(device), gaussian.to(device=device), grid, scheme("rk4"))
    y = torch.as_tensor(noise, dtype=torch.float32, device=device)
    return lambda: flow.down(y), flow.evaluations


def rows(arguments):
    action = Phi4.A(-4.0, 5.0)
    cases = [("compiled", "cpu", t) for t in arguments.threads] + [("torch", "cpu", max(arguments.threads))]
    if torch.cuda.is_available():
        cases.append(("torch", "cuda", 1))
    limits = {t: peak_gflops(t) for t in arguments.threads}
    for L in arguments.L:
        torch.manual_seed(0)
        network = RidgeNetwork(2, features=arguments.features)
        torch.nn.init.normal_(network.amplitude.weight, std=0.1)  # amplitudes of zero would be no test of accuracy
        network.requires_grad_(False)
        gaussian = GaussianReference(action, 1 / (p_hat_squared((L, L)) * 2 + 0.5))
        for kind, device, threads in cases:
            n = max(16, (2**20 if device == "cuda" else 2**16) // L**2)
            numba.set_num_threads(threads)
            torch.set_num_threads(threads)
            work, evaluations = passage(kind, network, gaussian, n, device)
            work()  # compiles
            seconds = statistics.median(_timed(work) for _ in range(arguments.repeats))
            ns = seconds / (n * L * L * evaluations) * 1e9
            gflops = flops_per_site(network, L) / ns
            row = {"network": "ridge", "engine": kind, "L": L, "batch": n, "device": device, "threads": threads}
            row |= {"ns_per_site": ns, "gflops": gflops}
            if device == "cpu":
                row["fraction_of_limit"] = gflops / limits[threads]
            yield row


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--L", type=int, nargs="+", default=[8, 16, 32, 64])
    parser.add_argument("--features", type=int, default=24)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    arguments = parser.parse_args()
    for row in rows(arguments):
        print(json.dumps(row) if arguments.json else row, flush=True)


if __name__ == "__main__":
    main()

"""Cost of the divergence of a score against the volume, for each method of `targets.objectives.traces`.

    python benchmarks/trace_cost.py [--L 6 12 24 48] [--json]

Two networks: the ridge network (spectral filters, so it has no finite range: full Jacobian, closed form, one
Hutchinson probe) and two stacked periodic 3x3 convolutions (reach 2: coloured probes, 9 where L is a multiple
of 3). `score_evaluations` is the time in units of one evaluation of the same score: it grows like the volume
for the full Jacobian and stays constant for the others. Times are the least of the repeats.
"""

import argparse
import json
import time

import numpy as np
import torch

from latticediff.action import Phi4
from latticediff.gaussian.reference import GaussianReference
from latticediff.lattice import p_hat_squared
from latticediff.networks.colouring import colouring
from latticediff.networks.ridge.network import RidgeNetwork
from latticediff.targets.objectives import (
    ModelScore,
    closed_form,
    coloured_probes,
    full_jacobian,
    hutchinson,
)

LARGEST_FULL = 1024  # sites; beyond, the point is made
REACH = 2


class Convolutions(torch.nn.Module):
    """Two periodic 3x3 convolutions with an odd function between."""

    def __init__(self, channels=24):
        super().__init__()
        options = {"kernel_size": 3, "padding": 1, "padding_mode": "circular", "bias": False}
        self.inner, self.outer = torch.nn.Conv2d(1, channels, **options), torch.nn.Conv2d(channels, 1, **options)

    def forward(self, x, sigma):
        return self.outer(torch.tanh(self.inner(x[:, None])))[:, 0] / sigma[:, None, None]


def least(work, repeats):
    """Seconds of the fastest of `repeats` calls after one that warms up."""
    work()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def rows(arguments):
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    ridge, local = RidgeNetwork(2).requires_grad_(False), Convolutions().requires_grad_(False)
    torch.nn.init.normal_(ridge.amplitude.weight, std=0.1)
    for L in arguments.L:
        score = ModelScore(ridge, GaussianReference(Phi4.A(-4.0, 5.0), 1 / (p_hat_squared((L, L)) * 2 + 0.5)))
        x = torch.as_tensor(rng.standard_normal((arguments.batch, L, L)), dtype=torch.float32)
        sigma = torch.full((arguments.batch,), 0.5)
        cases = [
            ("closed_form", "ridge", score, closed_form, 0),
            ("hutchinson", "ridge", score, lambda *a: hutchinson(*a, rng=rng), 1),
            ("coloured_probes", "local", local, lambda *a: coloured_probes(*a, reach=REACH), None),
        ]
        if L * L <= LARGEST_FULL:
            cases.append(("full_jacobian", "ridge", score, full_jacobian, L * L))
        for method, name, model, trace, passes in cases:
            with torch.no_grad():
                seconds = least(lambda: trace(model, x, sigma), arguments.repeats)  # noqa: B023
                unit = least(lambda: model(x, sigma), arguments.repeats)  # noqa: B023
            yield {
                "method": method,
                "network": name,
                "L": L,
                "volume": L * L,
                "batch": arguments.batch,
                "backward_passes": len(colouring((L, L), REACH)) if passes is None else passes,
                "seconds": seconds,
                "score_evaluations": seconds / unit,
            }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--L", type=int, nargs="+", default=[6, 12, 24, 48])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for row in rows(arguments):
        print(json.dumps(row) if arguments.json else row, flush=True)


if __name__ == "__main__":
    main()

"""Networks side by side after equal training: cost of an evaluation, score error by noise level, ESS of both routes.

    python benchmarks/networks.py [--networks ridge residual unet] [--seconds 60] [--L 8] [--lam 6.008] [--json]

The theory of the shipped demo on one thread. Every network gets the same CPU seconds, as many steps as they
allow at its own learning rate; then, on held-out HMC chains:

- `ns_per_site`: one evaluation of R (what a training step or a reverse SDE step needs) and, `ns_per_site_trace`, one
  of R with its exact divergence (what an ODE step needs), by plain torch for all of them;
- `held_out_loss` per site (theory page, eq. 8; nearly all of it is noise of the target), and `difference`: loss minus
  that of the first network with the same fields, noise and levels, [value, error];
- `by_level`: the same difference in eight bins of log sigma, with `score_error`, the mean of
  ``|C (R_theta - R)|^2 / v`` per site with the target's noise taken out (`latticediff.model.score_error`): the one
  figure that can be read without another network beside it, [value, error];
- `ess_ode`, `ess_sde`: reverse ESS, [value, error]; the ODE of deep networks by full Jacobian.
"""

import argparse
import json
import time

import numba
import numpy as np
import torch

from latticediff import registry
from latticediff.action import Phi4
from latticediff.analysis import ess_reverse
from latticediff.diffusion.ladder import NoiseRange
from latticediff.ensemble import start_fields
from latticediff.gaussian.propagator import measured_propagator
from latticediff.gaussian.reference import GaussianReference
from latticediff.hmc import warm_up
from latticediff.model.score_error import score_error
from latticediff.proposal import OdeProposal, SdeProposal
from latticediff.streams import Streams
from latticediff.targets.control_variates import fit_blend
from latticediff.targets.matching import denoising_loss
from latticediff.training import Task, Trainer, TrainingData, TrainingPlan
from latticediff.training.calibrate import finish_model

#: Options and the best of the learning rates 5e-3 and 1e-2.
NETWORKS = {
    "ridge": ({}, 1e-2),
    "residual": ({}, 5e-3),
    "residual-symmetric": ({"symmetric": True}, 5e-3),
    "unet": ({}, 5e-3),
}
N_CHAINS, THIN, SIGMA_MIN, BATCH, BINS = 64, 10, 0.01, 256, 8
TIMED = 10  # steps that are timed before the training


def ensemble(action, shape, n, streams):
    """HMC configurations (n, *lattice), by update and then by chain."""
    phi = start_fields("hot", N_CHAINS, shape, streams, action)
    kernel, state = warm_up(action, phi, streams, 0.85, 1.0)
    state, _ = kernel.advance(state, streams.child("warmup"), 1000, 1000)
    _, block = kernel.advance(state._replace(update=0), streams.child("hmc"), THIN * (n // N_CHAINS), THIN)
    return block.phi.reshape(-1, *shape)


def trained(name, task, noise, seconds, seed):
    """Trainer after `seconds` of CPU time, and the steps that took."""
    options, rate = NETWORKS[name]
    make = registry.load("networks", name.split("-")[0])

    def trainer(steps):
        torch.manual_seed(seed)
        plan = TrainingPlan(steps=steps, batch=BATCH, learning_rate=rate, warmup=min(200, steps), seed=seed)
        return Trainer(make(task.gaussian.ndim, **options), task, noise, plan)

    trial = trainer(10**6)
    for _ in range(TIMED):  # compiles
        trial.advance()
    began = time.process_time()
    for _ in range(TIMED):
        trial.advance()
    made = trainer(max(1, int(seconds * TIMED / (time.process_time() - began))))
    while made.step < made.plan.steps:
        made.advance()
    return made


@torch.no_grad()
def evaluation_ns(network, gaussian, trace, n=64):
    """Nanoseconds per site of one evaluation of `n` fields, CPU time, best of three."""
    x, level = torch.randn(n, *gaussian.shape), torch.zeros(1)
    times = []
    for _ in range(4):
        began = time.process_time()
        network(gaussian, x, level, trace)
        times.append(time.process_time() - began)
    return min(times[1:]) / x.numel() * 1e9


@torch.no_grad()
def held_out_losses(network, task, noise, target, repeats):
    """log sigma and loss per site of held-out configurations, each `repeats` times, the same for every network."""
    gaussian, phis = task.gaussian, task.data.held_out
    low, high = noise.log_range
    generator = torch.Generator().manual_seed(0)
    levels, losses = [], []
    for _ in range(repeats):
        order = torch.randperm(len(phis), generator=generator)
        log_sigma = low + (high - low) * (order + torch.rand(1, generator=generator)) / len(phis)
        for phi, level in zip(phis.split(1000), log_sigma.split(1000), strict=True):
            z = torch.randn(phi.shape, generator=generator)
            losses.append(denoising_loss(network, gaussian, phi, z, level, target) / gaussian.volume)
        levels.append(log_sigma)
    return torch.cat(levels).double().numpy(), torch.cat(losses).double().numpy()


def with_error(values):
    """[mean, error] of independent values."""
    return [float(values.mean()), float(values.std() / np.sqrt(len(values)))]


def rows(arguments):
    action, shape, streams = Phi4.A(-4.0, arguments.lam), (arguments.L, arguments.L), Streams(arguments.seed)
    data = TrainingData(ensemble(action, shape, arguments.configurations, streams), N_CHAINS)
    propagator = measured_propagator([data.train.double().numpy()], shape)
    task = Task(GaussianReference(action, propagator), data)
    noise = NoiseRange(SIGMA_MIN, 4 * float(propagator.flat[0]) ** 0.5)
    target = fit_blend(task.gaussian, data.train, noise)
    first, edges = None, np.linspace(*noise.log_range, BINS + 1)
    for name in arguments.networks:
        trainer = trained(name, task, noise, arguments.seconds, arguments.seed)
        network, gaussian = trainer.averaged().requires_grad_(False), trainer.gaussian
        levels, losses = held_out_losses(network, task, noise, target, arguments.repeats)
        first = losses if first is None else first
        model = finish_model(network, gaussian, noise, data)
        apart = data.held_out[:: max(1, len(data.held_out) // arguments.fields)][: arguments.fields].double().numpy()
        error = score_error(model, apart, BINS, arguments.posterior)
        bins = np.clip(np.digitize(levels, edges) - 1, 0, BINS - 1)
        closed = not hasattr(network, "passes")
        n = arguments.proposals * (10 if closed else 1)
        ess = {}
        for route in (OdeProposal(model, 12), SdeProposal(model, 60)):
            draw = route.draw(n, streams.child(name).generator("propose"))
            ess[route.describe()["name"]] = ess_reverse(-action(draw.phi) - draw.log_q)
        yield {
            "network": name,
            "shape": list(shape),
            "parameters": sum(p.numel() for p in network.parameters()),
            "steps": trainer.step,
            "training_seconds": arguments.seconds,
            "ns_per_site": evaluation_ns(network, gaussian, False),
            "ns_per_site_trace": evaluation_ns(network, gaussian, True),
            "held_out_loss": with_error(losses),
            "difference": with_error(losses - first),
            "score_error": [error.kl / np.log(error.sigma[-1] / error.sigma[0]) / gaussian.volume]
            + [error.kl_error / np.log(error.sigma[-1] / error.sigma[0]) / gaussian.volume],
            "by_level": [
                {
                    "log_sigma": [float(edges[b]), float(edges[b + 1])],
                    "difference": with_error((losses - first)[bins == b]),
                    "at": float(np.log(error.sigma[b])),
                    "score_error": [error.error[b] / gaussian.volume, error.uncertainty[b] / gaussian.volume],
                }
                for b in range(BINS)
            ],
            "proposals": n,
            "ess_ode": [ess["ode"].value, ess["ode"].error],
            "ess_sde": [ess["sde"].value, ess["sde"].error],
        }


def show(row):
    """One row for people."""
    pairs = {key: "{:.3g}({:.1g})".format(*row[key]) for key in ("held_out_loss", "difference", "ess_ode", "ess_sde")}
    print(
        f"{row['network']:>20}: {row['parameters']} parameters, {row['steps']} steps in {row['training_seconds']:g} s,"
        f" {row['ns_per_site']:.0f} ns/site, with trace {row['ns_per_site_trace']:.0f}; "
        + ", ".join(f"{key} {value}" for key, value in pairs.items()),
        flush=True,
    )
    for bin_ in row["by_level"]:
        print(
            " " * 22
            + "log sigma {:+.2f} to {:+.2f}".format(*bin_["log_sigma"])
            + ": difference {:+.1e} +- {:.0e}".format(*bin_["difference"])
            + f"; at {bin_['at']:+.2f} score error "
            + "{:.1e} +- {:.0e}".format(*bin_["score_error"]),
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=["ridge", "residual", "unet"])
    parser.add_argument("--L", type=int, default=8)
    parser.add_argument("--lam", type=float, default=6.008)
    parser.add_argument("--seconds", type=float, default=60.0, help="CPU seconds of training for each network")
    parser.add_argument("--configurations", type=int, default=40_000)
    parser.add_argument("--repeats", type=int, default=8, help="noises for each held-out configuration")
    parser.add_argument("--fields", type=int, default=64, help="configurations of the score error")
    parser.add_argument("--posterior", type=int, default=300, help="posterior fields of the score error")
    parser.add_argument("--proposals", type=int, default=256, help="ten times as many with a closed-form divergence")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    for row in rows(arguments):
        print(json.dumps(row), flush=True) if arguments.json else show(row)


if __name__ == "__main__":
    main()

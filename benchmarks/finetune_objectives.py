"""Signal and noise of the gradients of fine-tuning: which objective learns most per second.

    python benchmarks/finetune_objectives.py [--models NAME ...] [--batch 32] [--repeats 24] [--json]

Rows: ``model, objective, direction, cpu_seconds, signal, noise, per_batch, per_second``. For gradients g of
independent batches, per site, signal is |<g>|^2 less its bias and noise is <|g - <g>|^2>; ``per_batch`` is their
ratio and ``per_second`` that ratio by the CPU seconds of a batch. Where the signal is below its error nothing
is learned from as many batches as there are repeats. Configurations are fresh HMC draws.
"""

import argparse
import json
import time

import torch
from ess_table import held_out

from latticediff.diffusion.threads import one_torch_thread
from latticediff.model.storage import load_model
from latticediff.streams import Streams
from latticediff.training import Task, TrainingData
from latticediff.training.finetune import FineTuner, FineTuningPlan
from latticediff.training.likelihood import OBJECTIVES

N_CONFIGURATIONS = 4000


def row(name, data, objective, reverse, batch, repeats, steps):
    """Measure one objective in one direction at the weights of a shipped model."""
    model = load_model(name)
    plan = FineTuningPlan(
        objective=objective, reverse=reverse, batch=batch, integration_steps=steps, check_every=0, seed=1
    )
    tuner = FineTuner(model.network, Task(model.gaussian, data), model.noise, plan)
    parameters = list(tuner.network.parameters())
    gradients, seconds = [], 0.0
    with one_torch_thread(model.gaussian.device):
        tuner.gradients(0)  # compiles
        for step in range(1, repeats + 1):
            tuner.optimizer.zero_grad()
            began = time.process_time()
            tuner.gradients(step)
            seconds += time.process_time() - began
            found = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
            gradients.append(torch.cat([g.flatten() for g in found]).double() / model.gaussian.volume)
    gradients = torch.stack(gradients)
    noise = float(gradients.var(0).sum())
    signal = float(gradients.mean(0).square().sum()) - noise / repeats
    return {
        "model": name,
        "objective": objective,
        "direction": "reverse" if reverse else "forward",
        "batch": batch,
        "integration_steps": steps,
        "cpu_seconds": seconds / repeats,
        "signal": signal,
        "noise": noise,
        "per_batch": signal / noise,
        "per_second": signal / noise / (seconds / repeats),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["phi4-A-L8", "phi4-A-L16"])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=24)
    parser.add_argument("--steps", type=int, default=8, help="Runge-Kutta steps")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    arguments = parser.parse_args()
    for name in arguments.models:
        data = TrainingData(held_out(load_model(name), N_CONFIGURATIONS, Streams(3).child(name)), n_chains=50)
        for objective in OBJECTIVES:
            for reverse in (0.0, 1.0):
                found = row(name, data, objective, reverse, arguments.batch, arguments.repeats, arguments.steps)
                if arguments.json:
                    print(json.dumps(found), flush=True)
                    continue
                print(
                    f"{name:12} {objective:13} {found['direction']:8} {1e3 * found['cpu_seconds']:7.0f} ms"
                    f"  signal {found['signal']:9.2e}  noise {found['noise']:9.2e}"
                    f"  ratio {found['per_batch']:8.2e} a batch, {found['per_second']:8.2e} a CPU second",
                    flush=True,
                )


if __name__ == "__main__":
    main()

"""One network trained on several lattices at once, against one for each lattice, by equal work.

    python benchmarks/mixed_sizes.py [--sizes 8:6.008 16:4.98 32:4.572] [--matching 1500] [--finetuning 300] [--json]

The line xi = L/4, convention A, m2 = -4: `--sizes` gives extents with their lam. `dedicated` has one lattice; `mixed`
has all of them, with as many steps in all, so that each lattice gets its share; `mixed, steps of all` has the steps of
all dedicated networks together; `without the largest` is mixed too, and asked for a lattice it has never seen. Every
step takes as many sites. Rows: ``network, trained_at, L, lam, stage, steps, seconds, ess_reverse [v, e],
ess_forward [v, e], var_forward`` (per site). Data are drawn afresh (HMC and clusters).
"""

import argparse
import json
import time

import torch
from transfer import N_CHAINS, SITES, ensemble, measure

from latticediff.action import Phi4
from latticediff.diffusion.ladder import NoiseRange
from latticediff.networks.ridge.network import RidgeNetwork
from latticediff.stages.train import Source, gaussian_of
from latticediff.streams import Streams
from latticediff.training import Task, Trainer, TrainingData, TrainingPlan
from latticediff.training.finetune import FineTuner, FineTuningPlan

SIGMA_MIN = 0.01


def task_of(extent, lam, n, seed):
    """Training data of one lattice of the line with its propagator."""
    action, streams = Phi4.A(-4.0, lam), Streams(seed).child(f"{extent}")
    data = TrainingData(ensemble(action, (extent, extent), n, streams), N_CHAINS)
    return Task(gaussian_of(Source(action, data)), data)


def cases(tasks):
    """Name, tasks to train on, tasks to be asked for, and steps in units of those of one network."""
    for task in tasks:
        yield "dedicated", [task], [task], 1
    yield "mixed", tasks, tasks, 1
    yield "mixed, steps of all", tasks, tasks, len(tasks)
    if len(tasks) > 2:
        yield "without the largest", tasks[:-1], tasks, 1


def rows(arguments):
    sizes = [(int(extent), float(lam)) for extent, lam in (size.split(":") for size in arguments.sizes)]
    tasks = [task_of(extent, lam, arguments.n_data, arguments.seed) for extent, lam in sizes]
    for name, trained, asked, factor in cases(tasks):
        # up to where the widest mode of all lattices asked for is drowned
        noise = NoiseRange(SIGMA_MIN, 2 * max(task.gaussian.g_max for task in asked) ** 0.5)
        torch.manual_seed(arguments.seed)
        network = RidgeNetwork(2, arguments.features, conditioned=len(trained) > 1, ordered=True)
        network.embed.centre_on([task.gaussian.action for task in trained])
        batch = SITES // trained[0].gaussian.volume
        about = {"optimizer": "soap", "learning_rate": 3e-3, "warmup": 50, "ema_decay": 0.99, "seed": arguments.seed}
        plan = TrainingPlan(steps=factor * arguments.matching, batch=batch, **about)

        def measured(stage, plan, seconds, name=name, trained=trained, asked=asked, network=network, noise=noise):
            for task in asked:
                extent, lam = task.gaussian.shape[0], task.gaussian.action.couplings["lam"]
                found = measure(network, task.gaussian, noise, task.data, arguments.n, arguments.steps)
                about = {"network": name, "trained_at": [other.gaussian.shape[0] for other in trained], "L": extent}
                yield {**about, "lam": lam, "stage": stage, "steps": plan.steps, "seconds": seconds, **found}

        began = time.perf_counter()
        network.load_state_dict(Trainer(network, trained, noise, plan).run().state_dict())
        yield from measured("score matching", plan, time.perf_counter() - began)
        batch = max(4, SITES // 8 // trained[0].gaussian.volume)
        plan = FineTuningPlan(steps=factor * arguments.finetuning, batch=batch, check_every=0, seed=arguments.seed)
        began = time.perf_counter()
        network.load_state_dict(FineTuner(network, trained, noise, plan).run().state_dict())
        yield from measured("and fine-tuning", plan, time.perf_counter() - began)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=["8:6.008", "16:4.98", "32:4.572"], help="extent:lam")
    parser.add_argument("--matching", type=int, default=1500, help="steps of score matching of one network")
    parser.add_argument("--finetuning", type=int, default=300, help="steps of fine-tuning after it")
    parser.add_argument("--features", type=int, default=24)
    parser.add_argument("--n", type=int, default=1000, help="proposals, and held-out configurations")
    parser.add_argument("--n-data", type=int, default=9600)
    parser.add_argument("--steps", type=int, default=20, help="Runge-Kutta steps")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    arguments = parser.parse_args(arguments)
    for row in rows(arguments):
        print(json.dumps(row) if arguments.json else row, flush=True)


if __name__ == "__main__":
    main()

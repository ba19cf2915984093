"""Denoising score matching: the loop, exact resumption, what it tells while it runs.

Step number and seed decide batch, noise and noise levels, so a resumed run gives the weights of an
uninterrupted one, bit for bit on the same device. On the CPU torch runs on one thread and the Numba
core on all of them, each configuration on one: the number of threads does not change a bit.

Several ensembles make one network for all of them (`tasks`): batches have equal numbers of sites, and
losses are per site, so no lattice outweighs the others.
"""

import math
import time
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch.optim.swa_utils import AveragedModel

from ..errors import FileError, StopRequested, UserError
from ..score.control import fit_blend
from ..score.matching import denoising_loss, mixed_target
from .checkpoint import read_checkpoint, write_checkpoint
from .tasks import SCHEDULES, Task, schedule, shares
from .threads import one_torch_thread

__all__ = ["Trainer", "TrainingPlan"]

TARGETS = ("stein", "mixed")


@dataclass(frozen=True)
class TrainingPlan:
    """Numbers of a training run.

    Parameters
    ----------
    steps, batch : int
        Optimiser steps, and configurations of the first ensemble per step; others take as many sites.
    learning_rate : float
        Peak of the schedule: linear warm-up, then a cosine to zero.
    ema_decay : float
        Of the averaged weights, the ones that are used.
    target : str
        ``"stein"``: the blend of `latticediff.score.control`; ``"mixed"``: `latticediff.score.matching.mixed_target`.
    clip : float
        Largest gradient norm, in units of the number of sites.
    seed : int
    schedule : str
        Which ensembles a step takes, if there are several; see `latticediff.training.tasks.schedule`.
    """

    steps: int = 4000
    batch: int = 256
    learning_rate: float = 3e-3
    ema_decay: float = 0.999
    target: str = "stein"
    warmup: int = 200
    clip: float = 1.0
    seed: int = 0
    schedule: str = "round_robin"

    def __post_init__(self):
        if self.schedule not in SCHEDULES:
            raise UserError(f"training schedule is {self.schedule!r}; expected one of {', '.join(SCHEDULES)}")
        if self.target not in TARGETS:
            raise UserError(f"training target is {self.target!r}; expected one of {', '.join(TARGETS)}")
        if self.steps < 1 or self.batch < 1:
            raise UserError(f"steps = {self.steps}, batch = {self.batch}; expected at least 1")

    def rate(self, step):
        """Learning rate of a step."""
        ramp = min(1.0, (step + 1) / self.warmup)
        return self.learning_rate * ramp * 0.5 * (1 + math.cos(math.pi * step / self.steps))


class Trainer:
    """Train one network on one ensemble or on several.

    Parameters
    ----------
    network : torch.nn.Module
        See `latticediff.score.ridge.RidgeNetwork` for the interface.
    tasks : Task or sequence of Task
        Ensembles on one device; the first is the model's own.
    noise : NoiseRange
        For all of them: its upper end must suit the largest fluctuations.
    plan : TrainingPlan

    Attributes
    ----------
    background, data
        Of the first task.

    Raises
    ------
    UserError
        No task, a batch larger than the data, or lattices of different dimension.
    """

    def __init__(self, network, tasks, noise, plan):
        self.tasks = [tasks] if isinstance(tasks, Task) else list(tasks)
        if not self.tasks:
            raise UserError("there is nothing to train on; give at least one ensemble")
        self.background, self.data = self.tasks[0].background, self.tasks[0].data
        self.network, self.noise, self.plan = network, noise, plan
        self.batches = [self._batch_of(task) for task in self.tasks]
        self.schedule = schedule(plan.schedule, [task.frequency for task in self.tasks], plan.steps, plan.seed)
        self.step, self.seconds = 0, 0.0
        self.targets = [self._target_of(task) for task in self.tasks]
        self.optimizer = torch.optim.Adam(network.parameters(), lr=plan.learning_rate, betas=(0.9, 0.99), foreach=True)
        self.ema = AveragedModel(network, multi_avg_fn=self._average)

    def _batch_of(self, task):
        """Configurations per step: as many sites for every lattice."""
        if task.background.ndim != self.background.ndim:
            raise UserError(
                f"ensembles live on lattices {self.background.shape} and {task.background.shape};"
                " one network has one dimension"
            )
        batch = max(1, round(self.plan.batch * self.background.volume / task.background.volume))
        if batch > len(task.data.train):
            where = "" if len(self.tasks) == 1 else f" on {task.background.shape}"
            raise UserError(
                f"batch = {batch}{where} but there are {len(task.data.train)} training configurations; take fewer"
            )
        return batch

    def _target_of(self, task):
        if self.plan.target != "stein":
            return mixed_target
        with one_torch_thread(task.background.device):
            return fit_blend(task.background, task.data.train, self.noise, self.plan.seed)

    def _average(self, averaged, current, count):
        # a young average forgets faster, or it would remember the first random weights
        decay = min(self.plan.ema_decay, float((count + 1) / (count + 10)))
        torch._foreach_lerp_(averaged, current, 1 - decay)

    def tasks_of(self, step):
        """``(number, weight)`` of the tasks of a step; weights add up to one."""
        numbers = self.schedule[step % len(self.schedule)]
        if len(numbers) == 1:
            return [(int(numbers[0]), 1.0)]
        return list(enumerate(shares([task.frequency for task in self.tasks]).tolist()))

    def draw(self, step, number=0):
        """Batch, noise and noise levels of a step for one task: a function of seed, step and task alone."""
        words = [self.plan.seed, step] + ([number] if number else [])
        seed = int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1)
        generator = torch.Generator().manual_seed(seed)
        n, (low, high) = self.batches[number], self.noise.log_range
        phi = self.tasks[number].data.batch(n, generator)
        # stratified noise levels: one in each of n equal intervals, shifted together
        uniform = (torch.arange(n) + torch.rand(1, generator=generator)) / n
        z = torch.randn(phi.shape, generator=generator)
        return phi, z.to(phi.device), (low + (high - low) * uniform).to(phi.device)

    def advance(self):
        """One optimiser step; returns the loss per site, a tensor without gradient."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.plan.rate(self.step)
        self.optimizer.zero_grad()
        volume, per_site = self.background.volume, 0.0
        for number, weight in self.tasks_of(self.step):
            loss = self.losses(self.network, number, *self.draw(self.step, number)).mean()
            scale = weight * volume / self.tasks[number].background.volume
            # in units of the first lattice; one ensemble is left as it is, to the bit
            (loss if scale == 1 else loss * scale).backward()
            per_site = per_site + loss.detach() * (scale / volume)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.plan.clip * volume)
        self.optimizer.step()
        self.ema.update_parameters(self.network)
        self.step += 1
        return per_site

    def losses(self, network, number, phi, z, log_sigma):
        """Objective of every configuration of a task's batch, (n,)."""
        return denoising_loss(network, self.tasks[number].background, phi, z, log_sigma, self.targets[number])

    def run(self, checkpoint=None, checkpoint_every=500, log=None, log_every=100, progress=None, stop=None):
        """Run to the end of the plan; returns the averaged network.

        Parameters
        ----------
        checkpoint : path-like, optional
            Continue from it if it exists, and keep it up to date.
        checkpoint_every, log_every : int
            Steps.
        log : callable, optional
            Gets a dict every `log_every` steps: step, loss and held_out_loss per site, learning_rate, seconds.
        progress : callable, optional
            ``progress(step, steps, loss)`` every few steps.
        stop : callable, optional
            Returns None, or the reason to stop.

        Raises
        ------
        StopRequested
            `stop` gave a reason; the checkpoint is written.
        FileError
            A checkpoint of another plan.
        UserError
            The loss or a weight is not finite; the last checkpoint is kept.
        """
        if checkpoint is not None:
            self.restore(checkpoint)
        losses = []
        with one_torch_thread(self.background.device):
            while self.step < self.plan.steps:
                began = time.perf_counter()
                losses.append(self.advance())
                self.seconds += time.perf_counter() - began
                if self.step % log_every == 0 or self.step == self.plan.steps:
                    loss = float(torch.stack(losses).mean())
                    losses = []
                    if not math.isfinite(loss):
                        raise UserError(
                            f"loss is {loss} at step {self.step}; lower training.learning_rate"
                            " (the last checkpoint is kept)"
                        )
                    if log is not None:
                        log(self._row(loss))
                    if progress is not None:
                        progress(self.step, self.plan.steps, loss)
                if checkpoint is not None and self.step % checkpoint_every == 0:
                    self.save(checkpoint)
                reason = stop() if stop is not None else None
                if reason and self.step < self.plan.steps:
                    if checkpoint is not None:
                        self.save(checkpoint)
                    raise StopRequested(
                        f"{reason}: training stopped at step {self.step} of {self.plan.steps}, saved;"
                        " run the same command with --resume to go on (Python: run again with the same checkpoint)",
                        getattr(reason, "exit_code", 75),
                    )
        if checkpoint is not None:
            self.save(checkpoint)
        return self.averaged()

    def averaged(self):
        """The network with averaged weights."""
        return self.ema.module

    @torch.no_grad()
    def held_out_loss(self, n=1024):
        """Loss per site of the averaged network on held-out data, the same noise every time; mean over tasks."""
        losses = [self._held_out_loss(number, n) for number in range(len(self.tasks))]
        return float(np.dot(shares([task.frequency for task in self.tasks]), losses))

    def _held_out_loss(self, number, n):
        phi = self.tasks[number].data.held_out[:n]
        generator = torch.Generator().manual_seed(0)
        low, high = self.noise.log_range
        log_sigma = low + (high - low) * (torch.arange(len(phi)) + 0.5) / len(phi)
        # noise levels must not line up with the order of the configurations
        log_sigma = log_sigma[torch.randperm(len(phi), generator=generator)].to(phi.device)
        z = torch.randn(phi.shape, generator=generator).to(phi.device)
        loss = self.losses(self.averaged(), number, phi, z, log_sigma)
        return float(loss.mean()) / self.tasks[number].background.volume

    def _row(self, loss):
        return {
            "step": self.step,
            "loss": loss,
            "held_out_loss": self.held_out_loss(),
            "learning_rate": self.plan.rate(self.step - 1),
            "seconds": self.seconds,
        }

    def save(self, path):
        """Write a checkpoint; see `latticediff.training.checkpoint`.

        Raises
        ------
        UserError
            Weights are not finite: two such checkpoints would leave nothing to go back to.
        """
        tensors = {f"network.{k}": t for k, t in self.network.state_dict().items()}
        tensors |= {f"ema.{k}": t for k, t in self.ema.state_dict().items()}
        if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
            raise UserError(
                f"weights are not finite at step {self.step}; lower training.learning_rate"
                " (the last checkpoint is kept)"
            )
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{k}": t for k, t in state.items()}
        write_checkpoint(path, tensors, {"step": self.step, "seconds": self.seconds, "identity": self._identity()})

    def restore(self, path):
        """Go to the state of a checkpoint, if there is one.

        Raises
        ------
        FileError
            A checkpoint of another plan, network or lattice.
        """
        found = read_checkpoint(path)
        if found is None:
            return
        tensors, meta = found
        ours, theirs = self._identity(), meta["identity"]
        # a key that an older version did not know had what is now its default
        theirs["plan"] = {**asdict(TrainingPlan()), **theirs["plan"]}
        if theirs != ours:
            different = [k for k in {**ours, **theirs} if theirs.get(k) != ours.get(k)]
            raise FileError(f"checkpoint {path} belongs to another run (differs in {', '.join(different)}); remove it")
        part = {prefix: {} for prefix in ("network", "ema", "optimizer")}
        for name, tensor in tensors.items():
            prefix, _, rest = name.partition(".")
            part[prefix][rest] = tensor
        self.network.load_state_dict(part["network"])
        self.ema.load_state_dict(part["ema"])
        state = {}
        for name, tensor in part["optimizer"].items():
            index, _, key = name.partition(".")
            state.setdefault(int(index), {})[key] = tensor
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        self.step, self.seconds = meta["step"], meta["seconds"]

    def _identity(self):
        low, high = self.noise.log_range
        identity = {
            "plan": asdict(self.plan),
            "network": self.network.describe(),
            "action": self.background.action.describe(),
            "shape": list(self.background.shape),
            "noise": [low, high],
            "n_train": len(self.data.train),
        }
        if len(self.tasks) > 1:
            identity["ensembles"] = [
                [t.background.action.describe(), list(t.background.shape), len(t.data.train), t.frequency]
                for t in self.tasks
            ]
        return identity

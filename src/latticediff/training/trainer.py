"""The training loop: exact resumption, what it tells while it runs.

Step number and seed decide batch, noise and noise levels, so a resumed run gives the weights of an
uninterrupted one, bit for bit on the same device. On the CPU torch runs on one thread and the Numba
core on all of them, each configuration on one: the number of threads does not change a bit.

Several ensembles make one network for all of them (`tasks`): batches have equal numbers of sites, and
losses are per site, so no lattice outweighs the others.
"""

import math
import time
from dataclasses import asdict

import numpy as np
import torch
from torch.optim.swa_utils import AveragedModel

from ..errors import FileError, StopRequested, UserError
from .checkpoint import read_checkpoint, write_checkpoint
from .gradient_noise import fit_w0
from .objective import Batch, Objective, draw_batch
from .optimizers import OPTIMIZERS
from .tasks import Task, schedule, shares
from .threads import one_torch_thread

__all__ = ["Trainer"]


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

    section = "training"  #: of a card, for messages

    def __init__(self, network, tasks, noise, plan):
        self.tasks = [tasks] if isinstance(tasks, Task) else list(tasks)
        if not self.tasks:
            raise UserError("there is nothing to train on; give at least one ensemble")
        self.background, self.data = self.tasks[0].background, self.tasks[0].data
        self.network, self.noise, self.plan = network, noise, plan
        self.batches = [self._batch_of(task) for task in self.tasks]
        self.schedule = schedule(plan.schedule, [task.frequency for task in self.tasks], plan.steps, plan.seed)
        self.step, self.seconds = 0, 0.0
        with one_torch_thread(self.background.device):
            self.objectives = [self._objective_of(task) for task in self.tasks]
        self.w0 = None  # of each task, once fitted
        self.optimizer = OPTIMIZERS[plan.optimizer](network.parameters(), plan.learning_rate)
        self.ema = AveragedModel(network, multi_avg_fn=self._average)

    def _objective_of(self, task):
        return Objective(self.plan, task.background, task.data, self.noise, self.network)

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
        """The `Batch` of a step for one task: a function of seed, step and task alone."""
        words = [self.plan.seed, step] + ([number] if number else [])
        return draw_batch(self.tasks[number].data, self.batches[number], self.noise, self.plan, words)

    def fit(self):
        """Settle what is fitted with the first weights; kept in checkpoints, since resumed weights are others."""
        if self.plan.target != "mixed" or self.plan.w0 != "fit" or self.w0 is not None:
            return
        self.w0 = []
        for task, objective in zip(self.tasks, self.objectives, strict=True):
            best, _ = fit_w0(self.network, objective, task.data, self.noise, seed=self.plan.seed)
            self.w0.append(best)

    def advance(self):
        """One optimiser step; returns the loss per site, a tensor without gradient."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.plan.rate(self.step)
        self.optimizer.zero_grad()
        volume, per_site = self.background.volume, 0.0
        for number, weight in self.tasks_of(self.step):
            loss = self.objectives[number](self.network, self.draw(self.step, number)).mean()
            scale = weight * volume / self.tasks[number].background.volume
            # in units of the first lattice; one ensemble is left as it is, to the bit
            (loss if scale == 1 else loss * scale).backward()
            per_site = per_site + loss.detach() * (scale / volume)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.plan.clip * volume)
        self.optimizer.step()
        self.ema.update_parameters(self.network)
        self.step += 1
        return per_site

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
            self.fit()
            while not self.finished:
                began = time.perf_counter()
                losses.append(self.advance())
                self.inspect()
                self.seconds += time.perf_counter() - began
                if self.step % log_every == 0 or self.finished:
                    loss = float(torch.stack(losses).mean())
                    losses = []
                    if not math.isfinite(loss):
                        raise UserError(
                            f"loss is {loss} at step {self.step}; lower {self.section}.learning_rate"
                            " (the last checkpoint is kept)"
                        )
                    if log is not None:
                        log(self._row(loss))
                    if progress is not None:
                        progress(self.step, self.plan.steps, loss)
                if checkpoint is not None and self.step % checkpoint_every == 0:
                    self.save(checkpoint)
                reason = stop() if stop is not None else None
                if reason and not self.finished:
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

    @property
    def finished(self):
        """Whether the plan is done."""
        return self.step >= self.plan.steps

    def inspect(self):
        """Called after each step; a kind of training that watches itself does it here."""

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
        batch = Batch(phi, z, log_sigma, torch.ones_like(phi))
        return float(self.objectives[number](self.averaged(), batch).mean()) / self.tasks[number].background.volume

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
        kept, meta = self._kept()
        tensors |= {f"kept.{k}": t for k, t in kept.items()}
        if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
            raise UserError(
                f"weights are not finite at step {self.step}; lower {self.section}.learning_rate"
                " (the last checkpoint is kept)"
            )
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{k}": t for k, t in state.items()}
        meta |= {"step": self.step, "seconds": self.seconds, "identity": self._identity()}
        write_checkpoint(path, tensors, meta)

    def _kept(self):
        """Tensors and JSON-able numbers that a checkpoint must hold beside weights and optimiser."""
        return {}, {"w0": self.w0}

    def _take_back(self, tensors, meta):
        """The reverse of `_kept`."""
        self.w0 = meta.get("w0")
        for objective, w0 in zip(self.objectives, self.w0 or (), strict=False):
            objective.set_w0(w0)

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
        theirs["plan"] = {**asdict(type(self.plan)()), **theirs["plan"]}
        if theirs != ours:
            different = [k for k in {**ours, **theirs} if theirs.get(k) != ours.get(k)]
            raise FileError(f"checkpoint {path} belongs to another run (differs in {', '.join(different)}); remove it")
        part = {prefix: {} for prefix in ("network", "ema", "optimizer", "kept")}
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
        self._take_back(part["kept"], meta)

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

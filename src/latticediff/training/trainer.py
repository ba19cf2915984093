"""What is trained, and what one step of the training does; `loop` takes the steps, `state` keeps them.

Step number and seed decide batch, noise and noise levels, so a resumed run gives the weights of an
uninterrupted one, bit for bit on the same device. On the CPU torch runs on one thread and the Numba
core on all of them, each configuration on one: the number of threads does not change a bit.

Several ensembles make one network for all of them (`tasks`): batches have equal numbers of sites, and
losses are per site, so no lattice outweighs the others.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ..diffusion.ladder import NoiseRange
from ..diffusion.threads import one_torch_thread
from ..errors import UserError
from ..host import torch_defaults
from ..types import Description, PathLikeStr
from . import held_out
from .best import Best
from .gradient import Gradient, Job
from .gradient_noise import fit_w0
from .loop import run_to_the_end
from .objective import Batch, Objective, draw_batch
from .optimizers import OPTIMIZERS
from .ranks import ALONE, Ranks
from .state import restore_state, save_state
from .tasks import Task, schedule, shares
from .watching import N_HELD_OUT, Watching

if TYPE_CHECKING:
    from .finetune_plan import FineTuningPlan
    from .plan import TrainingPlan

__all__ = ["Trainer"]

Tensors = tuple[Tensor, ...] | list[Tensor]


class Trainer:
    """Train one network on one ensemble or on several.

    Parameters
    ----------
    network : torch.nn.Module
        See `latticediff.networks.ridge.network.RidgeNetwork` for the interface.
    tasks : Task or sequence of Task
        Ensembles on one device; the first is the model's own.
    noise : NoiseRange
        For all of them: its upper end must suit the largest fluctuations.
    plan : TrainingPlan
    ranks : Ranks
        Processes that share the work.
    micro_batch : int, optional
        Largest piece of a batch computed at once; memory, not results, depends on it.
    say : callable, optional
        Gets a line when something is worth knowing.

    Attributes
    ----------
    gaussian, data
        Of the first task.
    step : int
        Steps done.
    finished : bool
        Ended early, for lack of improvement.
    best : Best
        The best weights watched.
    untold : list of tensor
        Losses of the steps since the last row of the log.
    last_row : dict
        That row; empty before the first.

    Raises
    ------
    UserError
        No task, a batch larger than the data, or lattices of different dimension.
    """

    section = "training"  #: of a card, for messages
    sources = ()  #: fingerprints of the files that the data came from; part of `identity`, and so of a checkpoint

    @torch_defaults()
    def __init__(
        self,
        network: nn.Module,
        tasks: Task | Sequence[Task],
        noise: NoiseRange,
        plan: "TrainingPlan | FineTuningPlan",
        ranks: Ranks = ALONE,
        micro_batch: int | None = None,
        say: Callable[[str], object] | None = None,
    ) -> None:
        self.tasks = [tasks] if isinstance(tasks, Task) else list(tasks)
        if not self.tasks:
            raise UserError("there is nothing to train on; give at least one ensemble")
        self.gaussian, self.data = self.tasks[0].gaussian, self.tasks[0].data
        self.plan: Any = plan
        self.network, self.noise, self.ranks = network, noise, ranks
        self.batches = [self._batch_of(task) for task in self.tasks]
        self.shares = shares([task.frequency for task in self.tasks])
        self.schedule = schedule(self.plan.schedule, self.shares, plan.steps, plan.seed)
        self.gradient = Gradient(network, self.gaussian.device, ranks, self.plan.precision, micro_batch, say)
        with one_torch_thread(self.gaussian.device):
            self.objectives = [self._objective_of(task) for task in self.tasks]
        self.step, self.seconds, self.finished, self.best = 0, 0.0, False, Best()
        self.untold: list[Tensor] = []
        self.last_row: dict[str, Any] = {}
        self.w0: list[float] | None = None  # of each task, once fitted
        self.optimizer = OPTIMIZERS[plan.optimizer](network.parameters(), plan.learning_rate)
        self.ema = AveragedModel(network, multi_avg_fn=self._average)

    def _objective_of(self, task: Task) -> Any:
        return Objective(self.plan, task.gaussian, task.data, self.noise, self.network)

    def _batch_of(self, task: Task) -> int:
        """Configurations per step: equally many sites for every lattice."""
        if task.gaussian.ndim != self.gaussian.ndim:
            raise UserError(
                f"ensembles live on lattices {self.gaussian.shape} and {task.gaussian.shape};"
                " one network has one dimension"
            )
        batch = max(1, round(self.plan.batch * self.gaussian.volume / task.gaussian.volume))
        if batch > len(task.data.train):
            where = "" if len(self.tasks) == 1 else f" on {task.gaussian.shape}"
            raise UserError(
                f"batch = {batch}{where} but there are {len(task.data.train)} training configurations; take fewer"
            )
        return batch

    def _average(self, averaged: Tensors, current: Tensors, count: Tensor | int) -> None:
        # a young average forgets faster, or it would remember the first random weights
        decay = min(self.plan.ema_decay, float((count + 1) / (count + 10)))
        torch._foreach_lerp_(averaged, current, 1 - decay)

    def tasks_of(self, step: int) -> list[tuple[int, float]]:
        """``(number, weight)`` of each task of a step; the weights add up to one."""
        numbers = self.schedule[step % len(self.schedule)]
        if len(numbers) == 1:
            return [(int(numbers[0]), 1.0)]
        return list(enumerate(self.shares.tolist()))

    def draw(self, step: int, number: int = 0, start: int = 0, stop: int | None = None) -> Batch:
        """The batch of a step for one task: a function of seed, step and task alone.

        Parameters
        ----------
        step, number : int
            Of the step and of the task.
        start, stop : int, optional
            Give these rows of the batch only; all by default.

        Returns
        -------
        Batch
        """
        words = [self.plan.seed, step] + ([number] if number else [])
        return draw_batch(self.tasks[number].data, self.batches[number], self.noise, self.plan, words, start, stop)

    @torch_defaults()
    def fit(self) -> None:
        """Fit `w0` of the mixed target, where the plan asks for that.

        It is fitted with the first weights and kept in checkpoints: the weights of a resumed run are others.
        """
        if self.plan.target != "mixed" or self.plan.w0 != "fit" or self.w0 is not None:
            return
        self.w0 = []
        for task, objective in zip(self.tasks, self.objectives, strict=True):
            best, _ = fit_w0(self.network, objective, task.data, self.noise, seed=self.plan.seed)
            self.w0.append(best)

    @torch_defaults()
    def advance(self) -> Tensor:
        """One optimiser step; returns the loss per site, a tensor without gradient."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.plan.rate(self.step)
        volume = self.gaussian.volume
        # in units of the first lattice; one ensemble is left as it is, to the bit
        jobs = [
            Job(
                self.objectives[number],
                self.batches[number],
                partial(self.draw, self.step, number),
                weight * volume / self.tasks[number].gaussian.volume,
            )
            for number, weight in self.tasks_of(self.step)
        ]
        loss = self.gradient(jobs)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.plan.clip * volume)
        self.optimizer.step()
        self.ema.update_parameters(self.network)
        self.step += 1
        return loss / volume

    @torch_defaults()
    def run(
        self,
        checkpoint: PathLikeStr | None = None,
        checkpoint_every: int = 500,
        log: Callable[[dict[str, Any]], object] | None = None,
        log_every: int = 100,
        progress: Callable[[int, int, float], object] | None = None,
        stop: Callable[[], str | None] | None = None,
        watching: Watching | None = None,
    ) -> nn.Module:
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
        watching : Watching, optional

        Raises
        ------
        StopRequested
            `stop` gave a reason; the checkpoint is written.
        FileError
            A checkpoint of another plan.
        UserError
            The loss or a weight is not finite; the last checkpoint is kept.
        """
        run_to_the_end(self, checkpoint, checkpoint_every, log, log_every, progress, stop, watching)
        return self.averaged()

    def row(self, loss: float) -> dict[str, Any]:
        """What the log gets, JSON-able; `loss` is the mean loss per site since the row before."""
        return {
            "step": self.step,
            "loss": loss,
            "held_out_loss": self.held_out_loss(),
            "learning_rate": self.plan.rate(self.step - 1),
            "seconds": self.seconds,
        }

    def inspect(self) -> None:
        """Called after each step; does nothing here. A subclass may check the weights and end the training."""

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """``(tensors, meta)`` that a checkpoint holds beside weights, optimiser and `best`; meta is JSON-able."""
        return {}, {"w0": self.w0}

    def load_state_dict(self, tensors: dict[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave; `meta` is the whole metadata of a checkpoint, of which that is a part."""
        self.w0 = meta.get("w0")
        for objective, w0 in zip(self.objectives, self.w0 or (), strict=False):
            objective.set_w0(w0)

    def identity(self) -> Description:
        """What else a checkpoint must agree in with this training, JSON-able; see `training.state.identity`."""
        return {}

    @torch_defaults()
    def averaged(self) -> nn.Module:
        """The network with averaged weights."""
        return self.ema.module

    @torch_defaults()
    def held_out_loss(self, n: int = N_HELD_OUT) -> float:
        """Loss per site of the averaged network on held-out data; see `latticediff.training.held_out.mean_loss`."""
        return held_out.mean_loss(self, n)

    def losses(self, number: int, phi: Tensor) -> Tensor:
        """Losses of the averaged network on configurations of a task; see `latticediff.training.held_out.losses`."""
        return held_out.losses(self, number, phi)

    @torch_defaults()
    def save(self, path: PathLikeStr) -> None:
        """Write a checkpoint, by one process; see `latticediff.training.state`."""
        if self.ranks.writes:
            save_state(self, path)

    @torch_defaults()
    def restore(self, path: PathLikeStr) -> None:
        """Go to the state of a checkpoint, if there is one; see `latticediff.training.state`."""
        restore_state(self, path)

"""Fine-tuning a trained score network by the likelihood of its probability flow.

Score matching asks for the right score at every noise level; a proposal only needs the right density at
the end, and here the end is what counts (`latticediff.training.likelihood` has the objectives). Each step
draws a batch, takes it through a few Runge-Kutta steps on a grid of its own and differentiates that
discrete map. A `Guard` looks at fresh draws with twice the steps and stops what only pleases the coarse grid.

Several ensembles, of different couplings or lattices, tune one network for all of them (`tasks`): each has its own
flow, running norm of gradients and guard, and all guards must be content.

Under torchrun every process takes its share of each batch through the flow, gradients are summed, and the first one
asks its guard for all of them.

As in `latticediff.training.trainer`, a step is a function of seed and step number alone: a resumed run
gives the weights of an uninterrupted one, bit for bit.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..diffusion.differentiable import DifferentiableFlow
from ..diffusion.flow import ProbabilityFlow
from ..diffusion.ladder import NoiseRange
from ..diffusion.runge_kutta import scheme
from ..errors import UserError
from ..host import torch_defaults
from ..networks.contract import Differentiable
from ..types import Description, FloatArray
from .finetune_plan import FineTuningPlan
from .guard import Check, Guard
from .likelihood import OBJECTIVES, jittered_grid
from .ranks import ALONE, Ranks
from .tasks import Task
from .trainer import Trainer

__all__ = ["FineTuner", "FineTuningPlan"]

NORM_MEMORY = 0.02  # weight of a step in the running mean of gradient norms
FAR = 100.0  # from the median of the log_weights of a batch: beyond it a passage has diverged, if to a finite number


class FineTuner(Trainer):
    """Fine-tune one network on one ensemble or on several.

    Parameters
    ----------
    network : torch.nn.Module
        Trained; see `latticediff.networks.ridge.network.RidgeNetwork` for the interface. Its weights are changed.
    tasks : Task or sequence of Task
        Ensembles on one device; the first is the model's own.
    noise : NoiseRange
        Of the trained model.
    plan : FineTuningPlan
    method : str
        Runge-Kutta scheme.
    ranks : Ranks
        Processes that share the work.

    Attributes
    ----------
    checks : list of Check
        What the guard saw, the untouched network first; each look has one for every task, in their order.
    stopped : str
        Why the guard ended the run; "" if it did not. The averaged weights are then those of the last good check.

    Raises
    ------
    UserError
        As `Trainer`; several processes for an objective that is no sum over the batch.
    """

    section = "finetune"
    far = FAR

    @torch_defaults()
    def __init__(
        self,
        network: nn.Module,
        tasks: Task | Sequence[Task],
        noise: NoiseRange,
        plan: FineTuningPlan,
        method: str = "rk4",
        ranks: Ranks = ALONE,
    ) -> None:
        if ranks.size > 1 and plan.least > 1:
            raise UserError(
                f"objective = {plan.objective!r} is no sum over a batch, which {ranks.size} processes could share;"
                ' take finetune.objective = "path", or one process'
            )
        network.requires_grad_(True).train()
        super().__init__(network, tasks, noise, plan, ranks)
        self.method = scheme(method)
        self.checks: list[Check] = []
        self.stopped = ""
        self.good: dict[str, Tensor] = {}
        self.usual_norms: list[float | None] = [None] * len(self.tasks)  # of the gradients so far
        self.guards = [
            Guard(
                task.gaussian,
                noise,
                task.data.held_out,
                plan.integration_steps,
                plan.n_check,
                plan.n_sigma,
                plan.seed,
                self.method.name,
                task.data.held_out_chains,
            )
            for task in self.tasks
        ]

    @property
    def good_step(self) -> int:
        """Step of the last look to which the guard did not object."""
        return self.checks[-1 - (len(self.tasks) if self.stopped else 0)].step

    def _objective_of(self, task: Task) -> Any:
        return OBJECTIVES[self.plan.objective]

    def _batch_of(self, task: Task) -> int:
        """Configurations per step: equally many sites for every lattice, but never fewer than the objective needs."""
        batch = super()._batch_of(task)
        while task is not self.tasks[0] and not self.plan.suits(batch):
            batch += 1
        return batch

    @torch_defaults()
    def fit(self) -> None:
        """Does nothing: a fine-tuning fits nothing before its first step."""

    def draw(  # type: ignore[override]  # another draw than that of score matching, under the same name
        self, step: int, number: int = 0
    ) -> tuple[Tensor, Tensor, FloatArray]:
        """Configurations, noise and grid of a step for one task: a function of seed, step and task alone.

        Returns
        -------
        phi : tensor, shape (n, *lattice)
        y : tensor, shape (n_drawn, *lattice)
            From which the model draws.
        grid : ndarray, shape (integration_steps + 1,)
            log sigma, descending.
        """
        plan, task, batch = self.plan, self.tasks[number], self.batches[number]
        words = [plan.seed, step, 2] + ([number] if number else [])
        seed = int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1)
        generator, n_drawn = torch.Generator().manual_seed(seed), plan.n_drawn(batch)
        phi = task.data.batch(batch - n_drawn, generator)
        y = torch.randn((n_drawn, *task.gaussian.shape), generator=generator).to(phi)
        grid = self.noise.grid(plan.integration_steps)
        return phi, y, jittered_grid(self.noise, plan.integration_steps, generator) if plan.jitter else grid

    def flow(self, grid: FloatArray, number: int = 0) -> ProbabilityFlow | DifferentiableFlow:
        """The differentiable flow with the present weights: compiled where that exists, plain torch elsewhere."""
        gaussian = self.tasks[number].gaussian
        if isinstance(self.network, Differentiable) and gaussian.device.type == "cpu":
            return DifferentiableFlow(self.network, gaussian, grid, self.method)
        return ProbabilityFlow(self.network, gaussian, grid, self.method, self.plan.recompute)

    @torch_defaults()
    def gradients(self, step: int, number: int = 0) -> Tensor:
        """Accumulate the gradients of a step for one task, in units of the first lattice's sites.

        Returns
        -------
        tensor
            The variance of log_weight per site.
        """
        phi, y, grid = self.draw(step, number)
        (first, last), (lowest, highest) = self.ranks.share(len(phi)), self.ranks.share(len(y))
        phi, y = phi[first:last], y[lowest:highest]
        flow, volume = self.flow(grid, number), self.tasks[number].gaussian.volume
        total: Any = 0.0
        objective, seen = self.objectives[number], []
        for start, direction in ((phi, objective.forward), (y, objective.reverse)):
            loss, log_weight = self._finite(flow, start, direction)
            if len(log_weight):
                total = total + loss * (len(log_weight) / self.batches[number])
                seen.append(log_weight)
        log_weights = self.ranks.gather(torch.cat(seen) if seen else torch.empty(0, dtype=torch.float64))
        if not len(log_weights):
            return torch.full((), math.inf)  # every passage diverged
        if seen:
            (total * (self.gaussian.volume / volume)).backward()
        self.ranks.add_gradients(self.gradient.parameters, torch.zeros(()))
        return log_weights.var(correction=0) / volume

    def _finite(
        self, flow: ProbabilityFlow | DifferentiableFlow, start: Tensor, direction: Callable[..., tuple[Tensor, Tensor]]
    ) -> tuple[Tensor | float, Tensor]:
        """Loss and log-weights without the passages that diverge: a few do, far from the ensemble, at large volume.

        Processes that share a batch go on together until none of them has such a passage, as one process would.
        """
        while True:
            loss, log_weight = direction(flow, start) if len(start) >= self.plan.least else (0.0, torch.empty(0))
            log_weight = log_weight.double()
            everyone = self.ranks.gather(log_weight)
            middle = everyone[torch.isfinite(everyone)].median() if len(everyone) else math.nan
            sound = (log_weight - middle).abs() < self.far
            if not self.ranks.any(not sound.all(), self.gaussian.device):
                return loss, log_weight
            start = start[sound] if len(log_weight) else start[:0]

    @torch_defaults()
    def advance(self) -> Tensor:
        """One optimiser step; returns the variance of log_weight per site on the step's own grids."""
        if self.step == 0:
            self._start_guards()
        for group in self.optimizer.param_groups:
            group["lr"] = self.plan.rate(self.step)
        spread: Any = 0.0
        parameters, gathered = list(self.network.parameters()), []
        for number, weight in self.tasks_of(self.step):
            self.optimizer.zero_grad()
            spread = spread + weight * self.gradients(self.step, number)
            self._clip(number)
            gathered.append([None if p.grad is None else p.grad * weight for p in parameters])
        for p, gradients in zip(parameters, zip(*gathered, strict=True), strict=True):
            some = [gradient for gradient in gradients if gradient is not None]
            p.grad = sum(some[1:], start=some[0]) if some else None
        self.optimizer.step()
        self.ema.update_parameters(self.network)
        self.step += 1
        return spread

    def _clip(self, number: int) -> None:
        """Shorten a gradient that is longer than `clip` times the usual: rare fields far from the rest dominate it."""
        norm = float(torch.nn.utils.get_total_norm([p.grad for p in self.network.parameters() if p.grad is not None]))
        if not 0 < norm < math.inf:
            self.optimizer.zero_grad()  # nothing is learned from this step; a run of them shows in log_weight
            return
        before, first_before = self.usual_norms[number], self.usual_norms[0]
        usual = norm if before is None else before
        # in units of the first task's, so that the one with the longest gradients, the worst, does not decide alone
        first = usual if first_before is None else first_before
        scale = min(1.0, self.plan.clip * usual / norm) * (first / usual)
        self.usual_norms[number] = usual + NORM_MEMORY * (min(norm, self.plan.clip * usual) - usual)
        if scale != 1:
            for p in self.network.parameters():
                if p.grad is not None:
                    p.grad.mul_(scale)

    def _start_guards(self) -> None:
        if not self.plan.check_every:
            return
        self.checks = []
        for guard in self.guards:
            guard.first = guard.lowest = None
        if bad := self._look():
            raise UserError(f"before fine-tuning, {bad}; raise finetune.integration_steps")

    def _look(self) -> str:
        """Checks of the averaged weights for every task; keeps the weights if all are good, else says why not.

        Weights are the same in all processes, so the first one looks for all.
        """
        bad = self._seen() if self.ranks.writes else ""
        if self.ranks.any(bad, self.gaussian.device):
            return bad or "the guard of the first process objected"
        self.good = {k: t.clone() for k, t in self.averaged().state_dict().items()}
        return ""

    def _seen(self) -> str:
        """Why the guards object to the averaged weights; "" if they do not."""
        bad = ""
        for number, (task, guard) in enumerate(zip(self.tasks, self.guards, strict=True)):
            check = replace(guard.look(self.averaged(), self.step), task=number)
            self.checks.append(check)
            verdict = guard.verdict(check)
            where = "" if len(self.tasks) == 1 else f"{task}: "
            bad = bad or (verdict and where + verdict)
        return bad

    @torch_defaults()
    def inspect(self) -> None:
        """Let the guard look, if it is time; where it objects the last good weights come back."""
        every = self.plan.check_every
        if not every or (self.step % every and self.step < self.plan.steps):
            return
        if bad := self._look():
            self.averaged().load_state_dict(self.good)
            self.stopped = f"step {self.step}: {bad}"
            if self.ranks.writes:  # the others know no checks
                self.stopped += f". The weights of step {self.good_step} were restored"
            self.finished = True

    def row(self, loss: float) -> dict[str, Any]:
        row = {"step": self.step, "log_weight_variance": loss, "learning_rate": self.plan.rate(self.step - 1)}
        last = [check.to_dict() for check in self.checks[-len(self.tasks) :]]
        if last:
            row |= {"check": last[0]} | ({"further_checks": last[1:]} if last[1:] else {})
        return {**row, "stopped": self.stopped, "seconds": self.seconds}

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        checks = [check.to_dict() for check in self.checks]
        return self.good, {"checks": checks, "stopped": self.stopped, "usual_norms": self.usual_norms}

    def load_state_dict(self, tensors: dict[str, Tensor], meta: Mapping[str, Any]) -> None:
        self.good, self.stopped = tensors, meta["stopped"]
        # before there could be several tasks, a checkpoint held one number
        self.usual_norms = meta["usual_norms"] if "usual_norms" in meta else [meta["usual_norm"]]
        self.checks = [Check(**{**row, **_pairs(row)}) for row in meta["checks"]]
        for number, guard in enumerate(self.guards):
            of_task = [check for check in self.checks if check.task == number]
            guard.first = of_task[0] if of_task else None
            guard.lowest = min(of_task, key=lambda check: check.free_energy_fine, default=None)

    def identity(self) -> Description:
        return {"method": self.method.name}


def _pairs(row: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    return {key: tuple(value) for key, value in row.items() if isinstance(value, list)}

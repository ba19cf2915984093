"""Fine-tuning a trained score network by the likelihood of its probability flow.

Score matching asks for the right score at every noise level; a proposal only needs the right density at
the end, and here the end is what counts (`latticediff.training.likelihood` has the objectives). Each step
draws a batch, takes it through a few Runge-Kutta steps on a grid of its own and differentiates that
discrete map. A `Guard` looks at fresh draws with twice the steps and stops what only pleases the coarse grid.

As in `latticediff.training.trainer`, a step is a function of seed and step number alone: a resumed run
gives the weights of an uninterrupted one, bit for bit.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from ..diffusion.flow import ProbabilityFlow
from ..diffusion.runge_kutta import scheme
from ..errors import UserError
from .guard import Check, Guard
from .likelihood import OBJECTIVES, jittered_grid
from .plan import StepPlan
from .trainer import Trainer

__all__ = ["FineTuner", "FineTuningPlan"]

NORM_MEMORY = 0.02  # weight of a step in the running mean of gradient norms


@dataclass(frozen=True)
class FineTuningPlan(StepPlan):
    """Numbers of a fine-tuning; those not named here are in `StepPlan`.

    Parameters
    ----------
    objective : str
        ``"path"``, ``"kl"`` or ``"log_variance"``; see `latticediff.training.likelihood`.
    reverse : float
        Part of each batch that is drawn from the model, 0 to 1: 0 is maximum likelihood on the
        ensemble, 1 the reverse divergence.
    integration_steps : int
        Runge-Kutta steps of each passage.
    clip : float
        Largest gradient norm, in units of its running mean.
    jitter : bool
        A new grid for each step. Without it the optimiser learns the errors of one grid.
    recompute : bool
        Less memory for more time; see `latticediff.diffusion.flow.ProbabilityFlow`.
    check_every : int
        Steps between looks of the guard; 0: no guard.
    n_check : int
        Draws, and held-out configurations, of each look.
    n_sigma : float
        Of the guard.

    Raises
    ------
    UserError
        Anything impossible.
    """

    schedule: ClassVar[str] = "round_robin"  # of the only ensemble
    precision: ClassVar[str] = "float32"  # a density needs it

    steps: int = 300
    batch: int = 16
    learning_rate: float = 1e-3
    ema_decay: float = 0.98
    warmup: int = 20
    clip: float = 2.0
    optimizer: str = "soap"
    objective: str = "path"
    reverse: float = 0.5
    integration_steps: int = 8
    jitter: bool = True
    recompute: bool = False
    check_every: int = 50
    n_check: int = 512
    n_sigma: float = 4.0

    def __post_init__(self):
        super().__post_init__()
        if self.objective not in OBJECTIVES:
            raise UserError(f"finetune objective is {self.objective!r}; expected one of {', '.join(OBJECTIVES)}")
        if not 0 <= self.reverse <= 1:
            raise UserError(f"finetune reverse is {self.reverse}; expected a fraction between 0 and 1")
        if self.integration_steps < 1 or self.check_every < 0 or self.n_check < 8:
            raise UserError(
                f"integration_steps = {self.integration_steps}, check_every = {self.check_every}, n_check ="
                f" {self.n_check}; expected at least 1, 0 and 8"
            )
        for name, n in (("drawn from the model", self.n_drawn), ("of the ensemble", self.batch - self.n_drawn)):
            if 0 < n < self.least:
                raise UserError(f"{n} of batch = {self.batch} is {name}; a variance needs 2, take a larger batch")

    @property
    def least(self):
        """Configurations that an objective needs at least."""
        return 2 if self.objective == "log_variance" else 1

    @property
    def n_drawn(self):
        """Configurations of a batch that the model draws."""
        return round(self.reverse * self.batch)


class FineTuner(Trainer):
    """Fine-tune one network on one ensemble.

    Parameters
    ----------
    network : torch.nn.Module
        Trained; see `latticediff.score.ridge.RidgeNetwork` for the interface. Its weights are changed.
    task : Task
    noise : NoiseRange
        Of the trained model.
    plan : FineTuningPlan
    method : str
        Runge-Kutta scheme.

    Attributes
    ----------
    checks : list of Check
        What the guard saw, the untouched network first.
    stopped : str
        Why the guard ended the run; "" if it did not. The averaged weights are then those of the last good check.
    """

    section = "finetune"

    def __init__(self, network, task, noise, plan, method="rk4"):
        network.requires_grad_(True).train()
        super().__init__(network, task, noise, plan)
        self.method = scheme(method)
        self.checks, self.stopped, self.good = [], "", {}
        self.usual_norm = None  # of the gradients so far
        held_out, steps = self.data.held_out, plan.integration_steps
        self.guard = Guard(
            self.background, noise, held_out, steps, plan.n_check, plan.n_sigma, plan.seed, self.method.name
        )

    def _objective_of(self, task):
        return OBJECTIVES[self.plan.objective]

    def fit(self):
        """Nothing to settle beforehand."""

    def draw(self, step, number=0):
        """Configurations, noise and grid of a step: a function of seed and step alone."""
        plan = self.plan
        seed = int(np.random.SeedSequence([plan.seed, step, 2]).generate_state(1, np.uint64)[0] >> 1)
        generator = torch.Generator().manual_seed(seed)
        phi = self.data.batch(plan.batch - plan.n_drawn, generator)
        y = torch.randn((plan.n_drawn, *self.background.shape), generator=generator).to(phi)
        grid = self.noise.grid(plan.integration_steps)
        return phi, y, jittered_grid(self.noise, plan.integration_steps, generator) if plan.jitter else grid

    def flow(self, grid):
        """The differentiable flow of the network as it is: compiled where that exists, plain torch elsewhere."""
        differentiable = getattr(self.network, "differentiable", None)
        if differentiable and self.background.device.type == "cpu" and not self.plan.recompute:
            return differentiable()(self.network, self.background, grid, self.method)
        return ProbabilityFlow(self.network, self.background, grid, self.method, self.plan.recompute)

    def gradients(self, step):
        """Accumulate the gradients of a step; returns the variance of log_weight per site, a tensor."""
        phi, y, grid = self.draw(step)
        flow = self.flow(grid)
        (objective,), seen, total = self.objectives, [], 0.0
        for start, direction in ((phi, objective.forward), (y, objective.reverse)):
            loss, log_weight = self._finite(flow, start, direction)
            if len(log_weight):
                total = total + loss * (len(log_weight) / self.plan.batch)
                seen.append(log_weight)
        if not seen:
            return torch.full((), math.inf)  # every passage diverged
        total.backward()
        return torch.cat(seen).var(correction=0) / self.background.volume

    def _finite(self, flow, start, direction):
        """Loss and log-weights without the passages that diverge: a few do, far from the ensemble, at large volume."""
        while len(start) >= self.plan.least:
            loss, log_weight = direction(flow, start)
            finite = torch.isfinite(log_weight)
            if finite.all():
                return loss, log_weight
            start = start[finite]
        return 0.0, torch.empty(0)

    def advance(self):
        """One optimiser step; returns the variance of log_weight per site on the step's own grid."""
        if self.step == 0:
            self._start_guard()
        for group in self.optimizer.param_groups:
            group["lr"] = self.plan.rate(self.step)
        self.optimizer.zero_grad()
        spread = self.gradients(self.step)
        self._clip()
        self.optimizer.step()
        self.ema.update_parameters(self.network)
        self.step += 1
        return spread

    def _clip(self):
        """Shorten a gradient that is longer than `clip` times the usual: rare fields far from the rest dominate it."""
        norm = float(torch.nn.utils.get_total_norm([p.grad for p in self.network.parameters() if p.grad is not None]))
        if not 0 < norm < math.inf:
            self.optimizer.zero_grad()  # nothing is learned from this step; a run of them shows in log_weight
            return
        usual = norm if self.usual_norm is None else self.usual_norm
        self.usual_norm = usual + NORM_MEMORY * (min(norm, self.plan.clip * usual) - usual)
        if norm > self.plan.clip * usual:
            for p in self.network.parameters():
                if p.grad is not None:
                    p.grad.mul_(self.plan.clip * usual / norm)

    def _start_guard(self):
        if not self.plan.check_every:
            return
        self.checks, self.guard.first, self.guard.lowest = [], None, None
        if bad := self._look():
            raise UserError(f"before fine-tuning, {bad}; raise finetune.integration_steps")

    def _look(self):
        """A check of the averaged weights; keeps them if they are good, else says why not."""
        check = self.guard.look(self.averaged(), self.step)
        self.checks.append(check)
        bad = self.guard.verdict(check)
        if not bad:
            self.good = {k: t.clone() for k, t in self.averaged().state_dict().items()}
        return bad

    def inspect(self):
        """Let the guard look, if it is time; where it objects the last good weights come back."""
        every = self.plan.check_every
        if not every or (self.step % every and self.step < self.plan.steps):
            return
        if bad := self._look():
            good = self.checks[-2].step
            self.averaged().load_state_dict(self.good)
            self.stopped = f"step {self.step}: {bad}. The weights of step {good} were restored"
            self.finished = True

    def _row(self, loss):
        row = {"step": self.step, "log_weight_variance": loss, "learning_rate": self.plan.rate(self.step - 1)}
        if self.checks:
            row |= {"check": self.checks[-1].to_dict()}
        return {**row, "stopped": self.stopped, "seconds": self.seconds}

    def kept(self):
        checks = [check.to_dict() for check in self.checks]
        return self.good, {"checks": checks, "stopped": self.stopped, "usual_norm": self.usual_norm}

    def take_back(self, tensors, meta):
        self.good, self.stopped, self.usual_norm = tensors, meta["stopped"], meta["usual_norm"]
        self.checks = [Check(**{**row, **_pairs(row)}) for row in meta["checks"]]
        self.guard.first = self.checks[0] if self.checks else None
        self.guard.lowest = min(self.checks, key=lambda check: check.free_energy_fine, default=None)

    def identity(self):
        return {"method": self.method.name}


def _pairs(row):
    return {key: tuple(value) for key, value in row.items() if isinstance(value, list)}

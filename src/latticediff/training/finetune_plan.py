"""Numbers and choices of a fine-tuning, checked before anything starts."""

from dataclasses import dataclass
from typing import ClassVar

from ..config.sections import FinetuneSection
from ..errors import UserError
from .likelihood import OBJECTIVES
from .plan import StepPlan, check_choice
from .tasks import SCHEDULES

__all__ = ["FineTuningPlan"]

CARD = FinetuneSection()  # the defaults, said once


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
        Less memory for more time; see `latticediff.diffusion.flow.ProbabilityFlow`. A compiled flow keeps
        little in any case.
    check_every : int
        Steps between looks of the guard; 0: no guard.
    n_check : int
        Draws, and held-out configurations, of each look.
    n_sigma : float
        Of the guard.
    schedule : str
        Which ensembles a step takes, if there are several; see `latticediff.training.tasks.schedule`.

    Raises
    ------
    UserError
        Anything impossible.
    """

    precision: ClassVar[str] = "float32"  # a density needs it

    steps: int = 300  # a card's 0 means no fine-tuning at all
    batch: int = CARD.batch
    learning_rate: float = CARD.learning_rate
    ema_decay: float = CARD.ema_decay
    warmup: int = CARD.warmup
    clip: float = CARD.clip
    optimizer: str = CARD.optimizer
    objective: str = CARD.objective
    reverse: float = CARD.reverse
    integration_steps: int = CARD.integration_steps
    jitter: bool = CARD.jitter
    recompute: bool = CARD.recompute
    check_every: int = CARD.check_every
    n_check: int = CARD.n_check
    n_sigma: float = CARD.n_sigma
    schedule: str = CARD.schedule

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("finetune objective", self.objective, OBJECTIVES)
        check_choice("finetune schedule", self.schedule, SCHEDULES)
        if not 0 <= self.reverse <= 1:
            raise UserError(f"finetune reverse is {self.reverse}; expected a fraction between 0 and 1")
        if self.integration_steps < 1 or self.check_every < 0 or self.n_check < 8:
            raise UserError(
                f"integration_steps = {self.integration_steps}, check_every = {self.check_every}, n_check ="
                f" {self.n_check}; expected at least 1, 0 and 8"
            )
        n_drawn = self.n_drawn(self.batch)
        for name, n in (("drawn from the model", n_drawn), ("of the ensemble", self.batch - n_drawn)):
            if 0 < n < self.least:
                raise UserError(f"{n} of batch = {self.batch} is {name}; a variance needs 2, take a larger batch")

    @property
    def least(self) -> int:
        """Configurations that an objective needs at least."""
        return 2 if self.objective == "log_variance" else 1

    def n_drawn(self, batch: int) -> int:
        """Configurations of a batch that the model draws."""
        return round(self.reverse * batch)

    def suits(self, batch: int) -> bool:
        """Whether a batch of this size gives each part that is wanted (draws, configurations) enough members."""
        parts = (self.reverse, self.n_drawn(batch)), (1 - self.reverse, batch - self.n_drawn(batch))
        return all(n >= self.least for share, n in parts if share > 0)

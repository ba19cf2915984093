"""Numbers and choices of a training run, checked before anything starts."""

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

from ..config.sections import TrainingSection
from ..errors import UserError
from ..registry import nearest
from ..targets.objectives import LEVELS, WEIGHTINGS
from .optimizers import OPTIMIZERS
from .tasks import SCHEDULES

__all__ = ["ORACLES", "PRECISIONS", "TARGETS", "TRACES", "StepPlan", "TrainingPlan", "check_choice"]

#: What the network is compared with; see `latticediff.training.objective`.
TARGETS = ("stein", "mixed", "denoising", "force", "explicit", "implicit")
#: Divergence of the score in the implicit objective.
TRACES = ("closed_form", "full", "coloured", "hutchinson")
#: The known score of the explicit objective.
ORACLES = ("free", "empirical")
PRECISIONS = ("float32", "bfloat16")

CARD = TrainingSection()  # the defaults, said once


def check_choice(what: str, value: object, known: Collection[str]) -> None:
    """Refuse a value that is not among the known ones, with the nearest of them.

    Parameters
    ----------
    what : str
        What is chosen, for the message.
    value : object
    known : collection of str

    Raises
    ------
    UserError
        The value is none of them.
    """
    if value not in known:
        raise UserError(f"{what} is {value!r}{nearest(value, known)}; expected one of {', '.join(known)}")


@dataclass(frozen=True)
class StepPlan:
    """What every kind of training plans: how many steps, and how large.

    Parameters
    ----------
    steps, batch : int
        Optimiser steps, and configurations of the first ensemble per step; others take as many sites.
    learning_rate : float
        Peak of the schedule: linear warm-up, then a cosine to zero.
    ema_decay : float
        Of the averaged weights, the ones that are used.
    warmup : int
    clip : float
        Largest gradient norm, in units of the number of sites.
    optimizer : str
        Key of `latticediff.training.optimizers.OPTIMIZERS`.
    seed : int

    Raises
    ------
    UserError
        No step, an empty batch, or an unknown optimiser.
    """

    fewest: ClassVar[int] = 1  # steps

    steps: int
    batch: int
    learning_rate: float
    ema_decay: float
    warmup: int
    clip: float
    optimizer: str = "adam"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < self.fewest or self.batch < 1:
            raise UserError(f"steps = {self.steps}, batch = {self.batch}; expected at least {self.fewest} and 1")
        check_choice("optimizer", self.optimizer, OPTIMIZERS)

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        ramp = min(1.0, (step + 1) / self.warmup)
        return self.learning_rate * ramp * 0.5 * (1 + math.cos(math.pi * step / self.steps))


@dataclass(frozen=True)
class TrainingPlan(StepPlan):
    """Numbers of a training by score matching; those not named here are in `StepPlan`.

    Parameters
    ----------
    target : str
        Key of `TARGETS`: what the residual is compared with.
    schedule : str
        Which ensembles a step takes, if there are several; see `latticediff.training.tasks.schedule`.
    w0 : float or "fit"
        Of the mixed target; fitted: the value with the least gradient noise.
    weighting, levels : str
        Weight and draw of the noise levels; see `latticediff.targets.objectives.levels`.
    trace : str
        Of the implicit objective, key of `TRACES`.
    trace_reach : int, optional
        Range that coloured probes assume; beyond it the score must not reach, or its trace is wrong.
    oracle : str
        Of the explicit objective: ``"free"``, the theory is Gaussian; ``"empirical"``, the noised training
        data themselves, whose score at small noise is that of a memory.
    precision : str
        Key of `PRECISIONS`, of the network in training; see `latticediff.training.gradient`.

    Raises
    ------
    UserError
        Anything impossible.
    """

    fewest: ClassVar[int] = 0  # the weights that are given, for another theory

    steps: int = CARD.steps
    batch: int = CARD.batch
    learning_rate: float = CARD.learning_rate
    ema_decay: float = CARD.ema_decay
    warmup: int = CARD.warmup
    clip: float = CARD.clip
    target: str = CARD.target
    schedule: str = CARD.schedule
    w0: float | str = CARD.w0
    weighting: str = CARD.weighting
    levels: str = CARD.levels
    trace: str = CARD.trace
    trace_reach: int | None = CARD.trace_reach
    oracle: str = CARD.oracle
    precision: str = CARD.precision

    def __post_init__(self) -> None:
        choices = {
            "target": TARGETS,
            "schedule": SCHEDULES,
            "weighting": WEIGHTINGS,
            "levels": LEVELS,
            "trace": TRACES,
            "oracle": ORACLES,
            "precision": PRECISIONS,
        }
        for key, known in choices.items():
            check_choice(f"training {key}", getattr(self, key), known)
        super().__post_init__()
        if self.w0 != "fit" and (isinstance(self.w0, str) or not 0 <= self.w0 < math.inf):
            raise UserError(f'w0 is {self.w0!r}; expected a number of at least 0, or "fit"')
        if self.target == "implicit" and self.trace == "coloured" and self.trace_reach is None:
            raise UserError("coloured probes need trace_reach, the range of the score in sites; or take closed_form")

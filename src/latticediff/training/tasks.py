"""What a step trains on: one of several theories, each with its own lattice, couplings and data.

One network serves them all; what differs between them is in the `GaussianReference`. The order of tasks is
a function of seed and step alone, so training resumes to the same bits.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import real_array
from ..errors import UserError
from ..gaussian.reference import GaussianReference
from ..types import FloatArray, IntArray
from .data import TrainingData

__all__ = ["SCHEDULES", "Task", "schedule", "shares"]


@dataclass
class Task:
    """One ensemble to train on.

    Parameters
    ----------
    gaussian : GaussianReference
        Theory, lattice and propagator.
    data : TrainingData
    frequency : float
        How often it is taken, relative to the others; positive.

    Raises
    ------
    UserError
        Data of another lattice, or a frequency that is not positive.
    """

    gaussian: GaussianReference
    data: TrainingData
    frequency: float = 1.0

    def __post_init__(self) -> None:
        if tuple(self.data.shape) != self.gaussian.shape:
            raise UserError(f"training data live on {tuple(self.data.shape)}; the propagator on {self.gaussian.shape}")
        if not 0 < self.frequency < float("inf"):
            raise UserError(f"frequency of a training ensemble is {self.frequency}; expected a positive number")

    def __str__(self) -> str:
        """Theory and lattice, for messages."""
        return str(self.gaussian)


def _round_robin(p: FloatArray, steps: int, seed: int) -> IntArray:
    """The task that is most behind its share, ties to the first: 0, 1, 2, 0, 1, 2, ... for equal shares."""
    taken, order = np.zeros(len(p)), np.zeros(steps, np.int64)
    for step in range(steps):
        # rounded, so that equal shares tie whatever the last bit of a sum
        order[step] = np.argmax(np.round(p * (step + 1) - taken, 9))
        taken[order[step]] += 1
    return order[:, None]


def _random(p: FloatArray, steps: int, seed: int) -> IntArray:
    draws = np.random.default_rng([seed, 1]).random(steps)
    return np.minimum(np.searchsorted(np.cumsum(p), draws, side="right"), len(p) - 1)[:, None]


def _all(p: FloatArray, steps: int, seed: int) -> IntArray:
    return np.broadcast_to(np.arange(len(p)), (steps, len(p)))


#: Name to ``(shares, steps, seed) -> tasks of every step, (steps, tasks per step)``.
SCHEDULES = {"round_robin": _round_robin, "random": _random, "all": _all}


def schedule(name: str, frequencies: ArrayLike, steps: int, seed: int) -> IntArray:
    """Numbers of the tasks of every step, int64, (steps, tasks per step).

    Parameters
    ----------
    name : str
        ``"round_robin"``: one task a step, in turn, in proportion to the frequencies; ``"random"``: one
        task a step, drawn with them; ``"all"``: every task in every step, its gradient weighted by them.
    frequencies : sequence of float
    steps, seed : int
    """
    if name not in SCHEDULES:
        raise UserError(f"schedule of training ensembles is {name!r}; expected one of {', '.join(SCHEDULES)}")
    p = shares(frequencies)
    return SCHEDULES[name](p, steps if len(p) > 1 else 1, seed)


def shares(frequencies: ArrayLike) -> FloatArray:
    """Frequencies that add up to one, float64."""
    p = real_array(frequencies, "frequencies")
    return p / p.sum()

"""What the work after the last step of a training will cost, from a probe of its parts; see `finish`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ..build.learned import on_uniform_grid, plain_proposal
from ..diffusion.runge_kutta import scheme
from ..diffusion.time_grid import evaluations
from ..networks.contract import ClosedFormTrace
from ..proposal.grid import FINE, calibration_fields
from ..streams import Streams
from ..training.calibrate import N_LEVELS, measured_power
from ..training.calibrate import SITES as POWER_SITES
from .finetune_figures import FEWEST_FIGURES, N_FIGURES, SITES
from .model_metrics import N_METRICS

if TYPE_CHECKING:
    from torch import nn

    from ..config import Card
    from ..model.score_model import ScoreModel
    from ..training import Trainer
    from ..training.tasks import Task

__all__ = ["finish_seconds", "finish_work", "training_fields"]

PROBES = 5  # of each part; their median counts
METRIC_PASSAGES = 1 + 3  # a draw, and a held-out field that is weighed
FIGURE_PASSAGES = METRIC_PASSAGES + 6  # and weighed once more with twice the steps
BESIDE = 1.7  # of an evaluation of the compiled network: noise and transforms are made beside it


def finish_seconds(card: Card, trainer: Trainer, model: ScoreModel, figures: bool) -> float:
    """Seconds from the last step of a training to its model folder, within a factor of about 1.5.

    Parameters
    ----------
    card : latticediff.config.Card
    trainer : Trainer
        Of few data.
    model : ScoreModel
        With this trainer's network; the cost does not depend on the weights.
    figures : bool
        Count those before and after a fine-tuning too.

    Returns
    -------
    float
    """
    closed, ode = isinstance(model.network, ClosedFormTrace), card.sampling.ode
    volume, route = model.gaussian.volume, "ode" if closed else "sde"
    proposal: Any = plain_proposal(on_uniform_grid(card), model, route)
    rng = Streams(card.run.seed).child("probe").generator("finish")
    n = calibration_fields(volume, ode.steps)
    proposal.draw(n, rng)  # compiles
    passage = _median(lambda: proposal.draw(n, rng)) / n  # of one field by the card's steps

    fields = min(training_fields(card), max(64, POWER_SITES // volume))  # a level, if there are as many data
    if getattr(proposal, "compiled", False):
        level = BESIDE * fields * passage / proposal.evaluations_per_draw
    else:
        few = min(len(trainer.data.train), fields)
        work = partial(measured_power, model.network, model.gaussian, trainer.data)
        spent = [_median(partial(work, np.linspace(*model.noise.log_range, n))) for n in (1, 3)]
        level = 0.5 * (spent[1] - spent[0]) * fields / few  # what does not grow with the levels is left out
    seconds = max(0.0, level) * N_LEVELS * len(trainer.tasks)
    seconds += N_METRICS * METRIC_PASSAGES * passage
    if figures:
        seconds += 2 * _fields_of_figures(volume) * FIGURE_PASSAGES * passage
    if closed and ode.grid == "optimised":
        noise = rng.standard_normal((n, *model.shape))
        ways, (grid, method) = proposal.passages(), (proposal.grid, proposal.method)
        # tables from which every grid takes its own, then grid after grid, down and up
        seconds += _median(lambda: proposal.passages()(grid, method))
        seconds += 2 * evaluations(ode.steps) * _median(lambda: ways(grid, method)[0](noise))
        seconds += 2 * n * passage * 4 * FINE / max(1, proposal.evaluations_per_draw)  # the reference, by Runge-Kutta
    return seconds


def finish_work(card: Card, tasks: Sequence[Task], network: nn.Module, figures: bool) -> dict[str, int]:
    """The parts that follow the last step of a training, and how many evaluations of the network each takes.

    Parameters
    ----------
    card : latticediff.config.Card
    tasks : sequence of Task
        What was trained on, the card's own first.
    network : torch.nn.Module
    figures : bool
        Those before and after a fine-tuning, too.

    Returns
    -------
    dict of str to int
        In the order in which they are done; evaluations are counted for one field each.
    """
    volume, ode, closed = tasks[0].gaussian.volume, card.sampling.ode, isinstance(network, ClosedFormTrace)
    passage = scheme(ode.method).evaluations(ode.steps) if closed else card.sampling.sde.steps
    fields = sum(min(len(task.data.train), max(64, POWER_SITES // task.gaussian.volume)) for task in tasks)
    work = {"score power": BESIDE * fields * N_LEVELS}
    if figures:
        tuning = scheme(card.finetune.method).evaluations(card.finetune.integration_steps)
        work["figures before and after"] = 2 * len(tasks) * _fields_of_figures(volume) * FIGURE_PASSAGES * tuning
    grids = calibration_fields(volume, ode.steps) * 2 * (evaluations(ode.steps) * passage + 4 * FINE)
    work["time grid"] = grids if closed and ode.grid == "optimised" else 0
    work["ESS"] = N_METRICS * METRIC_PASSAGES * passage
    return {name: max(1, round(amount)) for name, amount in work.items()}


def _fields_of_figures(volume: int) -> int:
    """Fields behind the figures before and after a fine-tuning."""
    return max(FEWEST_FIGURES, min(N_FIGURES, SITES // volume))


def _median(work: Callable[[], object]) -> float:
    """Median seconds of a few calls."""
    spent = []
    for _ in range(PROBES):
        began = time.perf_counter()
        work()
        spent.append(time.perf_counter() - began)
    return statistics.median(spent)


def training_fields(card: Card) -> int:
    """Configurations that the card's own chains give to train on."""
    return int(card.hmc.n_chains * (card.hmc.n_updates // card.hmc.thin) * (1 - card.training.held_out))

"""The training loop: it takes the steps of a `Trainer`, reports on its way, and stops when it is told to."""

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from ..diffusion.threads import one_torch_thread
from ..errors import StopRequested, UserError
from ..types import PathLikeStr
from .watching import Watching

if TYPE_CHECKING:
    from .trainer import Trainer

__all__ = ["STOP_EVERY", "Diverged", "run_to_the_end"]

TOLD = 40  # times in a training at least that its progress is told
STOP_EVERY = 20  # steps between questions to all processes whether to stop: each costs a message

Log = Callable[[dict[str, Any]], object]
Told = Callable[[int, int, float], object]


class Diverged(UserError):
    """A loss that is no number any more."""


def run_to_the_end(
    trainer: "Trainer",
    checkpoint: PathLikeStr | None,
    checkpoint_every: int,
    log: Log | None,
    log_every: int,
    progress: Told | None,
    stop: Callable[[], str | None] | None,
    watching: Watching | None,
) -> None:
    """Take steps until the plan is done or the trainer has finished early.

    Parameters
    ----------
    trainer : Trainer
    checkpoint, checkpoint_every, log, log_every, progress, stop, watching
        See `latticediff.training.trainer.Trainer.run`.

    Raises
    ------
    StopRequested, FileError, UserError
        See there.
    """
    if checkpoint is not None:
        trainer.restore(checkpoint)
    told_every = max(1, min(log_every, trainer.plan.steps // TOLD))  # so that the time left is known early
    with one_torch_thread(trainer.gaussian.device):
        trainer.fit()
        while trainer.step < trainer.plan.steps and not trainer.finished:
            began = time.perf_counter()
            trainer.untold.append(trainer.advance())
            trainer.inspect()
            trainer.seconds += time.perf_counter() - began
            last = trainer.step == trainer.plan.steps
            if trainer.step % log_every == 0 or last or trainer.finished:
                _tell(trainer, log, progress)
            elif progress is not None and trainer.step % told_every == 0:
                progress(trainer.step, trainer.plan.steps, _mean_loss(trainer))
            if watching is not None and watching.is_due(trainer.step, trainer.plan.steps):
                _watch(trainer, watching)
            if checkpoint is not None and trainer.step % checkpoint_every == 0:
                trainer.save(checkpoint)
            if not last and not trainer.finished:
                _stop_if_told(trainer, stop, checkpoint)
    if checkpoint is not None:
        trainer.save(checkpoint)


def _mean_loss(trainer: "Trainer") -> float:
    return float(torch.stack(trainer.untold).mean())


def _tell(trainer: "Trainer", log: Log | None, progress: Told | None) -> None:
    """Report the mean loss since the last report; one that is not finite ends the training."""
    loss, trainer.untold = _mean_loss(trainer), []
    if not math.isfinite(loss):
        raise Diverged(
            f"loss is {loss} at step {trainer.step}; lower {trainer.section}.learning_rate"
            " (the last checkpoint is kept)"
        )
    if log is not None:
        trainer.last_row = trainer.row(loss)
        log(trainer.last_row)
    if progress is not None:
        progress(trainer.step, trainer.plan.steps, loss)


def _watch(trainer: "Trainer", watching: Watching) -> None:
    """Let one process watch; all of them finish if it has seen no improvement for too long."""
    if trainer.ranks.writes:
        watching(trainer)
    tired = watching.patience > 0 and trainer.best.since >= watching.patience
    trainer.finished = trainer.ranks.any(tired, trainer.gaussian.device)


def _stop_if_told(trainer: "Trainer", stop: Callable[[], str | None] | None, checkpoint: PathLikeStr | None) -> None:
    """Save and raise `StopRequested` if this process, or any of those that share the work, was told to stop."""
    reason = stop() if stop is not None else None
    if trainer.ranks.size > 1:
        if trainer.step % STOP_EVERY:
            return
        told = trainer.ranks.any(reason, trainer.gaussian.device)
        reason = reason or ("another process was told to stop" if told else None)
    if reason:
        if checkpoint is not None:
            trainer.save(checkpoint)
        raise StopRequested(
            f"{reason}: training stopped at step {trainer.step} of {trainer.plan.steps}, saved;"
            " run the same command with --resume to go on (Python: run again with the same checkpoint)",
            getattr(reason, "exit_code", 75),
        )

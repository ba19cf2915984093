"""Compile ahead: what the later stages of a run need, by a process of its own, while the first ones are at work.

Numba compiles one function at a time in a process, and on a machine where nothing is compiled yet that is half of the
time of a small run. So a second process uses everything once, on a few fields, and leaves the code in the cache on
disk; a step of training comes last, since the run gets to it first. No number of the run depends on it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from ..hosts.compiling import at_first_compilation

if TYPE_CHECKING:
    from numpy.random import Generator

    from ..config import Card
    from ..job.progress import Progress
    from ..model.score_model import ScoreModel

__all__ = ["compiling_ahead", "use_once"]

CHAINS, FIELDS = 8, 64  # of the fields on which everything is used


@contextmanager
def compiling_ahead(card: Card, progress: Progress) -> Iterator[None]:
    """A context whose first compilation starts a process that compiles the rest, and lives no longer than it.

    Parameters
    ----------
    card : latticediff.config.Card
        A whole one.
    progress : Progress
        Is told that there is something to compile.
    """
    helpers: list[subprocess.Popen[str]] = []

    def begin() -> None:
        progress.say("compiling, once on this machine: about a minute in all")
        if _cores() > 1:
            with suppress(OSError):  # no process to be had: then all is compiled here, one after the other
                helpers.append(_started(card))

    try:
        with at_first_compilation(begin):
            yield
    finally:
        for helper in helpers:
            helper.kill()
            helper.wait()


def _started(card: Card) -> subprocess.Popen[str]:
    # -P: modules in the folder where the command is given are none of ours
    command = [sys.executable, "-P", "-m", "latticediff.stages.compile_ahead"]
    nowhere = subprocess.DEVNULL
    helper = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=nowhere, stderr=nowhere, text=True)
    assert helper.stdin is not None  # it is a pipe
    with suppress(OSError), helper.stdin:  # one that is dead already compiles nothing, which is no harm
        helper.stdin.write(card.to_toml())
    return helper


def _cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_once(card: Card) -> None:
    """Use what the learned stages of a card need, a step of training last; only the compiled code remains."""
    import numpy as np

    from ..build.learned import routes_of
    from .small import small_finetuner, small_trainer, untrained

    section = {"training": card.training.model_copy(update={"init": None})}
    card = card.model_copy(update={**section, "hmc": card.hmc.model_copy(update={"n_chains": CHAINS})})
    rng = np.random.default_rng(card.run.seed)
    trainer = small_trainer(card, 0.3 * rng.standard_normal((FIELDS, *card.shape)))
    model = untrained(trainer)
    first, *later = routes_of(card)
    _propose(card, model, first, rng)
    if card.finetune.steps:
        small_finetuner(card, trainer).advance()
    for route in later:
        _propose(card, model, route, rng)
    trainer.advance()


def _propose(card: Card, model: ScoreModel, route: str, rng: Generator) -> None:
    from ..build.learned import build_proposal, on_uniform_grid

    proposal = build_proposal(on_uniform_grid(card), model, route)
    proposal.weigh(proposal.draw(2, rng).phi, rng)


def main() -> None:
    """Read a card from standard input and use everything once; whatever fails here is told by the run itself."""
    from ..config import parse_card
    from ..host import torch_defaults

    with suppress(Exception), torch_defaults():
        use_once(parse_card(sys.stdin.read()))


if __name__ == "__main__":
    main()

"""What the subcommands that take a run-card do first: read it, and in a dry run show what it would cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .options import (
    complain,
    say,
)

if TYPE_CHECKING:
    from ..config import Card
    from ..job.progress import Progress

__all__ = ["prepare", "print_plan"]


def prepare(card: Path, overrides: Sequence[str] | None, quiet: bool) -> tuple[Card, Progress]:
    """The card of a command with its overrides, and the progress to show."""
    from ..config import load_card
    from ..job.progress import make_progress

    return load_card(card, overrides or (), say=complain), make_progress(quiet)


def print_plan(card: Card, *stages: str) -> None:
    """Print the effective card and the estimate of what `stages` would cost."""
    from ..stages.estimate import estimate

    say(card.to_toml())
    say(estimate(card, stages))

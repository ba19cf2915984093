"""What a stage is given so that it can be stopped."""

from typing import Protocol

from ..signals import StopReason

__all__ = ["StopCheck"]


class StopCheck(Protocol):
    """Asked between blocks of work; `latticediff.signals.Stop` is one."""

    def __call__(self) -> StopReason | None:
        """The reason to stop now, or None to go on."""

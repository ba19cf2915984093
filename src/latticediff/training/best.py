"""The best averaged weights that were watched, and when to stop looking for better ones."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

__all__ = ["Best"]


class Best:
    """Keeps a copy of the best weights; larger values are better.

    Attributes
    ----------
    step, value : int and float, or None
    since : int
        Watches without improvement.
    weights : dict of str to tensor
        On the CPU.
    """

    def __init__(self) -> None:
        self.step: int | None = None
        self.value: float | None = None
        self.since = 0
        self.weights: dict[str, Tensor] = {}

    def offer(self, step: int, value: float, network: nn.Module) -> bool:
        """Keep a copy of these weights if `value` is the largest so far; returns whether it is. A NaN never is."""
        better = math.isfinite(value) and (self.value is None or value > self.value)
        if better:
            self.step, self.value, self.since = step, value, 0
            self.weights = {name: t.detach().cpu().clone() for name, t in network.state_dict().items()}
        else:
            self.since += 1
        return better

    def meta(self) -> dict[str, Any]:
        """What a checkpoint keeps of this object beside the weights, JSON-able."""
        return {"step": self.step, "value": self.value, "since": self.since}

    def restore(self, meta: Mapping[str, Any], weights: dict[str, Tensor]) -> None:
        """Take over what `meta` and `weights` were in a checkpoint."""
        self.step, self.value, self.since = meta["step"], meta["value"], meta["since"]
        self.weights = weights

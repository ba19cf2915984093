"""The best averaged weights that were watched, and when to stop looking for better ones."""

import math

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

    def __init__(self):
        self.step = self.value = None
        self.since, self.weights = 0, {}

    def offer(self, step, value, network):
        """Look at the weights of a step; returns whether they are the best so far."""
        better = math.isfinite(value) and (self.value is None or value > self.value)
        if better:
            self.step, self.value, self.since = step, value, 0
            self.weights = {name: t.detach().cpu().clone() for name, t in network.state_dict().items()}
        else:
            self.since += 1
        return better

    def meta(self):
        """What a checkpoint keeps beside the weights, JSON-able."""
        return {"step": self.step, "value": self.value, "since": self.since}

    def restore(self, meta, weights):
        """The reverse of `meta` and `weights`."""
        self.step, self.value, self.since = meta["step"], meta["value"], meta["since"]
        self.weights = weights

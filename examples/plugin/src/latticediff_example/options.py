"""What a run-card may say of the network and the route of this package; importing it does not import torch."""

from pydantic import PositiveFloat, PositiveInt

from latticediff.config.sections import Section


class LinearOptions(Section):
    """``[network] name = "linear"``"""

    begin: float = 0.0


class GaussianOptions(Section):
    """``[sampling.gaussian]``"""

    n_chains: PositiveInt = 20
    n_warmup: PositiveInt = 5
    n_updates: PositiveInt = 100
    steps: PositiveInt = 1
    width: PositiveFloat = 1.0

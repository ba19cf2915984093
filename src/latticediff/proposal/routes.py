"""The two routes that come with the package: what ``ode`` and ``sde`` mean in a card and on the command line."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from .ode import OdeProposal
from .partial import PathProposal
from .sde import SdeProposal

if TYPE_CHECKING:
    from ..config.sections import OdeSection, SdeSection
    from ..model.score_model import ScoreModel


__all__ = ["OdeRoute", "SdeRoute"]


class OdeRoute:
    """The probability-flow ODE: a deterministic, one-to-one map from noise to fields."""

    label, weights, has_path = "ODE", "flow", False

    def proposal(self, model: ScoreModel, options: OdeSection, batch: int) -> OdeProposal:
        """`OdeProposal` with the options of ``[sampling.ode]``."""
        return OdeProposal(model, options.steps, options.method, batch, trace=options.trace, grid=options.grid)

    def latent(self, model: ScoreModel, options: OdeSection, batch: int, sigma: float | None = None) -> OdeProposal:
        """`OdeProposal` with the options of ``[sampling.ode]``, for moves in its noise; `sigma` is not used."""
        return self.proposal(model, options, batch)


class SdeRoute:
    """The reverse SDE, weighed by its path.

    A path's weight wants the right score at every level, which fine-tuning gives up for the flow's density.
    """

    label, weights, has_path = "SDE", "score", True

    def proposal(self, model: ScoreModel, options: SdeSection, batch: int) -> SdeProposal:
        """`SdeProposal` with the options of ``[sampling.sde]``."""
        return SdeProposal(model, options.steps, batch, **self._path(options))

    def latent(self, model: ScoreModel, options: SdeSection, batch: int, sigma: float | None = None) -> PathProposal:
        """`PathProposal` up to `sigma`, with levels as dense as those of the section's whole ladder."""
        steps, low, high = options.steps, model.noise.sigma_min, model.noise.sigma_max
        if sigma is not None:
            steps = max(2, round(steps * math.log(sigma / low) / math.log(high / low)))
        return PathProposal(model, steps, sigma, batch, **self._path(options))

    @staticmethod
    def _path(options: SdeSection) -> dict[str, Any]:
        return {name: getattr(options, name) for name in ("ladder", "kernel", "process")}

"""Reverse SDE from an intermediate noise level: what partial-noise moves are made of."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from ..diffusion.ladder import NoiseRange
from ..errors import UserError
from ..host import torch_defaults
from ..types import Description
from .sde import SdeProposal

if TYPE_CHECKING:
    from ..model.score_model import ScoreModel


__all__ = ["PathProposal"]


class PathProposal(SdeProposal):
    r"""`SdeProposal` on a ladder that ends at `sigma`.

    The path :math:`x_j \to \ldots \to x_0 = \phi` is a function of standard normal noise u:
    :math:`x_j = (G + v_j)^{1/2} u_0`, and one field of u for each step down. ``invert`` draws a forward path
    from a given field and gives its u, so `x_j` is the field noised up to `sigma`; the move
    `latticediff.metropolis.moves.KeepTop` keeps it and redraws the way down.

    Parameters
    ----------
    model : latticediff.model.score_model.ScoreModel
    steps : int
        Reverse steps from `sigma` down to the field.
    sigma : float, optional
        Top of the ladder, within the noise levels of the model. Default: sigma_max.
    batch, compiled, **options
        See `SdeProposal`.

    Raises
    ------
    UserError
        `sigma` outside the model's noise levels, or below the ladder's first.
    """

    @torch_defaults()
    def __init__(
        self,
        model: ScoreModel,
        steps: int = 30,
        sigma: float | None = None,
        batch: int = 256,
        compiled: bool | None = None,
        **options: Any,
    ) -> None:
        low, high = model.noise.sigma_min, model.noise.sigma_max
        self.sigma = high if sigma is None else float(sigma)
        if not low < self.sigma <= high * (1 + 1e-12):
            raise UserError(f"sigma = {self.sigma:g} is outside the model's noise levels, {low:g} to {high:g}")
        truncated = dataclasses.replace(model, noise=NoiseRange(low, min(self.sigma, high)))
        super().__init__(truncated, steps, batch, compiled, **options)
        self.model = model
        self.noise_basis = "fourier" if self.compiled else "sites"

    def describe(self) -> Description:
        """JSON-able parameters."""
        return {**super().describe(), "name": "sde_path", "sigma": self.sigma}

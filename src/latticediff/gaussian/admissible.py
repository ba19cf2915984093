"""What a theory must be for a Gaussian reference: even in k, alike in all components; what is below its disorder."""

from typing import Any

import numpy as np
from torch import Tensor

from ..errors import UserError
from ..types import FloatArray
from .contract import Massive, Sourced

__all__ = ["check_components", "check_mirrored", "layers_of"]


def check_mirrored(form: FloatArray, action: Any) -> None:
    """Refuse a K(k) that is not even in every component of k: it is not diagonal in the basis of sines and cosines."""
    for axis in range(form.ndim):
        if not np.allclose(form, np.roll(np.flip(form, axis), 1, axis), rtol=0, atol=1e-9 * np.abs(form).max()):
            raise UserError(
                f"{action!r}: K(k) changes under k_{axis + 1} -> -k_{axis + 1}; the learned side wants couplings that"
                " come with their mirror images, such as both diagonals"
            )


def check_components(action: Any, propagator: Tensor, has_vacuum: object) -> None:
    """Refuse what would single out a direction in the space of the components: a propagator, or a vacuum."""
    if has_vacuum:
        raise UserError(
            f"{action!r} is expanded around zero alone, its vacua are a sphere; take training.phase = symmetric"
        )
    if propagator.shape[0] != action.components or not bool((propagator == propagator[:1]).all()):
        raise UserError(
            f"the propagator has shape {tuple(propagator.shape)}; expected ({action.components}, *lattice), the same"
            " for every component"
        )


def layers_of(action: Any) -> list[Any]:
    """The theory, and below it those without external field and random mass, the last one the same at every site."""
    layers = [action]
    if isinstance(action, Sourced):
        layers.append(action.of)
    if isinstance(layers[-1], Massive):
        layers.append(layers[-1].of)
    return layers

"""Which sites a network learns: all, the odd ones of a checkerboard, or the coarse half of these."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..action import OddSites
from ..action.checkerboard import half_shape
from ..fine import CoarseSites, FineLaw, coarse_shape

if TYPE_CHECKING:
    from ..action import Action
    from ..config import Card
    from ..types import Shape

__all__ = ["learned_shape", "learned_theory"]


def learned_theory(card: Card, action: Action | None = None) -> Any:
    """The theory that a network of the card learns, of the card's action or another one.

    That of the coarse sites comes with an untrained law of the fine ones: good enough to size things up;
    `latticediff.stages.fine_law` has the trained one.

    Raises
    ------
    UserError
        Odd or coarse sites of a theory or lattice that has none; see `latticediff.action.OddSites` and
        `latticediff.fine`.
    """
    action = card.theory() if action is None else action
    shape = learned_shape(card)
    if card.training.sites == "coarse":
        return CoarseSites(FineLaw(OddSites(action), shape), (1.0, 0.0, 0.0, 0.0, 0.0))
    return OddSites(action) if card.training.sites == "odd" else action


def learned_shape(card: Card) -> Shape:
    """Extents of the array of sites that a network of the card learns."""
    shapes = {"odd": half_shape, "coarse": coarse_shape}
    return shapes[card.training.sites](card.shape) if card.training.sites in shapes else card.shape

"""Which sites a network learns: all, or the odd ones of a checkerboard with the even ones integrated out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..action import OddSites
from ..action.checkerboard import half_shape

if TYPE_CHECKING:
    from ..action import Action
    from ..config import Card
    from ..types import Shape

__all__ = ["learned_shape", "learned_theory"]


def learned_theory(card: Card, action: Action | None = None) -> Any:
    """The theory that a network of the card learns, of the card's action or another one.

    Raises
    ------
    UserError
        Odd sites of a theory or lattice that has none; see `latticediff.action.OddSites`.
    """
    action = card.theory() if action is None else action
    if card.training.sites == "all":
        return action
    half_shape(card.shape)
    return OddSites(action)


def learned_shape(card: Card) -> Shape:
    """Extents of the array of sites that a network of the card learns."""
    return card.shape if card.training.sites == "all" else half_shape(card.shape)

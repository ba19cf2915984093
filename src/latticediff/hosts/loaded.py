"""What all that `load` gives has in common: the theory, the lattice and the identity of what stands behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ..types import Shape
from .pickling import ByBytes

if TYPE_CHECKING:
    from ..action import Action

__all__ = ["Behind", "Loaded"]


class Behind(Protocol):
    """A trained model of whatever kind."""

    @property
    def theory(self) -> Action:
        """Whose fields are proposed."""

    @property
    def lattice(self) -> Shape:
        """Extents of those fields."""

    def fingerprint(self) -> str:
        """Hex SHA-256."""


class Loaded(ByBytes):
    """Base of `Model` and `PhasesModel`, which say what is `behind` them."""

    @property
    def behind(self) -> Behind:
        """What was loaded."""
        raise NotImplementedError

    @property
    def action(self) -> Action:
        """S of the theory whose fields are proposed; ``action(phi)`` of (n, *lattice) is (n,)."""
        return self.behind.theory

    @property
    def shape(self) -> Shape:
        """Extents of the lattice."""
        return self.behind.lattice

    def fingerprint(self) -> str:
        """Hex SHA-256 of what the card holds: weights and description, or models, parts and their Z."""
        return self.behind.fingerprint()

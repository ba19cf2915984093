"""A theory taken apart into what is the same at every site and the numbers that are not."""

from typing import Any, NamedTuple

from ..types import FloatArray
from .external_field import ExternalField
from .random_mass import RandomMass

__all__ = ["SiteTerms", "site_terms"]


class SiteTerms(NamedTuple):
    r"""``S = S_0 + sum_x [r_x phi_x^2 / 2 - h_x phi_x]`` in its parts."""

    of: Any  #: the theory S_0, the same at every site
    mass: FloatArray | None  #: r, (*lattice), or None
    field: FloatArray | None  #: h, (*lattice), or None

    @property
    def are_any(self) -> bool:
        """Whether there are such numbers at all."""
        return self.mass is not None or self.field is not None

    def is_like(self, other: "SiteTerms") -> bool:
        """Whether the other theory is this one but for the values of its numbers: one S_0, with the same kinds."""
        kinds = [(terms.mass is None, terms.field is None) for terms in (self, other)]
        return kinds[0] == kinds[1] and bool(self.of.describe() == other.of.describe())


def site_terms(action: Any) -> SiteTerms:
    """The parts of a theory; one that is the same at every site is its own first part."""
    mass = field = None
    if isinstance(action, ExternalField):
        action, field = action.of, action.field
    if isinstance(action, RandomMass):
        action, mass = action.of, action.mass
    return SiteTerms(action, mass, field)

"""Options of the actions beside phi^4, checked with the card.

Found through the entry points ``latticediff.action_options``, as those of anybody else's action are: a class under the
action's name, a pydantic model of the keys of ``[action]`` beside `name`. What they are together, a theory with a lower
bound for instance, the action says itself.
"""

from typing import Annotated, Any

from pydantic import Field

from ..action.on import MOST_COMPONENTS
from .sections import Section

__all__ = [
    "ExternalFieldOptions",
    "ModulatedOptions",
    "ONOptions",
    "PolynomialOptions",
    "RandomMassOptions",
    "SineGordonOptions",
]

Hopping = float | Annotated[list[float], Field(min_length=1, max_length=4)]


class PolynomialOptions(Section):
    """See `latticediff.action.polynomial.Polynomial`; powers that are not named are absent."""

    hopping: Hopping = 1.0  #: one number, or one for each axis
    a1: float | None = None
    a2: float | None = None
    a3: float | None = None
    a4: float | None = None
    a5: float | None = None
    a6: float | None = None
    a7: float | None = None
    a8: float | None = None
    a9: float | None = None
    a10: float | None = None
    a11: float | None = None
    a12: float | None = None
    links: list[Any] | None = None  #: of offset and coefficient, as in [[[2, 0], -0.3], [[0, 2], -0.3]]


class SineGordonOptions(Section):
    """See `latticediff.action.sine_gordon.SineGordon`."""

    m2: float
    alpha: float
    beta: float
    theta: float = 0.0


class ModulatedOptions(Section):
    """See `latticediff.action.modulated.Modulated`."""

    hopping: float = 1.0
    next_nearest: float
    a: float
    b: float
    axes: list[int] | None = None  #: along which `next_nearest` couples; all by default


class ExternalFieldOptions(Section):
    """See `latticediff.action.external_field.ExternalField`: a theory, and normal h_x or those of a file."""

    of: dict[str, Any]  #: the theory without the field, with the keys of an ``[action]``
    width: Annotated[float, Field(ge=0)] | None = None  #: standard deviation of h_x
    seed: Annotated[int, Field(ge=0)] | None = None  #: of h_x, whatever the seed of the run
    file: str | None = None  #: a .npy file of h, in place of both


class RandomMassOptions(Section):
    """See `latticediff.action.random_mass.RandomMass`: a theory, and normal r_x or those of a file."""

    of: dict[str, Any]  #: the theory without the random mass, with the keys of an ``[action]``
    width: Annotated[float, Field(ge=0)] | None = None  #: standard deviation of r_x
    seed: Annotated[int, Field(ge=0)] | None = None  #: of r_x, whatever the seed of the run
    file: str | None = None  #: a .npy file of r, in place of both


class ONOptions(Section):
    """See `latticediff.action.on.ON`; the couplings are those of the convention, as for phi^4."""

    components: Annotated[int, Field(ge=1, le=MOST_COMPONENTS)]  #: N; complex phi^4 is N = 2
    convention: str  #: as for phi^4, with phi . phi for phi^2
    m2: float | None = None
    lam: float | None = None
    kappa: float | None = None
    beta: float | None = None
    mu0_sq: float | None = None

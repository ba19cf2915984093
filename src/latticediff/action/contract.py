"""What other rooms ask of an action, and the action that a description names."""

from typing import Protocol, runtime_checkable

from .. import registry
from ..errors import FileError
from ..untrusted import printable

__all__ = ["Action", "action_from_description"]


@runtime_checkable
class Action(Protocol):
    """What every other room asks of an action."""

    ndim: int
    hopping: float  #: c, the coefficient of the nearest-neighbour product

    def __call__(self, phi):
        """S, summed over the last `ndim` axes; float64, shape of the leading axes."""

    def force(self, phi):
        """-dS/dphi, the shape of `phi`, float64."""

    def potential(self, phi):
        """V(phi), site by site."""

    def potential_derivative(self, phi):
        """V'(phi), site by site."""

    def numba_potential(self):
        """``(v, dv, params)``: Numba-callable ``v(phi, params)``, ``dv(phi, params)`` and their float64 array."""

    def describe(self):
        """JSON-able description; two actions are the same theory if and only if these are equal."""


def action_from_description(description):
    """The `Action` object that `describe` described.

    It is found through the entry-point group ``latticediff.actions`` by ``description["name"]`` and builds itself
    with its classmethod ``from_description``.

    Raises
    ------
    UserError
        If no such action is installed.
    FileError
        The description lacks a part, or holds something else in its place.
    """
    try:
        return registry.load("actions", description.get("name")).from_description(description)
    except (KeyError, TypeError, AttributeError, OverflowError) as exc:
        raise FileError(
            f"the description of the action is damaged ({type(exc).__name__}: {printable(exc, 60)}):"
            f" {printable(description, 200)}"
        ) from exc

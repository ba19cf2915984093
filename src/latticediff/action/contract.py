"""What other rooms ask of an action, and the action that a description names."""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

from numpy.typing import ArrayLike

from .. import registry
from ..asking import asked
from ..contracts import Asked
from ..errors import FileError, UserError
from ..types import Description, Extents, FloatArray, Shape
from ..untrusted import printable

__all__ = ["Action", "NumbaPotential", "Part", "action_from_description", "action_from_options"]

#: ``(v, dv, params)``: Numba-callable ``v(phi, params)`` and ``dv(phi, params)`` of one site, and their parameters
NumbaPotential = tuple[Callable[..., Any], Callable[..., Any], FloatArray]


@runtime_checkable
class Action(Protocol, metaclass=Asked):
    """What every other room asks of an action.

    One that couples more than nearest neighbours, or these not alike along all axes, has `links` beside: see
    `latticediff.action.links`.
    """

    ndim: int  #: dimensions of the lattice
    hopping: float  #: c, the coefficient of the nearest-neighbour product

    def __call__(self, phi: ArrayLike) -> FloatArray:
        """S(phi), summed over the last `ndim` axes: float64, shape of the leading axes; a scalar if there are none."""

    def force(self, phi: ArrayLike) -> FloatArray:
        """``-dS/dphi`` at every site: float64, shape of `phi`."""

    def potential(self, phi: FloatArray) -> FloatArray:
        """The local potential ``V(phi)``, site by site."""

    def potential_derivative(self, phi: FloatArray) -> FloatArray:
        """Its derivative ``V'(phi)``, site by site."""

    def numba_potential(self) -> NumbaPotential:
        """V and V' as Numba-callable functions of one site, and their parameters: see `NumbaPotential`."""

    def describe(self) -> Description:
        """JSON-able description; two actions are the same theory if and only if these are equal."""


@runtime_checkable
class Part(Protocol, metaclass=Asked):
    """A theory of some of the sites of a lattice, as an array of their own, the others integrated out."""

    sites: str  #: which: ``odd`` or ``coarse``, as ``training.sites`` of a card
    whole: Any  #: the theory of all sites

    def restrict(self, phi: FloatArray) -> FloatArray:
        """These sites, (..., *shape), of fields (..., *lattice)."""

    def whole_shape(self, shape: Extents) -> Shape:
        """Extents of the lattice whose sites of this kind are an array of this shape."""


def check_options(options: Mapping[str, Any], known: Iterable[str], name: str) -> None:
    """Refuse options that an action does not know, by a `UserError` with the nearest name that it does."""
    known = tuple(known)
    for key in options:
        if key not in known:
            hint = registry.nearest(key, known) or f"; it has {', '.join(known)}"
            raise UserError(f"{name} has no key {printable(str(key), 60)!r}{hint}")


def action_from_options(name: str, options: Mapping[str, Any], ndim: int, shape: Extents) -> Any:
    """The action that the keys of a card name, in `ndim` dimensions; one of the lattice `shape` if it asks for that.

    Raises
    ------
    UserError
        No such action is installed, or it refuses the options.
    KeyError
        An option is missing that its ``from_options`` takes, or the convention of ``phi4``.
    TypeError
        An argument is missing or unknown, of an action without ``from_options``.
    """
    cls: Any = registry.load("actions", name)
    if name == "phi4":
        return cls(options["convention"], {k: v for k, v in options.items() if k != "convention"}, ndim)
    from_options = getattr(cls, "from_options", None)
    if from_options is None:
        inspect.signature(cls).bind(**options, ndim=ndim)
        return asked(cls, "action", "call", functools.partial(cls, **options, ndim=ndim), passing=(KeyError, TypeError))
    of_lattice = {"shape": shape} if "shape" in inspect.signature(from_options).parameters else {}
    call = functools.partial(from_options, dict(options), ndim, **of_lattice)
    return asked(cls, "action", "from_options", call, passing=(KeyError, TypeError))


def action_from_description(description: Description) -> Action:
    """The action whose `describe` gave this description.

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
        name: Any = description.get("name")  # `load` says what is wrong with it
        return registry.load("actions", name).from_description(description)
    except (KeyError, TypeError, AttributeError, OverflowError) as exc:
        raise FileError(
            f"the description of the action is damaged ({type(exc).__name__}: {printable(exc, 60)}):"
            f" {printable(description, 200)}"
        ) from exc

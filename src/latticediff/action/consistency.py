"""What every classical kernel asks of an action before it runs: that its compiled form is the action.

Kernels know an action by its links and by the potential that it hands to Numba. An action that says something else in
Python, in `force` or in `__call__`, would be sampled wrongly without a word; so both are compared on a random field,
and the potential is looked at far out, where one without a lower bound shows.
"""

import weakref
from typing import Any

import numpy as np

from ..errors import UserError
from ..types import FloatArray
from .contract import Action
from .links import links_of, lowest
from .on import ON
from .site_terms import site_terms

__all__ = ["check_compiled", "refuse_site_terms"]

_OWN = "latticediff.action."  #: the classes of this room are compared by tests, for all values of their parameters
_EXTENTS = (5, 4, 3, 2)
_FAR: FloatArray = np.exp2(np.arange(-4.0, 200.0))  #: fields at which a lower bound is looked for

_checked: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()


def check_compiled(action: Action, by_site: bool = False) -> None:
    """Refuse an action that its links and its Numba-callable potential do not describe.

    Parameters
    ----------
    action : Action
        Looked at once; actions of this package are taken at their word.
    by_site : bool
        Whether the kernel adds an external field and a random mass by itself (`latticediff.action.site_terms`); others
        would sample without them.

    Raises
    ------
    UserError
        One line that names what differs: `potential`, `potential_derivative`, the derivative of the potential,
        `force` or `__call__`; or a potential that does not hold the field; or an external field or a random mass
        that the kernel does not know.
    """
    if not by_site:
        refuse_site_terms(action)
    action = site_terms(action).of
    if type(action).__module__.startswith(_OWN) or _checked.get(id(action)) is action:
        return
    _compare(action)
    _refuse_unbounded(action)
    try:
        _checked[id(action)] = action
    except TypeError:  # a class with __slots__: looked at again
        return


def refuse_site_terms(action: Action, mass: bool = True) -> None:
    """Refuse what a kernel with one potential for all sites leaves out: a field, a random mass if `mass`, and O(N)."""
    if isinstance(action, ON):
        action.numba_potential()  # which says what knows several components
    terms = site_terms(action)
    if terms.field is not None:
        raise UserError(
            f"{action!r}: this kernel knows no external field; HMC with unit masses does: no hmc.cluster, no hmc.mass"
        )
    if terms.mass is not None and mass:
        raise UserError(
            f"{action!r}: this kernel knows no random mass; HMC with unit masses does (no hmc.mass), and clusters do"
        )


def _compare(action: Action) -> None:
    shape = _EXTENTS[: action.ndim]
    phi = np.random.default_rng(20).normal(size=(2, *shape))
    value, derivative, parameters = action.numba_potential()
    params = tuple(float(number) for number in parameters)
    V, slope = _each(value, phi, params), _each(derivative, phi, params)
    h = 1e-5
    with np.errstate(all="ignore"):
        rise = (_each(value, phi + h, params) - _each(value, phi - h, params)) / (2 * h)
    size = np.abs(V)
    _refuse(action, slope, rise, 1e-4 * (1 + np.abs(slope) + size), "numba_potential's derivative", "that of its value")
    own: Any = "the one that numba_potential gives"
    _refuse(action, np.asarray(action.potential(phi)), V, 1e-8 * (1e-3 + size), "potential", own)
    there = np.asarray(action.potential_derivative(phi))
    _refuse(action, there, slope, 1e-8 * (1e-3 + np.abs(slope)), "potential_derivative", own)
    total, force, sizes = V, -slope, np.abs(V) + np.abs(slope)
    axes = tuple(range(1, phi.ndim))
    for offset, coefficient in links_of(action):
        forth, back = (np.roll(phi, [sign * n for n in offset], axes) for sign in (-1, 1))
        total = total - coefficient * phi * forth
        force = force + coefficient * (forth + back)
        sizes = sizes + abs(coefficient) * (1 + phi**2 + forth**2)
    kernels = "what links and numba_potential say, which kernels compute"
    _refuse(action, np.asarray(action.force(phi)), force, 1e-8 * (1e-3 + sizes), "force", kernels)
    total, sizes = total.sum(axis=axes), sizes.sum(axis=axes)
    _refuse(action, np.asarray(action(phi)), total, 1e-8 * (1e-3 + sizes), "__call__", kernels)


def _each(function: Any, phi: FloatArray, params: tuple[float, ...]) -> FloatArray:
    """A function of one site, Numba's or Python's, at every site."""
    plain = getattr(function, "py_func", function)  # no compilation for a few sites
    with np.errstate(all="ignore"):
        return np.array([float(plain(float(x), params)) for x in phi.ravel()]).reshape(phi.shape)


def _refuse(action: Action, got: FloatArray, wanted: FloatArray, tolerance: FloatArray, what: str, other: str) -> None:
    """One line, if two arrays differ where the wanted one is finite."""
    if got.shape != wanted.shape:
        raise UserError(
            f"{action!r}: its {what} gives shape {got.shape} for fields of {wanted.shape}; expected the same"
        )
    counts = np.isfinite(wanted) & np.isfinite(tolerance)
    gap = np.where(counts, np.abs(got - np.where(counts, wanted, 0.0)), 0.0)
    if not (gap <= np.where(counts, tolerance, 1.0)).all():
        raise UserError(
            f"{action!r}: its {what} differs from {other}, by up to {np.max(gap):.3g} on a random field;"
            " make them agree"
        )


def _refuse_unbounded(action: Action) -> None:
    """Refuse a potential that falls below the couplings of the mode that they favour most."""
    depth = -0.5 * lowest(links_of(action))
    for sign in (1.0, -1.0):
        with np.errstate(all="ignore"):
            height = np.asarray(action.potential(sign * _FAR)) - depth * _FAR**2
        height = height[~np.isnan(height)]  # of numbers that overflow
        if not len(height) or not (height[-1] == np.inf or height[-1] > max(height[0], height[-2])):
            raise UserError(
                f"{action!r}: the integral of exp(-S) diverges, for V(phi) - {depth:g} phi^2 does not rise towards"
                f" {'+' if sign > 0 else '-'}infinity; expected a potential that outgrows the coupling of the sites"
            )

"""An action: S, its force, its local potential and what it hands to compiled kernels are one theory."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..action.consistency import check_compiled
from ..action.contract import Action
from ..action.links import links_of
from ..action.site_terms import site_terms
from ..errors import UserError
from ..types import Extents, FloatArray
from .faults import Faults, lacking, raise_faults, some_fields, untold

__all__ = ["action_faults", "check_action"]

_STEP = 1e-5


def check_action(action: Action, shape: Extents | None = None) -> None:
    """Hold an action against `latticediff.action.Action`.

    S is compared with ``-sum_r c_r phi phi' + sum V`` of its own links and potential, the force with differences of S,
    the compiled potential with both, values of a batch with those of single fields, and a description is built again
    where there is a ``from_description``.

    Parameters
    ----------
    action : Action
    shape : tuple of int, optional
        Lattice to try it on; by default a small one of its dimension.

    Raises
    ------
    ContractError
        A line for each fault.

    Examples
    --------
    >>> from latticediff.action import Phi4
    >>> check_action(Phi4.A(-4.0, 6.0))
    """
    raise_faults(action, "action", lambda: action_faults(action, None if shape is None else tuple(shape)))


def action_faults(action: Any, shape: tuple[int, ...] | None = None) -> Faults:
    """What is wrong with an action, a line each; errors of its own code pass."""
    if faults := lacking(action, Action):
        return faults
    phi = some_fields(action.ndim, shape=shape)
    before = phi.copy()
    value, force = np.asarray(action(phi)), np.asarray(action.force(phi))
    if value.shape != (len(phi),) or force.shape != phi.shape:
        return [f"S of {phi.shape} has shape {value.shape} and force {force.shape}; expected (3,) and {phi.shape}"]
    if value.dtype != np.float64 or force.dtype != np.float64:
        faults.append(f"S is {value.dtype} and force {force.dtype}; expected float64")
    if not np.array_equal(phi, before):
        return [*faults, "it writes into the fields that it is given; let it work on a copy"]
    faults += _of_one_field(action, phi, value, force)
    faults += _derivatives(action, phi, force)
    faults += _locality(action, phi, value)
    faults += _compiled(action, phi)
    faults += untold(action.describe)
    if not faults and hasattr(action, "from_description"):
        again = type(action).from_description(action.describe())
        if again.describe() != action.describe() or not np.array_equal(again(phi), value):
            faults.append("from_description(describe()) is another theory")
    return faults


def _of_one_field(action: Any, phi: FloatArray, value: FloatArray, force: FloatArray) -> Faults:
    one, one_force = np.asarray(action(phi[0])), np.asarray(action.force(phi[0]))
    if one.shape != () or one_force.shape != phi.shape[1:]:
        return [f"S of one field has shape {one.shape} and force {one_force.shape}; expected () and {phi.shape[1:]}"]
    same = np.allclose(one, value[0], rtol=1e-9) and np.allclose(one_force, force[0], rtol=1e-9, atol=1e-12)
    return [] if same else ["S or force of a field depends on the batch in which it stands"]


def _derivatives(action: Any, phi: FloatArray, force: FloatArray) -> Faults:
    """The force, and the derivative of the potential, against differences."""
    found: Faults = []
    direction = np.random.default_rng(2).standard_normal(phi.shape)
    up, down = (np.asarray(action(phi + sign * _STEP * direction)) for sign in (1, -1))
    slope, wanted = (up - down) / (2 * _STEP), -(force * direction).reshape(len(phi), -1).sum(axis=1)
    if not np.allclose(slope, wanted, rtol=1e-5, atol=1e-5 * np.abs(force).max()):
        found.append(f"force is not -dS/dphi: along one direction {wanted[0]:.6g}, by differences of S {slope[0]:.6g}")
    high, low = (np.asarray(action.potential(phi + sign * _STEP)) for sign in (1, -1))
    own = np.asarray(action.potential_derivative(phi))
    if own.shape != phi.shape or high.shape != phi.shape:
        return [*found, f"potential has shape {high.shape} and its derivative {own.shape}; expected {phi.shape}"]
    if not np.allclose((high - low) / (2 * _STEP), own, rtol=1e-5, atol=1e-5 * max(1.0, np.abs(own).max())):
        found.append("potential_derivative is not the derivative of potential, by differences")
    return found


def _locality(action: Any, phi: FloatArray, value: FloatArray) -> Faults:
    """S from the links and the potential alone."""
    axes = tuple(range(1, phi.ndim))
    local = np.asarray(action.potential(phi)).reshape(len(phi), -1).sum(axis=1)
    products = (
        coefficient * (phi * np.roll(phi, [-n for n in offset], axes)).reshape(len(phi), -1).sum(axis=1)
        for offset, coefficient in links_of(action)
    )
    if np.allclose(value, local - sum(products), rtol=1e-9):
        return []
    return ["S is not -c sum phi phi' + sum V with its own hopping and potential; compiled updates use these two alone"]


def _compiled(action: Any, phi: FloatArray) -> Faults:
    """What Numba gets, site by site, and whether it holds the field."""
    *functions, parameters = action.numba_potential()
    plain = [getattr(f, "py_func", f) for f in functions]
    alike = site_terms(action).of  # fields and masses of single sites are added by kernels, not by numba_potential
    for function, own in zip(plain, (alike.potential, alike.potential_derivative), strict=True):
        sites = [function(x, parameters) for x in phi[0].ravel()]
        if not np.allclose(sites, np.asarray(own(phi[0])).ravel(), rtol=1e-9):
            return ["numba_potential is not potential and potential_derivative"]
    try:
        check_compiled(action, by_site=True)
    except UserError as exc:
        return [" ".join(str(exc).split())]
    return []

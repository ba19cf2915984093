r"""Primary observables: one number per configuration, from which everything else is derived.

========  =====================================================================================
name      per configuration
========  =====================================================================================
m         :math:`m = V^{-1} \sum_x \phi_x`, signed
abs_m     :math:`|m|`
m2, m4    :math:`m^2, m^4`
phi2      :math:`V^{-1} \sum_x \phi_x^2`
action    :math:`S`, total
sd        :math:`V^{-1} \sum_x \phi_x \, \partial S / \partial \phi_x`; its mean is 1 exactly (Schwinger-Dyson)
g_kmin    :math:`|\tilde\phi(k)|^2 / V` at :math:`k = 2\pi / L`, averaged over the axes of the longest extent
========  =====================================================================================
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import registry
from ..action import Action
from ..arrays import real_array
from ..errors import UserError
from ..types import FloatArray
from .momentum import momentum_susceptibility

__all__ = ["BUILT_IN", "installed_names", "measure_array", "measure_primary", "observable", "observable_names"]

Observable = Callable[[FloatArray, Action], ArrayLike]  #: ``f(phis, action)`` of fields (n, *lattice): n numbers
Observables = Iterable[str] | Mapping[str, Any]  #: names, or functions (or names) under names of choice
Batches = NDArray[Any] | Iterable[NDArray[Any]]  #: fields (n, n_chains, *lattice) or (n, *lattice), or several such

CHUNK_SITES = 2**16  #: sites handed to the observables at once, so that temporaries stay in the cache


def _flat(phis: FloatArray) -> FloatArray:
    phis = real_array(phis, "phis")
    if phis.ndim < 2:
        raise UserError(f"phis has shape {phis.shape}; expected (n_cfg, *lattice)")
    return phis.reshape(len(phis), -1)


def magnetization(phis: FloatArray, action: Action | None = None) -> FloatArray:
    r"""``m = V^-1 sum_x phi(x)``, signed; shape (n_cfg,).

    Parameters
    ----------
    phis : ndarray, shape (n_cfg, *lattice), float64
    action : Action, optional
        Not used; every observable takes one.

    Returns
    -------
    ndarray, shape (n_cfg,), float64

    Raises
    ------
    UserError
        `phis` has fewer than two axes.
    """
    return _flat(phis).mean(axis=1)


def abs_magnetization(phis: FloatArray, action: Action | None = None) -> FloatArray:
    """``|m|``; shape (n_cfg,)."""
    return np.abs(magnetization(phis))


def magnetization_2(phis: FloatArray, action: Action | None = None) -> FloatArray:
    """``m^2``; shape (n_cfg,)."""
    return magnetization(phis) ** 2


def magnetization_4(phis: FloatArray, action: Action | None = None) -> FloatArray:
    """``m^4``; shape (n_cfg,)."""
    return magnetization(phis) ** 4


def phi_squared(phis: FloatArray, action: Action | None = None) -> FloatArray:
    r"""``V^-1 sum_x phi(x)^2``; shape (n_cfg,)."""
    flat = _flat(phis)
    return np.einsum("ij,ij->i", flat, flat) / flat.shape[1]


def total_action(phis: FloatArray, action: Action) -> FloatArray:
    """S(phi), not divided by the volume; shape (n_cfg,)."""
    return action(phis)


def schwinger_dyson(phis: FloatArray, action: Action) -> FloatArray:
    r"""``V^-1 sum_x phi dS/dphi``; its mean is exactly 1, by partial integration of exp(-S) phi.

    Any ensemble with another mean is not in equilibrium, or not of this action.
    """
    flat = _flat(phis)
    return -np.einsum("ij,ij->i", flat, action.force(phis).reshape(flat.shape)) / flat.shape[1]


def propagator_k_min(phis: FloatArray, action: Action | None = None) -> FloatArray:
    r"""``|phi_k|^2 / V`` at the smallest momentum, ``k = 2 pi / L``, averaged over the axes of the longest extent.

    With `m2` it gives the second-moment correlation length; see `xi_second_moment`.

    Parameters
    ----------
    phis : ndarray, shape (n_cfg, *lattice), float64
    action : Action, optional
        Not used.

    Returns
    -------
    ndarray, shape (n_cfg,), float64
    """
    shape = phis.shape[1:]
    longest = max(shape)
    axes = [axis for axis, extent in enumerate(shape) if extent == longest]
    modes = [[int(other == axis) for other in range(len(shape))] for axis in axes]
    total: Any = sum(momentum_susceptibility(phis, mode) for mode in modes)
    return total / len(axes)


BUILT_IN: dict[str, Observable] = {
    "m": magnetization,
    "abs_m": abs_magnetization,
    "m2": magnetization_2,
    "m4": magnetization_4,
    "phi2": phi_squared,
    "action": total_action,
    "sd": schwinger_dyson,
    "g_kmin": propagator_k_min,
}


def installed_names() -> list[str]:
    """Names that other packages install under the entry-point group ``latticediff.observables``."""
    return [name for name in registry.names("observables") if name not in BUILT_IN]


def observable_names() -> list[str]:
    """Names that `observable` knows: the built-in ones, then those that other packages install."""
    return [*BUILT_IN, *installed_names()]


def observable(name: str) -> Observable:
    """The function ``f(phis, action) -> (n_cfg,)`` of this name.

    Raises
    ------
    UserError
        If neither the package nor an installed entry point defines it.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    known = observable_names()
    if name not in known:
        raise UserError(f"observable is {name!r}{registry.nearest(name, known)}; expected one of {', '.join(known)}")
    return registry.load("observables", name)


def _resolve(observables: Observables | None) -> dict[str, Observable]:
    """dict of name -> function from None, names, or a dict with the caller's own functions."""
    if observables is None:
        return dict(BUILT_IN)
    if hasattr(observables, "items"):
        return {name: f if callable(f) else observable(name) for name, f in observables.items()}
    return {name: observable(name) for name in observables}


def measure_primary(phis: Batches, action: Action, observables: Observables | None = None) -> dict[str, FloatArray]:
    """Series of primary observables, chain by chain; one batch in memory at a time.

    Parameters
    ----------
    phis : ndarray or iterable of ndarray
        Configurations in Monte Carlo order, ``(n, n_chains, *lattice)`` as in `Block.phi`, or
        ``(n, *lattice)`` for one chain. An iterable of such batches is read once, so a generator
        over a running chain, or over a file larger than memory, will do.
    action : Action
    observables : iterable of str or dict of str to callable, optional
        Names, or own functions ``f(phis (n, *lattice), action) -> (n,)`` under a name of choice.
        All built-in ones by default.

    Returns
    -------
    dict of str to ndarray, shape (n_chains, n), float64

    Raises
    ------
    UserError
        No configuration, a batch whose shape does not fit the action or the batches before it, a
        field that is not finite, or an own observable that returns another shape.
    """
    functions = _resolve(observables)
    columns: dict[str, list[FloatArray]] = {name: [] for name in functions}
    for flat, n_chains in _batches(phis, action):
        rows = {name: np.empty(len(flat)) for name in functions}
        step = max(1, CHUNK_SITES // flat[0].size)
        for start in range(0, len(flat), step):
            chunk = flat[start : start + step]
            for name, function in functions.items():
                values = real_array(function(chunk, action), f"observable {name!r}", booleans=True)
                if values.shape != (len(chunk),):
                    raise UserError(f"observable {name!r} has shape {values.shape}; expected ({len(chunk)},)")
                rows[name][start : start + step] = values
        for name, values in rows.items():
            columns[name].append(values.reshape(-1, n_chains).T)
    return {name: np.concatenate(parts, axis=1) for name, parts in columns.items()}


def measure_array(phis: Batches, action: Action, function: Callable[[FloatArray], ArrayLike]) -> FloatArray:
    """Series of an observable that is an array, such as `timeslice_correlator`.

    Parameters
    ----------
    phis, action
        As in `measure_primary`.
    function : callable
        ``f(phis (n, *lattice)) -> (n, ...)``; no action, close over it if it is needed.

    Returns
    -------
    ndarray, shape (n_chains, n, ...), float64 or complex128
        Complex where the observable is, as `time_slices` at a momentum: ``np.abs(series) ** 2`` and its like are
        right. What `analysis` averages is real: give it ``.real``, ``.imag`` or a modulus.

    Raises
    ------
    UserError
        As `measure_primary`.
    """
    parts = []
    for flat, n_chains in _batches(phis, action):
        values = function(flat)
        if np.iscomplexobj(values):  # part by part through the door
            values = real_array(np.real(values), "observable") + 1j * real_array(np.imag(values), "observable")
        else:
            values = real_array(values, "observable", booleans=True)
        if values.ndim < 2 or len(values) != len(flat):
            raise UserError(f"observable has shape {values.shape}; expected ({len(flat)}, ...)")
        parts.append(np.moveaxis(values.reshape(-1, n_chains, *values.shape[1:]), 1, 0))
    return np.concatenate(parts, axis=1)


def _batches(phis: Batches, action: Action) -> Iterator[tuple[FloatArray, int]]:
    """Checked batches as (n * n_chains, *lattice), chains running fastest, with n_chains."""
    expected: tuple[int, ...] | None = None
    for batch in [phis] if isinstance(phis, np.ndarray) else phis:
        batch = _with_chain_axis(real_array(batch, "phis"), action.ndim)
        if expected not in (None, batch.shape[1:]):
            raise UserError(f"a batch has shape (n, {batch.shape[1:]}); the batches before it have {expected}")
        expected = batch.shape[1:]
        if not np.isfinite(batch).all():
            raise UserError("phis has a value that is not finite; the ensemble is damaged or its sampler diverged")
        if len(batch):  # a block shorter than its thinning keeps nothing
            yield batch.reshape(-1, *batch.shape[2:]), batch.shape[1]
    if expected is None:
        raise UserError("there is no configuration to measure")


def _with_chain_axis(batch: FloatArray, ndim: int) -> FloatArray:
    if batch.ndim == ndim + 1:
        return batch[:, None]
    if batch.ndim == ndim + 2:
        return batch
    raise UserError(
        f"phis has shape {batch.shape}; expected (n, n_chains, *lattice) or (n, *lattice) with {ndim} lattice axes"
    )

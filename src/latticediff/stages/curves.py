r"""Curves of the report: autocorrelation functions and the propagator, each with errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..analysis import autocorrelation, tau_int
from ..lattice import mode_weights, p_hat_squared
from ..observables import RunningMean, structure_factor
from ..report import Autocorrelation, Correlator, Propagator
from .measure import field_batches
from .spectrum import measure_spectrum

if TYPE_CHECKING:
    from ..ensemble import Ensemble
    from ..types import FloatArray

__all__ = ["autocorrelation_curve", "correlator_curves", "propagator_curve", "rho_error"]


def rho_error(rho: FloatArray, n: int, n_shown: int) -> FloatArray:
    r"""Standard error of :math:`\rho(t)` for ``t < n_shown``, by

    .. math:: \sigma^2_\rho(t) \approx \frac1N \sum_{k \ge 1} [\rho(k+t) + \rho(k-t) - 2 \rho(t) \rho(k)]^2

    (Luescher, hep-lat/0409106, appendix E). The sum runs as far as `rho` is given; it is zero beyond.

    Parameters
    ----------
    rho : ndarray, shape (n_lags,), float64
        Normalised autocorrelation function, from lag 0.
    n : int
        Entries of the series, all chains together.
    n_shown : int
        Lags wanted, at most n_lags.

    Returns
    -------
    ndarray, shape (n_shown,), float64
    """
    n_lags = len(rho)
    padded = np.concatenate([rho, np.zeros(n_lags)])
    k = np.arange(1, n_lags)
    error = np.zeros(n_shown)
    for t in range(1, n_shown):
        terms = padded[k + t] + padded[np.abs(k - t)] - 2 * padded[t] * padded[k]
        error[t] = np.sqrt((terms**2).sum() / n)
    return error


def autocorrelation_curve(series: FloatArray, thin: int = 1, s_tau: float = 1.5, n_max: int = 400) -> Autocorrelation:
    """Autocorrelation function of a series, out to three windows of its tau_int.

    Parameters
    ----------
    series : ndarray, shape (n_chains, n), float64
    thin : int
        Updates from entry to entry; lags and window are given in updates.
    s_tau : float
        S of the automatic window.
    n_max : int
        Most lags, in entries.

    Returns
    -------
    Autocorrelation

    Raises
    ------
    UserError
        A constant series.
    """
    found = tau_int(series, s_tau)
    n_shown = int(min(max(3 * found.window, 8), n_max, series.shape[1] // 2))
    rho = autocorrelation(series, 2 * n_shown)
    n_shown = min(n_shown, len(rho))
    # beyond the window rho is noise, which would inflate the error sum
    signal = np.where(np.arange(len(rho)) <= max(found.window, 1), rho, 0.0)
    error = rho_error(signal, series.size, n_shown)
    lags: Any = np.arange(n_shown) * thin  # integers, and written as such
    return Autocorrelation(lags, rho[:n_shown], error, window=found.window * thin)


def propagator_curve(ensemble: Ensemble) -> Propagator:
    """The propagator ``G(k) = <|phi_k|^2> / V``, averaged over modes of equal ``p_hat^2 = sum_mu 4 sin^2(k_mu / 2)``.

    Errors are binned over Monte Carlo time, so they contain autocorrelations.

    Parameters
    ----------
    ensemble : latticediff.ensemble.Ensemble
        Open.

    Returns
    -------
    latticediff.report.Propagator
        In ascending order of p_hat^2.
    """
    shape, running = ensemble.shape, RunningMean()
    if hasattr(ensemble.action, "components"):
        shape = shape[1:]  # the mean over the components
    p2 = p_hat_squared(shape, half=True)
    levels, which = np.unique(np.round(p2, 9), return_inverse=True)
    weights = mode_weights(shape).ravel()
    share = np.zeros((len(levels), weights.size))
    share[which.ravel(), np.arange(weights.size)] = weights
    share /= share.sum(axis=1, keepdims=True)
    for phis in ensemble.batches():
        fields = phis.reshape(len(phis) // ensemble.n_chains, -1, *shape)
        power = structure_factor(fields, len(shape)).mean(axis=1)
        running.add(power.reshape(len(power), -1) @ share.T)
    value, error = running.estimate()
    return Propagator(levels, value, error)


def correlator_curves(ensemble: Ensemble, s_tau: float = 1.5) -> dict[str, Any]:
    """Correlator at zero momentum and effective masses along the longest axis, as fields of a `ChainResult`.

    Parameters
    ----------
    ensemble : latticediff.ensemble.Ensemble
        Open.
    s_tau : float
        S of the automatic window.

    Returns
    -------
    dict of str to Correlator or None
        ``correlator`` and ``effective_mass``; None where no point is defined. Empty on a lattice of one site.
    """
    if max(ensemble.shape) < 2 or hasattr(ensemble.action, "components"):
        return {}
    found = measure_spectrum(field_batches(ensemble), ensemble.action, ensemble.shape, s_tau=s_tau)
    return {
        name: None if curve is None else Correlator(*curve)
        for name, curve in zip(("correlator", "effective_mass"), found.curves(), strict=True)
    }

"""Time-slice correlators and effective masses with Gamma-method errors."""

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import real_array
from ..errors import UserError
from ..host import numpy_defaults
from ..observables.derived import effective_mass
from ..types import FloatArray
from .gamma import S_TAU, derived, mean
from .result import Estimate

__all__ = ["correlator_table", "effective_masses"]


def _checked(correlators: ArrayLike) -> FloatArray:
    correlators = real_array(correlators, "correlators")
    if correlators.ndim != 3:
        raise UserError(f"correlators have shape {correlators.shape}; expected (n_chains, n, n_separations)")
    return np.moveaxis(correlators, 2, 0)


@numpy_defaults()
def correlator_table(correlators: ArrayLike, s_tau: float = S_TAU) -> list[Estimate]:
    """``C(t)`` at every separation.

    Parameters
    ----------
    correlators : ndarray, shape (n_chains, n, n_separations)
        From ``measure_array(phis, action, timeslice_correlator)``.
    s_tau : float
        See `tau_int`.

    Returns
    -------
    list of Estimate
        One for each separation; neighbouring ones are strongly correlated.

    Raises
    ------
    UserError
        Wrong number of axes, or a constant series.
    """
    return [mean(c, s_tau, f"C({t})") for t, c in enumerate(_checked(correlators))]


@numpy_defaults()
def effective_masses(correlators: ArrayLike, extent: int, form: str = "cosh", s_tau: float = S_TAU) -> list[Estimate]:
    r"""Effective mass from each pair of neighbouring separations; see `effective_mass`.

    Parameters
    ----------
    correlators : ndarray, shape (n_chains, n, extent // 2 + 1)
        From ``measure_array(phis, action, timeslice_correlator)``.
    extent : int
        Extent T of the time axis.
    form : {"cosh", "log"}
        Solved for a periodic lattice, or the plain logarithm.
    s_tau : float
        See `tau_int`.

    Returns
    -------
    list of Estimate
        Of t = 0 .. extent // 2 - 1, the covariance of C(t) and C(t+1) included. NaN where the mean
        correlator does not fall, error NaN where it falls by less than its noise.

    Raises
    ------
    UserError
        If the separations do not fit the extent, or the form is unknown.
    """
    series = _checked(correlators)
    if len(series) != extent // 2 + 1:
        raise UserError(
            f"there are {len(series)} separations for T = {extent}; expected T // 2 + 1 = {extent // 2 + 1}"
        )
    masses = []
    for t in range(extent // 2):

        def mass(c_now: float, c_next: float, t: int = t) -> float:
            return effective_mass(c_now, c_next, t, extent, form)

        masses.append(derived(mass, [series[t], series[t + 1]], s_tau, f"m_eff({t})"))
    return masses

r"""Formulas on ensemble means. Errors come from `latticediff.analysis.derived`, which calls these functions.

Every function takes means (floats) of primary observables in the order of its signature, so that
``derived(binder, [m2, m4])`` is the Binder cumulant with its propagated error.
"""

import math

import numpy as np

from ..errors import UserError

__all__ = [
    "binder",
    "chi",
    "chi_abs",
    "effective_mass",
    "fourth_cumulant",
    "renormalised_coupling",
    "xi_second_moment",
]


def chi(m2: float, volume: int) -> float:
    """Susceptibility without subtraction, ``chi = V <m^2>``: the propagator at zero momentum.

    Parameters
    ----------
    m2 : float
        ``<m^2>``, with ``m = V^-1 sum_x phi(x)``.
    volume : int
        V, the number of sites.

    Returns
    -------
    float
    """
    return volume * m2


def chi_abs(m2: float, abs_m: float, volume: int) -> float:
    """Susceptibility with the modulus subtracted, ``V (<m^2> - <|m|>^2)``.

    On a finite lattice ``<m>`` vanishes in both phases; with ``<|m|>`` in its place the susceptibility has a peak at
    the transition.

    Parameters
    ----------
    m2, abs_m : float
        ``<m^2>`` and ``<|m|>``.
    volume : int
        V.

    Returns
    -------
    float
    """
    return volume * (m2 - abs_m**2)


def binder(m2: float, m4: float) -> float:
    """Binder cumulant ``U = 1 - <m^4> / (3 <m^2>^2)``: 0 for a Gaussian, 2/3 deep in the broken phase.

    Binder, Z. Phys. B 43 (1981) 119.

    Parameters
    ----------
    m2, m4 : float
        ``<m^2>`` and ``<m^4>``.

    Returns
    -------
    float
    """
    return 1 - m4 / (3 * m2**2)


def fourth_cumulant(m2: float, m4: float, volume: int, components: int = 1) -> float:
    """Connected four-point function at zero momentum, ``chi_4 = V^3 (<m^4> - (1 + 2/N) <m^2>^2)``, symmetric phase.

    N is 1 for a field of one component: ``V^3 (<m^4> - 3 <m^2>^2)``.

    Parameters
    ----------
    m2, m4 : float
        ``<m^2>`` and ``<m^4>``.
    volume : int
        V.
    components : int
        N.

    Returns
    -------
    float
    """
    return volume**3 * (m4 - (components + 2) / components * m2**2)


def xi_second_moment(m2: float, g_kmin: float, volume: int, extent: int) -> float:
    r"""Second-moment correlation length, ``xi = sqrt(chi / G(k_min) - 1) / (2 sin(pi / L))``, with ``chi = V <m^2>``.

    Caracciolo, Edwards, Pelissetto, Sokal, Nucl. Phys. B 403 (1993) 475.

    Parameters
    ----------
    m2 : float
        ``<m^2>``.
    g_kmin : float
        ``G(k_min)``, the mean of `propagator_k_min`, with ``k_min = 2 pi / L``.
    volume : int
        V.
    extent : int
        L, the longest extent, along which `g_kmin` is measured.

    Returns
    -------
    float
        NaN where ``chi < G(k_min)``: the data show no correlation length above their noise.

    Raises
    ------
    UserError
        If the longest extent is 1: there is no momentum but zero.
    """
    if extent < 2:
        raise UserError(f"longest extent is {extent}; xi_2nd needs at least 2 sites along one axis")
    slope = volume * m2 / g_kmin - 1
    return math.sqrt(slope) / (2 * math.sin(math.pi / extent)) if slope >= 0 else math.nan


def renormalised_coupling(
    m2: float, m4: float, g_kmin: float, volume: int, extent: int, ndim: int, components: int = 1
) -> float:
    """``g_R = -3N/(N+2) chi_4 / (chi^2 xi^d)``, dimensionless; for the symmetric phase and ``xi << L``.

    The factor is 1 for one component; for several see Pelissetto, Vicari, Phys. Rept. 368 (2002) 549. It does not
    depend on the normalisation of the field. Luescher, Weisz, Nucl. Phys. B 295 (1988) 65.

    Parameters
    ----------
    m2, m4 : float
        ``<m^2>`` and ``<m^4>``.
    g_kmin : float
        G(k_min), as for `xi_second_moment`.
    volume, extent, ndim : int
        V, the longest extent L, and d.
    components : int
        N.

    Returns
    -------
    float
        NaN where `xi_second_moment` is.

    Raises
    ------
    UserError
        If the longest extent is 1: there is no length to measure in. (The table of observables has NaN there.)
    """
    xi = xi_second_moment(m2, g_kmin, volume, extent)
    factor = 3 * components / (components + 2)
    return -factor * fourth_cumulant(m2, m4, volume, components) / (chi(m2, volume) ** 2 * xi**ndim)


def effective_mass(c_now: float, c_next: float, timeslice: int, extent: int, form: str = "cosh") -> float:
    r"""Effective mass from the correlator at two neighbouring separations.

    ``form="log"``: :math:`\ln C(t) / C(t+1)`, exact for one exponential, biased near the middle of a
    periodic lattice. ``form="cosh"``: the m that solves

    .. math:: C(t) / C(t+1) = \cosh m(T/2 - t) / \cosh m(T/2 - t - 1),

    exact for one state on a periodic lattice of extent T.

    Parameters
    ----------
    c_now, c_next : float
        C(t) and C(t+1).
    timeslice : int
        t, with ``t + 1 <= T / 2``.
    extent : int
        T.
    form : {"cosh", "log"}

    Returns
    -------
    float
        In lattice units; NaN where the correlator does not fall.

    Raises
    ------
    UserError
        Unknown form, or a separation beyond the middle of the lattice.
    """
    if form not in ("cosh", "log"):
        raise UserError(f"form of the effective mass is {form!r}; expected cosh or log")
    if timeslice < 0 or 2 * (timeslice + 1) > extent + 1:
        raise UserError(f"t = {timeslice} on T = {extent}; the effective mass needs 0 <= t and t + 1 <= (T + 1) / 2")
    ratio = c_now / c_next if c_next > 0 else math.nan
    if not ratio > 1:
        return math.nan
    if form == "log":
        return math.log(ratio)
    return _solve_cosh(ratio, extent / 2 - timeslice)


def _solve_cosh(ratio: float, distance: float) -> float:
    """Root m of log cosh(m d) - log cosh(m (d - 1)) = log ratio, by safeguarded Newton steps."""
    near, target = distance - 1, math.log(ratio)

    def log_cosh(x: float) -> float:
        return abs(x) + math.log1p(math.exp(-2 * abs(x))) - math.log(2)

    if abs(near) >= abs(distance):
        return math.nan  # t and t + 1 mirror each other (odd T): C does not fall between them
    low, high = 0.0, 1.0
    while log_cosh(high * distance) - log_cosh(high * near) < target:
        high *= 2
        if high > 1e3:
            return math.nan
    mass = 0.5 * (low + high)
    for _ in range(200):
        gap = log_cosh(mass * distance) - log_cosh(mass * near) - target
        low, high = (mass, high) if gap < 0 else (low, mass)
        slope = distance * math.tanh(mass * distance) - near * math.tanh(mass * near)
        step = mass - gap / slope if slope > 0 else math.nan
        new = step if low < step < high else 0.5 * (low + high)
        if abs(new - mass) <= 4 * np.finfo(float).eps * mass:
            return new
        mass = new
    return mass

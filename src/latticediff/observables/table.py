"""The one table of observables: what is measured, averaged, timed, gated and shown follows from it.

An observable of another package, installed under the entry-point group ``latticediff.observables``, is an `Observable`
or a plain function ``f(phis, action) -> (n,)``.
"""

import math
from typing import Any

import numpy as np

from .. import registry
from ..errors import UserError
from .contract import Observable, Where
from .derived import binder, chi, chi_abs, fourth_cumulant, renormalised_coupling, xi_second_moment
from .primary import magnetization, phi_squared, propagator_k_min, schwinger_dyson, total_action

__all__ = ["OBSERVABLES", "REPORTED", "THERMAL", "TIMED", "installed_names", "observable", "observable_names"]


def _square(m: Any) -> Any:
    return m**2


def _fourth_power(m: Any) -> Any:
    return m**4


def _chi(at: Where, m2: float) -> float:
    return chi(m2, at.volume)


def _chi_abs(at: Where, m2: float, abs_m: float) -> float:
    return chi_abs(m2, abs_m, at.volume)


def _binder(at: Where, m2: float, m4: float) -> float:
    return binder(m2, m4)


def _per_site(at: Where, action: float) -> float:
    return action / at.volume


def _unchanged(at: Where, value: float) -> float:
    return value


def _xi(at: Where, m2: float, g_kmin: float) -> float:
    if at.extent < 2:
        return math.nan  # one site has no length
    return xi_second_moment(m2, g_kmin, at.volume, at.extent)


def _fourth_cumulant(at: Where, m2: float, m4: float) -> float:
    return fourth_cumulant(m2, m4, at.volume, at.components)


def _coupling(at: Where, m2: float, m4: float, g_kmin: float) -> float:
    if at.extent < 2:
        return math.nan  # it is measured in units of xi
    return renormalised_coupling(m2, m4, g_kmin, at.volume, at.extent, at.ndim, at.components)


#: in the order in which tables show them
OBSERVABLES: dict[str, Observable] = {
    "m": Observable(
        magnetization, symbol="m", tex="m", meaning="V⁻¹ Σ φ, signed; of several components its length",
        timed=True,
    ),
    "abs_m": Observable(
        np.abs, ("m",), symbol="|m|", tex="|m|", meaning="mean modulus of m = V⁻¹ Σ φ",
        reported=True, timed=True, thermal=True,
    ),
    "m2": Observable(_square, ("m",), symbol="m²", tex="m^2", meaning="m²", timed=True),
    "m4": Observable(_fourth_power, ("m",), symbol="m⁴", tex="m^4", meaning="m⁴"),
    "chi": Observable(_chi, ("m2",), True, "χ", r"\chi", "V ⟨m²⟩", reported=True),
    "chi_abs": Observable(
        _chi_abs, ("m2", "abs_m"), True, "χ_abs", r"\chi_{\mathrm{abs}}", "V (⟨m²⟩ − ⟨|m|⟩²)", reported=True
    ),
    "binder": Observable(
        _binder, ("m2", "m4"), True, "U", "U", "Binder cumulant, 1 − ⟨m⁴⟩ / (3 ⟨m²⟩²)", reported=True
    ),
    "phi2": Observable(
        phi_squared, symbol="φ²", tex=r"\phi^2", meaning="mean square field", reported=True, thermal=True
    ),
    "action": Observable(total_action, symbol="S", tex="S", meaning="action, total", timed=True, thermal=True),
    "action_per_site": Observable(
        _per_site, ("action",), True, "⟨S⟩/V", r"\langle S\rangle/V", "action per site", reported=True
    ),
    "xi_2nd": Observable(
        _xi, ("m2", "g_kmin"), True, "ξ₂", r"\xi_{\mathrm{2nd}}", "second-moment correlation length; NaN on one site",
        reported=True,
    ),
    "sd": Observable(
        schwinger_dyson, symbol="φ ∂S/∂φ", tex=r"\phi\,\partial S/\partial\phi",
        meaning="V⁻¹ Σ φ ∂S/∂φ; its mean is 1 exactly"
    ),
    "g_kmin": Observable(propagator_k_min, symbol="G(k)", tex="G(k)", meaning="|φ_k|² / V at the smallest momentum"),
    "schwinger_dyson": Observable(
        _unchanged, ("sd",), True, "⟨φ ∂S/∂φ⟩", r"\langle\phi\,\partial S/\partial\phi\rangle",
        "1 exactly in equilibrium"
    ),
    "fourth_cumulant": Observable(_fourth_cumulant, ("m2", "m4"), True, "χ₄", r"\chi_4", "V³ (⟨m⁴⟩ − (1 + 2/N) ⟨m²⟩²)"),
    "renormalised_coupling": Observable(
        _coupling, ("m2", "m4", "g_kmin"), True, "g_R", "g_R", "−3N/(N+2) χ₄ / (χ² ξ^d); NaN on one site"
    ),
}  # fmt: skip

REPORTED = tuple(name for name, entry in OBSERVABLES.items() if entry.reported)
TIMED = tuple(name for name, entry in OBSERVABLES.items() if entry.timed)
THERMAL = tuple(name for name, entry in OBSERVABLES.items() if entry.thermal)


def installed_names() -> list[str]:
    """Names that other packages install under the entry-point group ``latticediff.observables``."""
    return [name for name in registry.names("observables") if name not in OBSERVABLES]


def observable_names() -> list[str]:
    """Names that `observable` knows: the built-in ones, then those that other packages install."""
    return [*OBSERVABLES, *installed_names()]


def observable(name: str) -> Observable:
    """The observable of this name; a plain function of another package becomes an `Observable`.

    Raises
    ------
    UserError
        If neither the package nor an installed entry point defines it.
    """
    if name in OBSERVABLES:
        return OBSERVABLES[name]
    known = observable_names()
    if name not in known:
        raise UserError(f"observable is {name!r}{registry.nearest(name, known)}; expected one of {', '.join(known)}")
    found = registry.load("observables", name)
    return found if isinstance(found, Observable) else Observable(found, symbol=name)

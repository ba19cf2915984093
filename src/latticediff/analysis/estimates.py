r"""Tables of observables and autocorrelation times from the primary series of one ensemble."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import ArrayLike

from ..action import Action
from ..errors import UserError
from ..host import numpy_defaults
from ..lattice import check_shape, volume
from ..observables import derived as formulas
from ..types import Extents, Shape
from .gamma import S_TAU, Estimate, TauInt, derived, tau_int

__all__ = ["REPORTED", "Difference", "compare", "compare_tables", "observables_table", "tau_table"]

TAU_NAMES = ("m", "abs_m", "m2", "action")

#: function of means of primary series, and the names of these, in the order of its arguments
Definition = tuple[Callable[..., float], tuple[str, ...]]


class HasError(Protocol):
    """A value with an error, such as `Estimate`."""

    @property
    def value(self) -> float:
        """The value."""

    @property
    def error(self) -> float:
        """Its standard error."""


Comparable = HasError | Sequence[float | None]  #: or the pair (value, error), None where it is not defined


def _definitions(shape: Shape, ndim: int) -> dict[str, Definition]:
    """`Definition` of every observable that is known by name."""
    v, extent = volume(shape), max(shape)
    return {
        "abs_m": (lambda abs_m: abs_m, ("abs_m",)),
        "chi": (lambda m2: formulas.chi(m2, v), ("m2",)),
        "chi_abs": (lambda m2, abs_m: formulas.chi_abs(m2, abs_m, v), ("m2", "abs_m")),
        "binder": (formulas.binder, ("m2", "m4")),
        "phi2": (lambda phi2: phi2, ("phi2",)),
        "action_per_site": (lambda s: s / v, ("action",)),
        "xi_2nd": (lambda m2, g: formulas.xi_second_moment(m2, g, v, extent), ("m2", "g_kmin")),
        "m": (lambda m: m, ("m",)),
        "schwinger_dyson": (lambda sd: sd, ("sd",)),
        "fourth_cumulant": (lambda m2, m4: formulas.fourth_cumulant(m2, m4, v), ("m2", "m4")),
        "renormalised_coupling": (
            lambda m2, m4, g: formulas.renormalised_coupling(m2, m4, g, v, extent, ndim),
            ("m2", "m4", "g_kmin"),
        ),
    }


#: the seven rows of report.json; the others of `_definitions` are asked for by name
REPORTED = ("abs_m", "chi", "chi_abs", "binder", "phi2", "action_per_site", "xi_2nd")


@numpy_defaults()
def observables_table(
    series: Mapping[str, ArrayLike],
    action: Action,
    shape: Extents,
    names: Iterable[str] = REPORTED,
    s_tau: float = S_TAU,
) -> dict[str, Estimate]:
    """Ensemble values with Gamma-method errors, propagated through the derived ones.

    Parameters
    ----------
    series : dict of str to ndarray, shape (n_chains, n)
        From `latticediff.observables.measure_primary`.
    action : Action
    shape : sequence of int
        Lattice extents.
    names : iterable of str
        Of ``abs_m, chi, chi_abs, binder, phi2, action_per_site, xi_2nd`` (the default), ``m,
        schwinger_dyson, fourth_cumulant, renormalised_coupling``, or any key of `series` (its mean).
    s_tau : float
        See `tau_int`.

    Returns
    -------
    dict of str to Estimate
        xi_2nd is NaN where the data show no correlation length above their noise.

    Raises
    ------
    UserError
        Unknown name, a primary series that is missing, or a constant series.
    """
    table = {}
    for name, (function, needs) in definitions(names, series, action, shape).items():
        table[name] = derived(function, [series[need] for need in needs], s_tau, name)
    return table


def definitions(
    names: Iterable[str], series: Mapping[str, ArrayLike], action: Action, shape: Extents
) -> dict[str, Definition]:
    """How observables follow from means of primary series.

    Parameters
    ----------
    names, series, action, shape
        As `observables_table`.

    Returns
    -------
    dict of str to Definition
        The function, and the names of the primary series whose means it takes, in order.

    Raises
    ------
    UserError
        Unknown name, or a primary series that is missing.
    """
    shape = check_shape(shape, action.ndim)
    known = _definitions(shape, action.ndim)
    found: dict[str, Definition] = {}
    for name in names:
        if name == "xi_2nd" and max(shape) < 2:
            found[name] = (lambda m2: math.nan), ("m2",)  # one site has no length
        elif name in known:
            found[name] = known[name]
        elif name in series:
            found[name] = (lambda a: a), (name,)
        else:
            raise UserError(f"observable is {name!r}; expected one of {', '.join([*known, *series])}")
        missing = [need for need in found[name][1] if need not in series]
        if missing:
            raise UserError(f"{name} needs the primary series {', '.join(missing)}; measure them first")
    return found


@numpy_defaults()
def tau_table(
    series: Mapping[str, ArrayLike], names: Iterable[str] = TAU_NAMES, s_tau: float = S_TAU
) -> dict[str, TauInt]:
    """`TauInt` of each named series, in entries of the series (stored configurations).

    Parameters
    ----------
    series : dict of str to ndarray, shape (n_chains, n)
    names : iterable of str
    s_tau : float
        See `tau_int`.

    Returns
    -------
    dict of str to TauInt

    Raises
    ------
    UserError
        A named series is missing, or constant.
    """
    missing = [name for name in names if name not in series]
    if missing:
        raise UserError(f"tau_int wants the primary series {', '.join(missing)}; measure them first")
    return {name: tau_int(series[name], s_tau, name) for name in names}


@dataclass(frozen=True)
class Difference:
    """Two independent estimates of one quantity."""

    difference: float
    error: float  #: both errors in quadrature
    sigma: float  #: signed difference in units of it; NaN where either estimate is missing


@numpy_defaults()
def compare(a: Comparable, b: Comparable) -> Difference:
    """Difference ``a - b`` of independent estimates with the combined error.

    Parameters
    ----------
    a, b : Estimate or (value, error)
        An exact value has error 0.

    Returns
    -------
    Difference
    """
    given: list[Any] = [a, b]
    (va, ea), (vb, eb) = (((x.value, x.error) if hasattr(x, "value") else x) for x in given)
    # None stands for "not defined" in JSON tables
    va, ea, vb, eb = (math.nan if x is None else float(x) for x in (va, ea, vb, eb))
    error = math.hypot(ea, eb)
    difference = va - vb
    return Difference(difference, error, difference / error if error > 0 else math.nan)


@numpy_defaults()
def compare_tables(table: Mapping[str, Comparable], other: Mapping[str, Comparable]) -> dict[str, Difference]:
    """`compare` for every name that both tables have.

    Parameters
    ----------
    table, other : dict of str to Estimate, or to (value, error)

    Returns
    -------
    dict of str to Difference
        ``table - other``.
    """
    return {name: compare(table[name], other[name]) for name in table if name in other}

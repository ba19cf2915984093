r"""Tables of observables and autocorrelation times from the primary series of one ensemble."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from numpy.typing import ArrayLike

from ..action import Action
from ..errors import UserError
from ..host import numpy_defaults
from ..lattice import check_shape, volume
from ..observables.contract import Observable, Where
from ..observables.table import OBSERVABLES, REPORTED, TIMED, installed_names, observable
from ..types import Extents
from .gamma import S_TAU, derived, tau_int
from .result import Estimate, TauInt

__all__ = ["REPORTED", "Difference", "compare", "compare_tables", "observables_table", "tau_table"]

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
        Of `latticediff.observables.OBSERVABLES` (by default those it marks as reported), derived ones that other
        packages install, or any key of `series` (its mean).
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
    components = getattr(action, "components", None)
    lattice = shape if components is None else shape[1:]
    where = Where(volume(lattice), max(lattice), len(lattice), components or 1)
    found: dict[str, Definition] = {}
    for name in names:
        entry = _entry(name, series)
        if entry is not None and entry.derived:
            found[name] = partial(entry.function, where), entry.needs
        elif entry is not None or name in series:
            found[name] = (lambda a: a), (name,)
        else:
            known = dict.fromkeys([*OBSERVABLES, *series])
            raise UserError(f"observable is {name!r}; expected one of {', '.join(known)}")
        missing = [need for need in found[name][1] if need not in series]
        if missing:
            raise UserError(f"{name} needs the primary series {', '.join(missing)}; measure them first")
    return found


def _entry(name: str, series: Mapping[str, ArrayLike]) -> Observable | None:
    """The `Observable` of a name; None for a series that the caller brings along under a name of his own."""
    if name in OBSERVABLES:
        return OBSERVABLES[name]
    return observable(name) if name not in series and name in installed_names() else None


@numpy_defaults()
def tau_table(series: Mapping[str, ArrayLike], names: Iterable[str] = TIMED, s_tau: float = S_TAU) -> dict[str, TauInt]:
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
    names = list(names)  # gone through twice
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

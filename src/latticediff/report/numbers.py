r"""Numbers behind the page: printed forms, differences in sigma, cost and its amortisation.

The cost of N independent samples is :math:`t(N) = t_0 + N c`, with :math:`t_0` everything paid before the
first sample (data generation, training, thermalisation) and :math:`c = 2\tau_{int}` times the seconds per
update. Two samplers break even at :math:`N^* = (t_0' - t_0) / (c - c')`, if at all.
"""

import math
from collections.abc import Mapping
from typing import Any

from ..errors import UserError
from ..observables.table import OBSERVABLES as TABLE
from ..observables.table import REPORTED, TIMED
from .model import ChainResult

__all__ = [
    "OBSERVABLES",
    "TAU_NAMES",
    "break_even",
    "cost_ratio",
    "differences",
    "scheme_text",
    "seconds",
    "setup_total",
    "value_error",
]

#: name -> (symbol, definition) of what stands in tables, in the order of rows on the page
OBSERVABLES = {name: (TABLE[name].average_symbol(name), TABLE[name].meaning) for name in REPORTED}

#: observables whose tau_int is listed, with their symbols
TAU_NAMES = {name: TABLE[name].symbol for name in TIMED}


def value_error(value: float | None, error: float | None = None, digits: int = 2) -> str:
    """A number with its error in brackets, as in ``0.14145(15)``: the error counts units of the last digit shown.

    Parameters
    ----------
    value : float or None
        None is printed as a dash.
    error : float, optional
        Standard error; without one, or with zero, `value` is printed to four significant digits.
    digits : int
        Significant digits of the error.

    Returns
    -------
    str
        With a power of ten split off if `value` is below 1e-4 or from 1e5 on. An error of one or more keeps its
        decimal point.

    Examples
    --------
    >>> value_error(0.141452, 0.00015), value_error(25.13, 4.2), value_error(0.5)
    ('0.14145(15)', '25.1(4.2)', '0.5')
    """
    if value is None:
        return "–"
    power = math.floor(math.log10(abs(value))) if value else 0
    if power < -4 or power > 4:
        scale = 10.0**power
        raised = str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
        return f"{value_error(value / scale, error / scale if error else None, digits)}×10{raised}"
    if error is None or not error > 0:
        return f"{value:.4g}".replace("-", "−")
    exponent = math.floor(math.log10(error))
    if round(error / 10.0**exponent, digits - 1) >= 10:  # 0.0996 prints as 0.10
        exponent += 1
    decimals = digits - 1 - exponent
    if decimals <= 0:
        scale = 10.0**-decimals
        text, err = f"{round(value / scale) * scale:.0f}", f"{round(error / scale) * scale:.0f}"
    else:
        text, err = f"{value:.{decimals}f}", f"{error:.{decimals}f}"
        err = err if error >= 1 else err.replace(".", "").lstrip("0")
    return f"{text}({err})".replace("-", "−")


def seconds(value: float | None, error: float | None = None) -> str:
    """A time in the unit that suits its size, from µs to h: ``0.12(1) ms``, ``3.1 s``, ``4.2 min``.

    Parameters
    ----------
    value : float or None
        Seconds; None is printed as a dash.
    error : float, optional
        Seconds; without one, `value` is printed to three significant digits.

    Returns
    -------
    str
    """
    if value is None:
        return "–"
    for scale, unit in ((1e-6, "µs"), (1e-3, "ms"), (1.0, "s"), (60.0, "min"), (3600.0, "h")):
        if abs(value) < (1000 * scale if scale < 1 else 120 * scale) or unit == "h":
            break
    value = value / scale
    return f"{value_error(value, error / scale) if error else f'{value:.3g}'} {unit}"


def count(x: float, exact: bool = False) -> str:
    """A count for people, its thousands set apart by no-break spaces: ``28 000``.

    Parameters
    ----------
    x : float
    exact : bool
        Print every digit. By default a count of 1000 or more is rounded to two significant digits.

    Returns
    -------
    str
        A fraction is rounded up to the next integer.
    """
    if not exact and x >= 1000:
        scale = 10 ** (math.floor(math.log10(x)) - 1)
        x = round(x / scale) * scale
    return f"{math.ceil(x):,}".replace(",", "\u00a0")


def differences(chain: ChainResult, reference: ChainResult) -> dict[str, float | None]:
    """Differences of the averages of two chains in units of their joint error, ``(a - b) / sqrt(err_a^2 + err_b^2)``.

    The formula is that of independent chains. The differences of one chain are correlated among themselves: its
    observables come from the same configurations.

    Parameters
    ----------
    chain, reference : ChainResult
        a and b.

    Returns
    -------
    dict of str to float or None
        One for each observable that both have, in the order of `OBSERVABLES`, those of other packages last. None
        where neither has an error.
    """
    result = {}
    for name in [*OBSERVABLES, *sorted(set(chain.observables) - set(OBSERVABLES))]:
        if name in chain.observables and name in reference.observables:
            (a, da), (b, db) = chain.observables[name], reference.observables[name]
            error = math.hypot(da or 0.0, db or 0.0)
            result[name] = (a - b) / error if error > 0 else None
    return result


def scheme_text(proposal: Mapping[str, Any]) -> str:
    """The description of a proposal in words.

    Parameters
    ----------
    proposal : dict
        ``proposal.describe()``.

    Returns
    -------
    str

    Examples
    --------
    >>> scheme_text({"name": "ode", "steps": 20, "method": "adams5", "grid": {"down": [], "up": []}})
    'ode, adams5, 20 steps, optimised grid'
    >>> scheme_text({"name": "ode", "steps": 16, "method": "rk4"})
    'ode, rk4, 16 steps, uniform grid'

    Of one that adds the other sites to a part of them, the part's is told:

    >>> scheme_text({"name": "whole", "odd": {"name": "ode", "steps": 16, "method": "rk4"}})
    'ode, rk4, 16 steps, uniform grid'
    """
    for part in ("odd", "coarse"):  # of `WholeProposal` and of `FineProposal`
        proposal = proposal.get(part, proposal)
    if "inner" in proposal:
        return f"{scheme_text(proposal['inner'])}, {proposal['rungs']} rungs"
    words = [proposal["name"], *(proposal[key] for key in ("method", "kernel") if key in proposal)]
    words += [f"{proposal['steps']} steps"] if "steps" in proposal else []
    if "ladder" in proposal:
        words.append(f"{proposal['ladder']} ladder")
    elif "method" in proposal:
        words.append("optimised grid" if "grid" in proposal else "uniform grid")
    return ", ".join(words)


def setup_total(chain: ChainResult) -> float:
    """Seconds paid before the first sample: for data, training, thermalisation, as far as they are known."""
    return float(sum(chain.setup_seconds.values()))


def cost_ratio(chain: ChainResult, reference: ChainResult) -> tuple[float, float] | None:
    """How much cheaper an independent sample of the chain is than one of the reference, set-up left out: ``c' / c``.

    Parameters
    ----------
    chain, reference : ChainResult
        Of costs c and c', in seconds per independent sample: ``2 tau_int`` updates, with the tau_int of the slowest
        observable of each.

    Returns
    -------
    (float, float) or None
        The ratio and its error, which is that of both tau_int. None if either cost is unknown or zero.
    """
    ours = chain.per_independent_sample(chain.seconds_per_update)
    theirs = reference.per_independent_sample(reference.seconds_per_update)
    if ours is None or theirs is None or not ours[0] > 0 or not theirs[0] > 0:
        return None
    ratio = theirs[0] / ours[0]
    return ratio, ratio * math.hypot((ours[1] or 0.0) / ours[0], (theirs[1] or 0.0) / theirs[0])


def break_even(chain: ChainResult, reference: ChainResult) -> float | None:
    """Number of independent samples from which on the chain is cheaper than the reference, set-up included.

    Parameters
    ----------
    chain, reference : ChainResult
        With set-up times :math:`t_0` and :math:`t_0'`, and seconds per independent sample c and c'.

    Returns
    -------
    float or None
        :math:`N^* = (t_0 - t_0') / (c' - c)`, 0 if the chain is ahead from the first sample on; None if it never is.

    Raises
    ------
    UserError
        If the seconds per independent sample of either are not known.
    """
    ours = chain.per_independent_sample(chain.seconds_per_update)
    theirs = reference.per_independent_sample(reference.seconds_per_update)
    if ours is None or theirs is None:
        raise UserError(f"no cost known for {chain.name!r} or {reference.name!r}; give seconds_per_update and tau_int")
    extra = setup_total(chain) - setup_total(reference)
    gain = theirs[0] - ours[0]
    if gain <= 0:
        return None
    return max(extra / gain, 0.0)

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
    """``value(err)``: the error in units of the last digit shown, two significant digits.

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
    """Seconds in the unit that suits: ``0.12(1) ms``, ``3.1 s``, ``4.2 min``."""
    if value is None:
        return "–"
    for scale, unit in ((1e-6, "µs"), (1e-3, "ms"), (1.0, "s"), (60.0, "min"), (3600.0, "h")):
        if abs(value) < (1000 * scale if scale < 1 else 120 * scale) or unit == "h":
            break
    value = value / scale
    return f"{value_error(value, error / scale) if error else f'{value:.3g}'} {unit}"


def count(x: float, exact: bool = False) -> str:
    """A count with thin groups, ``28 000`` (no-break spaces); two digits only unless `exact`, rounded up below 1000."""
    if not exact and x >= 1000:
        scale = 10 ** (math.floor(math.log10(x)) - 1)
        x = round(x / scale) * scale
    return f"{math.ceil(x):,}".replace(",", "\u00a0")


def differences(chain: ChainResult, reference: ChainResult) -> dict[str, float | None]:
    """``(a - b) / sqrt(err_a^2 + err_b^2)`` for each observable of both, in the order of `OBSERVABLES`.

    None where neither has an error. The differences of one chain are correlated: the observables
    come from the same configurations.
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

    >>> scheme_text({"name": "ode", "steps": 20, "method": "adams5", "grid": {"down": [], "up": []}})
    'ode, adams5, 20 steps, optimised grid'
    >>> scheme_text({"name": "ode", "steps": 16, "method": "rk4"})
    'ode, rk4, 16 steps, uniform grid'
    """
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
    """Seconds paid before the first sample."""
    return float(sum(chain.setup_seconds.values()))


def cost_ratio(chain: ChainResult, reference: ChainResult) -> tuple[float, float] | None:
    """Seconds per independent sample of the reference over those of the chain, (ratio, error); None if unknown.

    Above 1 the chain is cheaper once its set-up is paid.
    """
    ours = chain.per_independent_sample(chain.seconds_per_update)
    theirs = reference.per_independent_sample(reference.seconds_per_update)
    if ours is None or theirs is None or not ours[0] > 0 or not theirs[0] > 0:
        return None
    ratio = theirs[0] / ours[0]
    return ratio, ratio * math.hypot((ours[1] or 0.0) / ours[0], (theirs[1] or 0.0) / theirs[0])


def break_even(chain: ChainResult, reference: ChainResult) -> float | None:
    r"""Number of independent samples from which on the chain is cheaper, set-up included.

    Returns
    -------
    float or None
        :math:`N^* = (t_0' - t_0) / (c - c')`, 0 if the chain is ahead from the first sample; None if never.

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

"""Numbers with their errors: an ensemble value, an integrated autocorrelation time, and how they are written."""

import math
from dataclasses import dataclass

from ..types import FloatArray

__all__ = ["Estimate", "TauInt", "format_error"]


@dataclass(frozen=True)
class TauInt:
    """Integrated autocorrelation time of one series, tau_int = 1/2 + sum rho."""

    value: float
    error: float
    window: int  #: W, the largest lag summed
    n: int  #: entries of all chains together
    rho: FloatArray  #: normalised autocorrelation function, lags 0 .. 2 W, for figures
    #: False: the series is shorter than 50 tau_int, or the sum was cut at half the chain length; then the value is
    #: more of a lower bound, and its error a guess
    window_found: bool

    def pair(self) -> list[float]:
        """``[value, error]``, JSON-able."""
        return [self.value, self.error]


@dataclass(frozen=True)
class Estimate:
    """Ensemble value of an observable with its statistical error."""

    value: float
    error: float
    tau_int: float = math.nan
    tau_int_error: float = math.nan
    n: int = 0  #: entries of all chains together
    error_of_error: float = math.nan
    window: int = 0
    window_found: bool = True

    def pair(self) -> list[float | None]:
        """``[value, error]``, JSON-able; None in place of what is not finite."""
        return [x if math.isfinite(x) else None for x in (self.value, self.error)]

    def __str__(self) -> str:
        return format_error(self.value, self.error)


def format_error(value: float, error: float) -> str:
    """A value and its error as text, ``0.1305(11)``.

    The error has two digits, in units of the last digits of the value.

    Parameters
    ----------
    value, error : float

    Returns
    -------
    str
        The value alone where the error is 0, NaN or infinite; like ``nan +- 0.1`` where the value is not finite or the
        error is negative.
    """
    if not (math.isfinite(value) and math.isfinite(error)) or error <= 0:
        return f"{value:.6g}" if not math.isfinite(error) or error == 0 else f"{value:.6g} +- {error:.2g}"
    digits = 1 - math.floor(math.log10(float(f"{error:.1e}")))
    if digits > 0:
        return f"{value:.{digits}f}({round(error * 10**digits)})"
    return f"{round(value, digits):.0f}({round(error, digits):.0f})"

"""Functions of a separation or a momentum, with errors: autocorrelation, propagator, correlator."""

from dataclasses import dataclass

from ..types import FloatArray
from .finite import finite_curve

__all__ = ["Autocorrelation", "Correlator", "Propagator"]


@dataclass(frozen=True)
class Autocorrelation:
    """rho(t) of one observable, with errors.

    Attributes
    ----------
    t : ndarray, shape (n,), float64
        Separations in updates, starting at 0.
    rho, error : ndarray, shape (n,), float64
        Normalised autocorrelation function and its error (rho(0) = 1).
    window : float or None
        Summation window of tau_int in updates.
    """

    t: FloatArray
    rho: FloatArray
    error: FloatArray
    window: float | None = None

    def __post_init__(self) -> None:
        for name, array in zip(
            ("t", "rho", "error"), finite_curve("autocorrelation", self.t, self.rho, self.error), strict=True
        ):
            object.__setattr__(self, name, array)


@dataclass(frozen=True)
class Propagator:
    """``G(k) = <|phi_k|^2> / V`` against ``p_hat^2 = sum_mu 4 sin^2(k_mu/2)``, orbits of equal p_hat^2 averaged.

    All arrays have shape (n,), float64; `error` is the statistical error of G with its tau_int.
    """

    p_hat_squared: FloatArray
    value: FloatArray
    error: FloatArray

    def __post_init__(self) -> None:
        arrays = finite_curve("propagator", self.p_hat_squared, self.value, self.error)
        for name, array in zip(("p_hat_squared", "value", "error"), arrays, strict=True):
            object.__setattr__(self, name, array)


@dataclass(frozen=True)
class Correlator:
    """Momentum-projected two-point function C(timeslice) with errors; arrays of shape (n,), float64."""

    timeslice: FloatArray
    value: FloatArray
    error: FloatArray

    def __post_init__(self) -> None:
        for name, array in zip(
            ("timeslice", "value", "error"),
            finite_curve("correlator", self.timeslice, self.value, self.error),
            strict=True,
        ):
            object.__setattr__(self, name, array)

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
    """The propagator in momentum space, ``G(k) = <|phi_k|^2> / V``, averaged over all modes of equal lattice momentum.

    Parameters
    ----------
    p_hat_squared : ndarray, shape (n,), float64
        ``sum_mu 4 sin^2(k_mu / 2)``.
    value : ndarray, shape (n,), float64
        G.
    error : ndarray, shape (n,), float64
        Statistical error of G, autocorrelations included.

    Raises
    ------
    UserError
        Arrays of different lengths, or a number that is not finite.
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
    """A function of the separation in time, with errors: a correlator at zero momentum, or effective masses.

    Parameters
    ----------
    timeslice : ndarray, shape (n,), float64
        The separations.
    value, error : ndarray, shape (n,), float64

    Raises
    ------
    UserError
        Arrays of different lengths, or a number that is not finite.
    """

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

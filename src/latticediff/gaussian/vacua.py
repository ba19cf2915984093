r"""Where a theory is expanded: around zero, or around the two vacua of a broken symmetry.

Deep in the broken phase the ensemble is two narrow peaks, :math:`\phi = s\,(m_0 + \chi)` with :math:`s = \pm 1`
the sign of the magnetisation, :math:`m_0 = \langle |m| \rangle` and :math:`\chi` nearly Gaussian with the connected
propagator. The baseline is then a mixture of two Gaussians in closed form,

.. math:: p_\sigma(x) = \tfrac12 \sum_{s = \pm 1} N(x;\, s\,m_0,\, G + \sigma^2),

and as long as its peaks are apart a noised field belongs to one of them, the one whose sign its mean has. The
sign is one more random number of a draw, and the only one that tunnels: half of all draws have the other one.
It comes with the noise. A standard normal u of the zero mode is carried to sign and magnitude,

.. math:: s = \mathrm{sign}\, u, \qquad z = \Phi^{-1}\big(2 \Phi(|u|) - 1\big),

which is what the probability flow of the mixture does between infinite noise and levels at which peaks are
apart; z is standard normal again, and independent of s. A draw that ends at the other sign has density zero:
it is refused, so nothing depends on how far apart the peaks really are.

Arrays of NumPy or torch, on the lattice or in the real Fourier basis, whose first coefficient is the zero mode.
"""

import math
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import scipy.special
import torch
from torch import Tensor

from ..errors import UserError
from ..types import FloatArray

if TYPE_CHECKING:
    from .reference import GaussianReference

__all__ = ["Displaced", "OneVacuum", "SingleVacuum", "TwoVacua", "Vacua", "check_vacua", "signs_of", "vacua"]

Fields = TypeVar("Fields", FloatArray, Tensor)  # NumPy in, NumPy out; torch in, torch out

APART = 6.0  # standard deviations of the noised zero mode between a vacuum and m = 0: beyond are 1e-9 of the draws
FAR = 30.0  # of |u|: beyond, tails of the normal law are handled by their logarithms
MIDDLE = 0.67  # of |u|, near z = 0: below, the small tail of z is known to all digits; above, the large one


class Vacua(Protocol):
    """The vacua of a theory: `OneVacuum` or `TwoVacua`.

    A sign s belongs to every field, (n, 1, ..., 1), or None where there is one vacuum; only methods of the same
    object make anything of it.
    """

    log_probability: float  #: of a sign: 0 or -log 2

    def enter(self, noise: Fields) -> tuple[Any, Fields]:
        """``(sign, noise within the vacuum)`` of standard normal noise."""

    def leave(self, sign: Any, noise: Fields) -> Fields:
        """The inverse of `enter`."""

    def fields(self, sign: Any, fluctuation: Fields) -> Fields:
        """Fields ``s (m_0 + chi)`` of signs and fluctuations."""

    def fluctuations(self, x: Fields) -> tuple[Any, Fields]:
        """``(sign, fluctuation)`` of fields; the inverse of `fields`."""

    def turn(self, sign: Any, x: Fields) -> Fields:
        """Fields or forces times their sign."""

    def admit(self, sign: Any, x: Fields, log_q: Fields) -> Fields:
        """`log_q` (n,) of fields x drawn with this sign; +inf for those that ended with the other one."""


def vacua(gaussian: "GaussianReference", layout: str = "sites", mean: FloatArray | None = None) -> "Vacua":
    """`OneVacuum` around zero, `SingleVacuum` or `TwoVacua` around a vacuum, `Displaced` in an external field.

    Parameters
    ----------
    gaussian : GaussianReference
    layout : str
        Of the arrays: ``"sites"`` (n, *lattice), or ``"modes"`` (n, V), the real Fourier basis.
    mean : ndarray, optional
        The response to an external field in that layout. Default: that of sites.
    """
    if gaussian.response is not None:
        return Displaced(gaussian.response if mean is None else mean, gaussian.device)
    kind: Any = SingleVacuum if gaussian.one_sided else TwoVacua if gaussian.vacuum else None
    return OneVacuum() if kind is None else kind(gaussian.vacuum, gaussian.volume, layout)


def check_vacua(gaussian: "GaussianReference", sigma_max: float) -> None:
    """Refuse to expand around vacua whose peaks overlap at the largest noise.

    Parameters
    ----------
    gaussian : GaussianReference
    sigma_max : float
        Largest noise level.

    Raises
    ------
    UserError
        If less than six standard deviations lie between a vacuum and m = 0.
    """
    width = math.sqrt((float(gaussian.propagator_full.flatten()[0]) + sigma_max**2) / gaussian.volume)
    far = gaussian.vacuum / width
    if gaussian.vacuum and not gaussian.one_sided and far < APART:
        raise UserError(
            f"<|m|> = {gaussian.vacuum:.4g} is {far:.1f} standard deviations of m at sigma_max = {sigma_max:.3g};"
            f" phase = broken wants {APART:g}: take a smaller training.sigma_max_factor, or"
            ' phase = "symmetric", which learns both signs of m together'
        )


def signs_of(x: Tensor, ndim: int) -> Tensor:
    """Sign of the mean of fields (..., *lattice) as a tensor (..., 1, ..., 1); +1 for zero."""
    mean = x.mean(tuple(range(-ndim, 0)), keepdim=True)
    return torch.where(mean < 0, -1.0, 1.0).to(x.dtype)


class OneVacuum:
    """Fields around zero: every method returns its argument as it is. The interface is that of `Vacua`."""

    log_probability = 0.0

    def enter(self, noise: Fields) -> tuple[None, Fields]:
        """``(sign, noise within the vacuum)`` of standard normal noise."""
        return None, noise

    def leave(self, sign: Any, noise: Fields) -> Fields:
        """The inverse of `enter`."""
        return noise

    def fields(self, sign: Any, fluctuation: Fields) -> Fields:
        """Fields of signs and fluctuations."""
        return fluctuation

    def fluctuations(self, x: Fields) -> tuple[None, Fields]:
        """``(sign, fluctuation)`` of fields."""
        return None, x

    def turn(self, sign: Any, x: Fields) -> Fields:
        """Fields or forces times their sign."""
        return x

    def admit(self, sign: Any, x: Fields, log_q: Fields) -> Fields:
        """`log_q` as it is: no draw can end in another vacuum."""
        return log_q


def _zero_mode_raised(x: Fields, amount: Any, layout: str, root: float) -> Fields:
    """`x` with `amount`, (n, 1, ...) or a number, added to the coefficient of the zero mode; `root` is V^(1/2)."""
    if layout == "sites":
        return x + amount / root
    first = x[:, :1] + amount
    return np.concatenate([first, x[:, 1:]], 1) if isinstance(x, np.ndarray) else torch.cat([first, x[:, 1:]], 1)


class SingleVacuum(OneVacuum):
    """Fields around +m_0, which may be negative; nothing has a sign.

    Parameters
    ----------
    value, volume, layout
        See `vacua`.
    """

    def __init__(self, value: float, volume: int, layout: str) -> None:
        self.value, self.root, self.layout = float(value), math.sqrt(volume), layout

    def fields(self, sign: Any, fluctuation: Fields) -> Fields:
        """Fields ``m_0 + chi``."""
        return _zero_mode_raised(fluctuation, self.value * self.root, self.layout, self.root)

    def fluctuations(self, x: Fields) -> tuple[None, Fields]:
        """``(None, chi)`` of fields."""
        return None, _zero_mode_raised(x, -self.value * self.root, self.layout, self.root)


class Displaced(OneVacuum):
    """Fields around a mean that differs from site to site; nothing has a sign.

    Parameters
    ----------
    mean : ndarray, shape (*lattice) or (V,), float64
    device : torch.device
        Of tensors.
    """

    def __init__(self, mean: FloatArray, device: torch.device) -> None:
        self.mean, self.tensor = mean, torch.as_tensor(mean).to(device)

    def _like(self, x: Fields) -> Any:
        return self.mean if isinstance(x, np.ndarray) else self.tensor.to(x.dtype)

    def fields(self, sign: Any, fluctuation: Fields) -> Fields:
        """Fields ``mu + chi``."""
        return fluctuation + self._like(fluctuation)

    def fluctuations(self, x: Fields) -> tuple[None, Fields]:
        """``(None, chi)`` of fields."""
        return None, x - self._like(x)


class TwoVacua:
    """Fields around +m_0 or -m_0.

    Parameters
    ----------
    value, volume, layout
        See `vacua`.

    Attributes
    ----------
    log_probability : float
        ``-log 2``: both signs are equally likely.
    """

    log_probability = -math.log(2)

    def __init__(self, value: float, volume: int, layout: str) -> None:
        self.value, self.root, self.layout = float(value), math.sqrt(volume), layout

    def _zero_mode(self, x: Fields) -> Fields:
        """Coefficient of the zero mode, (n, 1, ...)."""
        if self.layout == "modes":
            return x[:, :1]
        return x.reshape(len(x), -1).sum(1).reshape(-1, *[1] * (x.ndim - 1)) / self.root

    def _raised(self, x: Fields, amount: Fields | float) -> Fields:
        return _zero_mode_raised(x, amount, self.layout, self.root)

    def _signs(self, x: Fields) -> Fields:
        where = np.where if isinstance(x, np.ndarray) else torch.where
        return where(self._zero_mode(x) < 0, -1.0, 1.0)

    def enter(self, noise: Fields) -> tuple[Fields, Fields]:
        """``(sign, noise within the vacuum)`` of standard normal noise; the noise is normal and independent of s."""
        sign = self._signs(noise)
        turned = sign * noise
        u = self._zero_mode(turned)
        return sign, self._raised(turned, _from_half(u) - u)

    def leave(self, sign: Fields, noise: Fields) -> Fields:
        """The inverse of `enter`."""
        z = self._zero_mode(noise)
        return sign * self._raised(noise, _to_half(z) - z)

    def fields(self, sign: Fields, fluctuation: Fields) -> Fields:
        """Fields ``s (m_0 + chi)``."""
        return sign * self._raised(fluctuation, self.value * self.root)

    def fluctuations(self, x: Fields) -> tuple[Fields, Fields]:
        """``(s, chi)`` of fields."""
        sign = self._signs(x)
        return sign, self._raised(sign * x, -self.value * self.root)

    def turn(self, sign: Fields, x: Fields) -> Fields:
        """Fields or forces times their sign."""
        return sign * x

    def admit(self, sign: Fields, x: Fields, log_q: Fields) -> Fields:
        """`log_q`, and +inf (weight zero) for a field that does not have the sign with which it was drawn."""
        astray = (self._signs(x) != sign).reshape(-1)
        return np.where(astray, np.inf, log_q) if isinstance(log_q, np.ndarray) else log_q.masked_fill(astray, math.inf)


def _from_half(u: Fields) -> Fields:
    """``Phi^-1(2 Phi(u) - 1)`` for u > 0: half-normal to normal."""
    if isinstance(u, np.ndarray):
        with np.errstate(divide="ignore"):
            low, high = (scipy.special.ndtri(f(u / math.sqrt(2))) for f in (scipy.special.erf, scipy.special.erfc))
        return np.where(u < MIDDLE, low, np.where(u < FAR, -high, _far(u, math.log(2))))
    wide = u.double()
    low, high = (torch.special.ndtri(f(wide / math.sqrt(2))) for f in (torch.erf, torch.erfc))
    return torch.where(wide < MIDDLE, low, torch.where(wide < FAR, -high, _far(wide, math.log(2)))).to(u.dtype)


def _to_half(z: Fields) -> Fields:
    """The inverse of `_from_half`."""
    if isinstance(z, np.ndarray):
        low = math.sqrt(2) * scipy.special.erfinv(scipy.special.ndtr(z))
        high = -scipy.special.ndtri(0.5 * scipy.special.ndtr(-z))
        return np.where(z < 0, low, np.where(z < FAR, high, _far(z, -math.log(2))))
    wide = z.double()
    # not torch.special.ndtr, which forms the small tails as differences from 1
    below, above = (0.5 * torch.erfc(x / math.sqrt(2)) for x in (-wide, wide))
    low, high = math.sqrt(2) * torch.erfinv(below), -torch.special.ndtri(0.5 * above)
    return torch.where(wide < 0, low, torch.where(wide < FAR, high, _far(wide, -math.log(2)))).to(z.dtype)


def _far(x: Any, shift: float) -> Any:
    """The y of ``log Phi(-y) = log Phi(-x) + shift`` for large x, whose tail may be below the numbers of float64.

    Newton's method from ``y^2 = x^2 - 2 shift``, with the slope -(y + 1/y); three rounds give all digits.
    """
    numpy = isinstance(x, np.ndarray)
    log_tail, where = (scipy.special.log_ndtr, np.where) if numpy else (torch.special.log_ndtr, torch.where)
    given, x = x, x.clip(FAR, 1e100)  # what is smaller is not asked for; what is larger does not move
    wanted = log_tail(-x) + shift
    y = (x * x - 2 * shift) ** 0.5
    for _ in range(3):
        y = y + (log_tail(-y) - wanted) / (y + 1 / y)
    return where(given > 1e100, given, y)

r"""Noise processes: variance exploding and variance preserving, one law in two sets of coordinates.

A noise process is :math:`x = \alpha\,\phi + \sigma\, z`, normal z. Its level is labelled by the ratio
:math:`\varsigma = \sigma / \alpha`, which is all that matters of it: :math:`x / \alpha = \phi + \varsigma z` is the
variance-exploding field at noise :math:`\varsigma`. With a field unit u the two processes are

.. math:: \mathrm{VE}: \alpha = 1,\; \sigma = \varsigma; \qquad
          \mathrm{VP}: \alpha = (u^2 + \varsigma^2)^{-1/2},\; \sigma = \varsigma\,\alpha,
          \qquad u^2 \alpha^2 + \sigma^2 = 1 ,

so that, with the field in units of u, alpha^2 + sigma^2 = 1, and a field of variance u^2 keeps variance 1 [Song et
al. 2011.13456, eqs. (11) and (34); Karras et al. 2206.00364, section 2]. Hence the maps, exact at every level,

.. math:: x = \alpha\, x_{VE}, \qquad \nabla \log p(x) = s_{VE}(x / \alpha, \varsigma) / \alpha, \qquad
          \log p(x) = \log p_{VE}(x / \alpha) - V \log \alpha,

and one score network serves both. Forward transitions are :math:`x_i | x_{i-1} \sim N(\rho\, x_{i-1}, \beta)` with
:math:`\rho = \alpha_i / \alpha_{i-1}`, :math:`\beta = \alpha_i^2 (\varsigma_i^2 - \varsigma_{i-1}^2)`; with
:math:`\beta(t)\,dt = -2\, d\log\alpha` this is the SDE :math:`dx = -\frac12 \beta x\, dt + \sqrt{\beta}\, dW`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from ..errors import UserError

if TYPE_CHECKING:  # the command line reads this room without torch
    from ..gaussian.vacua import Fields

__all__ = ["PROCESSES", "NoiseProcess", "VarianceExploding", "VariancePreserving", "process"]


class NoiseProcess(Protocol):
    """Coordinates of the noised field, functions of the level ``ratio = sigma / alpha``."""

    @property
    def name(self) -> str:
        """As in `PROCESSES`."""

    def alpha(self, ratio: float) -> float:
        """Factor alpha of the field."""

    def sigma(self, ratio: float) -> float:
        """Standard deviation of the noise, ``ratio * alpha(ratio)``."""

    def score(self, exploding: Callable[[Fields, float], Fields], x: Fields, ratio: float) -> Fields:
        """The score in these coordinates, from ``exploding(x, sigma)``, that of the variance-exploding process."""

    def rates(self, lower: float, upper: float) -> tuple[float, float]:
        """``(log alpha_lower / alpha_upper, int alpha^2 d ratio^2)``: drift and variance of the reverse SDE."""

    def log_slope(self, ratio: float) -> float:
        """``d log alpha / d log ratio``."""


class _Process:
    """What follows from alpha alone; see the formulas of this module."""

    def alpha(self, ratio: float) -> float:
        """Factor alpha of the field; a subclass supplies it."""
        raise NotImplementedError

    def sigma(self, ratio: float) -> float:
        """Standard deviation of the noise."""
        return ratio * self.alpha(ratio)

    def from_exploding(self, x: Fields, ratio: float) -> Fields:
        """``alpha x``: a field of the variance-exploding process in these coordinates."""
        return self.alpha(ratio) * x

    def to_exploding(self, x: Fields, ratio: float) -> Fields:
        """``x / alpha``, the inverse of `from_exploding`."""
        return x / self.alpha(ratio)

    def score(self, exploding: Callable[[Fields, float], Fields], x: Fields, ratio: float) -> Fields:
        """The score in these coordinates, from ``exploding(x, sigma)``, that of the variance-exploding process."""
        alpha = self.alpha(ratio)
        return exploding(x / alpha, ratio) / alpha

    def transition(self, lower: float, upper: float) -> tuple[float, float]:
        """``(rho, beta)`` of the forward step between two levels: mean rho x, variance beta."""
        return self.alpha(upper) / self.alpha(lower), self.alpha(upper) ** 2 * (upper**2 - lower**2)


@dataclass(frozen=True)
class VarianceExploding(_Process):
    """``x = phi + sigma z``."""

    name: ClassVar[str] = "variance_exploding"

    def alpha(self, ratio: float) -> float:
        """Factor alpha of the field."""
        return 1.0

    def rates(self, lower: float, upper: float) -> tuple[float, float]:
        """See `NoiseProcess.rates`."""
        return 0.0, upper**2 - lower**2

    def log_slope(self, ratio: float) -> float:
        """``d log alpha / d log ratio``."""
        return 0.0

    def ratio(self, sigma: float) -> float:
        """Level at which the noise has this standard deviation."""
        return sigma


@dataclass(frozen=True)
class VariancePreserving(_Process):
    """``x = alpha phi + sigma z`` with ``unit^2 alpha^2 + sigma^2 = 1``.

    Parameters
    ----------
    unit : float
        Width of the field that stays constant; ``sqrt(<phi^2>)`` is natural.
    """

    unit: float
    name: ClassVar[str] = "variance_preserving"

    def alpha(self, ratio: float) -> float:
        """Factor alpha of the field."""
        return 1 / math.sqrt(self.unit**2 + ratio**2)

    def rates(self, lower: float, upper: float) -> tuple[float, float]:
        """See `NoiseProcess.rates`."""
        drift = math.log(self.alpha(lower) / self.alpha(upper))
        return drift, 2 * drift  # beta is both: the process preserves the variance

    def log_slope(self, ratio: float) -> float:
        """``d log alpha / d log ratio``."""
        return -(ratio**2) / (self.unit**2 + ratio**2)

    def ratio(self, sigma: float) -> float:
        """Level at which the noise has this standard deviation, below 1."""
        if not 0 <= sigma < 1:
            raise UserError(f"sigma = {sigma:g}; the variance-preserving process has 0 <= sigma < 1")
        return self.unit * sigma / math.sqrt(1 - sigma**2)


PROCESSES = ("variance_exploding", "variance_preserving")


def process(name: str, unit: float) -> VarianceExploding | VariancePreserving:
    """The process called `name`; `unit` is the field's width.

    Raises
    ------
    UserError
        An unknown name, or a unit that is not positive.
    """
    if name not in PROCESSES:
        raise UserError(f"noise process is {name!r}; expected one of {', '.join(PROCESSES)}")
    if not 0 < unit < math.inf:
        raise UserError(f"the field unit is {unit}; expected a positive number")
    return VarianceExploding() if name == "variance_exploding" else VariancePreserving(float(unit))

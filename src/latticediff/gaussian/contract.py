"""What the Gaussian reference asks of an action, beyond what HMC asks of it."""

from typing import Protocol, runtime_checkable

from ..action.contract import Action

__all__ = ["Expandable"]


@runtime_checkable
class Expandable(Action, Protocol):
    r"""An action with a known expansion around a Gaussian: nearest-neighbour hopping and a quartic potential.

    :math:`S = \sum_x [-c \sum_\mu \phi_x \phi_{x+\mu} + a \phi_x^2 + b \phi_x^4]`, hence the quadratic form
    :math:`K(k) = 2a - 2c \sum_\mu \cos k_\mu`, the local force :math:`4 b \phi^3` and its averages over a Gaussian.
    """

    a: float  #: coefficient of phi^2
    b: float  #: coefficient of phi^4

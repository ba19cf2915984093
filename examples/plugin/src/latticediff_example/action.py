"""A potential of one's own: V(phi) = a phi^2 + b phi^6."""

from typing import ClassVar

import numba
import numpy as np

from latticediff.action import LocalAction
from latticediff.errors import UserError


@numba.njit
def value(phi, params):
    return phi * phi * (params[0] + params[1] * phi**4)


@numba.njit
def derivative(phi, params):
    return phi * (2 * params[0] + 6 * params[1] * phi**4)


class Sextic(LocalAction):
    """``S = sum_x [-c sum_mu phi phi' + a phi^2 + b phi^6]``."""

    example: ClassVar = {"c": 1.0, "a": 1.0, "b": 0.3, "ndim": 2}  # what `latticediff plugins check` tries

    def __init__(self, c, a, b, ndim=2):
        if not b > 0:
            raise UserError(f"b = {b}; the integral of exp(-S) needs b > 0")
        super().__init__(c, ndim)
        self.parameters = np.array([a, b], np.float64)

    def potential(self, phi):
        return value.py_func(phi, self.parameters)

    def potential_derivative(self, phi):
        return derivative.py_func(phi, self.parameters)

    def numba_potential(self):
        return value, derivative, self.parameters

    def describe(self):
        a, b = self.parameters.tolist()
        return {"name": "sextic", "c": self.hopping, "a": a, "b": b, "ndim": self.ndim}

    @classmethod
    def from_description(cls, description):
        return cls(description["c"], description["a"], description["b"], description["ndim"])

    def __repr__(self):
        a, b = self.parameters
        return f"Sextic(c={self.hopping:g}, a={a:g}, b={b:g}, ndim={self.ndim})"

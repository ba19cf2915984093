"""Theories of one's own with any polynomial as potential, nothing of Phi4 in them."""

import math

import numba
import numpy as np

from latticediff.action import LocalAction
from latticediff.lattice import cos_sum

ORDER = 6


@numba.njit
def value(phi, params):
    total = 0.0
    for n in range(len(params) - 1, -1, -1):
        total = (total + params[n]) * phi
    return total


@numba.njit
def derivative(phi, params):
    total = 0.0
    for n in range(len(params) - 1, -1, -1):
        total = total * phi + (n + 1) * params[n]
    return total


class Polynomial(LocalAction):
    """V = sum_n g_n phi^n, n = 1 ... 6; the quadratic form holds g_2, the local force all else."""

    unit_vectors = None

    def __init__(self, hopping, g, ndim=2):
        super().__init__(hopping, ndim)
        self.g = np.zeros(ORDER + 1)
        self.g[1 : len(g) + 1] = g

    @property
    def is_symmetric(self):
        return not self.g[1::2].any()

    @property
    def minima(self):
        excess = self.g.copy()
        excess[2] -= self.hopping * self.ndim
        roots = np.polynomial.Polynomial(excess).deriv().roots()
        real = roots[np.abs(roots.imag) < 1e-9].real
        energy = np.polynomial.Polynomial(excess)(real)
        return tuple(real[energy <= energy.min() + 1e-12].tolist())

    def potential(self, phi):
        return np.polynomial.Polynomial(self.g)(phi)

    def potential_derivative(self, phi):
        return np.polynomial.Polynomial(self.g).deriv()(phi)

    def numba_potential(self):
        return value, derivative, self.g[1:].copy()

    def describe(self):
        return {"name": "toy_polynomial", "hopping": self.hopping, "g": self.g[1:].tolist(), "ndim": self.ndim}

    @classmethod
    def from_description(cls, description):
        return cls(description["hopping"], description["g"], description["ndim"])

    def __repr__(self):
        return f"Polynomial({self.hopping}, {self.g[1:].tolist()}, ndim={self.ndim})"

    def quadratic_form(self, shape):
        return 2 * self.g[2] - 2 * self.hopping * cos_sum(shape)

    def _force(self):
        """Coefficients of F: V' without its linear part."""
        force = np.polynomial.Polynomial(self.g).deriv().coef
        force = np.concatenate([force, np.zeros(ORDER - len(force))])
        force[1] = 0.0
        return force

    @staticmethod
    def _averaged(coefficients, phi, variance):
        """``<sum_n a_n (phi + eta)^n>``."""
        total = 0.0 * phi + 0.0 * variance
        for n, a in enumerate(coefficients):
            for j in range(0, n + 1, 2):
                moment = math.prod(range(1, j, 2)) * math.comb(n, j)
                if a:
                    total = total + a * moment * phi ** (n - j) * variance ** (j // 2)
        return total

    def local_force(self, phi, variance=0.0, vacuum=0.0):
        linear = self.local_curvature(vacuum) if vacuum else 0.0
        return self._averaged(self._force(), phi, variance) - linear * phi

    def local_curvature(self, phi, variance=0.0):
        slope = [n * a for n, a in enumerate(self._force())][1:]
        return self._averaged(slope, phi, variance)


#: phi^6 in a well that leans to one side: minima near -0.75 and 0.85 unlike each other
TILTED = Polynomial(1.0, [-0.15, 1.2, 0.1, -0.3, 0.0, 0.4])
EVEN = Polynomial(1.0, [0.0, 2.2, 0.0, -0.4, 0.0, 0.5])  #: phi^6, symmetric

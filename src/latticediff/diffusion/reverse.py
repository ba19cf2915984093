r"""Reverse SDE in Gaussian steps, with the weight of its path.

Noise levels :math:`0 = v_0 < v_1 < \ldots < v_N`, :math:`\Delta_i = v_i - v_{i-1}`. Forward and reverse steps

.. math::
    q(x_i | x_{i-1}) = N(x_{i-1}, \Delta_i), \qquad
    p(x_{i-1} | x_i) = N\big(x_i + \Delta_i\, s(x_i, \sigma_i),\; \Sigma_i(k)\big),

where the mean is exact for the exact score (Tweedie) and the covariance, diagonal in momentum, is
its posterior average :math:`\Sigma_i = \Delta_i - \Delta_i^2 \langle |s_k|^2 \rangle / V`. No network and
no number of steps makes the sampler wrong: the density of the whole path is known,

.. math::
    \log q = \log N(x_N; 0, G + v_N) + \sum_i \log p(x_{i-1} | x_i) - \sum_i \log q(x_i | x_{i-1}),

and ``log_weight = -S(x_0) - log q`` is exact on the space of paths. Sums in float64.
"""

import itertools
import math

import numpy as np
import torch

__all__ = ["FourierModes", "ReverseProcess", "score_power", "step_covariances"]

LOG_2PI = math.log(2 * math.pi)


def score_power(network, background, phi, z, v):
    r"""``<|s_k|^2> / V`` in the real Fourier basis at one noise level, from noised configurations.

    Uses :math:`\langle x_k^* R_k \rangle = 0` (Schwinger-Dyson), which leaves
    :math:`1/(G+v) + W^2 \langle |R_k|^2 \rangle / V` with far less noise than the plain average.

    Parameters
    ----------
    phi, z : tensor, shape (n, *lattice)
        Configurations of the ensemble and standard normal noise.
    v : float
        Variance of the noise.
    """
    level = torch.full((1,), 0.5 * math.log(v), dtype=phi.dtype, device=phi.device)
    R, _ = network(background, phi + math.sqrt(v) * z, level)
    power = background.to_modes(R).double().square().mean(0)
    G = background.G.double()
    return 1 / (G + v) + (G / (G + v)) ** 2 * power


class ReverseProcess:
    """Gaussian reverse steps of one score model along a ladder, for any array library.

    Parameters
    ----------
    modes : object
        What is diagonal in momentum, and the score: ``modes.score(x, i)`` at level i (1 .. N),
        ``modes.multiply(x, f)``, ``modes.log_normal(x, covariance)``, ``modes.log_white(x, delta)``;
        see `FourierModes` and `latticediff.score.compiled.CompiledModes`.
    variances : ndarray, shape (N + 1,)
        ``v_0 = 0`` to ``v_N``, ascending.
    covariances : list
        Of each reverse step, a function of momentum in the layout of `modes`.
    prior : array
        ``G + v_N`` in the same layout.
    """

    def __init__(self, modes, variances, covariances, prior):
        self.modes, self.covariances, self.prior = modes, covariances, prior
        self.variances = [float(v) for v in variances]
        self.deltas = [b - a for a, b in itertools.pairwise(self.variances)]

    @property
    def n_steps(self):
        """Reverse steps, which is also the number of network evaluations of a path."""
        return len(self.deltas)

    def down(self, noise):
        """Draw paths from the prior to the field.

        Parameters
        ----------
        noise : array, shape (n, N + 1, *layout), float64
            Standard normal: the prior's, then one field for each step.

        Returns
        -------
        phi : array, shape (n, *layout), float64
        log_q : array, shape (n,), float64
            Density of the path, that of the forward path given the field divided out.
        """
        modes = self.modes
        x = modes.multiply(noise[:, 0], self.prior**0.5)
        log_q = modes.log_normal(x, self.prior)
        for i in range(self.n_steps, 0, -1):
            delta, covariance = self.deltas[i - 1], self.covariances[i - 1]
            step = modes.multiply(noise[:, self.n_steps - i + 1], covariance**0.5)
            lower = x + delta * modes.score(x, i) + step
            log_q = log_q + modes.log_normal(step, covariance) - modes.log_white(x - lower, delta)
            x = lower
        return x, log_q

    def up(self, phi, noise):
        """Draw a forward path from the field and weigh it.

        Parameters
        ----------
        phi : array, shape (n, *layout), float64
        noise : array, shape (n, N, *layout), float64

        Returns
        -------
        log_q : array, shape (n,), float64
        """
        return self.retrace(phi, noise)[1]

    def retrace(self, phi, noise):
        """Draw a forward path from the field; the noise with which `down` would have come along it.

        Parameters
        ----------
        phi, noise
            As `up`.

        Returns
        -------
        noise : array, shape (n, N + 1, *layout), float64
            Of `down`: the prior's, then one field for each step.
        log_q : array, shape (n,), float64
        """
        modes = self.modes
        back = [None] * (self.n_steps + 1)
        x, log_q = phi, 0.0
        for i in range(1, self.n_steps + 1):
            delta, covariance = self.deltas[i - 1], self.covariances[i - 1]
            step = math.sqrt(delta) * noise[:, i - 1]
            higher = x + step
            miss = x - higher - delta * modes.score(higher, i)
            log_q = log_q + modes.log_normal(miss, covariance) - modes.log_white(step, delta)
            back[self.n_steps - i + 1] = modes.multiply(miss, covariance**-0.5)
            x = higher
        back[0] = modes.multiply(x, self.prior**-0.5)
        stack = np.stack if isinstance(x, np.ndarray) else torch.stack
        return stack(back, 1), log_q + modes.log_normal(x, self.prior)


def step_covariances(G, variances, powers):
    r"""``Delta - Delta^2 <|s_k|^2> / V`` of each step.

    The posterior is narrower than the free field's; an untrained network must not push it to zero.
    """
    covariances = []
    for i, power in enumerate(powers, start=1):
        delta = variances[i] - variances[i - 1]
        free = 1 / (1 / delta + 1 / (G + variances[i - 1]))
        covariances.append(np.maximum(delta - delta**2 * power, 0.05 * free))
    return covariances


class FourierModes:
    """Fields as torch tensors on the lattice, functions of momentum in the real Fourier basis.

    Parameters
    ----------
    network : callable
        ``network(background, x, log_sigma) -> (R, _)``.
    background : latticediff.score.background.Background
    variances : ndarray, shape (N + 1,)
    """

    def __init__(self, network, background, variances):
        self.network, self.background, self.variances = network, background, variances
        self.exact = background.to(dtype=torch.float64)  # densities are float64, only the network is not
        self.G = self.exact.G

    @torch.no_grad()
    def score(self, x, i):
        """``s = -(G + v)^-1 (x + G R)`` at level i, float64."""
        v = float(self.variances[i])
        level = torch.full((1,), 0.5 * math.log(v), dtype=self.background.dtype, device=x.device)
        R, _ = self.network(self.background, x.to(self.background.dtype), level)
        to_modes = self.exact.to_modes
        return -self.exact.from_modes((to_modes(x) + self.G * to_modes(R.double())) / (self.G + v))

    def multiply(self, x, multiplier):
        """Filter a field."""
        return self.exact.filter(x, multiplier)

    def log_normal(self, x, covariance):
        """``log N(x; 0, covariance(k))``, shape (n,)."""
        modes = self.exact.to_modes(x)
        return -0.5 * (modes.square() / covariance + torch.log(covariance) + LOG_2PI).flatten(1).sum(1)

    def log_white(self, x, delta):
        """``log N(x; 0, delta)``, shape (n,)."""
        constant = self.background.volume * (LOG_2PI + math.log(delta))
        return -0.5 * (x.square().flatten(1).sum(1) / delta + constant)

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

import math

import torch

__all__ = ["ReverseProcess", "score_power"]

LOG_2PI = math.log(2 * math.pi)


def score_power(network, background, phi, z, v):
    r"""``<|s_k|^2> / V`` on the half grid at one noise level, from noised configurations.

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
    power = background.rfft(R).abs().double().square().mean(0) / background.volume
    G = background.G.double()
    return 1 / (G + v) + (G / (G + v)) ** 2 * power


class ReverseProcess:
    """Gaussian reverse steps of one score model along a ladder.

    Parameters
    ----------
    network : callable
        ``network(background, x, log_sigma) -> (R, _)``.
    background : Background
    variances : ndarray, shape (N + 1,)
        ``v_0 = 0`` to ``v_N``, ascending.
    powers : list of tensor, shape (*half grid), float64
        `score_power` at ``v_1 .. v_N``; sets the covariance of each reverse step.
    """

    def __init__(self, network, background, variances, powers):
        self.network, self.background = network, background
        self.variances = [float(v) for v in variances]
        weights = torch.full_like(powers[0], 2.0)
        weights[..., 0] = 1.0
        if background.shape[-1] % 2 == 0:
            weights[..., -1] = 1.0
        self.weights = weights
        self.G = background.G.double()
        self.covariances = []
        for i, power in enumerate(powers, start=1):
            delta = self.variances[i] - self.variances[i - 1]
            free = 1 / (1 / delta + 1 / (self.G + self.variances[i - 1]))
            # the posterior is narrower than the free one; an untrained network must not push it to zero
            self.covariances.append(torch.maximum(delta - delta**2 * power, 0.05 * free))

    @property
    def n_steps(self):
        """Reverse steps, which is also the number of network evaluations of a path."""
        return len(self.variances) - 1

    def _log_normal(self, difference, covariance):
        """log N(difference; 0, covariance(k)), float64, shape (n,)."""
        power = self.background.rfft(difference).abs().square() / (self.background.volume * covariance)
        modes = (power + torch.log(covariance) + LOG_2PI) * self.weights
        return -0.5 * modes.flatten(1).sum(1)

    def _log_white(self, difference, delta):
        n_sites = self.background.volume
        return -0.5 * (difference.square().flatten(1).sum(1) / delta + n_sites * (LOG_2PI + math.log(delta)))

    def mean(self, x, i):
        """Mean of ``p(x_{i-1} | x_i)``: ``x + Delta_i s(x, sigma_i)``, float64."""
        v = self.variances[i]
        delta = v - self.variances[i - 1]
        background = self.background
        level = torch.full((1,), 0.5 * math.log(v), dtype=background.dtype, device=x.device)
        R, _ = self.network(background, x.to(background.dtype), level)
        # s = -(G + v)^-1 (x + G R)
        drift_k = (background.rfft(x) + self.G * background.rfft(R.double())) / (self.G + v)
        return x - delta * background.irfft(drift_k)

    @torch.no_grad()
    def down(self, noise):
        """Draw paths from the prior to the field.

        Parameters
        ----------
        noise : tensor, shape (n, N + 1, *lattice), float64
            Standard normal: the prior's, then one field for each step.

        Returns
        -------
        phi : tensor, shape (n, *lattice), float64
        log_q : tensor, shape (n,), float64
            Density of the path, conditioned forward path divided out.
        """
        top = self.G + self.variances[-1]
        x = self.background.filter(noise[:, 0], torch.sqrt(top))
        log_q = self._log_normal(x, top)
        for i in range(self.n_steps, 0, -1):
            covariance = self.covariances[i - 1]
            step = self.background.filter(noise[:, self.n_steps - i + 1], torch.sqrt(covariance))
            lower = self.mean(x, i) + step
            log_q = log_q + self._log_normal(step, covariance) - self._log_white(
                x - lower, self.variances[i] - self.variances[i - 1]
            )
            x = lower
        return x, log_q

    @torch.no_grad()
    def up(self, phi, noise):
        """Draw a forward path from the field and weigh it.

        Parameters
        ----------
        phi : tensor, shape (n, *lattice), float64
        noise : tensor, shape (n, N, *lattice), float64

        Returns
        -------
        log_q : tensor, shape (n,), float64
        """
        x, log_q = phi, 0.0
        for i in range(1, self.n_steps + 1):
            delta = self.variances[i] - self.variances[i - 1]
            step = math.sqrt(delta) * noise[:, i - 1]
            higher = x + step
            log_q = log_q + self._log_normal(x - self.mean(higher, i), self.covariances[i - 1])
            log_q = log_q - self._log_white(step, delta)
            x = higher
        return log_q + self._log_normal(x, self.G + self.variances[-1])

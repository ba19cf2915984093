r"""Reverse SDE in steps of known density, with the weight of its path.

Noise levels :math:`0 = v_0 < v_1 < \ldots < v_N`, :math:`\Delta_i = v_i - v_{i-1}`. Forward and reverse steps

.. math::
    q(x_i | x_{i-1}) = N(x_{i-1}, \Delta_i), \qquad
    x_{i-1} = x_i + \Delta_i\, s(x_i, \sigma_i) + r, \quad r \sim p_i(r | x_i),

where the mean is exact for the exact score (Tweedie) and the density of the remainder r is that of
`latticediff.diffusion.steps`. No network and no number of steps makes the sampler wrong: the density of the
whole path is known,

.. math::
    \log q = \log N(x_N; 0, G + v_N) + \sum_i \log p(x_{i-1} | x_i) - \sum_i \log q(x_i | x_{i-1}),

and ``log_weight = -S(x_0) - log q`` is exact on the space of paths. Sums in float64.
"""

import itertools
import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..gaussian.reference import GaussianReference
from ..gaussian.vacua import OneVacuum, Vacua, vacua
from ..networks.contract import Residual
from ..types import FloatArray
from .layout import Array, Layout
from .process import NoiseProcess, VarianceExploding
from .steps import GaussianStep

__all__ = ["FourierModes", "ReverseProcess", "score_power", "step_covariances"]

LOG_2PI = math.log(2 * math.pi)


def score_power(network: Residual, gaussian: GaussianReference, phi: Tensor, z: Tensor, v: float) -> Tensor:
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
    R, _ = network(gaussian, phi + math.sqrt(v) * z, level)
    power = gaussian.to_modes(R).double().square().mean(0)
    G = gaussian.G.double()
    return 1 / (G + v) + (G / (G + v)) ** 2 * power


class ReverseProcess:
    """Reverse steps of one score model along a ladder, for any array library.

    Parameters
    ----------
    modes : Layout
        Fields in some layout, and the score; see `latticediff.diffusion.layout`.
    variances : ndarray, shape (N + 1,)
        ``v_0 = 0`` to ``v_N``, ascending; those of the variance-exploding process.
    steps : list
        Of `latticediff.diffusion.steps`, for x_{i-1} given x_i, i = 1 .. N.
    prior : array
        ``G + v_N`` on the real Fourier basis.
    process : latticediff.diffusion.process.NoiseProcess, optional
        Coordinates in which the path is walked and its densities are taken; variance exploding by default. The
        weight of a path does not depend on them.
    vacua : latticediff.gaussian.vacua.Vacua, optional
        The vacua around which the prior lies; by default it lies around zero.
    """

    def __init__(
        self,
        modes: Layout,
        variances: Iterable[float],
        steps: Sequence[GaussianStep],
        prior: Array,
        process: NoiseProcess | None = None,
        vacua: Vacua | None = None,
    ) -> None:
        self.modes, self.steps, self.prior = modes, steps, prior
        self.process, self.vacua = process or VarianceExploding(), vacua or OneVacuum()
        self.variances = [float(v) for v in variances]
        self.deltas = [b - a for a, b in itertools.pairwise(self.variances)]
        self.alphas = [self.process.alpha(math.sqrt(v)) for v in self.variances]
        self.log_prior = -0.5 * (math.log(2 * math.pi) * modes.volume + float(_log(prior).sum()))

    @property
    def n_steps(self) -> int:
        """Number of reverse steps, which is also that of network evaluations for a path."""
        return len(self.deltas)

    def down(self, noise: Array) -> tuple[Array, Array]:
        """Draw paths from the prior to the field (theory page, eq. 18).

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
        x, log_q = deque(self.walk(noise), maxlen=1).pop()  # memory of one level alone
        return x / self.alphas[0], log_q + self.modes.volume * math.log(self.alphas[0])

    def walk(self, noise: Array) -> Iterator[tuple[Array, Array]]:
        """Level by level what `down` does.

        Yields
        ------
        x : array, shape (n, *layout), float64
            x_i for i = N to 0, in the coordinates of the process: divided by ``alphas[i]`` it has the variance v_i.
        log_q : array, shape (n,), float64
            Of the path so far.
        """
        modes, alphas = self.modes, self.alphas
        sign, white = self.vacua.enter(noise[:, 0])
        x = self.vacua.fields(sign, modes.multiply(white, self.prior**0.5))
        log_q = self.vacua.admit(sign, x, self._log_prior(white))
        x = alphas[-1] * x
        yield x, log_q
        for i in range(self.n_steps, 0, -1):
            exploded = x / alphas[i]
            s = modes.score(exploded, i)
            step, log_p = self.steps[i - 1].draw(noise[:, self.n_steps - i + 1], exploded, s)
            lower = alphas[i - 1] * (exploded + self.deltas[i - 1] * s + step)
            log_q = log_q + log_p - modes.volume * math.log(alphas[i - 1]) - self._log_forward(lower, x, i)
            x = lower
            yield x, log_q

    def up(self, phi: Array, noise: Array) -> Array:
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

    def retrace(self, phi: Array, noise: Array) -> tuple[Array, Array]:
        """Draw a forward path from the field, and find the noise with which `down` would have walked it.

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
        modes, alphas = self.modes, self.alphas
        back: list[Array] = [None] * (self.n_steps + 1)
        x, log_q = alphas[0] * phi, modes.volume * math.log(alphas[0])
        for i in range(1, self.n_steps + 1):
            delta = self.deltas[i - 1]
            higher = alphas[i] / alphas[i - 1] * x + alphas[i] * math.sqrt(delta) * noise[:, i - 1]
            exploded = higher / alphas[i]
            s = modes.score(exploded, i)
            step = x / alphas[i - 1] - exploded - delta * s
            back[self.n_steps - i + 1], log_p = self.steps[i - 1].retrace(step, exploded, s)
            log_q = log_q + log_p - modes.volume * math.log(alphas[i - 1]) - self._log_forward(x, higher, i)
            x = higher
        sign, fluctuation = self.vacua.fluctuations(x / alphas[-1])
        white = modes.multiply(fluctuation, self.prior**-0.5)
        back[0] = self.vacua.leave(sign, white)
        stack = np.stack if isinstance(x, np.ndarray) else torch.stack
        return stack(back, 1), log_q + self._log_prior(white)

    def _log_prior(self, noise: Array) -> Array:
        """Density of ``x_N`` made from this noise."""
        log_alpha = self.modes.volume * math.log(self.alphas[-1])
        return self.log_prior + self.vacua.log_probability - log_alpha - 0.5 * self.modes.total(noise * noise)

    def _log_forward(self, lower: Array, higher: Array, i: int) -> Array:
        """``log q(x_i | x_{i-1})``."""
        beta = self.alphas[i] ** 2 * self.deltas[i - 1]
        miss = higher - (self.alphas[i] / self.alphas[i - 1]) * lower
        return -0.5 * (self.modes.total(miss * miss) / beta + self.modes.volume * (LOG_2PI + math.log(beta)))


def _log(x: Array) -> Array:
    return np.log(x) if isinstance(x, np.ndarray) else x.log()


def step_covariances(G: FloatArray, variances: FloatArray, powers: Iterable[FloatArray]) -> list[FloatArray]:
    r"""``Delta_i - Delta_i^2 <|s_k|^2> / V`` of each step (theory page, eq. 19), at least 1/20 of the free field's.

    The bound keeps variances positive where an untrained network has a score power that is far too large.

    Parameters
    ----------
    G : ndarray, shape (...)
        Propagator; on the momentum grid or the basis, as the powers are.
    variances : ndarray, shape (N + 1,)
        The ladder, ascending from 0.
    powers : iterable of N ndarrays, shape (...)
        ``<|s_k|^2> / V`` at levels 1 to N.

    Returns
    -------
    list of N ndarrays, shape (...), float64
    """
    covariances = []
    for i, power in enumerate(powers, start=1):
        delta = variances[i] - variances[i - 1]
        free = 1 / (1 / delta + 1 / (G + variances[i - 1]))
        covariances.append(np.maximum(delta - delta**2 * power, 0.05 * free))
    return covariances


class FourierModes:
    """Fields as float64 torch tensors on the lattice, functions of momentum in the real Fourier basis.

    Parameters
    ----------
    network : callable
        ``network(gaussian, x, log_sigma) -> (R, _)``.
    gaussian : latticediff.gaussian.reference.GaussianReference
    variances : ndarray, shape (N + 1,)
    """

    def __init__(self, network: Residual, gaussian: GaussianReference, variances: FloatArray) -> None:
        self.network, self.gaussian, self.variances = network, gaussian, variances
        self.exact = gaussian.to(dtype=torch.float64)  # densities are float64, only the network is not
        self.G, self.volume = self.exact.G, gaussian.volume
        self.to_modes = self.exact.to_modes
        self.vacua = vacua(gaussian)

    @torch.no_grad()
    def score(self, x: Tensor, i: int) -> Tensor:
        """``s = -(G + v)^-1 (x - mean + G R)`` at level i, float64."""
        v = float(self.variances[i])
        level = torch.full((1,), 0.5 * math.log(v), dtype=self.gaussian.dtype, device=x.device)
        R, _ = self.network(self.gaussian, x.to(self.gaussian.dtype), level)
        to_modes = self.exact.to_modes
        _, fluctuation = self.exact.fluctuation(x)
        return -self.exact.from_modes((to_modes(fluctuation) + self.G * to_modes(R.double())) / (self.G + v))

    def multiply(self, x: Tensor, multiplier: Tensor) -> Tensor:
        """Fields multiplied by an even function of momentum, given on the basis."""
        return self.exact.filter(x, multiplier)

    def total(self, x: Tensor) -> Tensor:
        """Sums over the lattice, (n,)."""
        return x.flatten(1).sum(1)

    def to_sites(self, x: Tensor) -> Tensor:
        """Fields as they are: this layout is that of sites."""
        return x

    from_sites = white_to_sites = white_from_sites = to_sites

    def dress(self, x: Tensor, g: Tensor, K: Tensor, n_terms: int, sign: int) -> Tensor:
        """``exp(sign / 2 K g K) x`` by `n_terms` terms of its series; g (n, *lattice) on sites, K(k) on the basis."""
        total: Any = 0.0
        w = self.multiply(x, K)
        for j in range(1, n_terms + 1):
            if j > 1:
                w = self.multiply(w, K * K)
            w = (0.5 * sign / j) * g * w
            total = total + w
        return x + self.multiply(total, K)

    def array(self, values: FloatArray) -> Tensor:
        """NumPy values (..., V) or (..., *lattice) in the layout of this class, on its device."""
        tensor = torch.as_tensor(values, dtype=torch.float64, device=self.gaussian.device)
        return tensor.reshape(*tensor.shape[: tensor.ndim - 1], *self.gaussian.shape)

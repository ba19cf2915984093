r"""Fourier acceleration: masses ``M(k) = p_hat^2 + m_eff^2`` that give all modes of a free field one frequency.

Batrouni et al., Phys. Rev. D 32 (1985) 2736. With :math:`H = \tfrac12 p^T M^{-1} p + S` a mode of the
free field oscillates with :math:`\omega^2 = K(k) / M(k)`; for ``K = c (p_hat^2 + m^2)`` and
``m_eff = m`` that is c for every k, and a quarter period forgets the start. Drifts go through
fast Fourier transforms (SciPy), kicks through the compiled loops.
"""

from typing import TYPE_CHECKING

import numpy as np
import scipy.fft

from ..arrays import real_array
from ..lattice import mode_weights, p_hat_squared
from ..markov import Block, ChainState
from ..streams import Streams
from ..types import FloatArray, Shape
from .checks import check_fields

if TYPE_CHECKING:
    from .kernel import HMC

__all__ = ["advance", "integrate"]


def _mass(kernel: "HMC") -> float:
    assert kernel.mass is not None  # this room serves kernels with Fourier masses only
    return kernel.mass


def _velocity(kernel: "HMC", momentum: FloatArray) -> tuple[FloatArray, FloatArray]:
    """``M^-1 p`` on the lattice and the kinetic energy, momentum (n_chains, *lattice)."""
    shape = momentum.shape[1:]
    axes = tuple(range(1, momentum.ndim))
    # one worker: how SciPy groups transforms over threads is not ours to promise bits for
    spectrum = scipy.fft.rfftn(momentum, axes=axes)
    scaled = spectrum / (p_hat_squared(shape, half=True) + _mass(kernel))
    energy = 0.5 * (mode_weights(shape) * (spectrum.conj() * scaled).real).sum(axis=axes) / np.prod(shape)
    return scipy.fft.irfftn(scaled, s=shape, axes=axes), energy


def integrate(kernel: "HMC", phi: FloatArray, momentum: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """One trajectory of fields and momenta (n_chains, *lattice); returns both and H, (n_chains,), at its end."""
    phi, momentum, kinetic, action = _trajectory(kernel, phi, momentum, 1.0)
    return phi, momentum, kinetic + action


def _trajectory(
    kernel: "HMC", phi: FloatArray, momentum: FloatArray, factor: float
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """A trajectory with all step sizes times `factor`; field, momentum, kinetic energy and action at its end."""
    phi, momentum = phi.copy(), momentum.copy()
    action = np.empty(phi.shape[0])
    for kick, drift in zip(kernel._kicks, kernel._drifts, strict=False):
        _kick(kernel, phi, momentum, factor * kick, action)
        with np.errstate(over="ignore", invalid="ignore"):  # divergence shows in the energy
            phi += factor * drift * _velocity(kernel, momentum)[0]
    _kick(kernel, phi, momentum, factor * kernel._kicks[-1], action)
    with np.errstate(over="ignore", invalid="ignore"):
        return phi, momentum, _velocity(kernel, momentum)[1], action


def _kick(kernel: "HMC", phi: FloatArray, momentum: FloatArray, amount: float, action: FloatArray) -> None:
    from .._kernels import layout
    from .._kernels.threads import over_groups

    compiled, geometry = kernel._plan(phi.shape[1:])
    n_chains = phi.shape[0]
    over_groups(
        compiled.kick, -(-n_chains // layout.lanes_for(phi.shape[1:])), 4 * phi.size,
        phi.reshape(n_chains, -1), momentum.reshape(n_chains, -1), *geometry, amount, action,
    )  # fmt: skip


def _momenta(kernel: "HMC", noise: FloatArray, shape: Shape) -> FloatArray:
    """Momenta of covariance M: white noise (n_chains, >= V) times sqrt(M)."""
    lattice = shape[1:]
    axes = tuple(range(1, len(shape)))
    spectrum = scipy.fft.rfftn(noise[:, : np.prod(lattice)].reshape(shape), axes=axes)
    spectrum *= np.sqrt(p_hat_squared(lattice, half=True) + _mass(kernel))
    return scipy.fft.irfftn(spectrum, s=lattice, axes=axes)


def advance(kernel: "HMC", state: ChainState, rng: Streams, n_updates: int, thin: int) -> tuple[ChainState, Block]:
    """`HMC.advance` with Fourier masses: it uses the same streams and reports the same info."""
    from .._kernels.random import fill_chains, uniform

    phi, action = check_fields(state.phi, kernel.action).copy(), real_array(state.action, "action").copy()
    n_chains = phi.shape[0]
    n_kept = (state.update + n_updates) // thin - state.update // thin
    kept_phi, kept_action = np.empty((n_kept, *phi.shape)), np.empty((n_kept, n_chains))
    accepted, delta_h = np.empty((n_updates, n_chains), bool), np.empty((n_updates, n_chains))
    keys = np.array([rng.key(purpose)[0] for purpose in ("momenta", "accept", "jitter")])
    noise, coins = np.empty((n_chains, -(-phi[0].size // 4) * 4)), np.empty(n_chains)
    zero, at = np.uint64(0), 0
    for t in range(n_updates):
        now = np.uint64(state.update + t)
        fill_chains(noise, coins, keys, now)
        momentum = _momenta(kernel, noise, phi.shape)
        factor = 1 + kernel.jitter * (2 * uniform(keys[2], zero, zero, now) - 1)
        old_kinetic = _velocity(kernel, momentum)[1]
        end, momentum, kinetic, new_action = _trajectory(kernel, phi, momentum, factor)
        with np.errstate(over="ignore", invalid="ignore"):
            change = (new_action - action) + (kinetic - old_kinetic)
        change[~np.isfinite(change)] = np.inf  # diverged: a counted rejection
        taken = np.log(coins) < -change
        phi[taken] = end[taken]
        action[taken] = new_action[taken]
        accepted[t], delta_h[t] = taken, change
        if (state.update + t + 1) % thin == 0:
            kept_phi[at], kept_action[at] = phi, action
            at += 1
    block = Block(kept_phi, kept_action, {"accepted": accepted, "delta_h": delta_h})
    return ChainState(phi, action, state.update + n_updates), block

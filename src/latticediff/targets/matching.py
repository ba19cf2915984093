r"""Training objectives: denoising score matching for the residual R.

Two unbiased targets for :math:`R(x, \sigma) = E[\Delta F | x]` exist at :math:`x = \phi + \sigma z`:

.. math:: T_{force} = \Delta F(\phi), \qquad T_{noise} = z / \sigma - G^{-1} \phi,

the first from the known action (target score matching), the second from the noise (denoising).
Their mixture with weight :math:`w = 1/(1 + w_0 \sigma^2 / \bar G)` on the first keeps the gradient
noise low at both ends of the ladder. The loss

.. math:: L = \langle |C\,(T - R)|^2 / \sigma^2 \rangle_{\log\sigma}

is the denoising loss :math:`|D - \phi|^2 / \sigma^2` up to a constant: likelihood weighting.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ..gaussian.reference import GaussianReference

__all__ = ["Target", "denoising_loss", "mixed_target"]

#: ``target(gaussian, phi, z, v)``: fields (n, *lattice) of conditional mean R, for v = sigma^2 of shape (n, 1, ..., 1)
Target = Callable[[GaussianReference, Tensor, Tensor, Tensor], Tensor]


def mixed_target(gaussian: GaussianReference, phi: Tensor, z: Tensor, v: Tensor, w0: float = 0.2) -> Tensor:
    """``w DF(phi) + (1 - w) (z / sigma - G^-1 phi)`` with ``w = 1 / (1 + w0 v / mean(G))``, (n, *lattice).

    The mixture of the two targets of theory page, eq. (9); around a vacuum the second one has the fluctuation for phi.

    Parameters
    ----------
    gaussian : GaussianReference
    phi, z : tensor, shape (n, *lattice)
    v : tensor, shape (n, 1, ..., 1)
        sigma^2.
    w0 : float
        With 0 the target is the force alone; for w0 to infinity it becomes that of the noise.
    """
    w = 1 / (1 + w0 * v / gaussian.g_mean)
    # both targets share one transform: w DF - (1 - w) phi / G
    signs, fluctuation = gaussian.fluctuation(phi)
    modes = gaussian.to_modes(fluctuation)
    linear = gaussian.from_modes(modes * (w * gaussian.linear - (1 - w) / gaussian.G))
    return linear + w * gaussian.nonlinear_force(phi, signs) + (1 - w) * z / v.sqrt()


def denoising_loss(
    network: Callable[[GaussianReference, Tensor, Tensor], tuple[Tensor, Any]],
    gaussian: GaussianReference,
    phi: Tensor,
    z: Tensor,
    log_sigma: Tensor,
    target: Target = mixed_target,
) -> Tensor:
    r"""``|C (T - R)|^2 / sigma^2`` of every configuration, shape (n,), in the dtype of the fields (theory page, eq. 8).

    Parameters
    ----------
    network : callable
        ``network(gaussian, x, log_sigma) -> (R, _)``.
    gaussian : GaussianReference
    phi : tensor, shape (n, *lattice)
        Configurations of the ensemble.
    z : tensor, shape (n, *lattice)
        Standard normal noise.
    log_sigma : tensor, shape (n,)
    target : callable
        ``target(gaussian, phi, z, v)``, any T with ``E[T | x] = R``: `mixed_target`, or the far less
        noisy `latticediff.targets.control_variates.BlendedTarget`.

    Notes
    -----
    Vincent 2011, eq. (9), for the denoiser :math:`D = C (x / v - R)`; the mixture of targets is
    section 3 of the theory page.
    """
    v = gaussian.expand((2 * log_sigma).exp())
    R, _ = network(gaussian, phi + v.sqrt() * z, log_sigma)
    _, C = gaussian.posterior(v)
    error = gaussian.filter(target(gaussian, phi, z, v) - R, C / v.sqrt())
    return (error * error).flatten(1).sum(1)

r"""Targets with control variates: the noise of training, removed where it can be known.

At :math:`x = \phi + \sigma z` the posterior of phi has the log-gradient :math:`u = -\nabla S(\phi) +
(x - \phi)/v = T_{noise} - T_{force}`. Stein's identity gives, for any operator M and function q that
depend on phi and x,

.. math:: E\big[\, q(\phi_x)\, (M u)_x + q'(\phi_x)\, M_{xx} \,\big|\, x \,\big] = 0 ,

if M depends on x alone. Such a term may be added to a target without bias. If the posterior were
Gaussian with covariance M around y, the choice :math:`q = 4b\,(y^2 + y\phi + \phi^2 + 2 M_{xx})` would
cancel the whole fluctuation of the cubic force, and :math:`\ell * M u` that of the linear one:

.. math:: T_{stein} = \Delta F(\phi) + q(\phi) \circ M u + q'(\phi) \circ M_{xx} + \ell * M u .

We take :math:`y = W x` and :math:`M = D^{1/2} C D^{1/2}` with the local curvature h in
:math:`D = 1/(1 + c h)`: its diagonal c D is exact, as the identity needs. At small sigma the variance
falls a hundredfold and more below that of the plain targets, at large sigma the approximation fails; so
the three targets are blended mode by mode, with the weights of least variance (`fit_blend`).
"""

import math
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from ..gaussian.baseline import local_response
from ..gaussian.reference import GaussianReference
from .vector_stein import vector_stein

if TYPE_CHECKING:
    from ..diffusion.ladder import NoiseRange

__all__ = ["BlendedTarget", "fit_blend", "three_targets"]

N_LEVELS = 41
SITES = 2**18  # field values per level in the fit: orbits of modes add up, and what two weights miss is of second order
RIDGE = 1e-4  # of the diagonal: where targets coincide, do not chase rounding errors
TINY = 1e-30


def three_targets(gaussian: GaussianReference, phi: Tensor, z: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``(T_stein, T_force, T_noise)``, each (n, *lattice) with conditional mean R (theory page, eqs. 9 and 10).

    Parameters
    ----------
    gaussian : GaussianReference
    phi, z : tensor, shape (n, *lattice)
    v : tensor, shape (n, 1, ..., 1)
        sigma^2.
    """
    sigma = v.sqrt()
    W, C = gaussian.posterior(v)
    signs, fluctuation = gaussian.fluctuation(phi)
    modes, square_0 = gaussian.to_modes(fluctuation), gaussian.vacuum**2
    linear, inverse, y = (
        gaussian.from_modes(f)
        for f in (modes * gaussian.linear, modes / gaussian.G, W * (modes + gaussian.to_modes(sigma * z)))
    )
    y = y + gaussian.centre(signs)
    force = linear + gaussian.nonlinear_force(phi, signs)
    noise = z / sigma - inverse
    if gaussian.components is not None:
        return vector_stein(gaussian, phi, y, C, noise, force), force, noise
    if not gaussian.is_cubic:
        return _stein(gaussian, y, C, noise, force), force, noise
    b, square = gaussian.quartic, phi * phi
    c, lift = local_response(gaussian, C)
    # curvature of the quartic term, averaged over a posterior that is narrower by that very curvature
    h = 12 * b * (y * y + c)
    h = 12 * b * (y * y + c / (lift + c * h))
    if gaussian.masses is not None:
        h = (h + gaussian.masses).clamp(min=0)
    D = 1 / (lift + c * h)
    root = D.sqrt()
    Mu = root * gaussian.filter(root * (noise - force), C)
    q = 4 * b * (y * y + y * phi + square - 3 * square_0 + 2 * c * D)
    if gaussian.masses is not None:
        q = q + gaussian.masses  # which depends on nothing, so that q' stays what it is
    stein = force + q * Mu + (4 * b * c) * D * (y + 2 * phi) + gaussian.filter(Mu, gaussian.linear)
    return stein, force, noise


def _stein(gaussian: GaussianReference, y: Tensor, C: Tensor, noise: Tensor, force: Tensor) -> Tensor:
    """T_stein of any local force: q is its mean slope around y, which depends on x alone, so that q' = 0."""
    c = gaussian.expand(gaussian.at_origin(C))
    mean, bend = gaussian.action.local_curvature(gaussian.vacuum), gaussian.action.local_curvature
    r = 0.0 if gaussian.masses is None else gaussian.masses
    h = bend(y, c) - mean + r
    D = 1 / (1 + c * h.clamp(min=0))
    h = bend(y, c * D) - mean + r
    root = (1 + c * h.clamp(min=0)).rsqrt()
    Mu = root * gaussian.filter(root * (noise - force), C)
    return force + h * Mu + gaussian.filter(Mu, gaussian.linear)


class Configurations(Protocol):
    """Configurations (n, *lattice) by number: a tensor, or rows that are read from a file when they are wanted."""

    @property
    def device(self) -> torch.device:
        """Where rows are delivered."""

    @property
    def dtype(self) -> torch.dtype:
        """Of the rows."""

    def __len__(self) -> int:
        """n."""

    def __getitem__(self, index: Tensor, /) -> Tensor:
        """Rows with these numbers, in that order."""


class BlendedTarget:
    """The blend of the three targets: ``T_stein + beta_1 (T_force - T_stein) + beta_2 (T_noise - T_stein)``.

    Parameters
    ----------
    low, high : float
        Range of log sigma.
    betas : tensor, shape (n_levels, 2, *lattice)
        Weights in the real Fourier basis at equidistant log sigma; linear in between. They depend on
        sigma and momentum alone, so the blend is unbiased whatever their values.
    """

    def __init__(self, low: float, high: float, betas: Tensor) -> None:
        self.low, self.high, self.betas = low, high, betas

    def __call__(self, gaussian: GaussianReference, phi: Tensor, z: Tensor, v: Tensor) -> Tensor:
        """The blended target, (n, *lattice); arguments as in `three_targets`."""
        stein, force, noise = three_targets(gaussian, phi, z, v)
        position = (0.5 * v.flatten().log() - self.low) / (self.high - self.low) * (len(self.betas) - 1)
        level = position.long().clamp(0, len(self.betas) - 2)
        part = gaussian.expand(position - level)[:, None]
        beta = torch.lerp(self.betas[level], self.betas[level + 1], part)
        differences = gaussian.to_modes(torch.stack([force - stein, noise - stein], 1))
        return stein + gaussian.from_modes((beta * differences).sum(1))


@torch.no_grad()
def fit_blend(gaussian: GaussianReference, phi: Configurations, noise: "NoiseRange", seed: int = 0) -> BlendedTarget:
    r"""Weights of least variance, from second moments of the targets.

    All targets have the conditional mean R, so the blend of least second moment is the one of least
    variance and R need not be known.

    Parameters
    ----------
    gaussian : GaussianReference
    phi : tensor or rows, shape (n, *lattice)
        Training configurations.
    noise : NoiseRange
        Levels at which weights are fitted: equidistant in log sigma between its ends.
    seed : int
        Of the draws of configurations and noise.

    Returns
    -------
    BlendedTarget
    """
    low, high = noise.log_range
    generator = torch.Generator().manual_seed(seed)
    n = min(len(phi), max(64, SITES // gaussian.volume))
    orbits = _orbits(gaussian)
    betas = []
    for log_sigma in torch.linspace(low, high, N_LEVELS, dtype=torch.float64).tolist():
        some = phi[torch.randint(len(phi), (n,), generator=generator).to(phi.device)]
        z = torch.randn(some.shape, generator=generator).to(phi.device)
        v = torch.full((1,) * (gaussian.ndim + 1), math.exp(2 * log_sigma), dtype=phi.dtype, device=phi.device)
        stein, force, noise_target = (gaussian.to_modes(t).flatten(1) for t in three_targets(gaussian, some, z, v))
        d = torch.stack([force - stein, noise_target - stein]).double()
        moments = torch.einsum("inv,jnv->ijv", d, d) / n
        overlap = torch.einsum("inv,nv->iv", d, stein.double()) / n
        # equivalent momenta share their weights
        moments, overlap = _averaged(moments, orbits), _averaged(overlap, orbits)
        # targets without noise (a free field with its own propagator) leave nothing to solve for
        ridge = (torch.diagonal(moments.permute(2, 0, 1), dim1=1, dim2=2) * RIDGE).clamp(min=TINY)
        diagonal = torch.diag_embed(ridge)
        beta = -torch.linalg.solve(moments.permute(2, 0, 1) + diagonal, overlap.T)
        betas.append(beta.T.reshape(2, *gaussian.shape).to(phi.dtype))
    return BlendedTarget(low, high, torch.stack(betas))


def _orbits(gaussian: GaussianReference) -> Tensor:
    """Number of the orbit under lattice symmetries of each basis function, from the values of the propagator."""
    _, orbits = torch.unique((gaussian._G.flatten() * 1e12).round(), return_inverse=True)
    return orbits.to(gaussian.device)


def _averaged(values: Tensor, orbits: Tensor) -> Tensor:
    counts = torch.bincount(orbits).to(values.dtype)
    sums = torch.zeros(*values.shape[:-1], len(counts), dtype=values.dtype, device=values.device)
    sums.index_add_(-1, orbits, values)
    return (sums / counts)[..., orbits]

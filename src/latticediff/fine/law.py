r"""The law of the fine sites given the coarse ones, in torch, as it is trained.

Given colours a and b of F (`geometry`) and C, the sites of colour d are independent, and their law is known:

.. math:: p(f) \propto e^{P(f)}, \qquad P(f) = -V(f) + \sum_{y=1}^{4} \log Z_1(c\,(f + s_y)),

s_y the sum of the three other neighbours of the even site y. Colours a and b get learned laws, each colour in two
turns, given C and all that was drawn before: products over sites of :math:`e^{P}/\int e^{P}` with

.. math:: P(f) = -V(f) + \sum_{k=1}^{6} \theta_k(\text{context})\, f^k,

theta_k odd functions of the context for odd k and even ones for even k. Theory page, eqs. (15j) to (15l).
"""

import math
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .._kernels.fine import FEATURES
from ..action import OddSites
from ..types import Shape
from .geometry import CONTEXTS, LEARNED, Geometry, Offset, rotations
from .site import N_F, Site

__all__ = ["DEGREE", "ColourLaw", "FineLaw"]

DEGREE = 6  #: of the polynomials in f that are learned
NODES = 40  # of the quadrature over f


class _Potential(torch.autograd.Function):
    """V of a theory whose potential is NumPy's; once differentiable, and no more is asked of it."""

    @staticmethod
    def forward(ctx: Any, f: Tensor, site: Site) -> Tensor:
        values = f.detach().double().numpy()
        ctx.save_for_backward(torch.as_tensor(site.derivative(values)).to(f.dtype))
        return torch.as_tensor(site.potential(values)).to(f.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors
        return gradients[0] * slope, None


def bent(h: Tensor) -> Tensor:
    """``h (1 + h^2)^(-1/2)``."""
    return h * torch.rsqrt(1 + h * h)


def chebyshev(x: Tensor, n: int) -> Tensor:
    """``T_0 ... T_{n-1}`` of x, (..., n)."""
    found = [torch.ones_like(x), x]
    for _ in range(n - 2):
        found.append(2 * x * found[-1] - found[-2])
    return torch.stack(found, -1)


class ColourLaw(nn.Module):
    """theta_k of one colour as functions of its context: ridge functions, summed over the rotations of the square.

    Parameters
    ----------
    offsets : list of (int, int)
        Where the context lies.
    seed : int
        Of the first weights.
    unit : float
        Of fields, for the first weights.
    """

    def __init__(self, offsets: list[Offset], seed: int, unit: float) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        m = len(offsets)
        self.turned: Tensor
        self.register_buffer("turned", torch.as_tensor(rotations(offsets)), persistent=False)
        distance = torch.as_tensor([math.hypot(*offset) for offset in offsets])
        self.read = nn.Parameter(1.5 * torch.randn(FEATURES, m, generator=generator) * torch.exp(-distance / 2))
        self.shift = nn.Parameter(torch.rand(FEATURES, generator=generator))
        self.linear = nn.Parameter(torch.zeros(DEGREE, m))  # of odd k
        self.odd = nn.Parameter(torch.zeros(DEGREE, FEATURES))
        self.even = nn.Parameter(torch.zeros(DEGREE, FEATURES))
        self.constant = nn.Parameter(torch.zeros(DEGREE))
        self.is_odd: Tensor
        parity = torch.arange(1, DEGREE + 1) % 2 == 1
        self.register_buffer("is_odd", parity.float(), persistent=False)
        self.count_in(1 / unit)  # these numbers are meant for fields in units

    @torch.no_grad()
    def count_in(self, unit: float) -> None:
        """Turn the weights into those of a field that is counted in this many of the units it had."""
        powers = unit ** torch.arange(1, DEGREE + 1)
        self.read.mul_(unit)
        self.linear.mul_(unit * powers[:, None])
        self.odd.mul_(powers[:, None])
        self.even.mul_(powers[:, None])
        self.constant.mul_(powers)

    def forward(self, context: Tensor) -> Tensor:
        """theta, (n, sites, DEGREE), of contexts (n, sites, m)."""
        read = self.read[:, self.turned]  # (J, 4, m)
        h = torch.einsum("nsm,jrm->nsrj", context, read)
        up, down = bent(h + self.shift), bent(h - self.shift)
        odd, even = (up + down).sum(2), (up - down).sum(2)
        first = context @ self.linear[:, self.turned].sum(1).T
        theta_odd = (first + odd @ self.odd.T) * self.is_odd
        return theta_odd + (even @ self.even.T + self.constant) * (1 - self.is_odd)


class FineLaw(nn.Module):
    """q(F | C) = q(a1 | C) q(a2 | a1, C) q(b1 | a, C) q(b2 | b1, a, C) p(d | a, b, C), of rows (C, F), (n, 2 M^2).

    Parameters
    ----------
    theory : latticediff.action.OddSites
    shape : tuple of int
        Extents of the array of coarse sites.
    dtype : torch.dtype
        float32 in training, float64 in tests.

    Raises
    ------
    UserError
        A theory without the symmetry phi -> -phi, or a lattice that has no coarse sites.
    """

    def __init__(self, theory: OddSites, shape: Shape, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.site, self.geometry = Site(theory), Geometry(shape)
        self.laws = nn.ModuleList([ColourLaw(offsets, seed, self.site.unit) for seed, offsets in enumerate(CONTEXTS)])
        self.contexts = [torch.as_tensor(self.geometry.context(k)) for k in range(LEARNED)]
        self._beside = torch.as_tensor(self.geometry.beside)
        self._fine = [torch.as_tensor(self.geometry.n + sites) for sites in self.geometry.colours]
        self.ab = torch.cat(self._fine[:-1])  #: numbers of colours a and b in rows
        x, weights = np.polynomial.legendre.leggauss(NODES)
        nodes, edge = self.site.edge * x, self.site.edge
        self.unit = 1.0  #: in which the weights count fields
        self._powers = torch.as_tensor(np.array([nodes**k for k in range(1, DEGREE + 1)])).to(dtype)
        self._series = torch.as_tensor(np.polynomial.chebyshev.chebvander(x, N_F - 1)).to(dtype)
        self._log_weight = torch.as_tensor(np.log(edge * weights) - self.site.potential(nodes)).to(dtype)
        self._table = torch.as_tensor(self.site.table).to(dtype)
        self.to(dtype)

    def count_in(self, unit: float) -> None:
        """Turn the weights into those of fields in units of this size; what is stored and drawn from has size one."""
        for law in self.laws:
            cast(ColourLaw, law).count_in(unit / self.unit)
        self._powers /= (unit / self.unit) ** torch.arange(1, DEGREE + 1)[:, None]
        self.unit = unit

    def potential(self, f: Tensor) -> Tensor:
        """V of sites, once differentiable."""
        return _Potential.apply(f, self.site)

    def log_law(self, x: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """P and ``log int exp(P) df`` of the sites of colour k, (n, n_sites) each."""
        f = x[:, self._fine[k]]
        if k < LEARNED:
            theta = self.laws[k](x[:, self.contexts[k]] / self.unit)
            nodes = theta @ self._powers
            here: Any = sum(theta[..., n] * (f / self.unit) ** (n + 1) for n in range(DEGREE))
        else:
            series = chebyshev(x[:, self._beside].sum(-1) / self.site.widest, self._table.shape[1]) @ self._table.T
            series = series.sum(2)
            nodes = series @ self._series.T
            here = (series * chebyshev(f / self.site.edge, N_F)).sum(-1)
        return here - self.potential(f), torch.logsumexp(nodes + self._log_weight, -1)

    def marginal(self, x: Tensor) -> Tensor:
        """S of (C, a, b), colour d integrated out, (n,), but for what depends on no site."""
        _, log_z = self.log_law(x, LEARNED)
        return self.potential(x[:, self.ab]).sum(1) + self.potential(x[:, : self.geometry.n]).sum(1) - log_z.sum(1)

    def log_q_ab(self, x: Tensor) -> Tensor:
        """``log q(a, b | C)``, (n,)."""
        return self._log_q(x, LEARNED)

    def log_q(self, x: Tensor) -> Tensor:
        """``log q(F | C)``, (n,); the compiled law's is another, nearly the same."""
        return self._log_q(x, LEARNED + 1)

    def _log_q(self, x: Tensor, n: int) -> Tensor:
        total: Any = sum((here - log_z).sum(1) for here, log_z in (self.log_law(x, k) for k in range(n)))
        return total

    def numbers(self) -> dict[str, NDArray[np.float32]]:
        """All weights by name, float32."""
        return {name: tensor.detach().float().numpy() for name, tensor in self.state_dict().items()}

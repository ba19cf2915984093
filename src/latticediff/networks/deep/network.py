r"""What deep score networks share: whitened inputs, filtered outputs, baseline, embedding, exact traces.

.. math::
    R(x, \sigma) = R_0 + \sum_m O_m * T_m(u; \sigma), \qquad u_j = I_j * x,

with the baseline R_0 of `latticediff.gaussian.baseline`, the spectral filters

.. math:: I = \{(G+v)^{-1/2},\; 2 W,\; (\bar G+v)^{-1/2}\}, \qquad O = o\,\{1, W\},\; o = 1/(0.3 + \sigma),

and a trunk T of periodic convolutions, odd under u -> -u, which a subclass supplies. Its last convolution
begins at zero, so an untrained network is the baseline itself. A trunk may take any means that are local,
commute with translations and grow at most linearly; its divergence is exact by backward passes (`divergence`).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...action import Phi4
from ...errors import UserError
from ...gaussian.baseline import implicit_baseline
from ...gaussian.reference import GaussianReference
from ...types import Description
from ..embedding import Embedding
from .divergence import passes, trunk_trace

__all__ = ["N_INPUT", "N_OUTPUT", "DeepNetwork"]

N_INPUT, N_OUTPUT = 3, 2


class DeepNetwork(nn.Module):
    """Base of deep networks; a subclass has `name` and `reach` and defines ``trunk(u, e)``.

    Parameters
    ----------
    ndim : int
        Dimensions of the lattice, 1 to 4.
    hidden : int
        Width of the embedding of log sigma.
    conditioned : bool
        Embed the couplings too; see `latticediff.networks.embedding.Embedding`.
    **options
        The subclass's own options, for `describe`.

    Raises
    ------
    UserError
        If a size is out of range.
    """

    name: str  #: in the registry

    def __init__(self, ndim: int, hidden: int, conditioned: bool, **options: int) -> None:
        super().__init__()
        if ndim not in (1, 2, 3, 4):
            raise UserError(f"ndim is {ndim!r}; expected 1, 2, 3 or 4")
        for key, value in options.items():
            if value is not True and value is not False and value < 1:
                raise UserError(f"{key} = {value}; expected at least 1")
        self.ndim = ndim
        self.options = {**options, "hidden": hidden, "conditioned": bool(conditioned)}
        self.embed = Embedding(hidden, conditioned)

    @property
    def reach(self) -> int:
        """Largest distance along an axis, in sites, over which an input of the trunk influences its output."""
        raise NotImplementedError

    def trunk(self, u: Tensor, e: Tensor) -> Tensor:
        """T(u; e), (n, 2, *lattice), of fields u (n, 3, *lattice) and embeddings e (n or 1, hidden); odd in u."""
        raise NotImplementedError

    def describe(self) -> Description:
        """Registered name and options, enough to build the network again."""
        return {"name": self.name, **self.options}

    def centre_on(self, actions: Sequence[Phi4]) -> None:
        """Count couplings from their mean over `actions`; see `Embedding.centre_on`."""
        self.embed.centre_on(actions)

    def passes(self, gaussian: GaussianReference) -> dict[str, int]:
        """Backward passes through the trunk that an exact trace costs on this lattice, by method."""
        return passes(gaussian.shape, self.reach, N_OUTPUT)

    def filters(self, gaussian: GaussianReference, v: Tensor, W: Tensor) -> tuple[Tensor, Tensor]:
        """Input filters (n, 3, *lattice) and output filters (n, 2, *lattice) at v = sigma^2."""
        G = gaussian.G
        inner = torch.stack([torch.rsqrt(G + v), 2 * W, torch.rsqrt(gaussian.g_mean + v).expand_as(W)], dim=1)
        scale = 1 / (0.3 + v.sqrt())
        outer = torch.stack([scale.expand_as(W), scale * W], dim=1)
        return inner, outer

    def forward(
        self, gaussian: GaussianReference, x: Tensor, log_sigma: Tensor, trace: bool | str = False
    ) -> tuple[Tensor, Tensor | None]:
        """The residual R and, if asked, ``tr(C dR/dx)``.

        Parameters
        ----------
        gaussian : GaussianReference
        x : tensor, shape (n, *lattice)
        log_sigma : tensor, shape (n,) or (1,)
        trace : bool or str
            ``"full"`` or ``"coloured"``, see `divergence`; True takes the one with fewer passes.

        Returns
        -------
        R : tensor, shape (n, *lattice)
        trace : tensor, shape (n,), float64, or None
        """
        v = gaussian.expand((2 * log_sigma).exp())
        W, C = gaussian.posterior(v)
        signs, fluctuation = gaussian.fluctuation(x)
        modes = gaussian.to_modes(fluctuation)
        inner, outer = self.filters(gaussian, v, W)
        u = gaussian.add_vacuum(gaussian.from_modes(modes[:, None] * inner), signs)
        e = self.embed(gaussian, log_sigma)
        linear, local, total = implicit_baseline(gaussian, modes, W, C, bool(trace), signs)
        if not trace:
            out = self.trunk(u, e)
        else:
            costs = self.passes(gaussian)
            method = min(costs, key=lambda name: costs[name]) if trace is True else trace
            with torch.enable_grad():
                if not u.requires_grad:
                    u.requires_grad_(True)
                out = self.trunk(u, e)
            assert total is not None  # the baseline has a trace wherever one is asked for
            total = total + trunk_trace(gaussian, u, out, inner, outer, C, self.reach, method)
            if not torch.is_grad_enabled():
                out = out.detach()
        R = gaussian.from_modes((gaussian.to_modes(out) * outer).sum(1) + linear) + local
        return R, total if trace else None

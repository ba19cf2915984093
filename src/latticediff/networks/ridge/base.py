"""What ridge networks share: kernels, gains and amplitudes, filters, and the weights of their divergence.

`network` has the formulas; `vector` is the same for fields of several components.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...action import Phi4
from ...errors import UserError
from ...gaussian.reference import GaussianReference
from ...types import Description
from ..embedding import Embedding
from .screening import screen

__all__ = ["N_AMPLITUDES", "N_INPUT", "N_OUTPUT", "Ridge"]

N_INPUT, N_OUTPUT, N_AMPLITUDES = 3, 2, 2  # the most, which is the default


class Ridge(nn.Module):
    """One hidden layer of pointwise functions between small kernels, on any lattice of `ndim` dimensions.

    Parameters
    ----------
    ndim : int
        Dimensions of the lattice, 1 to 4.
    features : int
        Hidden features F.
    kernel_size : int
        Odd extent of the kernels A and B.
    hidden : int
        Width of the small perceptron that turns log sigma into gains and amplitudes.
    conditioned : bool
        Let gains and amplitudes depend on the couplings too, so that one set of weights serves a line of them.
    ordered : bool
        Normal ordering: no feature has a linear response at large noise, `latticediff.networks.ridge.normal_ordering`.
        False by default, as in model files older than the option; a run-card's default is true.
    screened : bool
        Let local functions drive long waves less, `latticediff.networks.ridge.screening`; defaults as for `ordered`.
    inputs, outputs : int
        How many of the three input and of the two output filters there are, the first ones: 2 or 3, and 1 or 2. Each
        costs a transform of an evaluation, and its kernels.

    Raises
    ------
    UserError
        If a size is out of range.
    """

    name: str  #: in the registry

    def __init__(
        self,
        ndim: int = 2,
        features: int = 24,
        kernel_size: int = 3,
        hidden: int = 64,
        conditioned: bool = False,
        ordered: bool = False,
        screened: bool = False,
        inputs: int = N_INPUT,
        outputs: int = N_OUTPUT,
    ) -> None:
        super().__init__()
        if inputs not in (2, 3) or outputs not in (1, 2):
            raise UserError(
                f"inputs = {inputs}, outputs = {outputs}; expected 2 or 3 input filters and 1 or 2 output filters"
            )
        self.inputs, self.outputs = int(inputs), int(outputs)
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise UserError(f"kernel_size is {kernel_size}; expected an odd number of at least 1")
        if features < 2:
            raise UserError(f"features = {features}; expected at least 2")
        self.ndim, self.features, self.kernel_size = ndim, features, kernel_size
        self.ordered, self.screened = bool(ordered), bool(screened)
        reach = kernel_size // 2
        self.offsets = self._offsets(ndim, reach)
        n_taps, centre = len(self.offsets), len(self.offsets) // 2
        A = 0.5 * torch.randn(features, inputs, n_taps) / math.sqrt(inputs * n_taps)
        # half of the features start near the site itself, where the cubic lives
        A[: features // 2, :, centre] += 0.7 * torch.randn(features // 2, inputs)
        self.A = nn.Parameter(A)
        self._make_output(n_taps, hidden)
        self.embed = Embedding(hidden, conditioned)
        self.gain_in = nn.Linear(hidden, features * inputs)
        self.amplitude = nn.Linear(hidden, features * N_AMPLITUDES)
        nn.init.zeros_(self.amplitude.weight)  # an untrained network is the baseline itself
        nn.init.zeros_(self.amplitude.bias)
        self._taps: dict[tuple[Any, ...], Any] = {}

    def _offsets(self, ndim: int, reach: int) -> tuple[tuple[int, ...], ...]:
        """Offsets of the kernels' taps from a site, the one in the middle being zero."""
        return tuple(itertools.product(range(-reach, reach + 1), repeat=ndim))

    def _make_output(self, n_taps: int, hidden: int) -> None:
        features = self.features
        self.B = nn.Parameter(torch.randn(self.outputs, features, n_taps) / math.sqrt(features * n_taps))
        self.gain_out = nn.Linear(hidden, self.outputs * features)

    def output_kernels(self) -> Tensor:
        """Kernels B (M, F, T) without gains."""
        return self.B

    def describe(self) -> Description:
        """Registered name and options, enough to build the network again."""
        return {
            "name": self.name,
            "features": self.features,
            "kernel_size": self.kernel_size,
            "hidden": self.embed.hidden,
            "conditioned": self.embed.conditioned,
            **{name: True for name in ("ordered", "screened") if getattr(self, name)},
            **({} if self.inputs == N_INPUT else {"inputs": self.inputs}),
            **({} if self.outputs == N_OUTPUT else {"outputs": self.outputs}),
        }

    def on_array(self, gaussian: GaussianReference) -> tuple[tuple[int, ...], ...]:
        """The offsets of the kernels on the array of a lattice: multiples of its unit vectors, where it has its own."""
        if gaussian.unit_vectors is None:
            return self.offsets
        steps = [zip(offset, gaussian.unit_vectors, strict=True) for offset in self.offsets]
        return tuple(
            tuple(sum(n * vector[axis] for n, vector in pairs) for axis in range(self.ndim))
            for pairs in map(tuple, steps)
        )

    def taps(self, gaussian: GaussianReference) -> Tensor:
        """Site numbers ``y + offset_t`` on this lattice, (T, V) int64."""
        key = (gaussian.shape, gaussian.device, gaussian.unit_vectors)
        if key not in self._taps:
            sites = torch.arange(gaussian.volume).reshape(gaussian.shape)
            axes = tuple(range(gaussian.ndim))
            rolled = [torch.roll(sites, [-o for o in offset], axes).reshape(-1) for offset in self.on_array(gaussian)]
            self._taps[key] = torch.stack(rolled).to(gaussian.device)
        return self._taps[key]

    def differences(self, gaussian: GaussianReference) -> tuple[Tensor, Tensor]:
        """The sites that are differences of two offsets, and which of them ``offset_t' - offset_t`` is, (T, T)."""
        key = (gaussian.shape, gaussian.device, gaussian.unit_vectors, "differences")
        if key not in self._taps:
            taps = self.taps(gaussian)
            # offset T-1-t is minus offset t
            self._taps[key] = torch.unique(taps[:, taps[:, 0].flip(0)].T, return_inverse=True)
        return self._taps[key]

    def coefficients(self, gaussian: GaussianReference, log_sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gains and amplitudes at each noise level.

        Parameters
        ----------
        gaussian : GaussianReference
            Its couplings are read if the network is conditioned.
        log_sigma : tensor, shape (n,)

        Returns
        -------
        gain_in : tensor, shape (n, F, J)
        amplitudes : tensor, shape (n, F, 2)
        gain_out : tensor, shape (n, M, F)
        """
        e = self.embed(gaussian, log_sigma)
        gain_in = 1 + self.gain_in(e).view(-1, self.features, self.inputs)
        return gain_in, self.amplitude(e).view(-1, self.features, N_AMPLITUDES), self._output_gains(e, gain_in)

    def _output_gains(self, e: Tensor, gain_in: Tensor) -> Tensor:
        return 1 + self.gain_out(e).view(-1, self.outputs, self.features)

    def kernels(self, gain_in: Tensor, gain_out: Tensor) -> tuple[Tensor, Tensor]:
        """Effective kernels A (n, F, J, T) and B (n, M, F, T) with their gains."""
        return self.A * gain_in[..., None], self.output_kernels() * gain_out[..., None]

    def filters(self, gaussian: GaussianReference, v: Tensor, W: Tensor) -> tuple[Tensor, Tensor]:
        """Input filters (n, J, *lattice), output filters (n, M, *lattice) at v = sigma^2; the first output is flat."""
        G = gaussian.G
        inner = torch.stack([torch.rsqrt(G + v), 2 * W, torch.rsqrt(gaussian.g_mean + v).expand_as(W)], dim=1)
        scale = 1 / (0.3 + v.sqrt())
        outer = torch.stack([scale.expand_as(W), scale * W], dim=1)
        return inner[:, : self.inputs], outer[:, : self.outputs]

    def screen(self, gaussian: GaussianReference, C: Tensor) -> Tensor | None:
        """Multiplier D (n, *lattice) of all that is local in R (theory page, eq. 15d); None: there is no screening.

        Around the two vacua of a broken phase it is always off, as is `order`, and in an external field.
        """
        is_off = gaussian.has_field or (gaussian.vacuum and not gaussian.one_sided)
        return screen(gaussian, C) if self.screened and not is_off else None

    def kappa(
        self,
        gaussian: GaussianReference,
        inner: Tensor,
        outer: Tensor,
        C: Tensor,
        kernels_in: Tensor,
        kernels_out: Tensor,
    ) -> Tensor:
        r"""``kappa_f = V^-1 sum_k A_f(k) B_f(k) C(k)``, shape (n, F) (theory page, eq. 15).

        Evaluated on the lattice: products of kernels times the correlation of the filters at
        the sum of their offsets.
        """
        product = inner[:, :, None] * (outer * C[:, None])[:, None]  # (n, J, M, *lattice)
        lattice = gaussian.to_distances(product).flatten(3)
        taps = self.taps(gaussian)
        origin_taps = taps[:, 0]  # site index of each offset seen from the origin
        pair = taps[:, origin_taps]  # (T, T): origin + offset_t + offset_t'
        Q = lattice[..., pair]  # (n, J, M, T, T)
        return torch.einsum("nfjt,nmfs,njmts->nf", kernels_in, kernels_out, Q)

    def centre_on(self, actions: Sequence[Phi4]) -> None:
        """Count couplings from their mean over `actions`; see `Embedding.centre_on`."""
        self.embed.centre_on(actions)

"""The Numba core as a differentiable torch function (CPU); equal to `core.ridge_core` to float32 rounding."""

import functools
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..._kernels import ridge as kernels
from ..._kernels.threads import over_groups
from ...types import Shape

__all__ = ["fused_core"]


@functools.lru_cache(maxsize=32)
def lattice_frame(shape: Shape, offsets: tuple[Shape, ...]) -> kernels.Frame:
    """Index tables of a lattice for a kernel with these offsets; kept for later calls."""
    return kernels.frame(shape, offsets)


def _work(fields: Tensor) -> int:
    return 200 * fields.shape[0] * fields.shape[2]  # a site of the core costs about 200 of a plain update


_calls: dict[
    tuple[int, ...], int
] = {}  # number of the last forward call of each size: whose hidden features the workspace holds


class _Core(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        fields: Tensor,
        kernels_in: Tensor,
        gain_in: Tensor,
        amplitudes: Tensor,
        kernels_out: Tensor,
        gain_out: Tensor,
        frame: kernels.Frame,
    ) -> Tensor:
        tensors = (fields, kernels_in, gain_in, amplitudes, kernels_out, gain_out)
        arrays = [tensor.detach().contiguous().numpy() for tensor in tensors]
        n, features = len(fields), len(kernels_in)
        hidden = _workspace((n, features, len(frame.inside)))
        out = np.empty((n, kernels_out.shape[0], fields.shape[2]), np.float32)
        over_groups(kernels.forward, n, _work(fields), *arrays, *frame, hidden, out)
        ctx.arrays, ctx.frame, ctx.hidden = arrays, frame, hidden
        ctx.call = _calls[hidden.shape] = _calls.get(hidden.shape, 0) + 1
        return torch.from_numpy(out)

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.call != _calls[ctx.hidden.shape]:
            raise RuntimeError("fused_core was called again before this call was differentiated; its workspace is gone")
        fields, kernels_in, gain_in, amplitudes, kernels_out, gain_out = ctx.arrays
        n = len(fields)
        d_in, d_out_kernels = _workspace((n, *kernels_in.shape)), _workspace((n, *kernels_out.shape), 1)
        d_gain_in, d_amplitudes, d_gain_out = (np.empty_like(a) for a in (gain_in, amplitudes, gain_out))
        results = d_in, d_gain_in, d_amplitudes, d_out_kernels, d_gain_out
        upstream = d_out.contiguous().numpy()
        over_groups(kernels.backward, n, _work(fields), *ctx.arrays, *ctx.frame, ctx.hidden, upstream, *results)
        gradients = d_in.sum(axis=0), d_gain_in, d_amplitudes, d_out_kernels.sum(axis=0), d_gain_out
        return None, *(torch.from_numpy(g) for g in gradients), None


@functools.lru_cache(maxsize=16)
def _workspace(shape: Shape, _which: int = 0) -> NDArray[np.float32]:
    # kept from step to step: fresh pages for megabytes would cost as much as the arithmetic
    return np.empty(shape, np.float32)


def fused_core(
    fields: Tensor,
    kernels_in: Tensor,
    gain_in: Tensor,
    amplitudes: Tensor,
    kernels_out: Tensor,
    gain_out: Tensor,
    shape: Shape,
    offsets: tuple[Shape, ...],
) -> Tensor:
    """The ridge core on the CPU for training; gradients flow to kernels, gains and amplitudes, not to the fields.

    One call has to be differentiated before the next one of the same size: the hidden features live in
    a workspace that both share.

    Parameters
    ----------
    fields : tensor, shape (n, 3, V), float32, CPU
        Without gradient: training data.
    kernels_in, kernels_out : tensor, shape (F, 3, T), (2, F, T)
        Shared by all configurations.
    gain_in, amplitudes, gain_out : tensor, shape (n or 1, F, 3), (n or 1, F, 2), (n or 1, 2, F)
    shape : tuple of int
    offsets : tuple of tuple of int

    Returns
    -------
    tensor, shape (n, 2, V), float32

    Raises
    ------
    RuntimeError
        On the way back, if another call of the same size came in between.
    """
    n = len(fields)
    gain_in, amplitudes, gain_out = (t.expand(n, *t.shape[1:]) for t in (gain_in, amplitudes, gain_out))
    return _Core.apply(fields, kernels_in, gain_in, amplitudes, kernels_out, gain_out, lattice_frame(shape, offsets))

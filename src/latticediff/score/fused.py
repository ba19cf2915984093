"""The Numba core as a differentiable torch function (CPU); equal to `ridge.ridge_core` to float32 rounding."""

import functools

import numpy as np
import torch

from .._kernels import ridge as kernels
from .._kernels.threads import over_groups

__all__ = ["fused_core"]


@functools.lru_cache(maxsize=32)
def lattice_frame(shape, offsets):
    """Index tables of a lattice for a kernel, made once."""
    return kernels.frame(shape, offsets)


def _work(fields):
    return 200 * fields.shape[0] * fields.shape[2]  # a site of the core costs about 200 of a plain update


class _Core(torch.autograd.Function):
    @staticmethod
    def forward(ctx, fields, kernels_in, amplitudes, kernels_out, frame):
        n, features = fields.shape[0], kernels_in.shape[1]
        arrays = [t.detach().contiguous().numpy() for t in (fields, kernels_in, amplitudes, kernels_out)]
        hidden = np.empty((n, features, len(frame.inside)), np.float32)
        out = np.empty((n, kernels_out.shape[1], fields.shape[2]), np.float32)
        over_groups(kernels.forward, n, _work(fields), *arrays, *frame, hidden, out)
        ctx.arrays, ctx.frame, ctx.hidden = arrays, frame, hidden
        return torch.from_numpy(out)

    @staticmethod
    def backward(ctx, d_out):
        fields, kernels_in, amplitudes, kernels_out = ctx.arrays
        gradients = [np.empty_like(a) for a in (kernels_in, amplitudes, kernels_out)]
        upstream = d_out.contiguous().numpy()
        over_groups(
            kernels.backward, len(fields), _work(fields), *ctx.arrays, *ctx.frame, ctx.hidden, upstream, *gradients
        )
        return None, *(torch.from_numpy(g) for g in gradients), None


def fused_core(fields, kernels_in, amplitudes, kernels_out, shape, offsets):
    """The ridge core on the CPU for training; gradients flow to kernels and amplitudes, not to the fields.

    Parameters
    ----------
    fields : tensor, shape (n, 3, V), float32, CPU
        Without gradient: training data.
    kernels_in, amplitudes, kernels_out : tensor, float32
        Per configuration; see `ridge.ridge_core`.
    shape : tuple of int
    offsets : tuple of tuple of int
    """
    n = fields.shape[0]
    effective = [t.expand(n, *t.shape[1:]) for t in (kernels_in, amplitudes, kernels_out)]
    return _Core.apply(fields, *effective, lattice_frame(shape, offsets))

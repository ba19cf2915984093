"""The core of a ridge network in plain torch: any dimension, any device, with the slopes that the trace wants."""

import torch
from torch import Tensor

__all__ = ["hidden", "ridge_core", "spread_out"]


def hidden(fields: Tensor, kernels_in: Tensor, taps: Tensor) -> Tensor:
    """``h_f = sum_j A_fj * u_j``, (n, F, V); arguments as `ridge_core`."""
    columns = fields[:, :, taps].flatten(1, 2)  # (n, J T, V)
    return torch.matmul(kernels_in.flatten(2), columns)


def spread_out(g: Tensor, kernels_out: Tensor, taps: Tensor) -> Tensor:
    """``sum_f B_mf * g_f``, (n, M, V), of features (n, F, V); arguments as `ridge_core`."""
    # out_m(x) = sum_t P_mt(x + offset_t) with P_mt = sum_f B_mft g_f
    P = torch.matmul(kernels_out.transpose(-1, -2).flatten(1, 2), g).unflatten(1, (kernels_out.shape[1], -1))
    index = taps.expand(len(g), kernels_out.shape[1], -1, -1)
    return torch.gather(P, 3, index).sum(2)


def ridge_core(
    fields: Tensor,
    kernels_in: Tensor,
    amplitudes: Tensor,
    kernels_out: Tensor,
    taps: Tensor,
    slopes: bool = False,
    by_site: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """``sum_f B_f * g_f(A_f * u)`` by gathers and matrix products; any dimension, any device.

    Parameters
    ----------
    fields : tensor, shape (n, J, V)
    kernels_in : tensor, shape (n or 1, F, J, T)
    amplitudes : tensor, shape (n or 1, F, 2)
    kernels_out : tensor, shape (n or 1, M, F, T)
    taps : tensor, shape (T, V), int64
        ``taps[t, y]`` is the site y + offset_t.
    slopes : bool
        Also return ``sum_y g_f'(h_f(y))``.
    by_site : tensor, shape (n or 1, F, 2, V), optional
        Added to the amplitudes at every site.

    Returns
    -------
    out : tensor, shape (n, M, V)
    slopes : tensor, shape (n, F), or None
    """
    h = hidden(fields, kernels_in, taps)
    r2 = 1 / (1 + h * h)
    r = r2.sqrt()
    a1, a2 = amplitudes[..., 0:1], amplitudes[..., 1:2]
    if by_site is not None:
        a1, a2 = a1 + by_site[..., 0, :], a2 + by_site[..., 1, :]
    g = h * (a1 * r + a2 * (1 - r2))
    out = spread_out(g, kernels_out, taps)
    if not slopes:
        return out, None
    slope = a1 * r * r2 + a2 * (1 + r2 - 2 * r2 * r2)
    return out, slope.sum(-1)

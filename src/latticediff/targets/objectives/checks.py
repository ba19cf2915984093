"""What every objective refuses at its door."""

import torch
from torch import Tensor

from ...errors import UserError

__all__ = ["check_samples", "noise_levels"]


def check_samples(name: str, x: Tensor) -> Tensor:
    """`x` itself, a floating-point tensor (n, *lattice) with at least one configuration and only finite values.

    Raises
    ------
    UserError
        Anything else; `name` is what the message calls it.
    """
    if not torch.is_tensor(x) or not x.is_floating_point():
        raise UserError(f"{name} is {type(x).__name__}; expected a floating-point tensor of shape (n, *lattice)")
    if x.ndim < 2 or x.numel() == 0:
        raise UserError(f"{name} has shape {tuple(x.shape)}; expected (n, *lattice) with at least one configuration")
    if not bool(torch.isfinite(x).all()):
        raise UserError(f"{name} has values that are not finite; find out where they come from")
    return x


def noise_levels(sigma: float | Tensor, x: Tensor) -> Tensor:
    """`sigma`, a number or (n,), as a tensor (n,) of the dtype and device of `x`.

    Raises
    ------
    UserError
        Another shape, or values that are negative or not finite.
    """
    levels = torch.as_tensor(sigma, dtype=x.dtype, device=x.device)
    if levels.ndim > 1 or (levels.ndim == 1 and len(levels) not in (1, len(x))):
        raise UserError(f"sigma has shape {tuple(levels.shape)}; expected a number or ({len(x)},)")
    if not bool((torch.isfinite(levels) & (levels >= 0)).all()):
        raise UserError("sigma has values that are negative or not finite; expected noise levels of at least 0")
    return levels.expand(len(x)) if levels.ndim else levels.repeat(len(x))


def per_field(values: Tensor, x: Tensor) -> Tensor:
    """Numbers (n,) as (n, 1, ..., 1), to multiply `x` (n, *lattice)."""
    return values.reshape(-1, *([1] * (x.ndim - 1)))

"""Filters that are diagonal in momentum, in the real Fourier basis of a periodic lattice."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..fourier import basis_from_momenta, exchange, oblique_pairs, real_fourier
from ..types import FloatArray, Shape
from .exchange import Exchange

__all__ = ["Filters"]

DENSE = 128  # sites up to which one matrix for all axes beats one per axis


class Filters:
    """The real Fourier basis of a lattice on a device, and what is done in it.

    A *multiplier* is an even function of momentum given on the basis, (..., *lattice); *modes* are coefficients in it.

    Parameters
    ----------
    shape : tuple of int
    is_oblique : bool
        The unit vectors are not orthogonal, and functions of the basis are combined in pairs
        (`latticediff.fourier.oblique_pairs`).
    device : torch.device or str
    dtype : torch.dtype
    """

    def __init__(self, shape: Shape, is_oblique: bool, device: torch.device | str, dtype: torch.dtype) -> None:
        self.shape, self.is_oblique = shape, is_oblique
        self.ndim, self.volume = len(shape), math.prod(shape)
        self.dtype, self.device = dtype, torch.device(device)
        bases: list[Any] = [real_fourier(extent) for extent in self.shape]
        pairs = oblique_pairs(self.shape, self.is_oblique)
        if self.volume <= DENSE:  # one product for all axes
            dense = functools.reduce(np.kron, bases)
            bases, pairs = [exchange(dense.T, pairs).T], pairs[:0]
        self._bases = [torch.tensor(basis).to(self.device, dtype) for basis in bases]
        self._exchange = Exchange(pairs, self.volume, self.device, dtype)
        self._cosines: dict[Any, Any] = {}

    def _on_basis(self, function: FloatArray) -> Tensor:
        return torch.as_tensor(basis_from_momenta(function, self.shape, self.is_oblique))

    def expand(self, values: Tensor) -> Tensor:
        """Numbers (n,) as (n, 1, ..., 1), to multiply fields or multipliers (n, *lattice)."""
        return values.reshape(-1, *([1] * self.ndim))

    def to_modes(self, x: Tensor) -> Tensor:
        """Coefficients (..., *lattice) of fields (..., *lattice) in the real Fourier basis."""
        return self._exchange(self._transform(x, [basis.T for basis in self._bases]), self.ndim)

    def from_modes(self, modes: Tensor) -> Tensor:
        """Fields (..., *lattice) of coefficients (..., *lattice); the inverse of `to_modes`."""
        return self._transform(self._exchange(modes, self.ndim), self._bases)

    def _transform(self, x: Tensor, matrices: Sequence[Tensor]) -> Tensor:
        if len(matrices) < self.ndim:
            return (x.flatten(-self.ndim) @ matrices[0]).reshape(x.shape)
        for matrix in reversed(matrices):
            # the transformed axis goes to the front; after all of them the order is the old one
            x = torch.movedim(x @ matrix, -1, -self.ndim)
        return x

    def filter(self, x: Tensor, multiplier: Tensor) -> Tensor:
        """``f * x``: fields (..., *lattice) multiplied by an even function of momentum, given on the basis."""
        return self.from_modes(self.to_modes(x) * multiplier)

    def at_origin(self, multiplier: Tensor) -> Tensor:
        """``V^-1 sum_k f(k)``, the value at distance zero, (...), of multipliers (..., *lattice)."""
        return multiplier.flatten(-self.ndim).mean(-1)

    def to_distances(self, multiplier: Tensor) -> Tensor:
        """``V^-1 sum_k f(k) cos(k r)`` at every distance r, (..., *lattice), of multipliers (..., *lattice)."""
        delta = torch.zeros(self.shape, dtype=multiplier.dtype, device=multiplier.device)
        delta[(0,) * self.ndim] = 1
        return self.from_modes(multiplier * self.to_modes(delta))

    def at_distances(self, multiplier: Tensor, sites: Tensor) -> Tensor:
        """`to_distances` at a few sites only: (..., *lattice) -> (..., n_sites), ``sites`` being flat indices."""
        key = tuple(sites.tolist())
        if key not in self._cosines:
            deltas = torch.zeros(len(key) + 1, self.volume, dtype=self.dtype, device=self.device)
            deltas[torch.arange(len(key) + 1), [0, *key]] = 1
            modes = self.to_modes(deltas.unflatten(1, self.shape)).flatten(1)
            self._cosines[key] = (modes[0] * modes[1:]).T.contiguous()
        return multiplier.flatten(-self.ndim) @ self._cosines[key]

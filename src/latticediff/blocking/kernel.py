r"""Block spins as a linear map of the fine field.

.. math:: \Phi_X = \zeta \sum_r w_r\, \phi_{bX + r}, \qquad \sum_r w_r = 1,

with the scale b, the same along every axis, and a factor :math:`\zeta` for the anomalous dimension of the field or for
another normalisation of the coarse theory. *average*: :math:`w_r = b^{-d}` on the block :math:`0 \le r_\mu < b`;
*decimation*: :math:`w_0 = 1`. Kernels that reach over the block are given by their weights.
"""

import itertools
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from ..errors import FileError, UserError
from ..lattice import check_shape, momenta
from ..types import Description, Extents, FloatArray, PathLikeStr, Shape
from ..untrusted import parse_json, printable, regular_file

__all__ = ["Blocking", "read_blocking"]

_LARGEST_FILE = 2**20  #: bytes of a file of weights


class Blocking:
    """A block-spin transformation; see the module's formula.

    Parameters
    ----------
    weights : dict of tuple of int to float
        w_r by r, which may be negative: sites beyond the block.
    factor : float
        zeta, not 0.
    scale : int
        b, at least 2.

    Raises
    ------
    UserError
        No weights, offsets of different dimension, numbers that are not finite, a sum that is not 1, or a `factor` or
        `scale` that cannot be.
    """

    def __init__(self, weights: Mapping[tuple[int, ...], float], factor: float = 1.0, scale: int = 2) -> None:
        self.weights = {tuple(map(int, r)): float(w) for r, w in weights.items()}
        self.factor, self.scale = float(factor), int(scale)
        if len({len(r) for r in self.weights}) != 1:
            raise UserError("a blocking kernel wants at least one weight, with offsets of one dimension")
        if not all(map(math.isfinite, (*self.weights.values(), self.factor))) or self.factor == 0:
            raise UserError(f"a blocking kernel has weights {self.weights} and the factor {factor}; expected numbers")
        if self.scale < 2:
            raise UserError(f"scale = {scale}; expected a block of at least 2 sites along every axis")
        if abs((total := math.fsum(self.weights.values())) - 1) > 1e-6:
            raise UserError(f"the weights of the blocking kernel add up to {total:g}; expected 1, with a factor beside")

    @classmethod
    def average(cls, ndim: int, factor: float = 1.0, scale: int = 2) -> Self:
        """The mean over the block."""
        sites = list(itertools.product(range(scale), repeat=ndim))
        return cls(dict.fromkeys(sites, 1 / len(sites)), factor, scale)

    @classmethod
    def decimation(cls, ndim: int, factor: float = 1.0, scale: int = 2) -> Self:
        """One site of every block."""
        return cls({(0,) * ndim: 1.0}, factor, scale)

    @property
    def ndim(self) -> int:
        """Dimensions of the lattice."""
        return len(next(iter(self.weights)))

    def coarse_shape(self, shape: Extents) -> Shape:
        """Extents of the coarse lattice; raises `UserError` if those of the fine one are no multiples of the scale."""
        shape = check_shape(shape, self.ndim)
        if any(extent % self.scale for extent in shape):
            raise UserError(
                f"lattice {shape} cannot be cut into blocks of {self.scale}; take multiples of {self.scale}"
            )
        return tuple(extent // self.scale for extent in shape)

    def __call__(self, phi: FloatArray) -> FloatArray:
        """Coarse fields (n, *coarse) of fine ones (n, *lattice)."""
        coarse = self.coarse_shape(phi.shape[1:])
        axes, every = tuple(range(1, phi.ndim)), (slice(None), *[slice(None, None, self.scale)] * self.ndim)
        total = np.zeros((len(phi), *coarse))
        for r, weight in self.weights.items():
            total += weight * np.roll(phi, [-step for step in r], axes)[every]
        return self.factor * total

    def adjoint(self, coarse: FloatArray) -> FloatArray:
        """The transposed map: fine fields (n, *lattice) of coarse ones (n, *coarse)."""
        fine = np.zeros((len(coarse), *(extent * self.scale for extent in coarse.shape[1:])))
        spread = np.zeros_like(fine)
        spread[(slice(None), *[slice(None, None, self.scale)] * self.ndim)] = coarse
        axes = tuple(range(1, fine.ndim))
        for r, weight in self.weights.items():
            fine += weight * np.roll(spread, r, axes)
        return self.factor * fine

    def power(self, shape: Extents) -> FloatArray:
        r""":math:`|\zeta \sum_r w_r e^{ikr}|^2` on the full momentum grid of the fine lattice, (*lattice), float64.

        Raises
        ------
        UserError
            It is not even in every component of k: the kernel is not symmetric under reflections of an axis.
        """
        k = momenta(shape)
        symbol: Any = sum(
            weight * np.exp(1j * sum(step * wave for step, wave in zip(r, k, strict=True)))
            for r, weight in self.weights.items()
        )
        power = np.broadcast_to(self.factor**2 * np.abs(symbol) ** 2, tuple(shape))
        for axis in range(self.ndim):
            mirrored = np.roll(np.flip(power, axis), 1, axis)
            if np.abs(power - mirrored).max() > 1e-12 * power.max():
                raise UserError(
                    f"the blocking kernel is not symmetric under a reflection of axis {axis}; symmetrise it"
                )
        return power

    def describe(self) -> Description:
        """JSON-able: weights by offsets such as ``"0,1"``, factor, scale."""
        weights = {",".join(map(str, r)): weight for r, weight in self.weights.items()}
        return {"weights": weights, "factor": self.factor, "scale": self.scale}


def read_blocking(kind: PathLikeStr, ndim: int, factor: float = 1.0, scale: int = 2) -> Blocking:
    """The kernel that a word or a file names.

    Parameters
    ----------
    kind : str or path-like
        ``average``, ``decimation``, or a JSON file with ``"weights"``: ``{"0,0": 0.787, "1,0": 0.027, ...}``.
    ndim : int
        Dimensions of the lattice.
    factor, scale
        See `Blocking`.

    Raises
    ------
    FileError
        The file is missing or holds no such weights.
    UserError
        As `Blocking`, or weights of another dimension.
    """
    if str(kind) in ("average", "decimation"):
        return getattr(Blocking, str(kind))(ndim, factor, scale)
    path = Path(kind)
    if path.suffix != ".json":
        raise UserError(
            f"the blocking kernel is {str(kind)!r}; expected average, decimation, or a .json file of weights"
        )
    if regular_file(path, "a .json file of weights") > _LARGEST_FILE:
        raise FileError(f"{path} is too large for the weights of a blocking kernel")
    try:
        told = parse_json(path.read_text(encoding="utf-8"), str(path))
        weights = {tuple(int(step) for step in key.split(",")): _number(w) for key, w in told["weights"].items()}
        if others := sorted(set(told) - {"weights"}):
            raise ValueError(f"it says {', '.join(others)} too; --factor and --scale are given beside the file")
        if len(weights) != len(told["weights"]):
            raise ValueError("an offset stands there twice")
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError, AttributeError) as exc:
        raise FileError(
            f'{path} holds no weights of a blocking kernel, {{"weights": {{"0,0": 1.0}}}}: {printable(exc, 100)}'
        ) from None
    blocking = Blocking(weights, factor, scale)
    if blocking.ndim != ndim:
        raise UserError(f"{path} has offsets of {blocking.ndim} dimensions; the lattice has {ndim}")
    return blocking


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{value!r} is no number")
    return float(value)

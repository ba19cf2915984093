"""Exchange of mode pairs of an oblique lattice (`latticediff.fourier.oblique_pairs`), configurations interleaved."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..types import IntArray
from .compile import cached, specialise

__all__ = ["exchange", "exchange_double"]

root_half = np.float32(0.5**0.5)


def _exchange(pairs: IntArray, lanes: int, x: NDArray[Any]) -> None:
    """Sum and difference over the root of two in place of each pair, `lanes` fields innermost; its own inverse."""
    for p in range(pairs.shape[0]):
        first, second = pairs[p, 0] * lanes, pairs[p, 1] * lanes
        for lane in range(lanes):
            a, b = x[first + lane], x[second + lane]
            x[first + lane], x[second + lane] = root_half * (a + b), root_half * (a - b)


exchange = cached(_exchange)  #: of float32 fields
exchange_double = specialise(_exchange, {"root_half": 0.5**0.5}, "double")

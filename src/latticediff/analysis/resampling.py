r"""Blocked jackknife and bootstrap: slower cousins of the Gamma method that need no gradient.

Consecutive entries are averaged in blocks; blocks much longer than tau_int are independent. A block
scan shows the error growing with the block length until it levels off at
:math:`\sqrt{2 \tau_{int} \Gamma(0) / N}`; the bias at block length B is about tau_int / B.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from ..errors import UserError
from ..host import numpy_defaults
from ..types import FloatArray
from .chains import as_chains
from .gamma import tau_int
from .result import Estimate

__all__ = ["block_means", "block_scan", "bootstrap", "jackknife"]


@numpy_defaults()
def block_means(series: ArrayLike, block: int, name: str = "series") -> FloatArray:
    """Means of consecutive blocks of every chain; entries at the start that fill no block are left out.

    Parameters
    ----------
    series : array_like, shape (n,) or (n_chains, n)
    block : int
        Entries per block.

    Returns
    -------
    ndarray, shape (n_blocks,)
        No block spans two chains.

    Raises
    ------
    UserError
        Fewer than two blocks in all, or a block below 1.
    """
    values, lengths = as_chains(series, name)
    if block < 1:
        raise UserError(f"block is {block}; expected at least 1")
    parts = []
    for row, length in zip(values, lengths, strict=True):
        kept = row[length % block : length]
        parts.append(kept.reshape(-1, block).mean(axis=1))
    means = np.concatenate(parts)
    if len(means) < 2:
        raise UserError(f"{name} has {len(means)} blocks of {block} entries; expected at least 2: shorten them")
    return means


def _default_block(series: Sequence[ArrayLike], name: str) -> int:
    """Eight tau_int of the slowest input, and not above a tenth of a chain."""
    longest = max(tau_int(a, name=name).value for a in series)
    shortest = min(int(as_chains(a)[1].min()) for a in series)
    return max(1, min(math.ceil(8 * longest), shortest // 10))


def _blocked(series: Sequence[ArrayLike], block: int | None, name: str) -> tuple[FloatArray, int]:
    """Means of blocks, (k, n_blocks), of k series over the same configurations, and the length of a block."""
    _refuse_none(series, name)
    block = _default_block(series, name) if block is None else int(block)
    means = [block_means(a, block, name) for a in series]
    if len({len(column) for column in means}) > 1:
        found = ", ".join(str(len(column)) for column in means)
        raise UserError(f"{name}: series have {found} blocks of {block}; expected the same configurations in each")
    return np.array(means), block


def _refuse_none(series: Sequence[ArrayLike], name: str) -> None:
    if len(series) == 0:
        raise UserError(f"{name}: no series given; expected one for each argument of the function")


@numpy_defaults()
def jackknife(
    f: Callable[..., float], series: Sequence[ArrayLike], block: int | None = None, name: str = "series"
) -> Estimate:
    r"""``F(<a_1>, ...)`` with the blocked jackknife error and first-order bias removed.

    Parameters
    ----------
    f : callable
        Takes k floats (the means), returns a float.
    series : sequence of k arrays
        Each (n,) or (n_chains, n).
    block : int, optional
        Entries per block; eight tau_int of the slowest input by default.

    Returns
    -------
    Estimate
        value ``B F - (B - 1) mean_i F_i`` over the B blocks (bias of order 1/N removed), n the number of blocks.

    Raises
    ------
    UserError
        As `block_means`; no series, or series of different lengths; a constant one when `block` is not given.
    """
    blocks, _ = _blocked(series, block, name)
    n = blocks.shape[1]
    left_out = (blocks.sum(axis=1, keepdims=True) - blocks) / (n - 1)
    replicas = np.array([f(*column) for column in left_out.T])
    error = math.sqrt((n - 1) * replicas.var())
    return Estimate(float(n * f(*blocks.mean(axis=1)) - (n - 1) * replicas.mean()), error, n=n)


@numpy_defaults()
def bootstrap(
    f: Callable[..., float],
    series: Sequence[ArrayLike],
    block: int | None = None,
    n_bootstrap: int = 500,
    rng: np.random.Generator | None = None,
    name: str = "series",
) -> Estimate:
    """``F(<a_1>, ...)`` with the error of a bootstrap over blocks.

    Parameters
    ----------
    f, series, block, name
        As in `jackknife`.
    n_bootstrap : int
        Resamples; the error is known to ``1 / sqrt(2 n_bootstrap)``.
    rng : numpy.random.Generator, optional
        A fixed one by default.

    Returns
    -------
    Estimate
        The value is F at the plain block mean, without bias correction.

    Raises
    ------
    UserError
        As `jackknife`.
    """
    blocks, _ = _blocked(series, block, name)
    n = blocks.shape[1]
    rng = np.random.default_rng(0) if rng is None else rng
    replicas = np.array([f(*blocks[:, rng.integers(n, size=n)].mean(axis=1)) for _ in range(n_bootstrap)])
    return Estimate(float(f(*blocks.mean(axis=1))), float(replicas.std(ddof=1)), n=n)


@numpy_defaults()
def block_scan(
    f: Callable[..., float], series: Sequence[ArrayLike], min_blocks: int = 20, name: str = "series"
) -> list[tuple[int, float, float]]:
    """Jackknife error against block length 1, 2, 4, ...: look for the plateau.

    Parameters
    ----------
    f, series, name
        As in `jackknife`.
    min_blocks : int
        The scan ends where longer blocks would be fewer than this.

    Returns
    -------
    list of tuple (block, error, error_of_error)
        The error of the error is ``error / sqrt(2 (n_blocks - 1))``.

    Raises
    ------
    UserError
        If not even blocks of one entry give `min_blocks` blocks.
    """
    _refuse_none(series, name)
    lengths = as_chains(series[0], name)[1]
    if lengths.sum() < min_blocks:
        raise UserError(f"{name} has {lengths.sum()} entries; a block scan needs at least {min_blocks}")
    scan, block = [], 1
    while (lengths // block).sum() >= min_blocks:
        estimate = jackknife(f, series, block, name)
        scan.append((block, estimate.error, estimate.error / math.sqrt(2 * (estimate.n - 1))))
        block *= 2
    return scan

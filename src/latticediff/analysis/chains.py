"""The door for series: what is averaged is a rectangle of chains of finite numbers, time along the second axis."""

import math

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import real_array
from ..errors import UserError
from ..types import FloatArray, IntArray

__all__ = ["LARGEST", "SMALLEST", "as_chains"]

#: range of the largest magnitude in a series; beyond, sums of squares over 1e8 entries overflow, or vanish
SMALLEST, LARGEST = 1e-140, 1e145


def as_chains(series: ArrayLike, name: str = "series") -> tuple[FloatArray, IntArray]:
    """Rectangular array of chains and their lengths; shorter chains are padded with zeros.

    Parameters
    ----------
    series : array_like, shape (n,) or (n_chains, n), or a list of 1D arrays of different lengths
    name : str
        What messages call the series.

    Returns
    -------
    values : ndarray, shape (n_chains, n_longest), float64
    lengths : ndarray, shape (n_chains,), int

    Raises
    ------
    UserError
        Fewer than two entries in a chain, more than two axes, a value that is no finite real number or so large that
        its square is none, none above 1e-140 but zero, or time along the first axis, where that can be told.
    """
    if isinstance(series, (list, tuple)) and len({np.size(chain) for chain in series}) > 1:
        chains = [real_array(chain, name, booleans=True) for chain in series]
        if any(chain.ndim != 1 for chain in chains):
            raise UserError(f"{name} is a list of {[chain.ndim for chain in chains]}-dimensional arrays; expected 1D")
        lengths = np.array([len(chain) for chain in chains])
        values = np.zeros((len(chains), lengths.max()))
        for row, chain in zip(values, chains, strict=True):
            row[: len(chain)] = chain
    else:
        values = real_array(series, name, booleans=True)
        if values.ndim not in (1, 2) or values.size == 0:
            raise UserError(f"{name} has shape {values.shape}; expected (n,) or (n_chains, n) with entries in it")
        values = np.atleast_2d(values)
        lengths = np.full(len(values), values.shape[1])
    if lengths.min() < 2:
        raise UserError(
            f"{name} has a chain of {lengths.min()} entries (axes are n_chains, n);"
            " an error needs at least 2, better 100 tau_int"
        )
    if not np.isfinite(values).all():
        raise UserError(f"{name} has a value that is not finite; find the damaged configuration before averaging")
    largest = float(np.abs(values).max())
    if largest > LARGEST or 0 < largest < SMALLEST:
        raise UserError(
            f"{name} has values of up to {largest:.3g}, whose squares leave the range of float64; expected"
            f" {SMALLEST:g} to {LARGEST:g}: find what blew up, or measure in other units"
        )
    if values.shape[0] > values.shape[1]:
        _refuse_swapped_axes(values, lengths, name)
    return values, lengths


def _refuse_swapped_axes(values: FloatArray, lengths: IntArray, name: str) -> None:
    """Refuse (n, n_chains), which shows where neighbouring rows are correlated and neighbours within a row are not.

    Rows are independent chains, in whatever order, so neighbours among them are not correlated but by chance; in
    time they may be. An array laid the other way shows the opposite, and would be given tau_int = 1/2.
    """
    n_chains, n = values.shape
    if lengths.min() != n:
        return
    rows = values - values.mean(axis=0)  # what all chains share at one time is no likeness of neighbours
    times = values - values.mean()
    size, spread = np.vdot(rows, rows), np.vdot(times, times)
    if not size > 1e-26 * np.vdot(values, values):
        return
    along_rows = np.vdot(rows[1:], rows[:-1]) / size
    along_time = np.vdot(times[:, 1:], times[:, :-1]) / spread * n / (n - 1)
    # 8 sigma of independent entries, a false alarm in 1e15; correlations in time cannot feign it: they would be larger
    if along_rows > max(8 / math.sqrt(values.size), 2 * along_time):
        raise UserError(
            f"{name} has shape {values.shape}, read as (n_chains, n) = {n_chains} chains of {n} entries; but"
            f" neighbouring chains are correlated ({along_rows:.2f}) and neighbouring entries not ({along_time:.2f}):"
            " pass its transpose, chains along the first axis and Monte Carlo time along the second"
        )

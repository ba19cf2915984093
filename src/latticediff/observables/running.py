"""Means with errors in bounded memory, for arrays too large to keep as series: G(k), correlators.

Samples go into bins; when there are too many bins, neighbours are merged and the bin size doubles.
The bins end up much longer than the autocorrelation time, so a jackknife over them gives errors.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import real_array
from ..errors import UserError
from ..types import FloatArray

__all__ = ["RunningMean"]


LARGEST = 1e145  #: magnitude of a sample; the errors are sums of squares


class RunningMean:
    """Mean of a stream of arrays, with binned jackknife errors.

    Parameters
    ----------
    n_bins : int
        Bins kept at most are twice this; even, at least 2.

    Raises
    ------
    UserError
        If `n_bins` is too small or odd.
    """

    def __init__(self, n_bins: int = 32) -> None:
        if n_bins < 2 or n_bins % 2:
            raise UserError(f"n_bins is {n_bins}; expected an even number of at least 2")
        self.n_bins = n_bins
        self.bin_size = 1  #: samples per full bin
        self._bins: list[FloatArray] = []
        self._open: Any = None
        self._filled = 0
        self._total: Any = None
        self.count = 0

    def add(self, samples: ArrayLike) -> None:
        """Take samples in Monte Carlo order.

        Parameters
        ----------
        samples : ndarray, shape (n, ...)
            For several chains average over chains first: bins are consecutive in Monte Carlo time.

        Raises
        ------
        UserError
            If the trailing shape changes, or a value is not finite or so large that its square is not.
        """
        rows: FloatArray = real_array(samples, "sample", booleans=True)
        if not np.isfinite(rows).all():
            raise UserError("a sample is not finite; the ensemble is damaged or its sampler diverged")
        if (largest := float(np.abs(rows).max(initial=0))) > LARGEST:
            raise UserError(
                f"a sample is {largest:.3g} in magnitude, whose square overflows; expected at most {LARGEST:g}: find"
                " what blew up, or measure in other units"
            )
        if self._total is None:
            self._total = np.zeros(rows.shape[1:])
            self._open = np.zeros(rows.shape[1:])
        if rows.shape[1:] != self._total.shape:
            raise UserError(f"a sample has shape {rows.shape[1:]}; the ones before it have {self._total.shape}")
        self._total += rows.sum(axis=0)
        self.count += len(rows)
        start = 0
        while start < len(rows):
            stop = min(len(rows), start + self.bin_size - self._filled)
            self._open += rows[start:stop].sum(axis=0)
            self._filled += stop - start
            start = stop
            if self._filled == self.bin_size:
                self._close_bin()

    def _close_bin(self) -> None:
        self._bins.append(self._open / self.bin_size)
        self._open, self._filled = np.zeros_like(self._open), 0
        if len(self._bins) == 2 * self.n_bins:
            self._bins = [0.5 * (a + b) for a, b in zip(self._bins[::2], self._bins[1::2], strict=True)]
            self.bin_size *= 2

    @property
    def mean(self) -> FloatArray:
        """Mean over all samples, also those of the unfinished bin; a `UserError` if there are none."""
        if not self.count:
            raise UserError("no sample was added; there is no mean")
        return self._total / self.count

    @property
    def bins(self) -> FloatArray:
        """Means of the full bins, shape (n_full, ...)."""
        return np.array(self._bins)

    def estimate(self, function: Callable[[FloatArray], Any] | None = None) -> tuple[Any, Any]:
        """Mean, or `function` of the mean, with its jackknife error over bins.

        Parameters
        ----------
        function : callable, optional
            Of the mean array; identity by default.

        Returns
        -------
        value, error : ndarray

        Raises
        ------
        UserError
            With fewer than two full bins.
        """
        bins = self.bins
        if len(bins) < 2:
            raise UserError(f"{self.count} samples fill {len(bins)} bins; a jackknife needs 2")
        function = function or (lambda mean: mean)
        left_out = (bins.sum(axis=0) - bins) / (len(bins) - 1)
        pseudo = np.array([function(mean) for mean in left_out])
        error = np.sqrt((len(bins) - 1) * ((pseudo - pseudo.mean(axis=0)) ** 2).mean(axis=0))
        return function(self.mean), error

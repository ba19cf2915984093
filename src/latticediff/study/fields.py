"""What a study keeps of the fields of a chain: the propagator chain by chain, its masses, and one configuration.

Chains are independent, so errors come from their spread, and no series of every momentum has to be kept.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..lattice import planes, volume
from ..observables.derived import effective_mass

if TYPE_CHECKING:
    from ..types import Description, FloatArray

__all__ = ["FieldSums", "effective_masses", "on_axis", "shortened"]

DIGITS = 3  #: of fields that are kept to be looked at, relative to their largest value
LEAST_CHAINS = 8  #: from which on their spread says something


def on_axis(phi: FloatArray) -> FloatArray:
    r"""G(k) = \|sum_x phi(x) exp(-i k x)\|^2 / V for momenta along the longest axes, averaged over these.

    Parameters
    ----------
    phi : ndarray, shape (..., *lattice) with two leading axes, float64

    Returns
    -------
    ndarray, shape (n, n_chains, L // 2 + 1), float64
        k = 2 pi j / L for j = 0 to L // 2.
    """
    axes = tuple(range(2, phi.ndim))
    longest = max(phi.shape[2:])
    found = []
    for axis in axes:
        if phi.shape[axis] == longest:
            line = phi.sum(axis=tuple(other for other in axes if other != axis))
            found.append(np.abs(np.fft.rfft(line)) ** 2)
    total: Any = sum(found)
    return total / (len(found) * volume(phi.shape[2:]))


class FieldSums:
    """Sums of G(k) over stretches of updates, for every chain, and the last configuration of the first one."""

    def __init__(self) -> None:
        self._sums: list[tuple[int, int, FloatArray]] = []  # first update, number of updates, sums (n_chains, n_k)
        self._last: FloatArray | None = None
        self._done = 0

    def add(self, phi: FloatArray) -> None:
        """Take in consecutive updates, (n, n_chains, *lattice)."""
        self._sums.append((self._done, len(phi), on_axis(phi).sum(axis=0)))
        self._done += len(phi)
        self._last = phi[-1, 0].copy()

    def told(self, dropped: int) -> Description:
        """What the result of a cell says, without the stretches that begin in the first `dropped` updates.

        Returns
        -------
        dict
            ``propagator`` and ``effective_mass``: [value, error] by momentum number and by separation, None where
            chains are too few or the correlator does not fall; ``configuration``: rows of a plane of one field.
        """
        assert self._last is not None
        shape = self._last.shape
        kept = [row for row in self._sums if row[0] >= dropped] or self._sums[-1:]
        count = sum(n for _, n, _ in kept)
        total: Any = sum(sums for *_, sums in kept)
        told: Description = {"configuration": shortened(planes(self._last[None]))[0].tolist()}
        if total.shape[0] < LEAST_CHAINS:
            return told
        chains = total / count
        pairs = zip(chains.mean(axis=0), chains.std(axis=0, ddof=1) / math.sqrt(len(chains)), strict=True)
        told["propagator"] = [[float(value), float(error)] for value, error in pairs]
        told["effective_mass"] = effective_masses(chains, max(shape))
        return told


def effective_masses(chains: FloatArray, extent: int) -> list[list[float] | None]:
    """Masses of neighbouring separations of the time-slice correlator, with jackknife errors over the chains.

    Parameters
    ----------
    chains : ndarray, shape (n_chains, extent // 2 + 1), float64
        G(k) of every chain, as of `on_axis`.
    extent : int
        L.

    Returns
    -------
    list
        [value, error] for t = 0 to L // 2 - 1; None from the separation on where the error is as large as the value.
    """
    n = len(chains)
    left_out = (chains.sum(axis=0) - chains) / (n - 1)
    correlators = np.fft.irfft(np.concatenate([chains.mean(axis=0)[None], left_out]), extent, axis=1)
    found: list[list[float] | None] = []
    for t in range(extent // 2):
        masses = np.array([effective_mass(c[t], c[t + 1], t, extent) for c in correlators])
        error = math.sqrt((n - 1) * masses[1:].var())
        known = bool(np.isfinite(masses).all()) and 0 < error < masses[0]
        found.append([float(masses[0]), error] if known and (not found or found[-1]) else None)
    return found


def shortened(fields: FloatArray) -> FloatArray:
    """Fields to be looked at, rounded to `DIGITS` of the largest of them: a tenth of the text in a file."""
    top = float(np.nanmax(np.abs(fields), initial=0.0))
    return np.asarray(np.round(fields, DIGITS - 1 - math.floor(math.log10(top)))) if top else fields

r"""Finite-size scaling: moments of a lattice along a coupling, from all fields of it; `crossings` compares sizes.

A coupling k that the action is linear in, :math:`S = S_0 - k\,A(\phi)`, needs one series more to go from one value to
all others (Ferrenberg and Swendsen, Phys. Rev. Lett. 61 (1988) 2635): with :math:`\log w_k = b + k A`,

.. math:: \langle O \rangle_k = \langle w_k O \rangle / \langle w_k \rangle, \qquad
          b = -k_0 A \ \text{(a chain at } k_0\text{)}, \quad b = -S_0 - \log q \ \text{(draws of a density q)}.

Several sources of one lattice are averaged with weights proportional to their effective numbers at k.
Errors by a bootstrap over blocks, which goes through everything: whatever is computed from row 0, all entries, is
computed from the rows 1 to R, resampled ones, too.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.interpolate import CubicSpline

from ..arrays import real_array
from ..errors import UserError
from ..host import numpy_defaults
from ..types import FloatArray

__all__ = [
    "ISING_RATIO",
    "ISING_XI",
    "QUANTITIES",
    "Curves",
    "Source",
    "curves",
    "roots",
]

#: of the 2D Ising class on a square torus: Salas and Sokal, J. Stat. Phys. 98 (2000) 551 (cond-mat/9904038)
ISING_XI, ISING_RATIO = 0.9050488, 0.856216
QUANTITIES = ("xi", "ratio")  #: xi / L and Q, which cross
LEAST_BLOCKS = 10
LOST = 0.02  #: share of the resampled rows that may have no crossing


@dataclass(frozen=True)
class Source:
    """Fields of one lattice, as far as finite-size scaling needs them; arrays (n_chains, n) in Monte Carlo order."""

    extent: int  #: L of V = L^2 sites
    base: FloatArray  #: b of ``log_weight = b + k A``; -inf counts as weight zero
    conjugate: FloatArray  #: A
    m2: FloatArray  #: m^2, m the mean of the field
    shell: FloatArray  #: ``|phi_k|^2 / V`` at k = 2 pi / L, averaged over the axes
    tau_int: float = 0.5  #: of m^2; only says how sources are averaged


@dataclass(frozen=True)
class Curves:
    """Means of one lattice at several couplings, (1 + n_replicas, n_couplings); row 0 is of all entries."""

    extent: int
    couplings: FloatArray
    m2: FloatArray
    m4: FloatArray
    shell: FloatArray
    ess: FloatArray  #: effective number of entries at each coupling

    def of(self, quantity: str) -> FloatArray:
        """``"xi"`` (xi / L), ``"ratio"`` (Q) or ``"chi"`` (L^2 <m^2>), (1 + n_replicas, n_couplings)."""
        if quantity == "chi":
            return self.extent**2 * self.m2
        if quantity == "ratio":
            return self.m2**2 / self.m4
        if quantity == "xi":
            steepness = np.maximum(self.extent**2 * self.m2 / self.shell - 1, 0)
            return np.sqrt(steepness) / (2 * math.sin(math.pi / self.extent) * self.extent)
        raise UserError(f"quantity is {quantity!r}; expected xi, ratio or chi")

    def spline(self, quantity: str) -> CubicSpline:
        """Of all rows, along the couplings."""
        return CubicSpline(self.couplings, self.of(quantity), axis=1)

    def at(self, quantity: str, couplings: FloatArray, derivative: int = 0) -> FloatArray:
        """Row r at coupling r, (1 + n_replicas,)."""
        found = self.spline(quantity)(couplings, derivative)  # every row at every coupling
        return np.ascontiguousarray(np.diagonal(found))

    def reaches(self, quantity: str, value: float) -> FloatArray:
        """The coupling at which `quantity` is `value`, row by row.

        Raises
        ------
        UserError
            It is not, between the first coupling and the last.
        """
        return roots(self.couplings, self.of(quantity) - value, f"{quantity} of L = {self.extent} and {value:g}")


@numpy_defaults()
def curves(
    sources: Sequence[Source],
    couplings: Any,
    n_blocks: int = 64,
    n_replicas: int = 200,
    rng: np.random.Generator | None = None,
) -> Curves:
    """Means of one lattice along a coupling, from all sources of it.

    Parameters
    ----------
    sources : sequence of Source
        Independent of each other, of one extent.
    couplings : array_like, shape (n_couplings,)
        Ascending, at least four; close enough for a cubic spline.
    n_blocks : int
        Of each source, for the bootstrap: whole chains, or equal stretches of them, which must be much longer than
        tau_int.
    n_replicas : int
    rng : numpy.random.Generator, optional
        A fixed one by default.

    Returns
    -------
    Curves

    Raises
    ------
    UserError
        No sources, or of several extents; series of different shapes, or with NaN; too few entries for the blocks;
        couplings that do not ascend.
    """
    at = real_array(couplings, "couplings", finite=True)
    if at.ndim != 1 or len(at) < 4 or not (np.diff(at) > 0).all():
        raise UserError(f"couplings are {at.tolist()!r}; expected at least four numbers that ascend")
    if not sources or len({source.extent for source in sources}) > 1:
        raise UserError(
            f"sources are of extents {[s.extent for s in sources]}; expected one extent, at least one source"
        )
    rng = np.random.default_rng(0) if rng is None else rng
    total: Any = 0.0
    weight: Any = 0.0
    for source in sources:
        sums, effective = _block_sums(_checked(source), at, n_blocks)
        counts = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), n_replicas)
        rows = np.concatenate([np.ones((1, len(sums)), np.int64), counts])
        resampled = np.einsum("rb,bgk->rgk", rows.astype(np.float64), sums)
        share = effective / (2 * source.tau_int)
        total = total + share[:, None] * resampled[..., 1:] / resampled[..., :1]
        weight = weight + share
    means = total / weight[:, None]
    return Curves(sources[0].extent, at, means[..., 0], means[..., 1], means[..., 2], np.asarray(weight))


def _checked(source: Source) -> list[FloatArray]:
    """base, conjugate, m2 and shell as (n_chains, n), all numbers but for weights of zero."""
    names = "base", "conjugate", "m2", "shell"
    columns = [np.atleast_2d(real_array(getattr(source, name), name)) for name in names]
    if len({column.shape for column in columns}) > 1 or columns[0].ndim != 2:
        raise UserError(
            f"series of L = {source.extent} have shapes {[c.shape for c in columns]}; expected one, (n_chains, n)"
        )
    if source.extent < 2:
        raise UserError(f"extent is {source.extent}; expected at least 2")
    if np.isnan(columns[0]).any() or (columns[0] == np.inf).any() or not np.isfinite(columns[0]).any():
        raise UserError(f"base of L = {source.extent} holds NaN, +inf, or no finite entry; leave such fields out")
    drawn = np.isfinite(columns[0])
    for name, column in zip(names[1:], columns[1:], strict=True):
        if not np.isfinite(column[drawn]).all():
            raise UserError(f"{name} of L = {source.extent} holds numbers that are not finite; leave such fields out")
    # a field without weight may hold anything
    return [columns[0], *(np.where(drawn, column, 0.0) for column in columns[1:])]


def _block_sums(columns: list[FloatArray], at: FloatArray, n_blocks: int) -> tuple[FloatArray, FloatArray]:
    """Sums of w, w m^2, w m^4 and w shell over blocks, (n_blocks, n_couplings, 4), and the ESS at each coupling."""
    base, conjugate, m2, shell = columns
    n_chains, n = base.shape
    if n_chains >= n_blocks:
        label = np.broadcast_to((np.arange(n_chains) * n_blocks // n_chains)[:, None], base.shape)
    else:
        each = -(-n_blocks // n_chains)
        label = np.arange(n_chains)[:, None] * each + np.arange(n) * each // n
    if n_blocks < LEAST_BLOCKS or n * n_chains < n_blocks or (n_chains < n_blocks and n < -(-n_blocks // n_chains)):
        raise UserError(
            f"{n_chains} chains of {n} entries in {n_blocks} blocks; expected at least {LEAST_BLOCKS}, of one or more"
        )
    label, found = np.ravel(label), int(np.max(label)) + 1
    middle = conjugate[np.isfinite(base)].mean()
    sums, effective = np.empty((found, len(at), 4)), np.empty(len(at))
    for g, k in enumerate(at):
        log_weight = base + k * (conjugate - middle)
        w = np.exp(log_weight - log_weight.max())
        effective[g] = w.sum() ** 2 / (w * w).sum()
        for number, column in enumerate((w, w * m2, w * m2 * m2, w * shell)):
            sums[:, g, number] = np.bincount(label, np.ravel(column), found)
    return sums, effective


def roots(at: FloatArray, rows: FloatArray, what: str) -> FloatArray:
    """Where each row is zero: nearest to the zero of row 0, and that nearest to the middle.

    Parameters
    ----------
    at : ndarray, shape (n_couplings,)
        Ascending.
    rows : ndarray, shape (n_rows, n_couplings)
    what : str
        Whose difference the rows are, for the message.

    Returns
    -------
    ndarray, shape (n_rows,)
        NaN for the few rows without a zero.

    Raises
    ------
    UserError
        Row 0, or more than a few of the others, are nowhere zero.
    """
    found = np.full(len(rows), np.nan)
    near = 0.5 * (at[0] + at[-1])
    spline = CubicSpline(at, rows, axis=1)
    for number in range(len(rows)):
        one = CubicSpline.construct_fast(spline.c[..., number], at)
        roots = one.roots(extrapolate=False)
        if len(roots):
            found[number] = roots[np.abs(roots - near).argmin()]
        if number == 0:
            near = found[0]
            if not len(roots):
                break
    lost = np.isnan(found).mean()
    if lost > LOST:
        raise UserError(
            f"{what} do not meet between {at[0]:g} and {at[-1]:g} in {100 * lost:.0f} % of the rows; take couplings"
            " further apart, or more fields"
        )
    return found

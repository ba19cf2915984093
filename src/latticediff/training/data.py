"""Configurations of an ensemble as tensors, split into training and held-out chains."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ..action.site_terms import site_terms
from ..arrays import real_array
from ..errors import UserError
from ..host import torch_defaults
from ..lattice import axis_orders, point_symmetries
from ..types import BoolArray, Extents, FloatArray, IntArray
from .rows import StreamedRows, choose

if TYPE_CHECKING:
    from ..ensemble import Ensemble
    from ..gaussian.contract import UnitVectors


__all__ = ["TrainingData", "by_chain", "chain_numbers", "evenly", "lattice_symmetries"]


class TrainingData:
    """Training and held-out configurations of one ensemble.

    Parameters
    ----------
    phis : array_like, shape (n_cfg, *lattice), or latticediff.ensemble.Ensemble
        Ordered by update, then by chain, as `latticediff.ensemble.Ensemble` gives them. An ensemble is
        read in blocks and must stay open as long as its data are streamed.
    n_chains : int
        Of an array; an ensemble knows its own.
    held_out : float
        Fraction kept apart: whole chains where there are several (they are independent of the
        rest), the end of the only chain otherwise.
    device : str or torch.device
    where : str
        ``"resident"``: on the device from the start; ``"stream"``: read when a batch wants them, the same
        bits; ``"auto"``: resident if they take at most half of the free memory.
    theory : Expandable, optional
        Of the fields to be trained on, where these are not the whole configurations: one with a method ``restrict``,
        such as `latticediff.action.OddSites`.

    Attributes
    ----------
    train, held_out : tensor or StreamedRows, shape (n, *lattice), float32
    judged : tensor or StreamedRows
        The held-out configurations as a proposal is judged by them: of the sites of ``theory.exact`` where the action
        of the theory is not known exactly (`latticediff.fine.CoarseSites`), else `held_out`.
    held_out_chains : int
        Chains that take turns in `held_out`.

    Raises
    ------
    UserError
        Empty or non-finite data, or a split that leaves one side empty.
    """

    @torch_defaults()
    def __init__(
        self,
        phis: ArrayLike | Ensemble,
        n_chains: int = 1,
        held_out: float = 0.125,
        device: torch.device | str = "cpu",
        where: str = "resident",
        theory: Any = None,
    ) -> None:
        source: _Array | _File | _Restricted
        if hasattr(phis, "batches"):
            source = _File(cast("Ensemble", phis))  # nothing else has batches
        else:
            source = _Array(real_array(phis, "training data", dtype=None), n_chains)
        if len(source.shape) < 2 or source.shape[0] == 0:
            raise UserError(f"training data have shape {source.shape}; expected (n_cfg, *lattice) with n_cfg >= 1")
        if hasattr(theory, "restrict"):
            source = _Restricted(source, theory.restrict)
        if not 0 < held_out < 1:
            raise UserError(f"held_out is {held_out}; expected a fraction between 0 and 1")
        self.shape, device = tuple(source.shape[1:]), torch.device(device)
        apart = _apart(source.shape[0], source.n_chains, held_out)
        self.held_out_chains = int(apart[: source.n_chains].sum()) if source.n_chains > 1 else 1
        numbers = np.flatnonzero(~apart), np.flatnonzero(apart)
        self.where = choose(where, 4 * math.prod(source.shape), device)
        self.train: Tensor | StreamedRows
        self.held_out: Tensor | StreamedRows
        if self.where == "resident":
            self.train, self.held_out = _load(source, apart, device)
        else:
            for block in source.blocks():
                _check(block)
            self.train, self.held_out = (StreamedRows(source.rows, rows, self.shape, device) for rows in numbers)
        exact = getattr(theory, "exact", None)
        apart_from = TrainingData(phis, n_chains, held_out, device, where, exact) if exact is not None else self
        self.judged: Tensor | StreamedRows = apart_from.held_out
        form = None if theory is None or not hasattr(theory, "quadratic_form") else theory.quadratic_form(self.shape)
        unmoved = [(tuple(range(len(self.shape))), ())]  # an external field or a random mass is another one when moved
        # nor the fine sites that the force of a coarse one was computed with
        stays = site_terms(theory).are_any or exact is not None
        self.symmetries = unmoved if stays else lattice_symmetries(self.shape, form)
        vectors = getattr(theory, "unit_vectors", None)
        self._permutations = None if vectors is None else _site_permutations(self.shape, vectors).to(device)

    def batch(self, size: int, generator: torch.Generator, start: int = 0, stop: int | None = None) -> Tensor:
        """`size` configurations drawn with replacement, moved by one random lattice symmetry; rows `start` to `stop`.

        The draw does not depend on which rows are wanted, so processes that share a batch agree on it.
        """
        index = torch.randint(len(self.train), (size,), generator=generator)[start:stop]
        if self._permutations is not None:
            moved = int(torch.randint(len(self._permutations), (), generator=generator))
            phi = self.train[index.to(self.train.device)]
            return phi.flatten(1)[:, self._permutations[moved]].reshape(phi.shape)
        which = int(torch.randint(len(self.symmetries), (), generator=generator))
        order, flips = self.symmetries[which]
        phi = self.train[index.to(self.train.device)]
        phi = phi.permute(0, *(axis + 1 for axis in order))
        return phi.flip([axis + 1 for axis in flips]).contiguous() if flips else phi.contiguous()


class _Array:
    """An array as a source of rows."""

    def __init__(self, phis: NDArray[Any], n_chains: int) -> None:
        self.phis, self.shape, self.n_chains = phis, phis.shape, n_chains

    def blocks(self) -> Iterable[NDArray[Any]]:
        yield self.phis

    def rows(self, numbers: IntArray) -> NDArray[Any]:
        return self.phis[numbers]


class _File:
    """An open ensemble as a source of rows."""

    def __init__(self, ensemble: Ensemble) -> None:
        self.ensemble, self.n_chains = ensemble, ensemble.n_chains
        self.shape = (ensemble.n_cfg, *ensemble.shape)

    def blocks(self) -> Iterable[NDArray[Any]]:
        return self.ensemble.batches()

    def rows(self, numbers: IntArray) -> NDArray[Any]:
        return self.ensemble.take(numbers)


class _Restricted:
    """A part of the fields of another source."""

    def __init__(self, source: _Array | _File, restrict: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
        self.source, self.restrict, self.n_chains = source, restrict, source.n_chains
        self.shape = (source.shape[0], *restrict(np.zeros((1, *source.shape[1:]))).shape[1:])

    def blocks(self) -> Iterable[NDArray[Any]]:
        return map(self.restrict, self.source.blocks())

    def rows(self, numbers: IntArray) -> NDArray[Any]:
        return self.restrict(self.source.rows(numbers))


def spread(n_rows: int, n: int) -> IntArray:
    """Numbers of at most `n` of `n_rows` rows, evenly spread, so that all of the Monte Carlo time is covered."""
    return np.arange(0, n_rows, max(1, n_rows // n))[:n]


def evenly(rows: Tensor | StreamedRows, n: int) -> FloatArray:
    """At most `n` of the configurations, evenly spread over them, as a float64 array."""
    return rows[torch.as_tensor(spread(len(rows), n)).to(rows.device)].double().cpu().numpy()


def chain_numbers(n: int, n_rows: int, n_chains: int) -> IntArray:
    """Number of the chain to which each of the `n` rows belongs that `evenly` took of `n_rows`.

    Rows of the `n_chains` chains take turns. Shape (n,), int64.
    """
    return spread(n_rows, n) % n_chains


def by_chain(values: FloatArray, n_rows: int, n_chains: int) -> list[FloatArray]:
    """Values of the configurations that `evenly` took of `n_rows`, as a list of one series for each chain.

    Parameters
    ----------
    values : ndarray, shape (n,)
        In the order of `evenly`: by update, then by chain, since `n_chains` chains take turns in a file.
    n_rows, n_chains : int
        Configurations that were to be chosen from, and chains that they are of (`TrainingData.held_out_chains`).
    """
    chain = chain_numbers(len(values), n_rows, n_chains)
    return [values[chain == number] for number in np.unique(chain)]


def _apart(n_cfg: int, n_chains: int, held_out: float) -> BoolArray:
    """Which configurations are held out, (n_cfg,) bool."""
    if n_chains > 1:
        apart = np.arange(n_cfg) % n_chains >= n_chains - max(1, round(held_out * n_chains))
    else:
        apart = np.arange(n_cfg) >= n_cfg - round(held_out * n_cfg)
    if apart.all() or not apart.any():
        raise UserError(f"{n_cfg} configurations cannot be split with held_out = {held_out}; generate more")
    return apart


def _check(block: NDArray[Any]) -> None:
    if not np.all(np.isfinite(block)):
        raise UserError("training data hold values that are not finite; verify the ensemble")


def _load(source: _Array | _File | _Restricted, apart: BoolArray, device: torch.device) -> list[Tensor]:
    """Both parts as float32 tensors, filled block by block: an ensemble is never in memory twice."""
    parts = [torch.empty(int(which.sum()), *source.shape[1:]) for which in (~apart, apart)]
    filled, begin = [0, 0], 0
    for block in source.blocks():
        _check(block)
        here = apart[begin : begin + len(block)]
        begin += len(block)
        for number, which in enumerate((~here, here)):
            rows = torch.as_tensor(block[which], dtype=torch.float32)
            parts[number][filled[number] : filled[number] + len(rows)] = rows
            filled[number] += len(rows)
    return [part.to(device) for part in parts]


def lattice_symmetries(shape: Extents, form: FloatArray | None = None) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Point symmetries of the box, and of K(k) if `form` is given: (axis order, axes to flip)."""
    ndim = len(shape)
    orders = axis_orders(shape, form)
    flips = [axes for r in range(ndim + 1) for axes in itertools.combinations(range(ndim), r)]
    return [(order, flip) for order in orders for flip in flips]


def _site_permutations(shape: Extents, unit_vectors: UnitVectors) -> Tensor:
    """Flat number of the site that each site takes its value from, for every point symmetry: (n, V) int64."""
    sites = np.indices(shape).reshape(len(shape), -1)
    extents = np.array(shape)[:, None]
    moved = [
        np.ravel_multi_index(tuple((matrix @ sites) % extents), tuple(shape))
        for matrix in point_symmetries(shape, unit_vectors)
    ]
    return torch.as_tensor(np.array(moved, np.int64))

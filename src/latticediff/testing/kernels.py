"""A kernel: exact fields stay exact, and a run has the same bits however it is cut, stopped and built again."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import real_array
from ..errors import UserError
from ..markov import Block, ChainState, Kernel
from ..streams import Streams
from ..types import FloatArray
from .faults import Faults, lacking, raise_faults, untold
from .stationarity import moments, moved

__all__ = ["check_kernel", "kernel_faults"]

_FEW = 5  #: chains that are enough to compare bits
_LEAST = 100  #: exact fields below which a mean says nothing


def check_kernel(kernel: Kernel, exact: ArrayLike, n_updates: int = 10, seed: int = 3, *, n_sigma: float = 5.0) -> None:
    """Hold a kernel against `latticediff.markov.Kernel`.

    Shapes, counts and actions are compared with what they must be; updates cut in two, thinned, and run on after a
    stop, by a kernel that its description built, with those of one run, bit for bit; and moments of `exact` before
    and after `n_updates` updates, whose paired changes must average to 0.

    Parameters
    ----------
    kernel : Kernel
        With an `action`, S is compared too.
    exact : array_like, shape (n, *lattice)
        Independent fields distributed as exp(-S), at least 100; with ten thousand a bias of one per cent of a standard
        deviation shows. From an exact algorithm, not from the kernel itself.
    n_updates : int
        Updates from `exact` on.
    seed : int
    n_sigma : float
        Standard errors that are allowed; about nine moments are looked at.

    Raises
    ------
    ContractError
        A line for each fault.
    UserError
        `exact` is too few fields, or not finite.
    """
    fields = real_array(exact, "exact")
    if fields.ndim < 2 or len(fields) < _LEAST or not np.isfinite(fields).all():
        raise UserError(f"exact has shape {fields.shape}; expected (n, *lattice), at least {_LEAST} finite fields")
    if isinstance(n_updates, bool) or n_updates < 1 or not n_sigma > 0:
        raise UserError(f"n_updates is {n_updates} and n_sigma {n_sigma}; expected at least 1, and above 0")

    def find() -> Faults:
        if faults := kernel_faults(kernel, fields[:_FEW], seed):
            return faults
        action = getattr(kernel, "action", None)
        state, _ = kernel.advance(kernel.start(fields), Streams(seed), n_updates, n_updates)
        if not np.isfinite(state.phi).all():
            return ["gives a field that is not finite; such an update has to be rejected"]
        return moved(moments(fields, action), moments(state.phi, action), n_sigma)

    raise_faults(kernel, "kernel", find)


def kernel_faults(kernel: Any, phi: FloatArray, seed: int = 3) -> Faults:
    """What is wrong with the updates of a kernel from `phi`, a line each; errors of its own code pass.

    Parameters
    ----------
    kernel : Kernel
    phi : ndarray, shape (5, *lattice), float64
        Any fields.
    seed : int
    """
    if faults := lacking(kernel, Kernel):
        return faults
    state, (whole,) = _after(kernel, phi, seed, 5)
    faults = _shapes(state, whole, phi)
    if faults:
        return faults
    if state.update != 5:
        faults.append(f"counts {state.update} updates after 5")
    action = getattr(kernel, "action", None)
    if action is not None and not np.allclose(whole.action, action(whole.phi), rtol=1e-9):
        faults.append("the action that it gives is not that of its fields")
    if not np.array_equal(np.concatenate([block.phi for block in _after(kernel, phi, seed, 2, 3)[1]]), whole.phi):
        faults.append("updates cut into 2 and 3 have other bits than 5 at once; draw update by update from `rng`")
        return faults
    faults += _written(kernel, phi, seed)
    thin = _after(kernel, phi, seed, 5, thin=2)[1][0].phi
    if not np.array_equal(thin, whole.phi[1::2]):
        faults.append(f"with thin=2 it keeps {len(thin)} of 5 updates, or others; expected those of numbers 2 and 4")
    told = untold(kernel.describe)
    return faults or told or _resumed(kernel, phi, seed, whole.phi)


def _after(kernel: Any, phi: FloatArray, seed: int, *cuts: int, thin: int = 1) -> tuple[ChainState, list[Block]]:
    state, streams, kept = kernel.start(phi.copy()), Streams(seed), []
    for n in cuts:
        state, block = kernel.advance(state, streams, n, thin)
        kept.append(block)
    return state, kept


def _shapes(state: ChainState, whole: Block, phi: FloatArray) -> Faults:
    n = len(phi)
    return [
        f"{what} of 5 updates of {n} chains has shape {shape}; expected {wanted}"
        for what, shape, wanted in (
            ("Block.phi", whole.phi.shape, (5, *phi.shape)),
            ("Block.action", whole.action.shape, (5, n)),
            ("ChainState.phi", state.phi.shape, phi.shape),
        )
        if shape != wanted
    ]


def _written(kernel: Any, phi: FloatArray, seed: int) -> Faults:
    """Whether `advance` writes into the state that it is given, which may be the checkpoint of a run."""
    given = kernel.start(phi.copy())
    before, s_before = np.array(given.phi), np.array(given.action)
    kernel.advance(given, Streams(seed), 2, 1)
    if np.array_equal(given.phi, before) and np.array_equal(given.action, s_before):
        return []
    return ["advance writes into the state that it is given; let it work on a copy"]


def _resumed(kernel: Any, phi: FloatArray, seed: int, wanted: FloatArray) -> Faults:
    """A run that was stopped after 2 of 5 updates, and goes on from copies of what a file holds."""
    streams = Streams(seed)
    state, _ = kernel.advance(kernel.start(phi.copy()), streams, 2, 1)
    saved = copy.deepcopy(state)
    again, how = kernel, "by the same kernel"
    if hasattr(kernel, "from_description") and hasattr(kernel, "action"):
        again = type(kernel).from_description(kernel.action, json.loads(json.dumps(kernel.describe())))
        how = "by from_description(describe())"
        if again.describe() != kernel.describe():
            return ["from_description(describe()) is another kernel"]
    _, block = again.advance(saved, Streams.restore(json.loads(json.dumps(streams.state()))), 3, 1)
    if np.array_equal(block.phi, wanted[2:]):
        return []
    return [f"run on after a stop {how} it has other bits; keep everything in ChainState, `rng` and describe()"]

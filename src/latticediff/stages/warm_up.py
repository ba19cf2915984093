"""Stage warm-up: compiles what models and HMC need, so that the first use of a host program does not wait for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..action import Phi4
from ..cluster import Cluster
from ..hmc import HMC
from ..hosts import load
from ..streams import Streams

if TYPE_CHECKING:
    from ..types import PathLikeStr

__all__ = ["warm_up"]

#: one model of each kind of compiled code: all, odd and coarse sites, a lattice of two lengths, three dimensions
MODELS = ("phi4-A-L8", "phi4-A-L8-fast", "phi4-A-L16-coarse", "phi4-H-64x8", "phi4-H-bimodal-L16", "phi4-H-3d")


def warm_up(names: Sequence[PathLikeStr] = (), say: Callable[[str], Any] = print) -> dict[str, float]:
    """Use everything once.

    Parameters
    ----------
    names : sequence of path-like
        Models; by default one of each kind that comes with the package, and the classical kernels.
    say : callable
        Gets one line for each thing, when it is done.

    Returns
    -------
    dict of str to float
        Seconds of each: tenths where the compiled code was there, some ten where it was made now.
    """
    seconds = {}
    for what, use in _uses(names):
        began = time.perf_counter()
        use()
        seconds[what] = time.perf_counter() - began
        say(f"{what}: {seconds[what]:.1f} s")
    return seconds


def _uses(names: Sequence[PathLikeStr]) -> Iterator[tuple[str, Callable[[], Any]]]:
    for name in names or MODELS:
        for route in ("ode", "sde"):
            yield f"{name}, {route}", lambda name=name, route=route: _propose(name, route)  # type: ignore[misc]
    if not names:
        for ndim in (2, 3):
            yield f"HMC and clusters, {ndim} dimensions", lambda ndim=ndim: _sample(ndim)  # type: ignore[misc]


def _propose(name: PathLikeStr, route: str) -> None:
    proposal = load(name).proposal(route)
    proposal.weigh(proposal.draw(1, 1).phi, 1)


def _sample(ndim: int) -> None:
    action, streams = Phi4.A(1.0, 1.0, ndim), Streams(1)
    for kernel in (HMC(action, 0.1, 2), Cluster(action)):
        state = kernel.start(np.full((5, *[4] * ndim), 0.5))
        kernel.advance(state, streams, 2)

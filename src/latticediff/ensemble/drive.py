"""The one loop that drives a kernel into a file, with checkpoints, resumption and polite stops."""

import time
from collections.abc import Callable
from typing import Any, cast

import numpy as np

from ..action import Action
from ..asking import ask_advance
from ..errors import StopRequested, UserError
from ..markov import ActionKernel, Block, Kernel
from ..provenance import Provenance
from ..types import IntArray, PathLikeStr
from .appending import CHECKPOINT_SECONDS
from .reader import Ensemble
from .run import RunWriter, Start

__all__ = ["run_chain"]

HOPELESS = 1000  # trajectories rejected in a row, of one chain or of all together: at 5 % acceptance once in 10^22 runs


def run_chain(
    kernel: Kernel,
    start: Start | Callable[[], Start] | None,
    path: PathLikeStr,
    n_updates: int | None = None,
    *,
    action: Action | None = None,
    thin: int = 1,
    block: int = 100,
    provenance: Provenance | None = None,
    resume: bool = False,
    progress: Callable[[int, int, Block], object] | None = None,
    stop: Callable[[], str | None] | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Ensemble:
    """Drive any kernel into an ensemble file: the one loop behind ``generate`` and ``sample``.

    Parameters
    ----------
    kernel : Kernel
    start : (ChainState, Streams) or callable returning it
        See `RunWriter.open`; may be None when `resume` finds something to go on with.
    path : path
        Final file, HDF5.
    n_updates : int, optional
        Updates of each chain in the file, in total; None on resumption keeps the old target.
    action : Action, optional
        Default ``kernel.action``.
    thin : int
        Keep every `thin`-th update.
    block : int
        Updates between looks at `stop`; the bits do not depend on it.
    provenance : Provenance, optional
    resume : bool
        Go on with an unfinished run, extend a finished file, or begin if there is neither.
    progress : callable, optional
        ``progress(n_done, n_updates, block)`` after every block.
    stop : callable, optional
        Returns None, or the reason to stop: a string, its ``exit_code`` respected; see `latticediff.signals`.
    checkpoint_seconds : float
        Longest time between checkpoints; a kill costs at most this and a block.

    Returns
    -------
    Ensemble
        The finished file.

    Raises
    ------
    StopRequested
        `stop` gave a reason; everything done is saved.
    UserError
        `block` is below 1; or molecular dynamics rejected the last `HOPELESS` trajectories of
        all chains together or of one chain, and what was done is saved.
    FileError, UserError
        See `RunWriter.open` and `RunWriter.append`.
    """
    if block < 1:
        raise UserError(f"block = {block}; expected at least 1")
    action = cast(ActionKernel, kernel).action if action is None else action  # a kernel without one comes with `action`
    options: dict[str, Any] = {"start": start, "n_updates": n_updates, "thin": thin, "provenance": provenance}
    options |= {"resume": resume, "checkpoint_seconds": checkpoint_seconds}
    with RunWriter.open(path, action=action, kernel=kernel, **options) as writer:
        state, streams = writer.state, writer.streams
        rejected = np.zeros(len(state.phi), np.int64)
        while writer.n_updates < writer.target:
            began = time.perf_counter()
            state, done = ask_advance(kernel, state, streams, min(block, writer.target - writer.n_updates), thin)
            writer.append(done, state, streams, time.perf_counter() - began)
            rejected = _rejected_in_a_row(done, rejected)
            if said := _hopeless(rejected):
                writer.checkpoint()
                raise UserError(
                    f"{said} rejected: the step size is unstable for these"
                    f" fields; lower it, or start elsewhere ({writer.n_updates} updates of {path} are saved)"
                )
            if progress is not None:
                progress(writer.n_updates, writer.target, done)
            reason = stop() if stop is not None else None
            if reason and writer.n_updates < writer.target:
                writer.checkpoint()
                raise StopRequested(
                    f"{reason}: {writer.n_updates} of {writer.target} updates of {path} are saved;"
                    " run the same command with --resume to go on (Python: resume=True)",
                    getattr(reason, "exit_code", 75),
                )
        writer.finish()
    return Ensemble(path, action)


def _rejected_in_a_row(block: Block, before: IntArray) -> IntArray:
    """Trajectories that each chain rejected since the last one that it accepted, or since its start.

    Only molecular dynamics is judged: an independence sampler may rightly reject long runs, so blocks without
    ``delta_h`` count for nothing.

    Parameters
    ----------
    block : Block
    before : ndarray, shape (n_chains,), int64
        The same before this block.

    Returns
    -------
    ndarray, shape (n_chains,), int64
    """
    if "delta_h" not in block.info or "accepted" not in block.info:
        return np.zeros_like(before)
    accepted = np.asarray(block.info["accepted"], bool)
    since = np.argmax(accepted[::-1], axis=0) if len(accepted) else before
    return np.where(accepted.any(axis=0), since, before + len(accepted))


def _hopeless(rejected: IntArray) -> str:
    """Which chains will not move any more, in words; "" while there is hope.

    All chains together are given up sooner than one: what stands still for all of them is a matter of the step size.
    """
    together = int(rejected.min()) * len(rejected)  # since any chain accepted
    if together >= HOPELESS:
        return f"all of the last {together} trajectories were"
    if (longest := int(rejected.max())) >= HOPELESS:
        return f"all of the last {longest} trajectories of chain {int(rejected.argmax())} were"
    return ""

"""Stage propose: weighed draws of a model into a pool, for a Monte Carlo code in any language."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..atomic import refuse_existing
from ..build.learned import refuse_coarse
from ..errors import StopRequested, UserError
from ..hosts import HostProposal, load
from ..job.progress import Progress
from ..pool import PoolHeader, write_pool
from ..pool.files import checked_suffix
from ..pool.header import Rows
from ..streams import Streams
from ..testing.proposals import require_kept

if TYPE_CHECKING:
    from ..types import PathLikeStr
    from .contract import StopCheck

__all__ = ["described", "propose"]

VALUES = 2**20  #: field values computed at once


def propose(
    name: PathLikeStr,
    n: int,
    path: PathLikeStr,
    *,
    route: str = "ode",
    seed: int = 1,
    stream: int = 0,
    max_doubling: float = 0.1,
    device: str = "cpu",
    options: dict[str, Any] | None = None,
    progress: Progress | None = None,
    stop: StopCheck | None = None,
) -> PoolHeader:
    """Draw, weigh and store.

    Parameters
    ----------
    name : path-like
        Shipped model or folder.
    n : int
        Draws.
    path : path-like
        ``.h5`` or ``.bin``; must not exist.
    route : str
    seed, stream : int
        The same model, route, seed and stream give the same bits; other streams of one seed are independent.
    max_doubling : float
        Largest spread of the change of log_q under twice the steps.
    device : str
    options : dict, optional
        Of the route; see `latticediff.hosts.Model.proposal`.
    progress, stop
        See `latticediff.stages.generate.generate`.

    Returns
    -------
    PoolHeader

    Raises
    ------
    FileError, ModelError, UserError
        A model, number or file that cannot be used, or a log_q that is not accurate enough.
    StopRequested
        `stop` gave a reason; nothing is kept.
    """
    progress = progress or Progress()
    checked_suffix(path)
    refuse_existing(path)
    header, proposal = described(name, n, route=route, seed=seed, stream=stream, device=device, options=options)
    branch = Streams(seed).child("pool").child(str(stream))
    require_kept(proposal.contract, max_doubling)
    density = getattr(proposal.contract, "inner", proposal.contract)
    refuse_coarse(density, max_doubling, branch, "more --steps, or --max-doubling", math.inf)
    with progress.task(f"proposing, {route}", n) as task:
        write_pool(path, header, _blocks(proposal, n, branch.generator("propose"), task.reach, stop))
    return header


def described(
    name: PathLikeStr,
    n: int,
    *,
    route: str = "ode",
    seed: int = 1,
    stream: int = 0,
    device: str = "cpu",
    options: dict[str, Any] | None = None,
) -> tuple[PoolHeader, HostProposal]:
    """What a pool with these arguments says of itself, and the proposal that fills it; see `propose`.

    Raises
    ------
    ModelError, UserError
        A model or number that cannot be used.
    """
    if n < 1:
        raise UserError(f"n = {n}; expected at least one draw")
    if stream < 0:
        raise UserError(f"stream = {stream}; expected at least 0")
    model = load(name, device=device)
    proposal = model.proposal(route, **(options or {}))
    header = PoolHeader(
        n=n,
        shape=proposal.shape,
        action=model.action.describe(),
        proposal=proposal.describe(),
        model=Path(name).name,
        model_sha256=model.fingerprint(),
        proposal_sha256=proposal.fingerprint(),
        is_deterministic=proposal.is_deterministic,
        evaluations_per_draw=int(proposal.contract.evaluations_per_draw),
        seed=seed,
        stream=stream,
    )
    return header, proposal


def _blocks(
    proposal: HostProposal, n: int, rng: np.random.Generator, reach: Any, stop: StopCheck | None
) -> Iterator[Rows]:
    step = max(256, VALUES // int(np.prod(proposal.shape)))
    for start in range(0, n, step):
        phi, log_q = proposal.draw(min(step, n - start), rng)
        yield Rows(phi, np.asarray(proposal.action(phi)), log_q)
        reach(min(start + step, n))
        if stop is not None and (reason := stop()):
            raise StopRequested(
                f"{reason} while proposing; a pool is whole or absent: run the same command again, to the same bits",
                reason.exit_code,
            )

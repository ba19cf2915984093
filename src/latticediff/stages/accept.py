"""Stage accept: an exact chain from the draws of pools, each used once and in order."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..action import action_from_description
from ..atomic import refuse_existing
from ..ensemble import Ensemble, run_chain, run_directory
from ..errors import FileError, ModelError, StopRequested, UserError
from ..host import numpy_defaults
from ..job.progress import Progress
from ..metropolis import IndependenceMetropolis
from ..pool import PoolProposal, open_pool
from ..pool.consumed import claim, consumed, release
from ..pool.files import require_digest
from ..provenance import collect
from ..streams import Streams

if TYPE_CHECKING:
    from ..markov import ChainState
    from ..pool import Pool
    from ..types import PathLikeStr
    from .contract import StopCheck

__all__ = ["accept"]

BLOCK = 1000  #: proposals between looks at the disk


@numpy_defaults()
def accept(
    paths: Sequence[PathLikeStr],
    out: PathLikeStr,
    *,
    n_chains: int = 1,
    n_warmup: int = 10,
    n: int | None = None,
    seed: int = 1,
    more: bool = False,
    model: PathLikeStr | None = None,
    progress: Progress | None = None,
    stop: StopCheck | None = None,
) -> Ensemble:
    """Run the independence sampler over stored draws; every pool is marked as used before its draws are.

    Parameters
    ----------
    paths : sequence of path-like
        Pools of one proposal, in the order in which they are used.
    out : path-like
        Ensemble file; every update is stored.
    n_chains : int
        Chains that take turns in the draws; each begins at a draw of its own.
    n_warmup : int
        First updates of each chain, which forget that it began at a draw of the model and not of the theory.
    n : int, optional
        Use at most so many draws; the others stay for later. Default: all.
    seed : int
        Of the accept steps.
    more : bool
        Go on with the chain `out`, which was made by this stage.
    model : path-like, optional
        Refuse pools of other weights.
    progress, stop
        See `latticediff.stages.generate.generate`.

    Returns
    -------
    Ensemble

    Raises
    ------
    FileError
        A pool that was used before, is damaged, or is in the chain already; `out` is in the way.
    ModelError
        Pools of another proposal, or of another model than `model`.
    UserError
        Too few draws for one update of every chain.
    StopRequested
        `stop` gave a reason; the draws are given back.
    """
    progress, out = progress or Progress(), Path(out)
    if not more:
        refuse_existing(out)
    if run_directory(out).is_dir():
        raise FileError(f"{run_directory(out)} holds an unfinished chain; remove it, and propose its pool again")
    if n_chains < 1 or n_warmup < 0:
        raise UserError(f"n_chains = {n_chains}, n_warmup = {n_warmup}; expected at least 1 and 0")
    with contextlib.ExitStack() as stack:
        pools = [stack.enter_context(contextlib.closing(open_pool(path))) for path in paths]
        _require_one_kind(pools, model)
        ranges = _ranges(pools, n)
        begun = None if not more else _begun(out, pools, ranges)
        n_chains = begun[0] if begun else n_chains
        for pool in pools:
            require_digest(pool)
        proposal = PoolProposal(pools, ranges, action_from_description(pools[0].header.action))
        before = 0 if begun else 1 + n_warmup
        n_updates = proposal.left // n_chains - before
        if n_updates < 1:
            raise UserError(
                f"{proposal.left} draws are left for {n_chains} chains; expected at least {n_chains * (before + 1)}"
                f" (a start, {n_warmup} of warm-up, one update each): propose more, or take fewer chains"
            )
        kernel = IndependenceMetropolis(proposal, proposal.action, refresh=False)
        streams = Streams(seed).child("accept")

        def start() -> tuple[ChainState, Streams]:
            state = kernel.hot_start(n_chains, streams)
            state, _ = kernel.advance(state, streams, n_warmup, max(1, n_warmup))
            return state._replace(update=0), streams

        for pool, (first, last) in zip(pools, ranges, strict=True):
            if last > first:
                stack.enter_context(_claimed(pool, first, last))
        parents = [_record(pool, *used) for pool, used in zip(pools, ranges, strict=True) if used[1] > used[0]]
        try:
            with progress.task("accepting", n_updates + (begun[1] if begun else 0)) as task:
                return run_chain(
                    kernel,
                    None if begun else start,
                    out,
                    n_updates + (begun[1] if begun else 0),
                    block=max(1, BLOCK // n_chains),
                    provenance=collect(parents=parents),
                    resume=more,
                    progress=lambda done, total, block: task.reach(done),
                    stop=stop,
                )
        except BaseException as exc:
            # the pool is given back, so what was made of it must not stay; a chain that is extended is as it was
            shutil.rmtree(run_directory(out), ignore_errors=True)
            if isinstance(exc, StopRequested):
                told = "nothing is kept, and the draws are given back; run the same command again"
                raise StopRequested(f"stopped before the chain was whole: {told}", exc.exit_code) from None
            raise


@contextlib.contextmanager
def _claimed(pool: Pool, first: int, last: int) -> Iterator[None]:
    """Draws of a pool, marked as used; given back if the chain is not made."""
    claim(pool, first, last)
    try:
        yield
    except BaseException:
        release(pool, first, last)
        raise


def _ranges(pools: Sequence[Pool], n: int | None) -> list[tuple[int, int]]:
    """The draws of each pool that have not been used, at most `n` in all."""
    ranges = []
    for pool in pools:
        first = consumed(pool)
        if first == pool.header.n:
            raise FileError(
                f"{pool.path}: all of its {first} draws have been used; draws used twice correlate chains in a way that"
                " no error shows: propose others (another --seed or --stream)"
            )
        taken = pool.header.n - first if n is None else min(n, pool.header.n - first)
        n = None if n is None else n - taken
        ranges.append((first, first + taken))
    return ranges


def _require_one_kind(pools: Sequence[Pool], model: PathLikeStr | None) -> None:
    """Refuse pools that one chain cannot use."""
    first = pools[0].header
    seen: dict[tuple[int, int], Path] = {}
    for pool in pools:
        header = pool.header
        if header.proposal_sha256 != first.proposal_sha256 or header.action != first.action:
            raise ModelError(
                f"{pool.path} was filled by another proposal than {pools[0].path} ({header.model}, {first.model});"
                " log_q of different proposals do not compare: make a chain of each"
            )
        key = header.seed, header.stream
        if key in seen:
            raise FileError(
                f"{pool.path} and {seen[key]} hold the same draws (seed {header.seed}, stream {header.stream});"
                " propose one with another --seed or --stream"
            )
        seen[key] = pool.path
        if model is not None:
            from ..model.storage import read_card

            if (wanted := str(read_card(model).get("sha256"))) != header.model_sha256:
                raise ModelError(
                    f"{pool.path} was filled by model {header.model_sha256[:12]} ({header.model});"
                    f" {model} is {wanted[:12]}"
                )


def _record(pool: Pool, first: int, last: int) -> dict[str, Any]:
    """Which draws of a pool a chain used, for its file."""
    stream = [str(pool.header.seed), pool.header.stream]
    return {"file": pool.path.name, "fingerprint": pool.data_sha256, "stream": stream, "draws": [first, last]}


def _holds(parent: Mapping[str, Any], pool: Pool, first: int, last: int) -> bool:
    """Whether an entry of a chain's file has some of these draws; a longer pool of a stream begins with a shorter."""
    match parent.get("draws"):
        case [int(begin), int(end)]:
            same = parent.get("stream") == _record(pool, first, last)["stream"]
            return same and max(begin, first) < min(end, last)
    # of an older file: which draws of the pool it has is not known
    return bool(parent["fingerprint"] == pool.data_sha256 and first == 0)


def _begun(out: Path, pools: Sequence[Pool], ranges: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Chains and updates of the file that is gone on with; refuses draws that are in it already."""
    with Ensemble(out) as chain:
        for pool, (first, last) in zip(pools, ranges, strict=True):
            if any(_holds(parent, pool, first, last) for parent in chain.provenance.parents):
                raise FileError(
                    f"{pool.path} holds draws that are in {out} already; propose others (another --seed or --stream)"
                )
        return chain.n_chains, chain.n_updates

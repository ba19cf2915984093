"""Stage sample: Metropolis chains driven by the network's proposals, into an ensemble file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import special

from ..atomic import refuse_existing
from ..build.learned import accept_density, build_kernel, largest_doubling, plain_proposal, section_of
from ..build.model import model_for
from ..ensemble import run_chain, run_directory
from ..errors import FileError
from ..host import torch_defaults
from ..job.log import JsonLog
from ..job.progress import Progress
from ..streams import Streams
from ..testing.proposals import require_kept
from .generate import provenance_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..config import Card
    from ..ensemble import Ensemble
    from ..markov import ChainState
    from ..types import PathLikeStr
    from .contract import StopCheck

__all__ = ["sample"]


@torch_defaults()
def sample(
    card: Card,
    folder: PathLikeStr,
    route: str,
    path: PathLikeStr,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    log: JsonLog | None = None,
    stop: StopCheck | None = None,
    outside: bool = False,
    name: str | None = None,
    streams: Streams | None = None,
) -> Ensemble:
    """Run the learned chains of a route into the ensemble file `path`.

    Parameters
    ----------
    card : latticediff.config.Card
    folder : path-like
        Model folder, of the card's action and lattice.
    route : str
        ``ode`` or ``sde``.
    path : path-like
    resume, progress, log, stop
        See `generate`; a resumed run has the bits of an uninterrupted one.
    outside : bool
        Take a model of other couplings or another size, too, and say what ESS to expect; chains stay exact.
    name : str, optional
        Of these chains, in progress and log; by default that of the route.
    streams : Streams, optional
        By default those of the card's seed and the route, which chains of another model in the same run must not share.

    Returns
    -------
    Ensemble

    Raises
    ------
    FileError, ModelError
        Something is in the way, or the model is of another theory or lattice, or is damaged.
    UserError
        A key of ``[sampling.kernel]`` that does not fit the model or the lattice, or a log_q that is not accurate to
        ``sampling.max_doubling``.
    StopRequested
        `stop` gave a reason; everything done is saved.
    """
    path, progress, log = Path(path), progress or Progress(), log or JsonLog()
    if not resume:
        refuse_existing(path)
        if run_directory(path).is_dir():
            raise FileError(
                f"{run_directory(path)} holds an unfinished run; go on with --resume, or choose another --out"
            )
    model = model_for(card, folder, route, outside, progress)
    kernel, section = build_kernel(card, model, route), section_of(card, route)
    accept_density(card, model, route)
    if route not in ("ode", "sde"):
        require_kept(plain_proposal(card, model, route), largest_doubling(card))
    streams = streams or Streams(card.run.seed).child(route)

    def start() -> tuple[ChainState, Streams]:
        # the first field of a chain is drawn from the model, not from the target; a few updates forget that
        state = kernel.hot_start(section.n_chains, streams)
        state, _ = kernel.advance(state, streams, section.n_warmup, section.n_warmup)
        return state._replace(update=0), streams

    with progress.task(f"{name or route.upper()} chain", section.n_updates) as task:
        ensemble = run_chain(
            kernel,
            start,
            path,
            section.n_updates,
            thin=1,
            block=max(1, card.sampling.batch // section.n_chains),
            provenance=provenance_of(card, [{"file": Path(folder).name, "fingerprint": model.fingerprint()}]),
            resume=resume,
            progress=lambda done, total, block: task.reach(done, **_worth_showing(block.info)),
            stop=stop,
        )
    log("sampled", route=name or route, file=path.name, fingerprint=ensemble.fingerprint())
    return ensemble


def _worth_showing(info: Mapping[str, Any]) -> dict[str, float]:
    """What those who watch are told of a block: acceptance and, where proposals have weights, their ESS."""
    told = {"acceptance": float(np.mean(info["accepted"]))}
    log_weight = np.ravel(info.get("log_weight", ()))
    if np.isfinite(log_weight).any():
        first, second = (special.logsumexp(power * log_weight) for power in (1, 2))
        told["ESS"] = float(np.exp(2 * first - second)) / log_weight.size
    return told

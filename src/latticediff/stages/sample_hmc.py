"""Stage baseline: the HMC chains that the learned ones are compared with, every update stored.

The training ensemble is thinned, which hides all that happens between stored configurations and would
make HMC look more expensive than it is. So its kernel, tuned and frozen, goes on from its last state in a
file of its own. With ``sampling.hmc.search`` the chains get a kernel of their own, the cheapest that can be found:
learned chains should be compared with HMC at its best.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ..build.classical import searched_kernel
from ..ensemble import Ensemble, run_chain
from ..errors import FileError
from ..host import numpy_defaults
from ..job.log import JsonLog
from ..job.progress import Progress
from ..markov import kernel_from_description
from ..streams import Streams
from .generate import block_length, provenance_of, stored_algorithm

if TYPE_CHECKING:
    from ..config import Card
    from ..markov import Kernel
    from ..types import PathLikeStr
    from .contract import StopCheck

__all__ = ["baseline"]


@numpy_defaults()
def baseline(
    card: Card,
    ensemble_path: PathLikeStr,
    path: PathLikeStr,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    log: JsonLog | None = None,
    stop: StopCheck | None = None,
) -> Ensemble:
    """Run HMC on from the last state of the ensemble into the file `path`, storing every update.

    Parameters
    ----------
    card : latticediff.config.Card
        ``sampling.hmc.n_updates`` updates of each of the ensemble's chains, by its kernel or a searched one.
    ensemble_path : path-like
        What `generate` wrote.
    path : path-like
    resume, progress, log, stop
        See `generate`.

    Returns
    -------
    Ensemble

    Raises
    ------
    FileError
        A file is missing, in the way, or of another card.
    StopRequested
        `stop` gave a reason; everything done is saved.
    """
    progress, log = progress or Progress(), log or JsonLog()
    streams = Streams(card.run.seed).child("baseline")
    with Ensemble(ensemble_path) as ensemble:
        kernel: Kernel = kernel_from_description(ensemble.action, ensemble.algorithm)
        if (last := ensemble.state()) is None:
            raise FileError(f"{ensemble_path} has no state to go on from; take one that generate wrote")
        state, parent = last._replace(update=0), ensemble.parent()
        seconds = float(ensemble.history("seconds").mean())
    if card.sampling.hmc.search:
        algorithm = stored_algorithm(path, card) if resume else None
        if algorithm is None:
            began = time.perf_counter()
            kernel, state = searched_kernel(card, state.phi, streams)
            log("searched", seconds=time.perf_counter() - began, kernel=kernel.describe())
        else:
            kernel = kernel_from_description(card.theory(), algorithm)
    with progress.task("HMC chain", card.sampling.hmc.n_updates) as task:
        chains = run_chain(
            kernel,
            (state, streams),
            path,
            card.sampling.hmc.n_updates,
            block=block_length(seconds, len(state.phi), card.shape),
            provenance=provenance_of(card, [parent]),
            resume=resume,
            progress=lambda done, total, block: task.reach(done, acceptance=float(block.info["accepted"].mean())),
            stop=stop,
        )
    log("sampled", route="hmc", file=chains.path.name, fingerprint=chains.fingerprint())
    return chains

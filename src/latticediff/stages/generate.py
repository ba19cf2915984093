"""Stage generate: HMC chains, tuned, thermalised and frozen, into an ensemble file; then the gate."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..atomic import refuse_existing
from ..build.classical import tuned_kernel
from ..ensemble import Ensemble, run_chain, run_directory, start_fields
from ..ensemble.reader import read_run_header
from ..errors import FileError, StopRequested
from ..host import numpy_defaults
from ..job.log import JsonLog
from ..job.progress import Progress
from ..lattice import volume
from ..markov import kernel_from_description
from ..provenance import collect
from ..streams import Streams
from ..untrusted import parse_json
from .gate import pass_gate
from .shown_search import shown_search

if TYPE_CHECKING:
    from ..composite import Sequence as KernelSequence
    from ..config import Card
    from ..hmc import HMC
    from ..markov import ChainState, Kernel
    from ..provenance import Provenance
    from ..types import Description, Extents, PathLikeStr
    from .contract import StopCheck

__all__ = ["block_length", "generate", "provenance_of", "stored_algorithm", "thermalise"]

BLOCK_SECONDS = 0.5  # between looks at the stop flag
BLOCK_BYTES = 32 << 20


def provenance_of(card: Card, parents: Sequence[Description] = ()) -> Provenance:
    """The `Provenance` of a file that a card makes.

    Parameters
    ----------
    card : latticediff.config.Card
        Kept as JSON and as TOML, with every default.
    parents : sequence of dict
        The files that this one is made from: ``file`` and ``fingerprint`` of each.

    Returns
    -------
    Provenance
    """
    return collect(json.dumps(card.to_dict()), card.to_toml(), parents)


def block_length(seconds_per_update: float, n_chains: int, shape: Extents, thin: int = 1) -> int:
    """Updates from one look at the stop flag to the next; no bit of a chain depends on it.

    Parameters
    ----------
    seconds_per_update : float
        Of all chains together.
    n_chains : int
    shape : tuple of int
        Lattice extents.
    thin : int
        Updates per stored configuration.

    Returns
    -------
    int
        As many as take `BLOCK_SECONDS`, fewer if their stored fields would need more than `BLOCK_BYTES`; at least 1.
    """
    by_time = BLOCK_SECONDS / max(seconds_per_update, 1e-9)
    by_memory = thin * BLOCK_BYTES / (8 * n_chains * volume(shape))
    return max(1, int(min(by_time, by_memory, 1e6)))


def thermalise(
    card: Card, streams: Streams, progress: Progress | None = None, stop: StopCheck | None = None
) -> tuple[HMC | KernelSequence, ChainState, float]:
    """Tune the step size, then run `n_warmup` updates of the frozen kernel.

    Parameters
    ----------
    card : Card
    streams : Streams
        The run's root; branches ``start``, ``tune``, ``warmup`` are used.
    progress : Progress, optional
    stop : callable, optional

    Returns
    -------
    kernel : HMC or Sequence
        See `tuned_kernel`.
    state : ChainState
        Counted from update 0: what came before is warm-up.
    seconds_per_update : float
        Of all chains together.

    Raises
    ------
    StopRequested
        `stop` gave a reason; a warm-up is short and is not saved.
    """
    hmc = card.hmc
    phi = start_fields(hmc.start, hmc.n_chains, card.shape, streams, card.theory())
    if hmc.searches:
        with shown_search(progress, hmc.search_budget, len(phi)) as tell:
            kernel, state = tuned_kernel(card, phi, streams, tell)
    else:
        kernel, state = tuned_kernel(card, phi, streams)
    done, block, seconds_per_update = 0, 1, 0.0
    with (progress or Progress()).task("warm-up", hmc.n_warmup) as task:
        while done < hmc.n_warmup:
            n = min(block, hmc.n_warmup - done)
            began = time.perf_counter()
            state, _ = kernel.advance(state, streams.child("warmup"), n, n)
            seconds_per_update = (time.perf_counter() - began) / n
            done += n
            task.advance(n)
            block = min(4 * block, block_length(seconds_per_update, hmc.n_chains, card.shape, n))
            if done < hmc.n_warmup and stop is not None and (reason := stop()):
                text = f"{reason} during warm-up, before anything was worth saving; run the same command again"
                raise StopRequested(text, reason.exit_code)
    return kernel, state._replace(update=0), seconds_per_update


def stored_algorithm(path: PathLikeStr, card: Card) -> Description | None:
    """The kernel that wrote a run or a file, so that it can go on.

    Parameters
    ----------
    path : path-like
        The ensemble file, which may still be an unfinished run.
    card : latticediff.config.Card
        Must agree with the stored one in seed, action, lattice and ``[hmc]``; ``hmc.n_updates`` may differ.

    Returns
    -------
    dict or None
        The kernel's description; None if nothing is there.

    Raises
    ------
    FileError
        The run or file was begun by another card, or cannot be read.
    """
    path = Path(path)
    run = run_directory(path)
    if run.is_dir():
        about = read_run_header(run)
        algorithm, config = about["header"]["algorithm"], about["provenance"]["config_json"]
    elif path.exists():
        with Ensemble(path) as ensemble:
            algorithm, config = ensemble.algorithm, ensemble.provenance.config_json
    else:
        return None
    # more updates of the same chains are welcome; anything else would be another chain
    parts = ("run.seed", "action", "lattice", "hmc")
    stored = parse_json(config or "{}", f"the run-card in {path}")
    if not isinstance(stored, dict):
        raise FileError(f"the run-card in {path} is no table; it is damaged")
    difference = card.difference(stored, parts, ignore=("hmc.n_updates",))
    if difference:
        raise FileError(f"{path} was begun by another card ({difference}); choose another --out")
    return algorithm


@numpy_defaults()
def generate(
    card: Card,
    path: PathLikeStr,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    log: JsonLog | None = None,
    stop: StopCheck | None = None,
) -> Ensemble:
    """Run the reference chains of a card into the ensemble file `path` and apply the gate.

    Parameters
    ----------
    card : latticediff.config.Card
    path : path-like
    resume : bool
        Go on with an unfinished run, or extend a finished file to the card's ``n_updates``; bit for bit
        what one uninterrupted run gives.
    progress : Progress, optional
    log : JsonLog, optional
    stop : callable, optional
        See `latticediff.signals.Stop`.

    Returns
    -------
    Ensemble
        Finished, and past the gate.

    Raises
    ------
    FileError
        Something is in the way at `path`, or it is of another card.
    GateError
        The ensemble is not fit to train on; the file stays, for a look at it.
    StopRequested
        `stop` gave a reason; everything done is saved.
    """
    path, progress, log = Path(path), progress or Progress(), log or JsonLog()
    action, hmc, streams = card.theory(), card.hmc, Streams(card.run.seed)
    algorithm = stored_algorithm(path, card) if resume else None
    parents: list[Description] = []
    kernel: Kernel
    start: tuple[ChainState, Streams] | None
    if algorithm is not None:
        kernel, start, speed = kernel_from_description(action, algorithm), None, 1e-3
    else:
        refuse_existing(path)
        if run_directory(path).is_dir():
            raise FileError(
                f"{run_directory(path)} holds an unfinished run; go on with --resume, or choose another --out"
            )
        if isinstance(hmc.start, str) and hmc.start not in ("hot", "cold"):
            with Ensemble(hmc.start) as first:
                parents = [first.parent()]
        began = time.perf_counter()
        kernel, state, speed = thermalise(card, streams, progress, stop)
        start = (state, streams.child("hmc"))
        log("thermalised", seconds=time.perf_counter() - began, updates=hmc.n_warmup, kernel=kernel.describe())
    with progress.task("HMC", hmc.n_updates) as task:
        ensemble = run_chain(
            kernel,
            start,
            path,
            hmc.n_updates,
            thin=hmc.thin,
            block=block_length(speed, hmc.n_chains, card.shape, hmc.thin),
            provenance=provenance_of(card, parents),
            resume=resume,
            progress=lambda done, total, block: task.reach(done, acceptance=float(block.info["accepted"].mean())),
            stop=stop,
        )
    log("generated", file=path.name, configurations=ensemble.n_cfg, fingerprint=ensemble.fingerprint())
    for gate in pass_gate(ensemble, card.gate, log):
        if not gate.passed:  # and the card does not enforce it
            progress.warn(f"{path}: {gate.message}")
    return ensemble

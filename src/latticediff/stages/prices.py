"""Stage prices: processor time of an update of every chain of a run, all of them measured in turn.

Chains are sampled one after the other, and what else the machine does meets each at another moment. Here each goes on
from its last fields for a fraction of a second, in rounds, so that all meet the same; what they draw is thrown away.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..atomic import sealed_text
from ..build.learned import build_kernel
from ..build.model import model_for
from ..digests import check_digest, with_digest
from ..ensemble import Ensemble
from ..errors import FileError, StopRequested
from ..host import torch_defaults
from ..job.progress import Progress
from ..markov import kernel_from_description
from ..streams import Streams
from ..study.timing import in_turn, median_of
from ..untrusted import parse_json, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..config import Card
    from ..markov import ChainState, Kernel
    from ..types import PathLikeStr
    from .contract import StopCheck

__all__ = ["Learned", "prices", "read_prices"]

ROUNDS, ROUND_SECONDS = 7, 0.2


class Learned(NamedTuple):
    """Learned chains that are to be priced."""

    name: str
    card: Card
    model: PathLikeStr
    route: str
    chain: Path


@torch_defaults()
def prices(
    card: Card,
    hmc: Path,
    learned: Sequence[Learned],
    path: Path,
    *,
    progress: Progress | None = None,
    stop: StopCheck | None = None,
) -> dict[str, tuple[float, float]]:
    """Measure the processor time of an update of one chain, of HMC and of learned chains; writes a JSON file.

    Parameters
    ----------
    card : latticediff.config.Card
    hmc : Path
        File of the HMC chains.
    learned : sequence of Learned
    path : Path
        The file to write; replaced if it exists.
    progress, stop
        See `latticediff.stages.generate.generate`.

    Returns
    -------
    dict of str to (float, float)
        Seconds of processor time, all threads together, and their error, by ``"hmc"`` and the names of `learned`.

    Raises
    ------
    FileError, ModelError
        A chain or a model is missing or damaged.
    StopRequested
        `stop` gave a reason; nothing is saved.
    """
    progress = progress or Progress()
    runners: dict[str, tuple[Kernel, ChainState]] = {}
    with Ensemble(hmc) as ensemble:
        runners["hmc"] = kernel_from_description(ensemble.action, ensemble.algorithm), _last(ensemble)
    for chain in learned:
        model = model_for(chain.card, chain.model, chain.route)
        with Ensemble(chain.chain) as ensemble:
            runners[chain.name] = build_kernel(chain.card, model, chain.route), _last(ensemble)
    spent = in_turn(runners, Streams(card.run.seed).child("prices"), ROUND_SECONDS, _rounds(progress, stop))
    found = {name: median_of([cpu for cpu, _ in rows]) for name, rows in spent.items()}
    told = {"processor_seconds_per_update": {name: list(pair) for name, pair in found.items()}}
    sealed_text(path, json.dumps(with_digest(told), indent=1) + "\n")
    return found


def _last(ensemble: Ensemble) -> ChainState:
    if (state := ensemble.state()) is None:
        raise FileError(f"{ensemble.path} has no state to go on from; take one that a run wrote")
    return state


def _rounds(progress: Progress, stop: StopCheck | None) -> Iterator[None]:
    """The rounds, one by one, as far as nothing asks to stop."""
    with progress.task("prices, in turn", ROUNDS) as task:
        for _ in range(ROUNDS):
            if stop is not None and (reason := stop()):
                raise StopRequested(
                    f"{reason} while measuring prices, of which nothing is saved before the end; run the same command"
                    " with --resume to go on",
                    reason.exit_code,
                )
            yield
            task.advance()


def read_prices(path: Path) -> dict[str, tuple[float, float]]:
    """What `prices` wrote, as it returned it.

    Raises
    ------
    FileError
        The file cannot be read, or is none of ours.
    """
    found = parse_json(read_text(path, "the prices of a run"), path)
    table = found.get("processor_seconds_per_update") if isinstance(found, dict) else None
    if not isinstance(table, dict):
        raise FileError(f"{path} holds no prices of a run; remove it, and begin in another folder")
    check_digest(found, path)
    return {name: (float(value), float(error)) for name, (value, error) in table.items()}

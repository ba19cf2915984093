"""The HMC of least cost for a card's theory, beside the card's own, in force evaluations and in seconds."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from ..analysis.gamma import format_error
from ..build.classical import tuned_kernel
from ..ensemble import start_fields
from ..errors import UserError
from ..hmc.search import SEARCH
from ..job.progress import Progress
from ..streams import Streams
from .shown_search import shown_search

if TYPE_CHECKING:
    from ..config import Card
    from ..hmc import HMC
    from ..markov import ChainState
    from ..types import Description

__all__ = ["HmcTuning", "tune_hmc"]

ROUNDS = 5  # of timing, the kernels in turn: another load on the machine meets both
KEYS = ("trajectory_length", "target_acceptance", "integrator")


@dataclass(frozen=True)
class HmcTuning:
    """What the search found, and what an update of one chain takes."""

    kernel: HMC  #: frozen
    seconds: tuple[float, float]  #: per update of one chain: processor and wall, the least of `ROUNDS` rounds

    @property
    def record(self) -> Description:
        """What the search wrote down: ``kernel.tuning["search"]``."""
        tuning: Any = self.kernel.tuning  # a searched kernel has one
        return tuning["search"]

    @property
    def keys(self) -> Description:
        """Keys of ``[hmc]``, with their values, for a card that keeps what was found."""
        found = self.record["confirmed"]
        return {key: found[key] for key in KEYS} | {"jitter": self.kernel.jitter}

    def to_json(self) -> str:
        """Kernel, record and seconds as JSON text."""
        tau = self.record["confirmed"]["tau_int"][0]
        names = ("processor_seconds", "wall_seconds")
        each = {name: None if tau is None else 2 * tau * s for name, s in zip(names, self.seconds, strict=True)}
        return json.dumps({"kernel": self.kernel.describe(), "keys": self.keys, "per_independent": each}, indent=1)

    def to_text(self) -> str:
        """A table for people."""
        found, tau = self.record["confirmed"], self.record["confirmed"]["tau_int"][0]
        lines = [f"{'length':>8} {'integrator':11}{'steps':>6}{'target':>8}{'tau_int':>14}{'cost':>14}"]
        for row in [*self.record["pilots"], found]:
            known = [None not in pair and format_error(*pair) for pair in (row["tau_int"], row["cost"])]
            lines.append(
                f"{row['trajectory_length']:8.3g} {row['integrator']:11}{row['n_leapfrog']:6d}"
                f"{row['target_acceptance']:8.2f}{known[0] or 'not known':>14}{known[1] or '':>14}"
                f"{'  <- taken, measured once more' if row is found else ''}"
            )
        lines.append(
            f"cost: {self.record['cost']}, overhead {self.record['overhead']:g}, of {self.record['observable']}; the"
            f" search took {self.record['force_evaluations_per_chain']:,} force evaluations of each chain"
            f"{', its whole budget' if self.record['budget_ended'] else ''}"
        )
        if tau is not None:
            cpu, wall = (1e3 * 2 * tau * seconds for seconds in self.seconds)
            lines.append(f"an independent value takes {cpu:.3g} ms of processor time, {wall:.3g} ms on the clock")
        lines.append("[hmc]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in self.keys.items()]
        return "\n".join(lines)


def tune_hmc(card: Card, *, progress: Progress | None = None) -> HmcTuning:
    """Search for the HMC of least cost.

    Parameters
    ----------
    card : latticediff.config.Card
        Keys of ``[hmc]`` that say "search" are searched for, and the others kept; where none does, all three are
        searched for: length, integrator and acceptance. `jitter` 0 is taken as 0.1.
    progress : Progress, optional

    Returns
    -------
    HmcTuning

    Raises
    ------
    UserError
        As `latticediff.hmc.search.search`; also for a card with cluster updates, whose cost is not that of
        trajectories.
    """
    section, progress = card.hmc, progress or Progress()
    if section.cluster is not None:
        raise UserError("the card has cluster updates after each trajectory; leave hmc.cluster out to tune HMC alone")
    if card.hmc.kernels:
        raise UserError("the card has kernels after each trajectory; leave hmc.kernels out to tune HMC alone")
    searched = section.searches or KEYS
    update = {key: SEARCH for key in searched} | {"jitter": section.jitter or 0.1}
    card = card.model_copy(update={"hmc": section.model_copy(update=update)})
    streams = Streams(card.run.seed)
    phi = start_fields(section.start, section.n_chains, card.shape, streams, card.theory())
    with shown_search(progress, section.search_budget, len(phi)) as tell:
        tuned, state = tuned_kernel(card, phi, streams, tell)
    kernel = cast("HMC", tuned)  # there are no cluster updates
    return HmcTuning(kernel, _seconds(kernel, state, streams.child("seconds")))


def _seconds(kernel: HMC, state: ChainState, streams: Streams) -> tuple[float, float]:
    """Least processor and wall time per update of one chain."""
    n = max(2, int(2e7 / (state.phi.size * kernel.force_evaluations_per_update)))
    found = []
    for _ in range(ROUNDS):
        cpu, wall = time.process_time(), time.perf_counter()
        kernel.advance(state, streams, n, n)
        found.append((time.process_time() - cpu, time.perf_counter() - wall))
    cpu, wall = (min(column) / (n * len(state.phi)) for column in zip(*found, strict=True))
    return cpu, wall

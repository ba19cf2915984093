"""What the chains without a network cost: the search for their settings, and their updates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...build.classical import tuned_kernel
from ...ensemble import start_fields
from ...hmc.search import BUDGET
from ...lattice import volume
from ...streams import Streams
from ..generate import block_length
from .contract import FILE_SECONDS, Cost, ensemble_bytes, timed

if TYPE_CHECKING:
    from ...composite import Sequence as KernelSequence
    from ...config import Card
    from ...hmc import HMC
    from ...markov import ChainState
    from ...types import FloatArray

    Probe = tuple[HMC | KernelSequence, ChainState, Streams]

__all__ = ["few_fields", "generate_cost", "probe_hmc", "search_cost"]

SEARCHED = 64 * 200_000  # force evaluations of all chains in a search: 64 x (65,000 to 305,000) in five theories


def probe_hmc(card: Card) -> Probe:
    """A kernel like the card's, with typical values for the settings that a search would have to find."""
    found = {"trajectory_length": 4.0, "target_acceptance": 0.85, "integrator": "omelyan2"}
    section = card.hmc.model_copy(update={key: found[key] for key in card.hmc.searches})
    card = card.model_copy(update={"hmc": section})
    hmc, streams = card.hmc, Streams(card.run.seed)
    phi = start_fields(hmc.start, hmc.n_chains, card.shape, streams, card.theory())
    kernel, state = tuned_kernel(card, phi, streams)
    return kernel, state, streams.child("probe")


def search_cost(card: Card, kernel: HMC | KernelSequence, state: ChainState, streams: Streams) -> Cost:
    """What a search typically costs: it ends when tau_int is known well enough, which many chains see sooner."""
    seconds = timed(lambda: kernel.advance(state, streams, 4, 4)) / 4 / kernel.force_evaluations_per_update
    # all of the budget, and half of it again to confirm what it found, is the most
    spent = min(1.5 * (card.hmc.search_budget or BUDGET), SEARCHED / card.hmc.n_chains)
    return Cost(spent * seconds, 1 << 26, 0)


def generate_cost(card: Card, kernel: HMC | KernelSequence, state: ChainState, streams: Streams) -> Cost:
    """What the warm-up and the updates of an ensemble cost."""
    hmc = card.hmc
    seconds = timed(lambda: kernel.advance(state, streams, 4, 4)) / 4
    block = min(block_length(seconds, hmc.n_chains, card.shape, hmc.thin), hmc.n_updates)
    n_cfg = hmc.n_chains * (hmc.n_updates // hmc.thin)
    disk = ensemble_bytes(n_cfg, hmc.n_updates, hmc.n_chains, card.shape, 9)  # accepted, delta_h
    # blocks wait in memory for a segment; segments and the merged file coexist on disk for a moment
    memory = 2 * 8 * hmc.n_chains * volume(card.shape) * max(1, block // hmc.thin) + (64 << 20)
    return Cost((hmc.n_warmup + hmc.n_updates) * seconds + FILE_SECONDS, memory, disk)


def few_fields(card: Card, kernel: HMC | KernelSequence, state: ChainState, streams: Streams) -> FloatArray:
    """A few configurations of the card's chains, (n, *lattice)."""
    _, block = kernel.advance(state, streams, max(4, -(-64 // card.hmc.n_chains)), 1)
    return block.phi.reshape(-1, *card.shape)

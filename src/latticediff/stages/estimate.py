"""What a card will cost in time, memory and disk, from a probe of a few seconds; writes nothing.

The probe runs the very kernels of the stages on the card's lattice for a few updates, optimiser
steps and proposals (of an untrained network: the cost does not depend on the weights), and scales up.
Compilation and imports are not counted.
"""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..build.classical import tuned_kernel
from ..ensemble import start_fields
from ..hmc.search import BUDGET
from ..host import torch_defaults
from ..lattice import volume
from ..metropolis.contract import Integrated, evaluations_to_weigh
from ..streams import Streams
from ..types import Shape
from .generate import block_length

if TYPE_CHECKING:
    from ..composite import Sequence as KernelSequence
    from ..config import Card
    from ..hmc import HMC
    from ..markov import ChainState
    from ..model.score_model import ScoreModel
    from ..training import Trainer
    from ..types import FloatArray

    Probe = tuple[HMC | KernelSequence, ChainState, Streams]

__all__ = ["Cost", "estimate", "probe"]

PROBE_SECONDS = 1.0  # of each measurement
SEARCHED = 64 * 200_000  # force evaluations of all chains in a search: 64 x (65,000 to 305,000) in five theories
TOGETHER = 10  # steps of fine-tuning timed at once: some optimisers do more in every tenth
FILE_SECONDS = 0.5  # of a stage, for opening, checking and sealing files
LOOKED_AT = 256  # draws of the guard whose time is taken
FIGURE, CHAIN = 1.5, 2.0  # a figure of the page, and what is measured of a chain for it, in figures of the probe


class Cost(NamedTuple):
    """What one stage costs."""

    seconds: float  #: wall time
    memory: float  #: bytes beyond those of the probe
    disk: float  #: bytes that stay


def _timed(work: Callable[[], object]) -> float:
    """Median seconds of a call of `work`, repeated for `PROBE_SECONDS`; the first call compiles and is left out.

    The median, since on a busy machine a few calls out of many take ten times as long.
    """
    work()
    began = last = time.perf_counter()
    spent: list[float] = []
    while not spent or last - began < PROBE_SECONDS:
        work()
        now = time.perf_counter()
        spent.append(now - last)
        last = now
    return statistics.median(spent)


def _ensemble_bytes(n_cfg: int, n_updates: int, n_chains: int, shape: Shape, columns: int) -> int:
    """Size of an ensemble file; its history takes `columns` bytes for each update of a chain."""
    return 8 * n_cfg * (volume(shape) + 3) + n_updates * (8 + n_chains * columns)


def _probe_hmc(card: Card) -> Probe:
    """A kernel like the card's, with typical values for the settings that a search would have to find."""
    found = {"trajectory_length": 4.0, "target_acceptance": 0.85, "integrator": "omelyan2"}
    section = card.hmc.model_copy(update={key: found[key] for key in card.hmc.searches})
    card = card.model_copy(update={"hmc": section})
    hmc, streams = card.hmc, Streams(card.run.seed)
    phi = start_fields(hmc.start, hmc.n_chains, card.shape, streams, card.theory())
    kernel, state = tuned_kernel(card, phi, streams)
    return kernel, state, streams.child("probe")


def _search_cost(card: Card, kernel: HMC | KernelSequence, state: ChainState, streams: Streams) -> Cost:
    """What a search typically costs: it ends when tau_int is known well enough, which many chains see sooner."""
    seconds = _timed(lambda: kernel.advance(state, streams, 4, 4)) / 4 / kernel.force_evaluations_per_update
    # all of the budget, and half of it again to confirm what it found, is the most
    spent = min(1.5 * (card.hmc.search_budget or BUDGET), SEARCHED / card.hmc.n_chains)
    return Cost(spent * seconds, 1 << 26, 0)


def _generate_cost(card: Card, kernel: HMC | KernelSequence, state: ChainState, streams: Streams) -> Cost:
    hmc = card.hmc
    seconds = _timed(lambda: kernel.advance(state, streams, 4, 4)) / 4
    block = min(block_length(seconds, hmc.n_chains, card.shape, hmc.thin), hmc.n_updates)
    n_cfg = hmc.n_chains * (hmc.n_updates // hmc.thin)
    disk = _ensemble_bytes(n_cfg, hmc.n_updates, hmc.n_chains, card.shape, 9)  # accepted, delta_h
    # blocks wait in memory for a segment; segments and the merged file coexist on disk for a moment
    memory = 2 * 8 * hmc.n_chains * volume(card.shape) * max(1, block // hmc.thin) + (64 << 20)
    return Cost((hmc.n_warmup + hmc.n_updates) * seconds + FILE_SECONDS, memory, disk)


def _few_fields(card: Card, kernel: HMC | KernelSequence, state: ChainState, streams: Streams) -> FloatArray:
    """A few configurations of the card's chains, (n, *lattice)."""
    _, block = kernel.advance(state, streams, max(4, -(-64 // card.hmc.n_chains)), 1)
    return block.phi.reshape(-1, *card.shape)


def _law_cost(card: Card, trainer: Trainer) -> Cost:
    """That of the law of the fine sites, which is trained before the network."""
    from ..fine import FineLaw
    from ..training.fine import FORCES, VALUES, match_forces

    theory = trainer.gaussian.action
    law = FineLaw(theory.exact, theory.shape)
    coarse = trainer.data.train[: max(8, VALUES // (2 * law.geometry.n))].double().cpu().numpy()
    rows = theory.compiled.draw(coarse.reshape(len(coarse), -1), np.full((len(coarse), law.geometry.n), 0.5))[0]
    seconds = _timed(lambda: match_forces(law, rows, 4)) / 4
    return Cost(card.training.fine_steps * seconds, 4 * 8 * FORCES, 0)


def _train_cost(card: Card, trainer: Trainer) -> Cost:
    from ..diffusion.threads import one_torch_thread

    hmc, section = card.hmc, card.training
    with one_torch_thread(trainer.gaussian.device):  # as in a training: threads that wait would count for work
        seconds = _timed(trainer.advance) * section.batch / trainer.plan.batch
        before = _blend_seconds(card, trainer) if section.target == "stein" else 0.0
    data = 8 * hmc.n_chains * (hmc.n_updates // hmc.thin) * volume(card.shape)
    weights = sum(4 * p.numel() for p in trainer.network.parameters())
    return Cost(before + FILE_SECONDS + section.steps * seconds, 2 * data, weights + 70 * 8 * volume(card.shape))


def _blend_seconds(card: Card, trainer: Trainer) -> float:
    """Seconds of fitting the blend of targets, before the first step: done here on as many fields, if the same few."""
    import torch

    from ..targets.control_variates import fit_blend
    from .finish_cost import training_fields

    train = trainer.data.train
    again = torch.arange(min(training_fields(card), 1 << 15)) % len(train)
    rows = train[again.to(train.device)]
    began = time.perf_counter()
    fit_blend(trainer.gaussian, rows, trainer.noise)
    return time.perf_counter() - began


def _look_seconds(card: Card, trainer: Trainer) -> float:
    """Seconds of a look of the guard for each of its draws, with as many held-out configurations."""
    from ..proposal import OdeProposal
    from .small import untrained

    section, model = card.finetune, untrained(trainer)
    proposal, n = OdeProposal(model, section.integration_steps, section.method), min(section.n_check, LOOKED_AT)
    rng = Streams(card.run.seed).child("probe").generator("guard")
    # draws by the grid and by one with twice the steps, which takes the held-out configurations, too
    return (1 + 2 + 2) * _timed(lambda: proposal.draw(n, rng)) / n


def _finetune_cost(card: Card, trainer: Trainer) -> Cost:
    from ..diffusion.threads import one_torch_thread
    from .small import small_finetuner

    section, guarding = card.finetune, 0.0
    tuner = small_finetuner(card, trainer)
    with one_torch_thread(trainer.gaussian.device):
        seconds = (
            _timed(lambda: [tuner.advance() for _ in range(TOGETHER)]) / TOGETHER * section.batch / tuner.plan.batch
        )
    if section.check_every:
        looks = 1 + -(-section.steps // section.check_every)  # before the first step, too
        guarding = looks * section.n_check * _look_seconds(card, trainer)
    data = 8 * card.hmc.n_chains * (card.hmc.n_updates // card.hmc.thin) * volume(card.shape)
    weights = sum(4 * p.numel() for p in trainer.network.parameters())
    return Cost(guarding + FILE_SECONDS + section.steps * seconds, 2 * data, weights + 70 * 8 * volume(card.shape))


def _draw_seconds(proposal: Any, n: int, rng: np.random.Generator, phis: FloatArray | None) -> float:
    """Seconds of a draw; of a model of odd sites that is not trained, with the even ones beside the fields `phis`.

    What an untrained network draws is far out, where the even sites have no table and take a hundred times as long.
    """
    if phis is None or not hasattr(proposal, "odd"):
        return _timed(lambda: proposal.draw(n, rng)) / n
    odd, theory = phis[:n], proposal.theory
    keys = rng.integers(2**64, size=len(odd), dtype=np.uint64)
    even = _timed(lambda: theory.log_conditional(odd, theory.draw_even(odd, keys))) / len(odd)
    return _timed(lambda: proposal.odd.draw(n, rng)) / n + even


def _sample_cost(card: Card, model: ScoreModel, route: str, phis: FloatArray | None = None) -> Cost:
    from ..build.learned import build_kernel, build_proposal, on_uniform_grid, section_of
    from .weigh import N_DOUBLING

    card = on_uniform_grid(card)  # where the steps end does not change what they cost
    section, sampling = section_of(card, route), card.sampling
    proposal = build_proposal(card, model, route)
    rng = Streams(card.run.seed).child("probe").generator(route)
    n = min(sampling.batch, section.n_chains)
    seconds = _draw_seconds(proposal, n, rng, phis)
    # a refreshed path, a further try, a field to weigh again: all counted in evaluations, as a draw is
    per_draw = max(1, proposal.evaluations_per_draw)  # none of a proposal without a network
    passages = max(1.0, build_kernel(card, model, route).evaluations_per_update / per_draw)
    to_weigh = max(1, evaluations_to_weigh(proposal)) / per_draw
    weighing = sampling.n_forward * seconds * to_weigh
    if isinstance(proposal, Integrated):  # some fields and draws are weighed again with twice the steps
        weighing += N_DOUBLING * seconds * (1 + (1 + 2 + 2) * to_weigh)
    per_update = section.n_chains * seconds * passages
    n_cfg = section.n_chains * section.n_updates
    disk = _ensemble_bytes(n_cfg, section.n_updates, section.n_chains, card.shape, 9)
    memory = 16 * 8 * sampling.batch * volume(card.shape)
    seconds = (section.n_warmup + section.n_updates) * per_update + weighing + 2 * FILE_SECONDS
    return Cost(seconds, memory, disk)


def _beside_costs(card: Card) -> dict[str, Cost]:
    """Of the further models of a card, each in its own scheme."""
    from ..model.storage import load_model
    from .beside import ROUTE, models_beside

    costs = {}
    for beside in models_beside(card):
        model = load_model(beside.model, action=card.theory(), shape=card.shape)
        costs[f"beside {beside.key}"] = _sample_cost(beside.card, model, ROUTE)
    return costs


def _report_costs(card: Card, n_routes: int) -> dict[str, Cost]:
    """Of the page, nearly all of it drawing, and of the processor time of all samplers where models are compared."""
    from ..report.figures import FIGURES
    from ..report.style import FigureRecord, new_figure, styled
    from .prices import ROUND_SECONDS, ROUNDS

    def one() -> None:
        with styled():
            figure, axes = new_figure(4.2, nrows=2)
            for ax in axes:
                ax.plot(range(20), label="a chain")
            axes[0].legend()
        record = FigureRecord("probe", "", "", "", figure, (), [])
        assert record.png
        assert record.pdf
        assert record.svg

    n = 1 + n_routes + len(card.sampling.beside or ())
    costs = {"report": Cost(_timed(one) * (FIGURE * len(FIGURES) + CHAIN * n), 1 << 27, 1 << 23)}
    if card.sampling.beside:
        costs = {"prices": Cost(ROUNDS * ROUND_SECONDS * n, 1 << 26, 1 << 10), **costs}
    return costs


@torch_defaults()
def probe(card: Card, stages: Collection[str]) -> dict[str, Cost]:
    """Measure what stages of a card would cost, in a few seconds.

    Parameters
    ----------
    card : latticediff.config.Card
    stages : collection of str
        Any of ``generate, sample_hmc, train, finetune, sample_ode, sample_sde``, and ``beside``: the models that
        ``sampling.beside`` names; ``report``, the page of a run.

    Returns
    -------
    dict of str to Cost
        One for each stage, of ``beside`` for each model, and ``"search, about"`` where the card lets HMC settings be
        searched for. What follows the last step of a training counts for itself: ``finish train``.
    """
    hmc = _probe_hmc(card)
    costs: dict[str, Cost] = {}
    if "generate" in stages:
        costs = {"search, about": _search_cost(card, *hmc)} if card.hmc.searches else {}
        costs["generate"] = _generate_cost(card, *hmc)
    if "sample_hmc" in stages:
        every = card.hmc.model_copy(update={"n_warmup": 0, "n_updates": card.sampling.hmc.n_updates, "thin": 1})
        if card.sampling.hmc.search:
            costs["search, about"] = _search_cost(card, *hmc)
        costs["sample_hmc"] = _generate_cost(card.model_copy(update={"hmc": every}), *hmc)
    if set(stages) <= {"generate", "sample_hmc"}:
        return costs
    from ..training.data import evenly
    from .finish_cost import finish_seconds
    from .small import small_trainer, untrained

    if "train" not in stages:  # whatever the weights began with, they cost the same
        card = card.model_copy(update={"training": card.training.model_copy(update={"init": None})})
    trainer = small_trainer(card, _few_fields(card, *hmc))
    model = untrained(trainer)
    if "train" in stages and card.training.sites == "coarse":
        costs["law of the fine sites"] = _law_cost(card, trainer)
    if "train" in stages:
        costs["train"] = _train_cost(card, trainer)
        costs["finish train"] = Cost(finish_seconds(card, trainer, model, figures=False), 1 << 26, 0)
    if "finetune" in stages:
        costs["finetune"] = _finetune_cost(card, trainer)
        costs["finish finetune"] = Cost(finish_seconds(card, trainer, model, figures=True), 1 << 26, 0)
    phis = evenly(trainer.data.judged, card.sampling.batch)
    learned = [stage for stage in stages if stage in ("sample_ode", "sample_sde")]
    for stage in learned:
        costs[stage] = _sample_cost(card, model, stage.removeprefix("sample_"), phis)
    if "beside" in stages:
        costs |= _beside_costs(card)
    if "report" in stages:
        costs |= _report_costs(card, len(learned))
    return costs


def estimate(card: Card, stages: Sequence[str]) -> str:
    """What stages of a card would cost, as a table for people; takes a few seconds and writes nothing.

    Parameters
    ----------
    card : latticediff.config.Card
    stages : sequence of str
        As for `probe`.

    Returns
    -------
    str
        Time, memory (what the probe itself uses included) and disk space of each stage, and of all together.
    """
    costs = probe(card, stages)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    wide = max([16, *(len(stage) + 1 for stage in costs)])
    lines = [f"{'estimate':{wide}}{'time':>10}{'memory':>12}{'disk':>12}"]
    for stage, cost in costs.items():
        lines.append(f"{stage:{wide}}{_time(cost.seconds):>10}{_bytes(used + cost.memory):>12}{_bytes(cost.disk):>12}")
    if len(costs) > 1:
        total = [sum(cost.seconds for cost in costs.values()), sum(cost.disk for cost in costs.values())]
        peak = used + max(cost.memory for cost in costs.values())
        lines.append(f"{'together':{wide}}{_time(total[0]):>10}{_bytes(peak):>12}{_bytes(total[1]):>12}")
    return "\n".join(lines)


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"


def _bytes(n: float) -> str:
    return f"{n / 1e9:.3g} GB" if n >= 1e9 else f"{n / 1e6:.3g} MB"

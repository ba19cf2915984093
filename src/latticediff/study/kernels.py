"""The kernel of a cell: classical ones tuned for the least cost, learned ones from their model, and both built again.

A kernel that was tuned is described in the result of its cell; timing builds it from there, so that nothing is searched
twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from ..action import Action, action_from_description
from ..analysis import tau_int
from ..cluster import Cluster
from ..composite import Sequence
from ..errors import UserError
from ..hmc import HMC, tune
from ..hmc.search import typical_evaluations
from ..local_updates import LocalMetropolis
from ..markov import ActionKernel, ChainState, kernel_from_description
from ..metropolis.asking import ask_draw
from ..streams import Streams
from .samplers import SAMPLERS
from .timing import timed

if TYPE_CHECKING:
    from ..types import Description, FloatArray
    from .cell import Cell

__all__ = ["MIXES", "Built", "action_of", "begin", "build", "rebuild", "start_fields"]

SEARCHED: dict[str, Any] = {"integrator": "search", "jitter": 0.1}
THERMALISE = 100  #: trajectories before a classical chain begins
EPS = 0.5  #: of the sampler ``partial``
SCAN_SECONDS = 0.05  #: of each mix and round of its timing
SCAN, FINALISTS = 200, 4  #: updates of each chain and mix, after a quarter as many; mixes that run twice as long
#: clusters (method, number) and what moves |phi|: None for a Metropolis and a reflection sweep, or a trajectory length
MIXES = tuple(
    (method, number, rest)
    for method, number in (("swendsen-wang", 1), ("swendsen-wang", 2), ("wolff", 1), ("wolff", 4))
    for rest in (None, 0.5, 1.0)
)


class Built(NamedTuple):
    """A kernel that is ready to run."""

    kernel: Any  #: of the contract `ActionKernel`
    evaluations: float | None  #: per update of one chain; None: not of one kind
    beside: Description  #: what the result says of how it was found
    is_learned: bool = False

    @property
    def proposing(self) -> Any:
        """Of a learned kernel, the part that has the proposal."""
        return self.kernel.parts[0] if isinstance(self.kernel, Sequence) else self.kernel


def action_of(cell: Cell) -> Action:
    """The action of a cell."""
    return action_from_description(cell.action)


def start_fields(cell: Cell) -> FloatArray:
    """Where the chains of a cell begin, (n_chains, *lattice) float64: normal, smaller than fields in equilibrium."""
    rng = Streams(cell.seed).child("study").generator("start")
    return 0.3 * rng.standard_normal((cell.n_chains, *cell.shape))


def begin(cell: Cell, built: Built, streams: Streams) -> ChainState:
    """Where the chains of a kernel begin: learned ones with proposals, others with fields that HMC has thermalised.

    Its trajectories are of very different lengths. Those of one length leave the modes that they turn by half a period
    where they began, and what such a chain drops as its beginning would be too little.
    """
    if not built.is_learned:
        start, streams = start_fields(cell), streams.child("thermalise")
        hmc = tune(action_of(cell), start, streams.child("tune"), 0.85, 1.0, jitter=0.5)
        state, _ = hmc.advance(hmc.start(start), streams, THERMALISE, THERMALISE)
        return cast(ChainState, built.kernel.start(state.phi))
    if hasattr(built.proposing, "hot_start"):
        state = built.proposing.hot_start(cell.n_chains, streams)
        return cast(ChainState, state if built.proposing is built.kernel else built.kernel.start(state.phi))
    # moves of the noise: from fields that the model proposes
    draw = ask_draw(built.proposing.proposal, cell.n_chains, streams.generator("start"))
    return cast(ChainState, built.kernel.start(draw.phi))


def build(cell: Cell, streams: Streams, tell: Callable[[float], object] | None = None) -> Built:
    """The kernel of a cell, tuned.

    Parameters
    ----------
    cell : Cell
        Of kind "chain".
    streams : Streams
    tell : callable, optional
        Called now and then with the share of a search that is done.

    Returns
    -------
    Built
        ``beside`` has ``search_seconds``, and for clusters ``mix`` and the ``scan`` that it comes from.

    Raises
    ------
    UserError
        HMC accepts nothing, the theory does not have the sampler, or a model does not fit.
    """
    if SAMPLERS[cell.sampler].is_learned:
        return _learned(cell)
    action, start, began = action_of(cell), start_fields(cell), time.perf_counter()
    beside: Description = {}
    budget = int(cell.settings.get("budget", 0))
    goal = typical_evaluations(budget, cell.n_chains, cell.sampler == "fourier_hmc")

    def told(spent: int) -> None:  # a search that goes on beyond what is typical is never quite done
        if tell is not None:
            tell(spent / max(goal, 1.1 * spent, 1.0))

    kernel: Any
    if cell.sampler == "hmc":
        kernel = tune(
            action,
            start,
            streams.child("tune"),
            cast(float, "search"),
            cast(float, "search"),
            **SEARCHED,
            budget=budget,
            tell=told,
        )
    elif cell.sampler == "fourier_hmc":
        options = {**SEARCHED, "mass": "search", "budget": budget, "tell": told}
        kernel = tune(action, start, streams.child("tune"), cast(float, "search"), cast(float, "search"), **options)
    elif cell.sampler == "hmc_unit":
        kernel = tune(action, start, streams.child("tune"), 0.85, 1.0)
    elif cell.sampler == "cluster":
        name, kernel, scan = _best_mix(action, start, streams.child("mixes"), tell)
        beside |= {"mix": name, "scan": scan}
    else:
        raise UserError(f"there is no sampler {cell.sampler!r}; expected {', '.join(SAMPLERS)}")
    beside["search_seconds"] = time.perf_counter() - began
    return Built(kernel, _gradients(kernel, cell), beside)


def rebuild(cell: Cell, told: Description) -> Built:
    """The kernel of a cell whose result is `told`, without another search."""
    if SAMPLERS[cell.sampler].is_learned:
        return _learned(cell, told["kernel"])
    kernel: Any = kernel_from_description(action_of(cell), told["kernel"])
    return Built(kernel, _gradients(kernel, cell), {})


def _gradients(kernel: Any, cell: Cell) -> float | None:
    """Gradients of S per update; None for clusters, whose updates are mostly something else."""
    return None if SAMPLERS[cell.sampler].counted is None else float(kernel.force_evaluations_per_update)


def _learned(cell: Cell, told: Description | None = None) -> Built:
    # torch is wanted from here on
    from ..metropolis import IndependenceMetropolis, LatentMetropolis
    from ..metropolis.moves import Coloured
    from ..model.storage import load_model
    from ..proposal import proposal_for
    from ..proposal.own import own_proposal

    action = action_of(cell)
    model = load_model(cell.model_name, action=action, shape=cell.shape)
    if cell.sampler == "partial":
        move: Any = Coloured(EPS)
        latent = LatentMetropolis(own_proposal(model), action, move)
        return Built(latent, float(latent.evaluations_per_update), {}, is_learned=True)
    route = "sde" if SAMPLERS[cell.sampler].is_stochastic else "ode"
    kernel = IndependenceMetropolis(proposal_for(model, route), action)
    if cell.sampler != "fast_hmc":
        return Built(kernel, float(kernel.evaluations_per_update), {}, is_learned=True)
    if told is None:
        hmc = tune(action, start_fields(cell), Streams(cell.seed).child("study").child("tune"), 0.85, 1.0)
    else:
        hmc = cast(HMC, kernel_from_description(action, told["parts"][1]))
    return Built(Sequence([cast(ActionKernel, kernel), hmc]), None, {}, is_learned=True)


def _mixes(action: Action, start: FloatArray, streams: Streams) -> Iterator[tuple[str, Sequence]]:
    """The kernels of `MIXES` by name; those of local sweeps only where the lattice can be coloured."""
    trajectories = {
        length: tune(action, start, streams.child(f"mix-{length}"), 0.85, length, jitter=0.1)
        for length in sorted({rest for *_, rest in MIXES if rest})
    }
    for method, number, rest in MIXES:
        if rest is None and any(extent % 2 for extent in start.shape[1:]):
            continue
        local: ActionKernel = trajectories[rest] if rest else LocalMetropolis(action, 0.8, 1, 1)
        name = f"{method} {number} + {f'trajectory {rest:g}' if rest else 'sweeps'}"
        yield name, Sequence([Cluster(action, method, number), local])


def _best_mix(
    action: Action, start: FloatArray, streams: Streams, tell: Callable[[float], object] | None = None
) -> tuple[str, Sequence, Description]:
    """The mix of least processor time per independent |m|, and the rows of the scan; the best of it run on longer."""
    kernels = dict(_mixes(action, start, streams))
    axes = tuple(range(2, start.ndim + 1))
    rows: dict[str, dict[str, Any]] = {}
    names, length = list(kernels), SCAN
    done, all_of_it = 0, 2 * (len(names) + FINALISTS)  # each mix runs, and is timed
    while True:
        states: dict[str, Any] = {}
        for name in names:
            kernel, branch = kernels[name], streams.child(f"{name}-{length}")
            state, _ = kernel.advance(kernel.start(start), branch, length // 4, length // 4)
            states[name], block = kernel.advance(state, branch, length)
            rows[name] = {"tau_int": tau_int(np.abs(block.phi.mean(axis=axes)).T).pair()}
            done += 1
            if tell is not None:
                tell(min(1.0, done / all_of_it))
        done += len(names)
        spent = timed({name: (kernels[name], states[name]) for name in names}, streams, SCAN_SECONDS, 5)
        for name in names:
            rows[name]["processor_seconds"] = 2 * rows[name]["tau_int"][0] * spent[name].processor[0]
        names.sort(key=lambda name: rows[name]["processor_seconds"])
        if len(names) <= FINALISTS:
            return names[0], kernels[names[0]], rows
        names, length = names[:FINALISTS], 2 * length

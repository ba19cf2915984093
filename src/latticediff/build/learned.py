"""From a card to the kernel of a learned chain: the route's proposal, the move, the kernels it alternates with."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

from .. import registry
from ..asking import asked
from ..cluster import Cluster
from ..composite import Sequence
from ..config.sections import ProposalSection
from ..contracts import require
from ..ensemble import start_fields
from ..errors import UserError
from ..host import torch_defaults
from ..metropolis import IndependenceMetropolis, LatentMetropolis, MultipleTry, check_doubling
from ..metropolis.asking import ask_draw
from ..metropolis.checks import sound_rows
from ..metropolis.contract import Integrated, LatentProposal, Proposal
from ..metropolis.moves import Block, Coloured, Infrared, KeepTop, White
from ..model.phases import Phases
from ..networks.contract import ClosedFormTrace
from ..proposal.grid import own_scheme, with_grid
from ..proposal.mixture import MixtureProposal
from ..proposal.whole import whole_proposal
from ..streams import Streams
from .classical import installed_kernels, tuned_kernel
from .contract import LatentRoute, LearnedKernel, Route
from .named_proposal import NamedProposal

if TYPE_CHECKING:
    from ..config import Card
    from ..config.sections import KernelSection
    from ..markov import ActionKernel
    from ..model.score_model import ScoreModel
    from ..proposal import OdeProposal

__all__ = [
    "accept_density",
    "build_kernel",
    "build_proposal",
    "largest_doubling",
    "on_own_scheme",
    "on_uniform_grid",
    "passing_proposal",
    "plain_proposal",
    "refuse_coarse",
    "route_named",
    "routes_of",
    "section_of",
    "store_grid",
]

N_DOUBLING = 32  # draws whose density is computed with twice the steps before a chain begins


def route_named(name: str) -> Route:
    """The `Route` registered as `name`; without one, that of the proposal of this name.

    Raises
    ------
    UserError
        No such route, or one that lacks a part of the contract.
    """
    known = registry.names("routes")
    if name not in known:
        if name in registry.names("proposals"):
            return NamedProposal(name)
        raise UserError(f"route is {name!r}; expected one of {', '.join(known)}")
    try:
        route = registry.load("routes", name)()
    except TypeError as exc:
        raise UserError(f"route {name!r} cannot be made without arguments: {exc}") from None
    require(route, Route, f"route {name!r}")
    return route


def routes_of(card: Card) -> tuple[str, ...]:
    """Names of the routes that a run of the card samples: the package's own, then others with a section of theirs."""
    return ("ode", "sde", *sorted(card.sampling.model_extra or ()))


def section_of(card: Card, route: str) -> Any:
    """The options of a route, as the card has them or by default; their keys are known to the route alone.

    Parameters
    ----------
    card : latticediff.config.Card
    route : str

    Returns
    -------
    pydantic.BaseModel
        With ``n_chains``, ``n_warmup`` and ``n_updates`` at least.
    """
    section = getattr(card.sampling, route, None)
    if section is not None:
        return section
    if route in registry.names("proposals") and route not in registry.names("routes"):
        return ProposalSection()
    return registry.load("route_options", route)()


@torch_defaults()
def build_proposal(card: Card, model: ScoreModel | Phases, route: str) -> Proposal:
    """The `Proposal` of a route for a loaded `ScoreModel`: independent draws, annealed if the card asks for rungs."""
    proposal, section = plain_proposal(card, model, route), section_of(card, route)
    if isinstance(model, Phases):
        if getattr(section, "rungs", 1) > 1:
            raise UserError(f"rungs anneal one model; for coexisting phases take sampling.{route}.rungs = 1")
        return proposal
    rungs = getattr(section, "rungs", 1)
    if rungs > 1:
        proposal = registry.load("proposals", "refined")(proposal, rungs, section.rung_step)
    return whole_proposal(proposal, model.action)


def on_uniform_grid(card: Card) -> Card:
    """The card with the ODE on a uniform grid: nothing is calibrated for weights that are only to be measured."""
    return _with_ode(card, grid="uniform")


def on_own_scheme(card: Card, model: ScoreModel, **given: Any) -> Card:
    """The card with the steps, method and grid that a model brings along, except for those `given`."""
    return _with_ode(card, **own_scheme(model, **given))


def _with_ode(card: Card, **update: Any) -> Card:
    ode = card.sampling.ode.model_copy(update=update)
    return card.model_copy(update={"sampling": card.sampling.model_copy(update={"ode": ode})})


def passing_proposal(card: Card, model: ScoreModel) -> OdeProposal:
    """The ODE proposal of a card on a uniform grid and without rungs: the model's own quality, and at little cost."""
    return cast("OdeProposal", plain_proposal(on_uniform_grid(card), model, "ode"))  # the package's own route


def store_grid(card: Card, model: ScoreModel) -> None:
    """Put the time grid that the card's ODE asks for into the card of a model; it is calibrated if it is not known."""
    section = card.sampling.ode
    # a divergence by backward passes is too dear to calibrate a grid unasked
    if section.grid == "optimised" and isinstance(model.network, ClosedFormTrace):
        grid = cast("OdeProposal", plain_proposal(card, model, "ode")).grid  # the package's own route
        model.card = with_grid(model.card, section.steps, section.method, grid)


def plain_proposal(card: Card, model: ScoreModel | Phases, route: str) -> Proposal:
    """The proposal of a route for what the network has learned, `ScoreModel.action`, without annealing."""
    if isinstance(model, Phases):
        return MixtureProposal.of_phases(
            model, lambda part: whole_proposal(plain_proposal(card, part, route), part.action)
        )
    made = route_named(route)
    proposal = asked(made, "route", "proposal", made.proposal, model, section_of(card, route), card.sampling.batch)
    require(proposal, Proposal, f"the proposal of route {route!r}")
    return proposal


@torch_defaults()
def build_kernel(card: Card, model: ScoreModel | Phases, route: str) -> LearnedKernel:
    """The exact kernel of a route that ``[sampling.kernel]`` describes.

    Parameters
    ----------
    card : latticediff.config.Card
    model : ScoreModel
    route : str
        ``ode``, ``sde`` or an installed one.

    Returns
    -------
    Kernel
        `IndependenceMetropolis`, `MultipleTry` or `LatentMetropolis`; a `Sequence` that ends in it where HMC,
        cluster updates or installed kernels go before. HMC is tuned afresh from the card's seed, so a resumed run has
        the same kernel.

    Raises
    ------
    UserError
        A key of ``[sampling.kernel]`` that does not fit the model or the lattice.
    """
    learned, section = _learned_kernel(card, model, route), card.sampling.kernel
    before: list[ActionKernel] = []
    if section.hmc:
        streams = Streams(card.run.seed).child("sample-hmc")
        phi = start_fields("hot", card.hmc.n_chains, card.shape, streams, card.theory())
        hmc_only = card.model_copy(update={"hmc": card.hmc.model_copy(update={"cluster": None, "kernels": None})})
        before += [tuned_kernel(hmc_only, phi, streams)[0]] * section.hmc
    if section.cluster:
        before.append(Cluster(card.theory(), n_clusters=section.cluster))
    before += installed_kernels(section.kernels, card.theory())
    return Sequence([*before, learned]) if before else learned


def accept_density(card: Card, model: ScoreModel | Phases, route: str) -> float | None:
    """Refuse a route whose log_q is not accurate to ``sampling.max_doubling``.

    Parameters
    ----------
    card : latticediff.config.Card
    model : ScoreModel
    route : str

    Returns
    -------
    float or None
        Spread of the change of log_q of a few draws under twice the steps; None where nothing is integrated.

    Raises
    ------
    UserError
        The spread is larger than that, or no draw has a density.
    """
    # annealed paths are random; the density below them is not
    proposal = plain_proposal(card, model, route)
    if not isinstance(proposal, Integrated):
        return None
    streams = Streams(card.run.seed).child(f"doubling-{route}")
    remedy = f"in the card: sampling.{route}.steps = {2 * section_of(card, route).steps}, or sampling.max_doubling"
    return refuse_coarse(proposal, largest_doubling(card), streams, remedy)


def largest_doubling(card: Card) -> float:
    """The spread of the change of log_q under twice the steps that a card allows; inf allows any."""
    largest = card.sampling.max_doubling
    return math.inf if largest == "any" else largest


def refuse_coarse(
    proposal: Proposal, largest: float, streams: Streams, remedy: str, largest_mean: float = math.inf
) -> float | None:
    """Refuse a proposal whose log_q changes too much under twice the steps: `check_doubling` on a few draws.

    Parameters
    ----------
    proposal : Proposal
    largest : float
        Spread of the change of log_q that is allowed; inf allows any.
    streams : Streams
    remedy : str
        What to change, and where.
    largest_mean : float
        Mean change that is allowed; log Z is off by as much.

    Returns
    -------
    float or None
        The spread; None where nothing is integrated.

    Raises
    ------
    UserError
        Spread or mean is larger than allowed, or no draw has a density.
    """
    if not isinstance(proposal, Integrated):
        return None
    draw = ask_draw(proposal, N_DOUBLING, streams.generator("draw"))
    rows = sound_rows(draw)
    try:
        return check_doubling(proposal, draw.phi[rows], largest, draw.log_q[rows], largest_mean)
    except UserError as exc:
        raise UserError(f"{exc} ({remedy})") from None


def _learned_kernel(card: Card, model: ScoreModel | Phases, name: str) -> LearnedKernel:
    """The Metropolis kernel of a route, without the kernels that go before it."""
    section, sampling, action = card.sampling.kernel, card.sampling, card.theory()
    route, options = route_named(name), section_of(card, name)
    if section.move == "independence":
        proposal, refresh = build_proposal(card, model, name), getattr(options, "refresh", None)
        if section.tries == 1:
            return IndependenceMetropolis(proposal, action, refresh, sampling.batch)
        return MultipleTry(proposal, action, section.tries, refresh, sampling.batch)
    if getattr(options, "rungs", 1) > 1:
        raise UserError(f"rungs anneal independent draws; take sampling.{name}.rungs = 1 with move = {section.move!r}")
    if isinstance(model, Phases):
        raise UserError(
            f"sampling.kernel.move = {section.move!r} moves in the noise of one model; coexisting phases want"
            " move = independence"
        )
    if model.theory is not model.action:
        raise UserError(
            f"the model proposes {model.action.sites} sites and draws the others, which have no noise to move in;"
            f" sampling.kernel.move = {section.move!r} wants a model of all sites"
            " (training.sites = all), or take move = independence"
        )
    require(route, LatentRoute, f"route {name!r}")
    bijective = cast(LatentRoute, route)  # as `require` found
    keeps_top = bijective.has_path and section.move == "partial" and section.noise == "white"
    if keeps_top:
        _checked_sigma(section, model)
    latent = bijective.latent(model, options, sampling.batch, section.sigma if keeps_top else None)
    require(latent, LatentProposal, f"the proposal of route {name!r}")
    move: Any = KeepTop() if keeps_top else _move(section, model)
    return LatentMetropolis(latent, action, move, section.tries)


def _move(section: KernelSection, model: ScoreModel) -> Block | White | Infrared | Coloured:
    """The move near the current field that ``[sampling.kernel]`` asks for, where no path is kept."""
    if section.move == "block":
        return Block(cast(int, section.block), section.eps)  # a section without it is refused with the card
    propagator = model.gaussian.propagator_full.numpy()
    if section.noise == "white":
        return White(_checked_sigma(section, model), propagator)
    return Infrared(section.eps, propagator) if section.noise == "infrared" else Coloured(section.eps)


def _checked_sigma(section: KernelSection, model: ScoreModel) -> float:
    """The width of white noise, which has to lie within the model's noise levels."""
    sigma = cast(float, section.sigma)  # a section with white noise and no sigma is refused with the card
    low, high = model.noise.sigma_min, model.noise.sigma_max
    if not low < sigma <= high:
        raise UserError(f"sampling.kernel.sigma = {sigma:g} is outside the model's noise levels, {low:g} to {high:g}")
    return sigma

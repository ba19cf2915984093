"""From a card to the kernel of a learned chain: the route's proposal, the move, the kernels it alternates with."""

import math

from .. import registry
from ..cluster import Cluster
from ..composite import Sequence
from ..contracts import require
from ..ensemble import start_fields
from ..errors import UserError
from ..host import torch_defaults
from ..metropolis import IndependenceMetropolis, LatentMetropolis, MultipleTry, check_doubling
from ..metropolis.checks import sound_rows
from ..metropolis.contract import Integrated, LatentProposal, Proposal
from ..metropolis.moves import Block, Coloured, Infrared, KeepTop, White
from ..networks.contract import ClosedFormTrace
from ..proposal.grid import with_grid
from ..streams import Streams
from .classical import tuned_kernel
from .contract import LatentRoute, Route

__all__ = [
    "accept_density",
    "build_kernel",
    "build_proposal",
    "on_uniform_grid",
    "passing_proposal",
    "refuse_coarse",
    "route_named",
    "routes_of",
    "store_grid",
]

N_DOUBLING = 32  # draws whose density is computed with twice the steps before a chain begins


def route_named(name):
    """The `Route` registered as `name`.

    Raises
    ------
    UserError
        No such route, or one that lacks a part of the contract.
    """
    known = registry.names("routes")
    if name not in known:
        raise UserError(f"route is {name!r}; expected one of {', '.join(known)}")
    try:
        route = registry.load("routes", name)()
    except TypeError as exc:
        raise UserError(f"route {name!r} cannot be made without arguments: {exc}") from None
    require(route, Route, f"route {name!r}")
    return route


def routes_of(card):
    """Names of the routes that a run of the card samples: the package's own, then others with a section of theirs."""
    return ("ode", "sde", *sorted(card.sampling.model_extra or ()))


def _section(card, route):
    """The options of a route, as the card has them or by default."""
    section = getattr(card.sampling, route, None)
    return registry.load("route_options", route)() if section is None else section


@torch_defaults()
def build_proposal(card, model, route):
    """The `Proposal` of a route for a loaded `ScoreModel`: independent draws, annealed where the card has rungs."""
    proposal, section = _plain_proposal(card, model, route), _section(card, route)
    rungs = getattr(section, "rungs", 1)
    return proposal if rungs == 1 else registry.load("proposals", "refined")(proposal, rungs, section.rung_step)


def on_uniform_grid(card):
    """The card with the ODE on a uniform grid, for weights that are only looked at: nothing is calibrated for them."""
    ode = card.sampling.ode.model_copy(update={"grid": "uniform"})
    return card.model_copy(update={"sampling": card.sampling.model_copy(update={"ode": ode})})


def passing_proposal(card, model):
    """The ODE proposal of `on_uniform_grid`, without rungs: the model is looked at, not what annealing makes of it."""
    return _plain_proposal(on_uniform_grid(card), model, "ode")


def store_grid(card, model):
    """Put the time grid that the card's ODE asks for into the card of a model, calibrated if it is not there."""
    section = card.sampling.ode
    # a divergence by backward passes is too dear to calibrate a grid unasked
    if section.grid == "optimised" and isinstance(model.network, ClosedFormTrace):
        grid = _plain_proposal(card, model, "ode").grid
        model.card = with_grid(model.card, section.steps, section.method, grid)


def _plain_proposal(card, model, route):
    proposal = route_named(route).proposal(model, _section(card, route), card.sampling.batch)
    require(proposal, Proposal, f"the proposal of route {route!r}")
    return proposal


@torch_defaults()
def build_kernel(card, model, route):
    """The exact kernel of a route as ``[sampling.kernel]`` wants it.

    Returns
    -------
    Kernel
        `IndependenceMetropolis`, `MultipleTry` or `LatentMetropolis`; a `Sequence` that ends in it where HMC or
        cluster updates go before. HMC is tuned afresh from the card's seed, so a resumed run has the same kernel.

    Raises
    ------
    UserError
        A knob that does not fit the model or the lattice.
    """
    learned, section = _learned_kernel(card, model, route), card.sampling.kernel
    before = []
    if section.hmc:
        streams = Streams(card.run.seed).child("sample-hmc")
        phi = start_fields("hot", card.hmc.n_chains, card.shape, streams, card.theory())
        hmc_only = card.model_copy(update={"hmc": card.hmc.model_copy(update={"cluster": None})})
        before += [tuned_kernel(hmc_only, phi, streams)[0]] * section.hmc
    if section.cluster:
        before.append(Cluster(card.theory(), n_clusters=section.cluster))
    return Sequence([*before, learned]) if before else learned


def accept_density(card, model, route):
    """Refuse a route whose log_q is no density to the accuracy of ``sampling.max_doubling``.

    Returns
    -------
    float or None
        Spread of the change of log_q of a few draws under twice the steps; None where nothing is integrated.

    Raises
    ------
    UserError
        The spread is larger.
    """
    # annealed paths are random; the density below them is not
    proposal, largest = _plain_proposal(card, model, route), card.sampling.max_doubling
    if not isinstance(proposal, Integrated):
        return None
    streams = Streams(card.run.seed).child(f"doubling-{route}")
    remedy = f"in the card: sampling.{route}.steps = {2 * _section(card, route).steps}, or sampling.max_doubling"
    return refuse_coarse(proposal, math.inf if largest == "any" else largest, streams, remedy)


def refuse_coarse(proposal, largest, streams, remedy, largest_mean=math.inf):
    """`check_doubling` on a few draws of a proposal.

    Parameters
    ----------
    proposal : Proposal
    largest : float
        Spread of the change of log_q that is allowed; inf allows any.
    streams : Streams
    remedy : str
        What to change, and where.
    largest_mean : float
        Mean change that is allowed: what log Z feels.

    Returns
    -------
    float or None
        The spread; None where nothing is integrated.

    Raises
    ------
    UserError
        It is larger, or no draw has a density.
    """
    if not isinstance(proposal, Integrated):
        return None
    draw = proposal.draw(N_DOUBLING, streams.generator("draw"))
    rows = sound_rows(draw)
    try:
        return check_doubling(proposal, draw.phi[rows], largest, draw.log_q[rows], largest_mean)
    except UserError as exc:
        raise UserError(f"{exc} ({remedy})") from None


def _learned_kernel(card, model, name):
    section, sampling, action = card.sampling.kernel, card.sampling, card.theory()
    route, options = route_named(name), _section(card, name)
    if section.move == "independence":
        proposal, refresh = build_proposal(card, model, name), getattr(options, "refresh", None)
        if section.tries == 1:
            return IndependenceMetropolis(proposal, action, refresh, sampling.batch)
        return MultipleTry(proposal, action, section.tries, refresh, sampling.batch)
    if getattr(options, "rungs", 1) > 1:
        raise UserError(f"rungs anneal independent draws; take sampling.{name}.rungs = 1 with move = {section.move!r}")
    require(route, LatentRoute, f"route {name!r}")
    keeps_top = route.has_path and section.move == "partial" and section.noise == "white"
    if keeps_top:
        _check_sigma(section.sigma, model)
    proposal = route.latent(model, options, sampling.batch, section.sigma if keeps_top else None)
    require(proposal, LatentProposal, f"the proposal of route {name!r}")
    move = KeepTop() if keeps_top else _move(section, model)
    return LatentMetropolis(proposal, action, move, section.tries)


def _move(section, model):
    if section.move == "block":
        return Block(section.block, section.eps)
    propagator = model.gaussian.propagator_full.numpy()
    if section.noise == "white":
        _check_sigma(section.sigma, model)
        return White(section.sigma, propagator)
    return Infrared(section.eps, propagator) if section.noise == "infrared" else Coloured(section.eps)


def _check_sigma(sigma, model):
    low, high = model.noise.sigma_min, model.noise.sigma_max
    if not low < sigma <= high:
        raise UserError(f"sampling.kernel.sigma = {sigma:g} is outside the model's noise levels, {low:g} to {high:g}")

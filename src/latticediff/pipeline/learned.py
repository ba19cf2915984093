"""From a card to the kernel of a learned chain: the route's proposal, the move, the kernels it alternates with."""

import math

from .. import registry
from ..cluster import Cluster
from ..composite import Sequence
from ..ensemble import start_fields
from ..errors import UserError
from ..host import torch_defaults
from ..metropolis import IndependenceMetropolis, LatentMetropolis, SeveralTries, check_doubling
from ..metropolis.doors import sound_rows
from ..metropolis.moves import Block, Coloured, Infrared, KeepTop, White
from ..proposal.grid import with_grid
from ..streams import Streams
from .kernels import tuned_kernel

__all__ = [
    "ROUTES",
    "accept_density",
    "build_kernel",
    "build_proposal",
    "on_uniform_grid",
    "passing_proposal",
    "refuse_coarse",
    "store_grid",
]

ROUTES = ("ode", "sde")
#: Keys of a route's section that its proposal takes as they are, beside `steps`.
OPTIONS = {"ode": ("method", "trace", "grid"), "sde": ("ladder", "kernel", "process")}
N_DOUBLING = 32  # draws whose density is computed with twice the steps before a chain begins


@torch_defaults()
def build_proposal(card, model, route):
    """The `Proposal` of a route for a loaded `ScoreModel`: independent draws, annealed where the card has rungs."""
    proposal, section = _plain_proposal(card, model, route), getattr(card.sampling, route)
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
    if section.grid == "optimised" and not hasattr(model.network, "passes"):
        grid = _plain_proposal(card, model, "ode").grid
        model.card = with_grid(model.card, section.steps, section.method, grid)


def _plain_proposal(card, model, route):
    _check_route(route)
    section = getattr(card.sampling, route)
    options = {name: getattr(section, name) for name in OPTIONS[route]}
    return registry.load("proposals", route)(model, steps=section.steps, batch=card.sampling.batch, **options)


@torch_defaults()
def build_kernel(card, model, route):
    """The exact kernel of a route as ``[sampling.kernel]`` wants it.

    Returns
    -------
    Kernel
        `IndependenceMetropolis`, `SeveralTries` or `LatentMetropolis`; a `Sequence` that ends in it where HMC or
        cluster updates go before. HMC is tuned afresh from the card's seed, so a resumed run has the same kernel.

    Raises
    ------
    UserError
        A knob that does not fit the model or the lattice.
    """
    _check_route(route)
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
    streams = Streams(card.run.seed).child(f"doubling-{route}")
    remedy = f"in the card: sampling.{route}.steps = {2 * proposal.steps}, or sampling.max_doubling"
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
    if not hasattr(proposal, "doubled"):
        return None
    draw = proposal.draw(N_DOUBLING, streams.generator("draw"))
    rows = sound_rows(draw)
    try:
        return check_doubling(proposal, draw.phi[rows], largest, draw.log_q[rows], largest_mean)
    except UserError as exc:
        raise UserError(f"{exc} ({remedy})") from None


def _learned_kernel(card, model, route):
    section, sampling, action = card.sampling.kernel, card.sampling, card.theory()
    if section.move == "independence":
        refresh = sampling.sde.refresh if route == "sde" else None
        proposal = build_proposal(card, model, route)
        if section.tries == 1:
            return IndependenceMetropolis(proposal, action, refresh, sampling.batch)
        return SeveralTries(proposal, action, section.tries, refresh, sampling.batch)
    if getattr(getattr(sampling, route), "rungs", 1) > 1:
        raise UserError(f"rungs anneal independent draws; take sampling.{route}.rungs = 1 with move = {section.move!r}")
    partial_sde = route == "sde" and section.move == "partial" and section.noise == "white"
    if route == "ode":
        proposal = _plain_proposal(card, model, route)
    else:
        proposal = _path_proposal(sampling, model, section.sigma if partial_sde else None)
    move = KeepTop() if partial_sde else _move(section, model)
    return LatentMetropolis(proposal, action, move, section.tries)


def _move(section, model):
    if section.move == "block":
        return Block(section.block, section.eps)
    propagator = model.background.propagator_full.numpy()
    if section.noise == "white":
        _check_sigma(section.sigma, model)
        return White(section.sigma, propagator)
    return Infrared(section.eps, propagator) if section.noise == "infrared" else Coloured(section.eps)


def _path_proposal(sampling, model, sigma):
    """`PathProposal` with levels as dense as the card's whole ladder."""
    steps, low, high = sampling.sde.steps, model.noise.sigma_min, model.noise.sigma_max
    if sigma is not None:
        _check_sigma(sigma, model)
        steps = max(2, round(steps * math.log(sigma / low) / math.log(high / low)))
    options = {name: getattr(sampling.sde, name) for name in OPTIONS["sde"]}
    return registry.load("proposals", "sde_path")(model, steps, sigma, sampling.batch, **options)


def _check_sigma(sigma, model):
    low, high = model.noise.sigma_min, model.noise.sigma_max
    if not low < sigma <= high:
        raise UserError(f"sampling.kernel.sigma = {sigma:g} is outside the model's noise levels, {low:g} to {high:g}")


def _check_route(route):
    if route not in ROUTES:
        raise UserError(f"route is {route!r}; expected one of {', '.join(ROUTES)}")

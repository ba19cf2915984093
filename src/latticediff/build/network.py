"""The network of a card: built from its options and its seed, refused before anything is computed for it."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from .. import registry
from ..action.site_terms import site_terms
from ..asking import asked
from ..contracts import require
from ..errors import CardError, ModelError, UserError
from ..gaussian.reference import GaussianReference
from ..host import torch_defaults
from ..model.storage import load_model
from ..networks.contract import Network
from ..proposal.ode import exact_divergence
from .learned_theory import learned_shape, learned_theory

if TYPE_CHECKING:
    from ..config import Card
    from ..types import PathLikeStr

__all__ = ["build_network", "check_network"]


@torch_defaults()
def build_network(card: Card) -> nn.Module:
    """The card's network with its first weights: those of the model `training.init` if given, else from the seed.

    Returns
    -------
    torch.nn.Module
        Keeps the contract `latticediff.networks.contract.Network`.

    Raises
    ------
    CardError
        Options that the network does not take.
    ModelError
        `training.init` holds another architecture or dimension.
    """
    network = _make(card)
    if card.training.init is not None:
        _start_from(network, card.training.init)
    return network


def _make(card: Card) -> nn.Module:
    """The network with weights from the seed."""
    make = registry.load("networks", card.network.name)
    with torch.random.fork_rng(devices=[]):  # first weights follow from the seed, the caller's generator is untouched
        torch.default_generator.manual_seed(card.run.seed)  # and torch.manual_seed would seed those of GPUs too
        try:
            call = functools.partial(make, ndim=len(card.shape), **card.network.options)
            network = asked(make, "network", "call", call, passing=(TypeError,))
        except (TypeError, UserError) as exc:
            raise CardError(f"[network] {card.network.name}: {exc}") from None
    require(network, Network, f"network {card.network.name!r}")
    _require_components(network, card)
    _require_mass(network, card)
    return network


def _require_components(network: nn.Module, card: Card) -> None:
    """Refuse a network of fields with components for a theory that has none, and the other way round."""
    action: Any = card.theory()
    wanted, taken = getattr(action, "components", None), getattr(network, "takes_components", False)
    if wanted is not None and not taken:
        raise CardError(
            f"[network] {card.network.name} is of fields of one component, and {action!r} has {wanted}; take"
            ' network.name = "vector_ridge"'
        )
    if wanted is None and taken:
        raise CardError(
            f"[network] {card.network.name} is of fields of several components, and {action!r} has one; take"
            ' network.name = "ridge"'
        )


def _require_mass(network: nn.Module, card: Card) -> None:
    """Refuse a network that does not see a random mass for a theory that has one, and the other way round."""
    action: Any = card.theory()
    wanted, taken = site_terms(action).mass is not None, getattr(network, "takes_mass", False)
    if wanted != taken:
        has, other = ("has", "gated_ridge") if wanted else ("has none", "ridge")
        raise CardError(
            f"[network] {card.network.name} {'sees' if taken else 'does not see'} a random mass, and {action!r} {has}"
            f'{" one" if wanted else ""}; take network.name = "{other}"'
        )


def _start_from(network: nn.Module, folder: PathLikeStr) -> None:
    """Copy the weights of a trained model into a network of the same architecture, whatever its lattice."""
    trained = load_model(folder).network
    theirs: Any = trained  # of the contract `Network`, as ours: modules that describe themselves
    ours: Any = network
    if theirs.describe() != ours.describe() or theirs.ndim != ours.ndim:
        raise ModelError(
            f"training.init = {str(folder)!r} holds a {theirs.ndim}-dimensional network {theirs.describe()};"
            f" the card asks for {ours.ndim} dimensions and {ours.describe()}"
        )
    network.load_state_dict(trained.state_dict())


def check_network(card: Card) -> None:
    """Refuse at once a network at which a run of the card would stop hours later.

    Raises
    ------
    CardError
        Options that the network does not take, or a divergence that is too expensive for the ODE route.
    """
    network: Any = _make(card).requires_grad_(False)
    try:
        gaussian = GaussianReference(learned_theory(card), np.ones(learned_shape(card)))
    except UserError as exc:
        raise CardError(f"[training] {exc}") from None
    try:
        exact_divergence(network, gaussian, card.sampling.ode.trace)
    except UserError as exc:
        raise CardError(f"[sampling.ode] {exc}") from None

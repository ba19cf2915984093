"""A card that names a theory and a lattice alone, made whole: everything else is chosen from a short pilot run.

Nothing here touches exactness: it decides how good the proposals are, and how long it takes. Numbers are those that
worked for phi^4 on lattices of 64 to 4096 sites (docs/records.md) and were tried on theories drawn at random
(``benchmarks/random_theories.py``).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tomli_w

from ..action import OddSites
from ..action.checkerboard import half_shape
from ..action.site_terms import site_terms
from ..analysis import tau_int
from ..cluster import Cluster
from ..composite import Sequence
from ..config import Card, parse_card
from ..config.learning import RidgeOptions
from ..config.networks import GatedRidgeOptions, VectorRidgeOptions
from ..errors import UserError
from ..gaussian.contract import Expandable, Quartic
from ..gaussian.vacua import APART
from ..hmc import warm_up
from ..lattice import volume
from ..observables.primary import magnetization
from ..streams import Streams

if TYPE_CHECKING:
    from ..action import Action
    from ..types import FloatArray

__all__ = ["Recipe", "is_bare", "recipe"]

GIVEN = {"run", "action", "lattice"}  #: sections of a card that leaves the rest to a recipe
N_CHAINS, N_PILOT, KEPT = 32, 400, 250  # chains and updates of the pilot; the last so many are looked at
N_CONFIGURATIONS = 12_000
RARE = 50.0  # action of a well above the least one, from which on no chain is begun in it
SLOW = 3.0  # tau_int(|m|) in trajectories, from which on clusters are worth their price
LONGEST = 40  # updates between stored configurations, at most
SITES_A_STEP = 2**15  # of a batch in training


class Recipe(NamedTuple):
    """A whole card, and in one line each what was chosen and why."""

    card: Card
    reasons: tuple[str, ...]


class _Pilot(NamedTuple):
    """What the pilot found of the magnetisation m."""

    m: FloatArray  #: (n_chains, n_updates)
    tau: float  #: of |m|, in trajectories
    length: float  #: of a trajectory
    clusters: bool = False  #: whether there was a cluster update after each trajectory


def is_bare(card: Card) -> bool:
    """Whether a card names nothing but a run, an action and a lattice."""
    # reading a card fills in the options of its network
    kinds = {"ridge": RidgeOptions, "vector_ridge": VectorRidgeOptions, "gated_ridge": GatedRidgeOptions}
    filled = kinds.get(card.network.name)
    as_filled = filled is not None and card.network.options == filled().model_dump()
    return card.model_fields_set <= {*GIVEN, "network"} and as_filled


def recipe(card: Card) -> Recipe:
    """Choose everything that a bare card leaves open.

    Parameters
    ----------
    card : latticediff.config.Card
        Its run, action and lattice are kept; the seed decides the pilot.

    Returns
    -------
    Recipe

    Raises
    ------
    UserError
        HMC rejects everything, or the theory has coexisting phases that no symmetry relates, which want a model each.
    """
    action, shape = card.theory(), card.shape
    streams = Streams(card.run.seed).child("recipe")
    pilot = _run_pilot(action, shape, streams)
    if (pilot.tau > SLOW or _keeps(pilot) or _is_apart(action, pilot)) and _has_clusters(action):
        # what trajectories do not move looks like a phase: kinks, or one sign of m without them
        pilot = _run_pilot(action, shape, streams.child("clusters"), clusters=True)
    phase, why = _phase(action, pilot, _is_modulated(action, shape))
    hmc, about_hmc = _hmc(action, pilot, phase, volume(shape))
    training, finetune, network, about_training = _training(action, shape, phase)
    ode, about_ode = _ode(volume(shape), len(shape))
    chosen: dict[str, Any] = {
        "hmc": hmc,
        "network": network,
        "training": training,
        "finetune": finetune,
        "sampling": {
            "n_forward": 2000,
            "hmc": {"n_updates": 1000},
            "ode": ode,
            "sde": {"n_chains": 20, "n_updates": 20, "steps": 60},
        },
    }
    if phase == "broken" and "cluster" not in hmc:
        chosen["gate"] = {"enforce": False}
        about_hmc += "; chains keep their sign, so the gates on m are not enforced"
    given = {key: value for key, value in card.to_dict().items() if key in GIVEN}
    whole = parse_card(tomli_w.dumps({**given, **chosen}))
    return Recipe(whole, (why, about_hmc, about_training, about_ode))


def _has_clusters(action: Action) -> bool:
    try:
        Cluster(action)
    except UserError:
        return False
    return True


def _run_pilot(action: Action, shape: tuple[int, ...], streams: Streams, clusters: bool = False) -> _Pilot:
    """Chains from every constant field that may be a phase."""
    length = 0.5 * math.pi / math.sqrt(abs(action.hopping)) if action.hopping else 1.0
    minima = np.resize(_starts(action, shape), N_CHAINS)
    phi = 0.1 * streams.generator("start").standard_normal((N_CHAINS, *shape))
    phi += minima.reshape(-1, *[1] * len(shape))
    kernel: Any
    kernel, state = warm_up(action, phi, streams, 0.85, length, jitter=0.1)
    if clusters:
        kernel = Sequence([kernel, Cluster(action)])
    _, block = kernel.advance(state, streams.child("pilot"), N_PILOT, 1)
    kept = block.phi[-KEPT:]
    m = magnetization(kept.reshape(-1, *shape), action).reshape(len(kept), N_CHAINS).T
    return _Pilot(m, tau_int(np.abs(m), name="|m|").value, length, clusters)


def _keeps(pilot: _Pilot) -> bool:
    """Whether no chain changed the sign of m."""
    return bool((np.sign(pilot.m) == np.sign(pilot.m[:, :1])).all())


def _order(action: Action, pilot: _Pilot) -> FloatArray:
    """What tells phases apart along the chains of the pilot: |m|, or m where no symmetry turns it around."""
    symmetric = isinstance(action, Expandable) and action.is_symmetric
    return np.abs(pilot.m) if symmetric else pilot.m


def _is_apart(action: Action, pilot: _Pilot) -> bool:
    """Whether chains stay at values of the order parameter that are far from each other's."""
    order = _order(action, pilot)
    return bool(np.ptp(order.mean(axis=1)) > APART * order.std(axis=1).mean())


def _is_modulated(action: Action, shape: tuple[int, ...]) -> bool:
    """Whether K(k) is least at another momentum than zero, so that what orders is no constant field."""
    if not isinstance(action, Expandable):
        return False
    form = action.quadratic_form(shape)
    return bool(form.min() < form.flat[0] - 1e-9 * np.abs(form).max())


def _starts(action: Action, shape: tuple[int, ...]) -> tuple[float, ...]:
    """Constant fields that are minima of the action, those of least action first, without such as are never met.

    Zero alone where K(k) is least at another momentum than zero: whatever orders there is no constant field.
    """
    if _is_modulated(action, shape):
        return (0.0,)
    if not hasattr(action, "wells"):
        return tuple(getattr(action, "minima", (0.0,))) or (0.0,)
    wells = sorted(action.wells(), key=lambda well: well.action)
    near = [well.value for well in wells if volume(shape) * (well.action - wells[0].action) < RARE]
    return tuple(near[:N_CHAINS]) or (0.0,)


def _phase(action: Action, pilot: _Pilot, modulated: bool) -> tuple[str, str]:
    """``training.phase`` and the reason for it."""
    m = pilot.m
    symmetric = isinstance(action, Expandable) and action.is_symmetric
    if _is_apart(action, pilot):
        between = _order(action, pilot).mean(axis=1)
        name = "|m|" if symmetric else "m"
        if modulated:
            raise UserError(
                f"{action!r} orders at another momentum than zero, where K(k) is least, and HMC does not get to"
                f" equilibrium in {N_PILOT} trajectories; a recipe knows uniform phases alone: write a whole card"
                " (configs/modulated.toml)"
            )
        raise UserError(
            f"{action!r} has phases around {name} = {between.min():.3g} and {between.max():.3g} between which HMC does"
            " not go, and no symmetry relates them: generate each (hmc.start = its m), train a model of each"
            " (training.phase) and join them with `latticediff mix`"
        )
    if not symmetric:
        return "single", f"phase: no symmetry phi -> -phi; expanded around <m> = {m.mean():.3g}"
    if hasattr(action, "components"):
        return "symmetric", f"phase: |m| = {np.abs(m).mean():.3g}; {action.components} components: expanded around zero"
    if site_terms(action).mass is not None:
        return "symmetric", f"phase: |m| = {np.abs(m).mean():.3g}; a random mass: expanded around zero"
    size, width = np.abs(m).mean(), np.abs(m).std()
    apart = size / max(width, 1e-12)
    if (pilot.clusters or _keeps(pilot)) and apart > APART + 2:
        return "broken", f"phase: |m| = {size:.3g}, {apart:.0f} widths from zero: two vacua"
    return "symmetric", f"phase: |m| = {size:.3g}, {apart:.1f} widths from zero: expanded around zero"


def _hmc(action: Action, pilot: _Pilot, phase: str, sites: int) -> tuple[dict[str, Any], str]:
    """Section ``[hmc]`` and the reason for it."""
    thin = min(LONGEST, max(2, math.ceil(2 * pilot.tau)))
    n_chains = 64
    wanted = N_CONFIGURATIONS * (2 if sites <= 256 else 1)
    n_updates = thin * math.ceil(wanted / n_chains)
    section: dict[str, Any] = {
        "n_chains": n_chains,
        # on few sites a trajectory now and then meets a steep wall: exp(-delta_h) has no mean at a large step
        "target_acceptance": 0.97 if sites <= 16 else 0.85,
        "start": "cold" if phase == "broken" else "hot",
        "n_warmup": int(max(300, 20 * math.ceil(pilot.tau))),
        "n_updates": n_updates,
        "thin": thin,
        "jitter": 0.1,
        "trajectory_length": round(pilot.length, 3),
    }
    if phase == "single":
        section["start"] = round(float(pilot.m.mean()), 4)
    said = f"HMC: tau_int(|m|) = {pilot.tau:.2g} trajectories of length {pilot.length:.3g}"
    if pilot.clusters:
        section["cluster"] = 1
        said += " with a cluster update after each"
    return section, f"{said}; {n_updates} updates of {n_chains} chains, every {thin}th kept"


def _training(
    action: Action, shape: tuple[int, ...], phase: str
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any], str]:
    """Sections ``[training]``, ``[finetune]``, ``[network]`` and the reason for them."""
    sites, ndim = volume(shape), len(shape)
    odd = phase == "symmetric" and isinstance(action, Quartic) and _has_odd(action, shape)
    network = {
        "name": getattr(action, "network", "ridge"),
        "features": 24 if ndim < 3 else 16,
        "kernel_size": 5 if ndim == 1 else 3,
    }
    learned = sites // 2 if odd else sites
    training: dict[str, Any] = {
        "steps": 2000 if learned <= 256 else 3000,
        "batch": int(np.clip(SITES_A_STEP // learned, 16, 256)),
        "learning_rate": 8e-3 if learned <= 128 else 5e-3 if learned <= 512 else 3e-3,
        "sigma_max_factor": 1.0 if phase == "broken" else 2.0,
        "sites": "odd" if odd else "all",
        "phase": phase,
    }
    finetune = {
        "steps": 300,
        "batch": int(np.clip(SITES_A_STEP // (4 * learned), 8, 64)),
        "learning_rate": 2e-3,
        "integration_steps": 10,
        "n_check": 512 if sites <= 1024 else 128,
    }
    said = (
        f"training: {network['features']} features, {training['steps']} steps of {training['batch']}"
        f"{' on the odd sites' if odd else ''}, then {finetune['steps']} through the flow"
    )
    return training, finetune, network, said


def _has_odd(action: Action, shape: tuple[int, ...]) -> bool:
    """Whether half of the sites can be integrated out, and enough are left."""
    try:
        half_shape(shape)
        OddSites(action)
    except UserError:
        return False
    return action.hopping > 0 and volume(shape) >= 16


def _ode(sites: int, ndim: int) -> tuple[dict[str, Any], str]:
    """Section ``[sampling.ode]`` and the reason for it."""
    # in one dimension kinks are sharp, and steps are cheap
    steps = 40 if ndim == 1 else 16 if sites <= 128 else 20 if sites <= 512 else 24
    section = {"n_chains": 50, "n_updates": 100, "steps": steps, "method": "adams5", "grid": "optimised"}
    return section, f"ODE: {steps} steps of adams5 on a grid fitted to the model"

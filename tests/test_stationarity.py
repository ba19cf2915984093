"""Stationarity: 10^5 exact fields of an interacting theory on 4x4, 60 updates of every kernel, and no moment moves.

The fields are independent and drawn by rejection, so no chain and no warm-up is trusted. Networks are untrained. Seven
moments at 4 sigma for each of 17 kernels: less than 1 % false alarms in all; kernels that forget show the fluctuation
of the common start too, so their deviations are alike. The integration error of the ODE, below 1e-3, is less than a
third of a standard error. Every learned kernel fails once its density is left out.
"""

import functools

import numpy as np
import pytest
from learned_toys import model
from metropolis_toys import Changed, free_fields, no_density

from latticediff.action import Phi4
from latticediff.cluster import Cluster
from latticediff.composite import Sequence
from latticediff.hmc import HMC
from latticediff.local_updates import LocalMetropolis
from latticediff.metropolis import IndependenceMetropolis, LatentMetropolis, SeveralTries
from latticediff.metropolis.doubling import doubling_error
from latticediff.metropolis.moves import Block, Coloured, Infrared, KeepTop, White
from latticediff.observables import measure_primary
from latticediff.proposal import OdeProposal, PathProposal, RefinedProposal, SdeProposal
from latticediff.streams import Streams

SHAPE = (4, 4)
ACTION, FREE = Phi4.A(0.5, 0.4), Phi4.A(0.5, 0.0)
MOMENTS = ("m", "abs_m", "m2", "m4", "phi2", "action", "g_kmin")
N_SIGMA = 4.0


@functools.cache
def proposal(route):
    made = model(ACTION, SHAPE, 0.3, features=4)
    if route == "ode":
        return OdeProposal(made, 16, "adams5", grid="optimised", batch=2000)
    if route == "sde":
        return SdeProposal(made, 4, kernel="site")
    return PathProposal(made, 4, sigma=1.0 if route == "half path" else None, kernel="site")


def propagator():
    return proposal("ode").model.background.propagator_full.numpy()


#: name: (route, kernel of a proposal)
LEARNED = {
    "independence, ode": ("ode", lambda p: IndependenceMetropolis(p, ACTION)),
    "independence, sde, refresh": ("sde", lambda p: IndependenceMetropolis(p, ACTION, True)),
    "independence, sde, keep": ("sde", lambda p: IndependenceMetropolis(p, ACTION, False)),
    "several tries, ode": ("ode", lambda p: SeveralTries(p, ACTION, 3)),
    "coloured, ode": ("ode", lambda p: LatentMetropolis(p, ACTION, Coloured(0.5))),
    "coloured, three tries, ode": ("ode", lambda p: LatentMetropolis(p, ACTION, Coloured(0.5), 3)),
    "infrared, ode": ("ode", lambda p: LatentMetropolis(p, ACTION, Infrared(0.7, propagator()))),
    "white, ode": ("ode", lambda p: LatentMetropolis(p, ACTION, White(0.5, propagator()))),
    "block, ode": ("ode", lambda p: LatentMetropolis(p, ACTION, Block(2))),
    "coloured, path": ("path", lambda p: LatentMetropolis(p, ACTION, Coloured(0.5))),
    "block, path": ("path", lambda p: LatentMetropolis(p, ACTION, Block(2))),
    "half path": ("half path", lambda p: LatentMetropolis(p, ACTION, KeepTop())),
    "refined, ode": ("ode", lambda p: IndependenceMetropolis(RefinedProposal(p, 2, 0.7, ACTION), ACTION)),
    "hmc and block, ode": (
        "ode",
        lambda p: Sequence([HMC(ACTION, step_size=0.3, n_leapfrog=3), LatentMetropolis(p, ACTION, Block(2))]),
    ),
}
CLASSICAL = {
    "hmc": lambda: HMC(ACTION, step_size=0.3, n_leapfrog=3),
    "clusters": lambda: Cluster(ACTION),
    "local metropolis": lambda: LocalMetropolis(ACTION, 1.0),
}


@functools.cache
def exact_fields(n):
    """Independent fields: those of the free theory, each kept with probability exp(-lam sum phi^4)."""
    phi, rng = free_fields(FREE, SHAPE, 3 * n, 40), np.random.default_rng(42)
    phi = phi[rng.random(len(phi)) < np.exp(FREE(phi) - ACTION(phi))]
    assert len(phi) >= n
    return phi[:n]


def deviation(kernel, phi, n_updates):
    """Largest change of a mean over the chains, in standard errors of the change."""
    _, block = kernel.advance(kernel.start(phi), Streams(41), n_updates, n_updates)
    before, after = (measure_primary(fields, ACTION) for fields in (phi, block.phi[-1]))
    changes = [after[name].ravel() - before[name].ravel() for name in MOMENTS]
    # clusters turn signs over and leave sizes as they are
    return max(abs(c.mean()) / (c.std() / np.sqrt(len(c))) for c in changes if c.std() > 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*LEARNED, *CLASSICAL])
def test_an_exact_ensemble_stays_exact(name):
    phi = exact_fields(100_000)
    if name in CLASSICAL:
        found = deviation(CLASSICAL[name](), phi, 60)
    else:
        route, make = LEARNED[name]
        found = deviation(make(proposal(route)), phi, 60)
    print(f"{name}: {found:.2f} sigma")
    assert found < N_SIGMA


@pytest.mark.parametrize("name", LEARNED)
def test_without_its_density_no_learned_kernel_keeps_it(name):
    """A few thousand fields and four updates are enough to see it."""
    route, make = LEARNED[name]
    assert deviation(make(Changed(proposal(route), no_density)), exact_fields(4000), 4) > 3 * N_SIGMA


def test_the_ode_is_fine_enough():
    assert np.median(doubling_error(proposal("ode"), exact_fields(4000))) < 1e-3

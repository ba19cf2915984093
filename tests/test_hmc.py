"""Laws of HMC: exactness, independence of bits from threads and cuts, tuning, refusals.

Statistical errors come from the spread of independent chains. "5 sigma" means a false alarm of
6e-7 per number with 64 chains or more.
"""

import json

import numpy as np
import pytest
from hmc_toys import check_bits

from latticediff.action import Phi4, free_propagator
from latticediff.cluster import Cluster
from latticediff.ensemble import Ensemble, run_chain
from latticediff.errors import UserError
from latticediff.hmc import HMC, INTEGRATORS, tune, warm_up
from latticediff.local_updates import LocalMetropolis
from latticediff.markov import ChainState
from latticediff.streams import Streams

SHAPE = (4, 6)


def run(kernel, shape, n_chains=64, n_updates=400, warm=50, seed=1, thin=1):
    phi = 0.5 * np.random.default_rng(seed).normal(size=(n_chains, *shape))
    streams = Streams(seed)
    state, _ = kernel.advance(kernel.start(phi), streams, warm)
    return kernel.advance(state, streams, n_updates, thin)[1]


def deviations(per_chain, expected):
    """(mean - expected) / error from chain means (n_chains, ...)."""
    error = per_chain.std(axis=0, ddof=1) / np.sqrt(per_chain.shape[0])
    return (per_chain.mean(axis=0) - expected) / error


def power(phi):
    """|phi_k|^2 / V per chain, averaged over Monte Carlo time; phi (n_updates, n_chains, *lattice)."""
    axes = tuple(range(2, phi.ndim))
    spectrum = np.abs(np.fft.rfftn(phi, axes=axes)) ** 2 / np.prod(phi.shape[2:])
    return spectrum.mean(axis=0)


@pytest.mark.parametrize(("shape", "integrator"), [((7,), "leapfrog"), (SHAPE, "omelyan2"), ((3, 2, 4), "omelyan4")])
def test_free_field_has_its_exact_propagator(shape, integrator):
    action = Phi4.A(0.6, 0.0, len(shape))
    block = run(HMC(action, 0.3, 5, integrator, jitter=0.2), shape)
    assert np.abs(deviations(power(block.phi), free_propagator(action, shape, half=True))).max() < 5


def test_without_the_accept_step_the_free_propagator_is_wrong():
    """What the test above guards: the integrator alone, at the same step size, is more than 20 sigma off."""
    action, rng = Phi4.A(0.6, 0.0), np.random.default_rng(2)
    kernel, phi = HMC(action, 0.3, 5), np.zeros((64, *SHAPE))
    fields = []
    for _ in range(300):
        phi, _, _ = kernel.integrate(phi, rng.normal(size=phi.shape))
        fields.append(phi)
    off = deviations(power(np.array(fields[20:])), free_propagator(action, SHAPE, half=True))
    assert np.abs(off).max() > 20


@pytest.mark.parametrize("integrator", INTEGRATORS)
def test_equilibrium_identities(integrator):
    """<exp(-dH)> = 1 (Creutz 1988) and <sum_x phi dS/dphi> / V = 1 (Schwinger-Dyson)."""
    action = Phi4.A(-4.0, 6.008)
    block = run(HMC(action, 0.15, 6, integrator), SHAPE)
    assert 0.5 < block.info["accepted"].mean() < 1
    assert abs(deviations(np.exp(-block.info["delta_h"]).mean(axis=0), 1.0)) < 5
    sd = -(block.phi * action.force(block.phi)).sum(axis=(2, 3)) / np.prod(SHAPE)
    assert abs(deviations(sd.mean(axis=0), 1.0)) < 5


def test_equilibrium_value_of_the_order_parameter():
    """<|m|> = 0.14145(15) at m2 = -4, lam = 6.975, 6x6: an independent cluster and HMC run; 4 sigma, 6e-5."""
    block = run(HMC(Phi4.A(-4.0, 6.975), 0.125, 8), (6, 6), n_updates=1500, thin=3)
    abs_m = np.abs(block.phi.mean(axis=(2, 3))).mean(axis=0)
    error = np.hypot(abs_m.std(ddof=1) / np.sqrt(abs_m.size), 0.00015)
    assert abs(abs_m.mean() - 0.14145) < 4 * error


def test_stored_action_is_the_action_of_the_stored_field():
    action = Phi4.H(0.27, 0.022)
    block = run(HMC(action, 0.1, 5), (5, 3), n_chains=3, n_updates=20, warm=3, thin=4)
    np.testing.assert_allclose(block.action, action(block.phi), rtol=1e-12)


@pytest.mark.parametrize("shape", [(4, 6), (6, 16), (3, 2, 4)])
def test_bits_do_not_depend_on_threads_cuts_or_batch(shape, monkeypatch):
    kernel = HMC(Phi4.A(-1.0, 1.0, len(shape)), 0.2, 4, jitter=0.3)
    check_bits(kernel, np.random.default_rng(3).normal(size=(7, *shape)), (2,), monkeypatch)


def test_advance_leaves_its_input_alone():
    kernel = HMC(Phi4.A(-1.0, 1.0), 0.2, 4)
    phi = np.ones((2, *SHAPE))
    state = kernel.start(phi)
    kernel.advance(state, Streams(0), 3)
    assert (state.phi == 1).all() and (phi == 1).all()


def test_diverged_trajectory_is_a_counted_rejection():
    kernel = HMC(Phi4.A(-1.0, 1.0), 5.0, 40)
    state = kernel.start(np.full((5, *SHAPE), 3.0))
    end, block = kernel.advance(state, Streams(0), 4)
    assert not block.info["accepted"].any()
    assert (block.info["delta_h"] == np.inf).any() and not np.isnan(block.info["delta_h"]).any()
    np.testing.assert_array_equal(end.phi, state.phi)


def test_tuned_kernel_meets_its_target_and_is_frozen():
    action = Phi4.A(-4.0, 5.0)
    phi = np.random.default_rng(0).normal(size=(32, 8, 8))
    kernel, state = warm_up(action, phi, Streams(4), target_acceptance=0.8)
    _, block = kernel.advance(state, Streams(5), 200)
    step = kernel.step_size
    # the smallest number of steps that meets the target; one step fewer would miss it
    assert 0.77 < block.info["accepted"].mean() < 0.93
    assert kernel.step_size == step and state.update == 0
    np.testing.assert_allclose(kernel.trajectory_length, 1.0)
    assert json.loads(json.dumps(kernel.describe()))["tuning"]["target_acceptance"] == 0.8
    assert tune(action, phi, Streams(4), target_acceptance=0.8).describe() == kernel.describe()


def test_impossible_input_is_refused():
    action = Phi4.A(-1.0, 1.0)
    with pytest.raises(UserError, match="step_size is -1"):
        HMC(action, -1, 4)
    with pytest.raises(UserError, match="n_leapfrog is 0"):
        HMC(action, 0.1, 0)
    with pytest.raises(UserError, match="jitter is 1"):
        HMC(action, 0.1, 4, jitter=1)
    with pytest.raises(UserError, match="integrator is 'euler'"):
        HMC(action, 0.1, 4, "euler")
    kernel = HMC(action, 0.1, 4)
    with pytest.raises(UserError, match=r"expected \(n_chains, \*lattice\)"):
        kernel.start(np.zeros((4, 4)))
    with pytest.raises(UserError, match="1 values that are NaN or infinite"):
        kernel.start(np.array([[[0.0, np.nan]]]))
    with pytest.raises(UserError, match="thin is 0"):
        kernel.advance(kernel.start(np.zeros((1, 4, 4))), Streams(0), 1, 0)
    with pytest.raises(UserError, match="target_acceptance is 1"):
        tune(action, np.zeros((1, 4, 4)), Streams(0), 1.0)


def test_an_unstable_step_size_stops_the_run_and_keeps_what_was_done(tmp_path):
    """Leapfrog is unstable at this step size: every trajectory diverges, is counted, and the run says so."""
    action, streams = Phi4.A(-4.0, 6.0), Streams(4)
    kernel = HMC(action, step_size=1.5, n_leapfrog=20)
    state = kernel.start(0.3 * streams.generator("start").standard_normal((16, 4, 4)))
    with pytest.raises(UserError, match=r"all of the last 1[0-9]{3} trajectories were rejected"):
        run_chain(kernel, (state, streams), tmp_path / "a.h5", 10_000, block=10)
    saved = Ensemble(tmp_path / "a.h5")  # read-only, from the unfinished run
    assert saved.n_updates >= 1000 / 16 and not saved.history("accepted").any()


@pytest.mark.parametrize("mass", [None, 1.0])
def test_arrays_that_do_not_belong_together_are_refused(mass):
    """They would be read and written beyond their ends."""
    action = Phi4.A(-4.0, 6.008)
    kernel = HMC(action, 0.1, 3, mass=mass)
    phi = np.zeros((6, 4, 4))
    with pytest.raises(UserError, match=r"momentum has shape \(2, 4, 4\); expected that of phi, \(6, 4, 4\)"):
        kernel.integrate(phi, phi[:2])
    for make in (kernel, Cluster(action), LocalMetropolis(action, 0.5)):
        with pytest.raises(UserError, match=r"action of the state has shape \(1,\); expected \(6,\)"):
            make.advance(ChainState(phi, action(phi)[:1], 0), Streams(1), 1)
        with pytest.raises(UserError, match="holds NaN"):
            make.advance(ChainState(phi, np.full(6, np.nan), 0), Streams(1), 1)

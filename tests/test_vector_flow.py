"""The compiled flow of O(N) theories against plain torch, its own Jacobian, rotations, and HMC.

The inside of the network is float32: a slope is held to 1e-5 of the largest one, ten times what rounding leaves.
"""

import math

import numba
import numpy as np
import pytest
import torch
from learned_toys import normal
from on_toys import network, reference, rotated, rotation, theory, vector_model

from latticediff._kernels import threads
from latticediff._kernels.vectors import LANES
from latticediff.analysis import ess_reverse
from latticediff.diffusion.between import FineRidge, InterpolatedFlow
from latticediff.diffusion.compiled import CompiledFlow, CompiledModes, at_levels
from latticediff.diffusion.flow import ProbabilityFlow
from latticediff.diffusion.ladder import NoiseRange
from latticediff.diffusion.reverse import FourierModes
from latticediff.diffusion.runge_kutta import METHODS, scheme
from latticediff.hmc import HMC
from latticediff.markov import ChainState
from latticediff.metropolis import IndependenceMetropolis
from latticediff.proposal.ode import OdeProposal
from latticediff.proposal.sde import SdeProposal
from latticediff.streams import Streams

#: odd numbers of sites, one axis to three, and axes that are folded
CASES = [(2, (4, 4)), (3, (5,)), (2, (2, 3, 2)), (1, (4, 3)), (5, (3, 3)), (2, (32, 4)), (3, (1,))]
OPTIONS = [{}, {"ordered": True, "screened": True}, {"inputs": 2, "outputs": 1}, {"kernel_size": 1}]
LEVELS = np.array([-2.5, 0.3])


def flows(n, lattice, method="rk4", steps=6, **options):
    """The flow in plain torch, float64, and the compiled one."""
    gaussian, made = reference(n, lattice), network(len(lattice) + 1, **options)
    grid = NoiseRange(0.2, 4.0).grid(steps)
    return tuple(kind(made, gaussian, grid, scheme(method)) for kind in (ProbabilityFlow, CompiledFlow))


# --- against plain torch ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("n, lattice", CASES)
def test_slope_is_that_of_plain_torch(n, lattice, options):
    gaussian, made = reference(n, lattice), network(len(lattice) + 1, **options)
    ridge, flow = at_levels(made, gaussian, LEVELS), ProbabilityFlow(made, gaussian, LEVELS, None)
    y = normal((3, n, *lattice), 1)
    for number, level in enumerate(LEVELS):
        exact, _ = flow.slope(y, level)
        found = ridge.transform(ridge.slope(ridge.transform(y.numpy()), number), inverse=True)
        np.testing.assert_allclose(found, exact.numpy(), rtol=0, atol=1e-5 * float(exact.abs().max()))


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("n, lattice", CASES)
def test_divergence_is_that_of_plain_torch(n, lattice, options):
    """log_q of one Euler step has the trace at its beginning in it, and nothing else that is not known."""
    gaussian, made = reference(n, lattice), network(len(lattice) + 1, **options)
    y = normal((3, n, *lattice), 2)
    grid = np.array([0.3, -1.2])
    _, log_q = CompiledFlow(made, gaussian, grid, scheme("adams5")).down(y.numpy())
    _, trace = ProbabilityFlow(made, gaussian, grid, None).slope(y, grid[0])
    normal_part = -0.5 * (y**2).flatten(1).sum(1).numpy() - 0.5 * gaussian.volume * math.log(2 * math.pi)
    found = -(log_q - normal_part + gaussian.half_log_det(math.exp(2 * grid[1]))) / (grid[1] - grid[0])
    np.testing.assert_allclose(found, trace.numpy(), rtol=0, atol=1e-5 * max(1.0, float(trace.abs().max())))


@pytest.mark.parametrize("method", METHODS)
def test_passages_are_those_of_plain_torch(method):
    exact, fast = flows(3, (4, 3), method, ordered=True, screened=True)
    y = normal((LANES + 3, 3, 4, 3), 3)
    (phi, log_q), (found, density) = exact.down(y), fast.down(y.numpy())
    np.testing.assert_allclose(found, phi.numpy(), rtol=0, atol=1e-5)
    np.testing.assert_allclose(density, log_q.numpy(), rtol=0, atol=1e-4)
    (noise, log_q), (found, density) = exact.up(phi), fast.up(phi.numpy())
    np.testing.assert_allclose(found, noise.numpy(), rtol=0, atol=1e-5)
    np.testing.assert_allclose(density, log_q.numpy(), rtol=0, atol=1e-4)
    assert fast.evaluations == exact.evaluations


def test_tables_between_levels_are_those_of_the_network():
    made = vector_model(strength=0.3, sigmas=(0.02, 4.0))
    low, high = made.noise.log_range
    grid = np.concatenate([[high], np.sort(np.random.default_rng(4).uniform(low, high, 12))[::-1], [low]])
    fine = FineRidge(made.network, made.gaussian, made.noise.log_range)
    flow = CompiledFlow(made.network, made.gaussian, grid, scheme("adams5"))
    y = normal((20, 2, 4, 4), 5).numpy()
    (phi, log_q), (again, density) = flow.down(y), InterpolatedFlow(fine, grid, scheme("adams5")).down(y)
    np.testing.assert_allclose(again, phi, rtol=0, atol=1e-4)
    np.testing.assert_allclose(density, log_q, rtol=0, atol=1e-3)


def test_scores_of_the_reverse_process_are_those_of_plain_torch():
    gaussian, made = reference(2, (4, 3)), network(3, ordered=True, screened=True)
    variances = NoiseRange(0.1, 3.0).variances(4)
    fast, plain = CompiledModes(made, gaussian, variances), FourierModes(made, gaussian, variances)
    x = normal((3, 2, 4, 3), 6)
    for i in (1, 4):
        exact = plain.score(x, i)
        found = fast.ridge.transform(fast.score(fast.ridge.transform(x.numpy()), i), inverse=True)
        np.testing.assert_allclose(found, exact.numpy(), rtol=0, atol=1e-5 * float(exact.abs().max()))


# --- density and symmetry of the compiled map ------------------------------------------------------------------------


@pytest.mark.parametrize("n, lattice", [(2, (2, 2)), (2, (3, 3)), (3, (2, 2))])
def test_log_q_is_the_jacobian_of_the_compiled_map(n, lattice):
    """By differences of fourth order, with so many steps that the integral of the divergence is the log det."""
    _, fast = flows(n, lattice, steps=48, ordered=True, screened=True)
    y, size, h = normal((2, n, *lattice), 7).numpy(), n * math.prod(lattice), 0.02
    log_q = fast.down(y)[1]
    shifts = h * np.eye(size).reshape(size, n, *lattice)
    for one, density in zip(y, log_q, strict=True):
        fields = [fast.down(one + c * shifts)[0].reshape(size, size) for c in (2, 1, -1, -2)]
        jacobian = (-fields[0] + 8 * fields[1] - 8 * fields[2] + fields[3]) / (12 * h)
        exact = -0.5 * (one**2).sum() - 0.5 * size * math.log(2 * math.pi) - np.linalg.slogdet(jacobian)[1]
        assert density == pytest.approx(exact, abs=1e-3)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_flow_turns_with_the_noise_and_the_density_stays(n):
    _, fast = flows(n, (4, 3), "adams5", ordered=True, screened=True)
    y, turn = normal((3, n, 4, 3), 8), rotation(n)
    (phi, log_q), (turned, same) = fast.down(y.numpy()), fast.down(rotated(y, turn).numpy())
    np.testing.assert_allclose(turned, rotated(torch.as_tensor(phi), turn).numpy(), rtol=0, atol=1e-5)
    np.testing.assert_allclose(same, log_q, rtol=0, atol=1e-4)


# --- bits ------------------------------------------------------------------------------------------------------------


def test_a_field_has_the_bits_of_its_own_in_any_group():
    _, fast = flows(3, (3, 3), "adams5")
    y = normal((LANES + 3, 3, 3, 3), 9).numpy()
    phi, log_q = fast.down(y)
    for i in (0, 3, LANES - 1, LANES, LANES + 2):
        alone = fast.down(y[i : i + 1])
        assert np.array_equal(alone[0][0], phi[i]) and alone[1][0] == log_q[i]


@pytest.mark.parametrize("kind", [OdeProposal, SdeProposal])
def test_bits_depend_on_neither_batch_nor_threads(kind, monkeypatch):
    monkeypatch.setattr(threads, "_SMALL", 0)  # threads even for this little work
    made, n, before, results = vector_model(lattice=(4, 3)), 2 * LANES + 3, numba.get_num_threads(), []
    try:
        for batch, count in ((256, 1), (256, 2), (3, 2)):
            numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))
            proposal = kind(made, steps=3, batch=batch)
            draw = proposal.draw(n, np.random.default_rng(10))
            results.append((*draw, proposal.weigh(draw.phi, np.random.default_rng(11))))
    finally:
        numba.set_num_threads(before)
    for other in results[1:]:
        for first, array in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(array, first)


def test_a_chain_that_is_resumed_has_the_bits_of_one_run():
    def kernel():
        proposal = OdeProposal(vector_model(strength=0.3), steps=4, method="adams5")
        return IndependenceMetropolis(proposal, theory(2, 2))

    streams = Streams(12)
    state, _ = kernel().advance(kernel().hot_start(3, streams), streams, 5)
    saved = streams.state()
    kept = ChainState(*(x.copy() if isinstance(x, np.ndarray) else x for x in state))
    end, block = kernel().advance(state, streams, 6)
    again, other = kernel().advance(kept, Streams.restore(saved), 6)
    for one, two in zip(end, again, strict=True):
        np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(block.phi, other.phi)


# --- the ODE route ---------------------------------------------------------------------------------------------------


def test_draws_and_weights_are_those_of_plain_torch():
    """The same noise: the same fields and log weights, so the same acceptance and ESS."""
    made, action = vector_model(strength=0.2), theory(2, 2)
    fast = OdeProposal(made, 12, "adams5", grid="optimised")
    plain = OdeProposal(made, 12, "adams5", compiled=False, grid=fast.grid)
    assert fast.compiled
    draw, other = (p.draw(200, np.random.default_rng(13)) for p in (fast, plain))
    np.testing.assert_allclose(draw.phi, other.phi, rtol=0, atol=1e-3)
    np.testing.assert_allclose(draw.log_q, other.log_q, rtol=0, atol=1e-3)
    np.testing.assert_allclose(fast.weigh(draw.phi), draw.log_q, rtol=0, atol=1e-4)
    np.testing.assert_allclose(plain.weigh(draw.phi[:20]), draw.log_q[:20], rtol=0, atol=1e-3)
    ess = [ess_reverse(-action(d.phi) - d.log_q).value for d in (draw, other)]
    assert ess[0] == pytest.approx(ess[1], abs=1e-3)


def test_chain_has_the_averages_of_hmc():
    """phi . phi and |m| of 64 chains each; 4.5 standard errors of the difference, and errors of a per cent or two."""
    action, averages = theory(2, 2, m2=0.5, lam=0.5), []
    model = vector_model(strength=0.2, m2=0.5, lam=0.5)
    learned = IndependenceMetropolis(OdeProposal(model, steps=10, method="adams5"), action)
    start = learned.hot_start(64, Streams(14))
    for kernel, n, warm, every in ((learned, 300, 30, 1), (HMC(action, 0.2, 5, jitter=0.2), 2000, 100, 5)):
        streams = Streams(15)
        state, _ = kernel.advance(kernel.start(start.phi), streams, warm, warm)
        phi = kernel.advance(state, streams, n, every)[1].phi.reshape(-1, 64, 2, 16)
        values = np.stack([(phi**2).sum(2).mean(2), np.linalg.norm(phi.mean(3), axis=2)])
        chains = values.mean(1)  # independent ones
        averages.append((chains.mean(1), chains.std(1, ddof=1) / 8))
    (found, error), (exact, its) = averages
    assert (np.abs(found - exact) < 4.5 * np.hypot(error, its)).all()
    assert (np.hypot(error, its) < 0.03 * exact).all()


def test_both_routes_weigh_to_one_integral():
    """log Z and <|phi_k|^2> of every k by weighed draws of flow and paths; 4.5 standard errors of 17 numbers."""
    action, model, found = theory(2, 2, m2=0.5, lam=0.5), vector_model(strength=0.2, m2=0.5, lam=0.5), []
    for proposal in (OdeProposal(model, steps=24), SdeProposal(model, steps=16, ladder="geometric")):
        draw = proposal.draw(6000, np.random.default_rng(21))
        w = np.exp(-action(draw.phi) - draw.log_q)
        power = (np.abs(np.fft.fftn(draw.phi, axes=(2, 3))) ** 2).sum(1).reshape(len(w), -1) / 16
        mean = w @ power / w.sum()
        error = np.sqrt(w**2 @ (power - mean) ** 2) / w.sum()
        found.append((np.r_[np.log(w.mean()), mean], np.r_[w.std() / w.mean() / np.sqrt(len(w)), error]))
    (one, its), (other, error) = found
    assert (np.abs(one - other) < 4.5 * np.hypot(its, error)).all()
    assert (np.hypot(its, error)[1:] < 0.05 * one[1:]).all() and np.hypot(its, error)[0] < 0.03

"""Exact Fourier acceleration: reversible, without error for its own free field, right averages, the same bits."""

import numpy as np
import pytest

from latticediff.action import Phi4, free_propagator
from latticediff.errors import UserError
from latticediff.hmc import HMC, FourierHMC, tune_fourier
from latticediff.hmc.exact_fourier import _price
from latticediff.markov import kernel_from_description
from latticediff.streams import Streams

SHAPES = [(8, 8), (6,), (5, 7), (4, 4, 6), (2, 3, 2, 4)]


def theory(ndim, m2=-4.0, lam=6.008):
    return Phi4.A(m2, lam, ndim)


def fields(shape, n=11, seed=0, width=0.4):
    return width * np.random.default_rng(seed).normal(size=(n, *shape))


@pytest.mark.parametrize("integrator", ["leapfrog", "omelyan2", "omelyan4"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_trajectory_is_reversible_and_its_energy_is_that_of_its_end(shape, integrator):
    action = theory(len(shape))
    kernel = FourierHMC(action, 0.2, 6, integrator, mass=0.5)
    phi, w = fields(shape), fields(shape, seed=1, width=1.0)
    assert kernel.reversibility_error(phi, w) < 1e-12
    end, back, energy = kernel.integrate(phi, w)
    exact = action(end) + 0.5 * (back**2).reshape(len(back), -1).sum(axis=1)
    np.testing.assert_allclose(energy, exact, rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize(("integrator", "order"), [("leapfrog", 2), ("omelyan2", 2), ("omelyan4", 4)])
def test_the_energy_is_kept_to_the_order_of_the_integrator(integrator, order):
    action, phi, w = theory(2), fields((8, 8), 40), fields((8, 8), 40, 1, 1.0)
    start = action(phi) + 0.5 * (w**2).reshape(40, -1).sum(axis=1)
    errors = []
    for n in (16, 32):
        _, _, energy = FourierHMC(action, 1.2 / n, n, integrator, mass=1.0).integrate(phi, w)
        errors.append(np.abs(energy - start).mean())
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.35)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_free_field_with_its_own_mass_is_moved_without_error(shape):
    action = theory(len(shape), 0.5, 0.0)  # K = 2 (p^2 + m2)
    kernel = FourierHMC(action, 1.3, 3, mass=0.5)
    phi, w = fields(shape), fields(shape, seed=1, width=1.0)
    _, _, energy = kernel.integrate(phi, w)
    np.testing.assert_allclose(energy, action(phi) + 0.5 * (w**2).reshape(11, -1).sum(axis=1), rtol=1e-12)
    # a quarter period forgets the start
    quarter = FourierHMC(action, 0.5 * np.pi, 1, mass=0.5)
    one, _, _ = quarter.integrate(phi, w)
    other, _, _ = quarter.integrate(fields(shape, seed=2), w)
    np.testing.assert_allclose(one, other, atol=1e-12)


def test_volume_is_preserved():
    """The Jacobian of a trajectory on four sites, by differences."""
    kernel = FourierHMC(theory(1), 0.4, 3, mass=0.7)
    z = np.random.default_rng(2).normal(size=8) * 0.5
    step, columns = 1e-6, []
    for i in range(8):
        ends = []
        for sign in (1, -1):
            moved = z.copy()
            moved[i] += sign * step
            phi, w, _ = kernel.integrate(moved[None, :4], moved[None, 4:])
            ends.append(np.concatenate([phi[0], w[0]]))
        columns.append((ends[0] - ends[1]) / (2 * step))
    assert np.linalg.det(np.array(columns)) == pytest.approx(1, abs=1e-7)


def test_averages_are_those_of_plain_hmc_and_of_detailed_balance():
    """<exp(-delta_h)> = 1, and <phi^2>, <m^2> within 5 standard errors (a false alarm in 1e-6)."""
    action = theory(2)
    found = []
    for kernel in (FourierHMC(action, 0.35, 5, mass=1.0, jitter=0.1), HMC(action, 0.12, 9, jitter=0.1)):
        state, _ = kernel.advance(kernel.start(fields((8, 8), 200)), Streams(3).child("burn"), 200, 200)
        _, block = kernel.advance(state._replace(update=0), Streams(3).child("chain"), 400)
        values = np.stack([(block.phi**2).mean(axis=(2, 3)), block.phi.mean(axis=(2, 3)) ** 2])
        means = values.mean(axis=1)  # of each chain
        found.append((means.mean(axis=1), means.std(axis=1, ddof=1) / np.sqrt(200)))
        weight = np.exp(-block.info["delta_h"]).mean(axis=0)
        assert abs(weight.mean() - 1) < 5 * weight.std(ddof=1) / np.sqrt(200)
        np.testing.assert_allclose(block.action[-1], action(block.phi[-1]), rtol=1e-11, atol=1e-9)
    (a, error_a), (b, error_b) = found
    assert (np.abs(a - b) < 5 * np.hypot(error_a, error_b)).all()


def test_without_the_accept_step_the_averages_are_wrong():
    """Large steps of a free field of another mass: the propagator that the integrator alone would sample is off."""
    action = theory(2, 0.5, 0.0)
    kernel = FourierHMC(action, 1.1, 2, mass=4.0)
    exact = free_propagator(action, (6, 6))

    def deviation(accept):
        phi = fields((6, 6), 400)
        if accept:
            state, _ = kernel.advance(kernel.start(phi), Streams(5).child("burn"), 200, 200)
            _, block = kernel.advance(state._replace(update=0), Streams(5).child("chain"), 100, 5)
            rows = block.phi
        else:
            rng, rows = np.random.default_rng(6), []
            for t in range(300):
                phi, _, _ = kernel.integrate(phi, rng.normal(size=phi.shape))
                if t >= 200 and t % 5 == 0:
                    rows.append(phi)
            rows = np.array(rows)
        G = (np.abs(np.fft.fft2(rows)) ** 2 / 36).mean(axis=0)  # of each chain
        error = G.std(axis=0, ddof=1) / np.sqrt(len(G))
        return np.abs((G.mean(axis=0) - exact) / error).max()

    assert deviation(accept=True) < 5.5
    assert deviation(accept=False) > 20


def test_bits_do_not_depend_on_batch_blocks_or_company():
    kernel = FourierHMC(theory(2), 0.3, 4, mass=1.0, jitter=0.2)
    phi, streams = fields((6, 6), 13), Streams(9)
    whole, block = kernel.advance(kernel.start(phi), streams, 12, 3)
    half, first = kernel.advance(kernel.start(phi), streams, 5, 3)
    rest, second = kernel.advance(half, streams, 7, 3)
    np.testing.assert_array_equal(whole.phi, rest.phi)
    np.testing.assert_array_equal(block.phi, np.concatenate([first.phi, second.phi]))
    np.testing.assert_array_equal(block.info["delta_h"], np.concatenate([p.info["delta_h"] for p in (first, second)]))
    few, _ = kernel.advance(kernel.start(phi[:3]), streams, 12, 3)
    np.testing.assert_array_equal(few.phi, whole.phi[:3])
    # a rejected step repeats the field
    stiff = FourierHMC(theory(2), 3.0, 2, mass=1.0)
    end, block = stiff.advance(stiff.start(phi), streams, 1)
    refused = ~block.info["accepted"][0]
    assert refused.any()
    np.testing.assert_array_equal(end.phi[refused], phi[refused])


def test_a_trajectory_that_diverges_is_a_counted_rejection():
    kernel = FourierHMC(theory(2), 1.0, 4, mass=1.0)
    phi = 1e80 * np.ones((2, 4, 4))
    state, block = kernel.advance(kernel.start(phi), Streams(1), 2)
    assert np.isinf(block.info["delta_h"]).all() and not block.info["accepted"].any()
    np.testing.assert_array_equal(state.phi, phi)


def test_it_is_built_again_from_its_description():
    kernel = FourierHMC(theory(2), 0.3, 4, "omelyan2", 0.1, 1.5)
    again = kernel_from_description(theory(2), kernel.describe())
    assert isinstance(again, FourierHMC) and again.describe() == kernel.describe()


def test_the_search_finds_a_kernel_that_beats_a_poor_one():
    action = theory(2)
    found = tune_fourier(action, fields((8, 8), 32), Streams(2), [0.5, 4.0], [1.57], [0.8], ["omelyan2"], 60)
    assert found.mass in (0.5, 4.0) and len(found.tuning["tried"]) == 2


def test_the_search_passes_over_what_never_moves():
    action = theory(2)
    stuck = FourierHMC(action, 3.0, 4, mass=1.0)
    frozen = stuck.start(1e3 * np.ones((4, 4, 4)))  # every trajectory diverges
    assert _price(stuck, frozen, Streams(1), 20) == np.inf


@pytest.mark.parametrize(
    ("options", "words"),
    [({}, "wants m_eff"), ({"mass": -1.0}, "mass is -1"), ({"mass": 1.0, "action": Phi4.H(-0.2, 0.5)}, "hopping -0.4")],
)
def test_impossible_parameters_are_refused(options, words):
    action = options.pop("action", theory(2))
    with pytest.raises(UserError, match=words):
        FourierHMC(action, 0.1, 5, **options)

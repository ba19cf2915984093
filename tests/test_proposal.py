"""Laws of the proposals: one density drawn from and weighed, normalised, reversible, the same bits for any batch.

The networks are untrained, with random weights: nothing here depends on training. Statistical tests use five
standard errors: a correct code fails one number with probability 6e-7.
"""

import math

import numba
import numpy as np
import pytest
import torch
from learned_toys import FREE, QUARTIC, SHAPE, model
from metropolis_toys import free_fields, without_divergence
from scipy.integrate import quad

from latticediff._kernels import threads
from latticediff.action import Phi4, free_log_z, free_propagator
from latticediff.errors import UserError
from latticediff.metropolis import Proposal
from latticediff.proposal import OdeProposal, SdeProposal

N_SIGMA = 5
ONE_SITE = Phi4.A(-1.0, 0.5, 1)


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("kind", [OdeProposal, SdeProposal])
def test_both_routes_keep_the_contract(kind):
    proposal = kind(model(QUARTIC, SHAPE, 0.3), steps=4)
    assert isinstance(proposal, Proposal)
    assert proposal.lattice_shape == SHAPE
    draw = proposal.draw(3, rng())
    assert draw.phi.shape == (3, *SHAPE)
    assert draw.log_q.shape == (3,)
    assert draw.phi.dtype == draw.log_q.dtype == np.float64


# --- the density of the ODE route ------------------------------------------------------------------------------------


def test_weigh_is_the_density_that_was_drawn_from():
    """Tolerance: ten times what doubling the steps changes, and float32 inside the network."""
    proposal = OdeProposal(model(QUARTIC, SHAPE, 0.3), steps=16)
    draw = proposal.draw(20, rng(1))
    doubled = np.abs(proposal.doubled().weigh(draw.phi) - proposal.weigh(draw.phi)).max()
    assert np.abs(proposal.weigh(draw.phi) - draw.log_q).max() < 10 * doubled + 1e-4
    assert doubled < 0.02
    noise, log_q = proposal.invert(draw.phi)
    np.testing.assert_allclose(noise, rng(1).standard_normal((20, *SHAPE)), atol=10 * doubled + 1e-4)
    np.testing.assert_array_equal(log_q, proposal.weigh(draw.phi))


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("shape", [(1,), SHAPE])
def test_free_field_density_is_closed_form(shape, compiled):
    action = Phi4.A(0.8, 0.0, len(shape))
    proposal = OdeProposal(model(action, shape, 0.0, sigmas=(0.1, 4.0)), steps=3, compiled=compiled)
    draw = proposal.draw(5, rng(2))
    covariance = free_propagator(action, shape) + 0.01
    axes = tuple(range(1, len(shape) + 1))
    power = np.abs(np.fft.fftn(draw.phi, axes=axes)) ** 2 / math.prod(shape)
    expected = -0.5 * (power / covariance + np.log(2 * np.pi * covariance)).sum(axis=axes)
    np.testing.assert_allclose(draw.log_q, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(proposal.weigh(draw.phi), expected, rtol=1e-5, atol=1e-5)


def test_density_on_one_site_integrates_to_one():
    proposal = OdeProposal(model(ONE_SITE, (1,), 0.5, sigmas=(0.3, 4.0)), steps=32)
    phi = np.linspace(-14, 14, 2801)
    density = np.exp(proposal.weigh(phi[:, None]))
    assert np.trapezoid(density, phi) == pytest.approx(1, abs=1e-4)
    # the baseline's density or the Gaussian prior's would be another function
    other = np.exp(OdeProposal(model(ONE_SITE, (1,), 0.0, sigmas=(0.3, 4.0)), steps=32).weigh(phi[:, None]))
    assert np.trapezoid(np.abs(density - other), phi) > 0.01


def test_density_on_two_sites_integrates_to_one():
    proposal = OdeProposal(model(ONE_SITE, (2,), 0.5, sigmas=(0.5, 4.0)), steps=16)
    line = np.linspace(-11, 11, 111)
    grid = np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1).reshape(-1, 2)
    density = np.exp(proposal.weigh(grid))
    assert density.sum() * (line[1] - line[0]) ** 2 == pytest.approx(1, abs=1e-3)
    assert density.reshape(111, 111) == pytest.approx(density.reshape(111, 111).T, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("compiled", [True, False])
def test_density_has_the_symmetries_of_the_action(compiled):
    proposal = OdeProposal(model(QUARTIC, SHAPE, 0.3), steps=8, compiled=compiled)
    phi = rng(3).normal(size=(4, *SHAPE))
    log_q = proposal.weigh(phi)
    np.testing.assert_allclose(proposal.weigh(-phi), log_q, atol=1e-3)
    np.testing.assert_allclose(proposal.weigh(np.roll(phi, (1, 2), (1, 2))), log_q, atol=1e-3)


@pytest.mark.parametrize("shape", [(5,), SHAPE, (20, 18), (2, 3, 4)])
@pytest.mark.parametrize("kind", [OdeProposal, SdeProposal])
def test_compiled_route_is_the_torch_route(kind, shape):
    """The same noise gives the same field and density to the precision of float32 networks."""
    made = model(Phi4.A(-1.0, 0.5, len(shape)), shape, 0.3, sigmas=(0.2, 4.0))
    fast, plain = (kind(made, steps=6, compiled=compiled) for compiled in (True, False))
    if kind is OdeProposal:
        one, other = fast.draw(3, rng(4)), plain.draw(3, rng(4))
        np.testing.assert_allclose(one.phi, other.phi, atol=2e-4)
        np.testing.assert_allclose(one.log_q, other.log_q, rtol=1e-4, atol=2e-3)
    else:  # noise of the compiled route lives in the Fourier basis: give both the same
        # levels and responses are measured by the route itself, in float32: give both the same, too
        plain.plan.variances = fast.plan.variances
        plain.plan.strength, plain.plan.f_mean = fast.plan.strength, fast.plan.f_mean
        plain.process = plain.plan.build()
        noise = rng(4).normal(size=(3, 7, *shape))
        x, log_q = plain.process.down(torch.as_tensor(noise))
        modes = made.gaussian.to(dtype=torch.float64).to_modes(torch.as_tensor(noise)).reshape(3, 7, -1).numpy()
        x_fast, log_q_fast = fast.process.down(modes)
        np.testing.assert_allclose(fast.process.modes.fields(x_fast), x.numpy(), atol=2e-4)
        np.testing.assert_allclose(log_q_fast, log_q.numpy(), rtol=1e-4, atol=2e-3)


# --- the weight of the SDE route -------------------------------------------------------------------------------------


def deviation(values, expected):
    """(mean - expected) / error of independent values."""
    return (values.mean() - expected) / (values.std() / math.sqrt(len(values)))


@pytest.mark.parametrize("compiled", [True, False])
def test_free_field_path_weight_is_z_for_every_path(compiled):
    proposal = SdeProposal(model(FREE, SHAPE, 0.0), steps=5, compiled=compiled)
    draw = proposal.draw(4, rng(5))
    np.testing.assert_allclose(-FREE(draw.phi) - draw.log_q, free_log_z(FREE, SHAPE), atol=2e-3)
    log_q = proposal.weigh(draw.phi, rng(6))
    np.testing.assert_allclose(-FREE(draw.phi) - log_q, free_log_z(FREE, SHAPE), atol=2e-3)


@pytest.mark.parametrize("compiled", [True, False])
def test_a_path_of_the_free_field_is_at_every_level_the_noised_field(compiled):
    """<x^2> = mean of G, and v_i; ends where the draw ends, bit for bit. Levels at five standard errors."""
    proposal = SdeProposal(model(FREE, SHAPE, 0.0), steps=5, compiled=compiled)
    noise = rng(7).standard_normal((4000, *proposal.noise_shape))
    sigma, fields = proposal.path(noise)
    assert (np.diff(sigma) < 0).all() and sigma[-1] == 0 and len(sigma) == len(fields) == 6
    np.testing.assert_array_equal(fields[-1], proposal.transport(noise).phi)
    each = free_propagator(FREE, SHAPE).mean()
    for level, x in zip(sigma, fields, strict=True):
        assert abs(deviation((x**2).mean(axis=(1, 2)), each + level**2)) < N_SIGMA


def one_site_integral(power=0):
    return quad(lambda x: x**power * math.exp(-float(ONE_SITE(np.array([x])))), -10, 10)[0]


@pytest.mark.parametrize("route", ["ode", "sde"])
def test_weights_of_a_bad_network_average_to_z_on_one_site(route):
    """E_q[w] = Z and E_q[w phi^2] = Z <phi^2> against quadrature, whatever the weights of the network."""
    made, n = model(ONE_SITE, (1,), 0.5, sigmas=(0.2, 4.0)), 20_000
    proposal = OdeProposal(made, steps=24) if route == "ode" else SdeProposal(made, steps=6)
    draw = proposal.draw(n, rng(7))
    w = np.exp(-ONE_SITE(draw.phi) - draw.log_q)
    assert w.std() / w.mean() > 0.1  # a bad one
    Z = one_site_integral()
    assert abs(deviation(w, Z)) < N_SIGMA
    assert abs(deviation(w * draw.phi[:, 0] ** 2, one_site_integral(2))) < N_SIGMA
    # without the weight the second moment is far off
    assert abs(deviation(draw.phi[:, 0] ** 2, one_site_integral(2) / Z)) > 2 * N_SIGMA


def free_proposal(route, strength):
    made = model(FREE, SHAPE, strength)
    return OdeProposal(made, steps=16) if route == "ode" else SdeProposal(made, steps=10)


def without_volume(proposal):
    """The ODE without the divergence of its network; the SDE's step to the field with the volume of the one up."""
    if isinstance(proposal, OdeProposal):
        return without_divergence(proposal)
    proposal.process.steps[0].log_det = 0.5 * math.prod(SHAPE) * math.log(proposal.process.deltas[0])
    return proposal


@pytest.mark.parametrize("route", ["ode", "sde"])
def test_weights_of_a_bad_network_average_to_z_of_the_free_field(route):

    def weights(proposal):
        draw = proposal.draw(8000, rng(8))
        return np.exp(-FREE(draw.phi) - draw.log_q - free_log_z(FREE, SHAPE))

    w = weights(free_proposal(route, 0.3))
    assert np.log(w).std() > 0.2
    assert abs(deviation(w, 1)) < N_SIGMA
    assert abs(deviation(weights(without_volume(free_proposal(route, 0.3))), 1)) > 2 * N_SIGMA


@pytest.mark.parametrize("route", ["ode", "sde"])
def test_forward_weights_average_to_one_over_z(route):
    """E_p[1/w] = 1/Z over exact fields: `weigh` is the same density, or path weight, as `draw`."""
    phi = free_fields(FREE, SHAPE, 8000, 9)

    def inverse_weights(proposal):
        return np.exp(FREE(phi) + proposal.weigh(phi, rng(10)) + free_log_z(FREE, SHAPE))

    w = inverse_weights(free_proposal(route, 0.15))
    assert np.log(w).std() > 0.05
    assert abs(deviation(w, 1)) < N_SIGMA
    assert abs(deviation(inverse_weights(without_volume(free_proposal(route, 0.15))), 1)) > 2 * N_SIGMA


# --- bits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [SHAPE, (17, 16)])
@pytest.mark.parametrize("kind", [OdeProposal, SdeProposal])
def test_bits_depend_on_neither_batch_nor_threads(kind, shape, monkeypatch):
    monkeypatch.setattr(threads, "_SMALL", 0)  # threads even for this little work
    made, n, before = model(QUARTIC, shape, 0.3), 11, numba.get_num_threads()
    results = []
    try:
        for batch, count in ((256, 1), (256, 2), (3, 2), (1, 1)):
            numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))
            proposal = kind(made, steps=3, batch=batch)
            draw = proposal.draw(n, rng(11))
            results.append((*draw, proposal.weigh(draw.phi, rng(12))))
    finally:
        numba.set_num_threads(before)
    for other in results[1:]:
        for first, array in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(array, first)


@pytest.mark.parametrize("kind", [OdeProposal, SdeProposal])
def test_draws_do_not_depend_on_how_they_are_cut(kind):
    proposal, whole, cut = kind(model(QUARTIC, SHAPE, 0.3), steps=3), rng(13), rng(13)
    draw = proposal.draw(7, whole)
    pieces = [proposal.draw(n, cut) for n in (2, 1, 4)]
    np.testing.assert_array_equal(np.concatenate([p.phi for p in pieces]), draw.phi)
    np.testing.assert_array_equal(np.concatenate([p.log_q for p in pieces]), draw.log_q)
    assert whole.random() == cut.random()


# --- identity and refusals -------------------------------------------------------------------------------------------


def test_fingerprint_knows_weights_route_and_steps():
    made = model(QUARTIC, SHAPE, 0.3)
    prints = [
        proposal.fingerprint()
        for proposal in (
            OdeProposal(made, steps=4),
            OdeProposal(made, steps=5),
            OdeProposal(made, steps=4, method="dopri5"),
            SdeProposal(made, steps=4),
            SdeProposal(made, steps=5),
            SdeProposal(made, steps=5, ladder="geometric"),
            SdeProposal(made, steps=5, kernel="site"),
            SdeProposal(made, steps=5, process="variance_preserving"),
            OdeProposal(model(QUARTIC, SHAPE, 0.3, seed=1), steps=4),
        )
    ]
    assert len(set(prints)) == len(prints)
    assert OdeProposal(made, steps=4, batch=3).fingerprint() == prints[0]


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("kind", [OdeProposal, SdeProposal])
def test_a_network_that_blows_up_gives_weight_zero(kind, compiled):
    made = model(QUARTIC, SHAPE, 0.3)
    made.network.amplitude.weight.mul_(1e30)
    with np.errstate(all="ignore"):
        draw = kind(made, steps=4, compiled=compiled).draw(3, rng(14))
    assert (draw.log_q == np.inf).all()
    assert np.isfinite(draw.phi).all()


@pytest.mark.parametrize("kind", [OdeProposal, SdeProposal])
def test_fields_that_cannot_be_weighed_are_refused(kind):
    proposal = kind(model(QUARTIC, SHAPE, 0.3), steps=3)
    with pytest.raises(UserError, match="not finite"):
        proposal.weigh(np.full((1, *SHAPE), np.nan), rng())
    with pytest.raises(UserError, match=r"phi has shape \(2, 6, 4\); expected \(n, 4, 6\)"):
        proposal.weigh(np.zeros((2, 6, 4)), rng())
    with pytest.raises(UserError, match="expected"):
        proposal.weigh(np.zeros(SHAPE), rng())


def test_impossible_settings_are_refused():
    made = model(QUARTIC, SHAPE, 0.0)
    with pytest.raises(UserError, match="at least 1"):
        OdeProposal(made, steps=0)
    with pytest.raises(UserError, match="at least 2"):
        SdeProposal(made, steps=1)
    with pytest.raises(UserError, match="ladder is 'linear'; expected one of geometric, cosine, optimised"):
        SdeProposal(made, ladder="linear")
    with pytest.raises(UserError, match="kernel is 'wide'; expected one of gaussian, site, dressed"):
        SdeProposal(made, kernel="wide")
    with pytest.raises(UserError, match="noise process is 'vp'"):
        SdeProposal(made, process="vp")
    with pytest.raises(UserError, match="scheme is 'euler'"):
        OdeProposal(made, method="euler")
    for kind in (OdeProposal, SdeProposal):
        with pytest.raises(UserError, match="batch"):
            kind(made, steps=3, batch=0)

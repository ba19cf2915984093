"""The score network of O(N) theories: symmetry, closed-form divergence, exact density, targets, and what it refuses."""

import math

import numpy as np
import pytest
import torch
from learned_toys import normal, some_propagator
from on_toys import network, reference, rotated, rotation, theory, vector_model

from latticediff.action import Phi4
from latticediff.build.network import build_network
from latticediff.config import parse_card
from latticediff.diffusion.flow import ProbabilityFlow
from latticediff.diffusion.ladder import NoiseRange
from latticediff.diffusion.runge_kutta import scheme
from latticediff.errors import CardError, ModelError, UserError
from latticediff.gaussian.reference import GaussianReference
from latticediff.model.storage import load_model, save_model
from latticediff.networks.contract import Compiled, Differentiable
from latticediff.networks.ridge.network import RidgeNetwork
from latticediff.networks.ridge.normal_ordering import gaussian_mean, slope_ratio
from latticediff.networks.ridge.vector import VectorRidgeNetwork
from latticediff.proposal.ode import OdeProposal
from latticediff.proposal.sde import SdeProposal
from latticediff.stages.recipe import recipe
from latticediff.targets.control_variates import three_targets

LEVEL = torch.tensor([-0.7], dtype=torch.float64)
CASES = [(2, (4, 4)), (3, (5,)), (2, (2, 3, 2)), (1, (4, 3))]


def flow_of(n, lattice, steps=6, seed=0, **couplings):
    grid = NoiseRange(0.2, 4.0).grid(steps)
    made = network(len(lattice) + 1, seed, ordered=True, screened=True)
    return ProbabilityFlow(made, reference(n, lattice, **couplings), grid, scheme("rk4"))


# --- symmetry --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"ordered": True, "screened": True}, {"inputs": 2, "outputs": 1}])
@pytest.mark.parametrize("n, lattice", CASES)
def test_residual_turns_with_the_field_and_the_trace_stays(n, lattice, options):
    gaussian, made = reference(n, lattice), network(len(lattice) + 1, **options)
    x, turn = normal((3, n, *lattice), 1), rotation(n)
    R, trace = made(gaussian, x, LEVEL, trace=True)
    turned, same = made(gaussian, rotated(x, turn), LEVEL, trace=True)
    torch.testing.assert_close(turned, rotated(R, turn), rtol=0, atol=1e-12)
    torch.testing.assert_close(same, trace, rtol=1e-12, atol=1e-12)
    shifted, _ = made(gaussian, torch.roll(x, 1, -1), LEVEL)
    torch.testing.assert_close(shifted, torch.roll(R, 1, -1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("n, lattice", [(2, (4, 4)), (3, (5,))])
def test_density_of_the_flow_is_invariant_under_rotations(n, lattice):
    flow = flow_of(n, lattice)
    phi, turn = normal((3, n, *lattice), 2), rotation(n)
    y, log_q = flow.up(phi)
    turned, same = flow.up(rotated(phi, turn))
    torch.testing.assert_close(same, log_q, rtol=0, atol=1e-11)
    torch.testing.assert_close(turned, rotated(y, turn), rtol=0, atol=1e-11)


def test_one_component_is_the_ridge_network():
    lattice = (4, 3)
    for options in ({}, {"ordered": True, "screened": True}):
        vector = network(3, **options)
        one = network(2, kind=RidgeNetwork, **options)
        one.load_state_dict(vector.state_dict())
        plain = GaussianReference(Phi4.A(-1.0, 1.5), some_propagator(lattice), dtype=torch.float64)
        x = normal((3, *lattice), 3)
        R, trace = one(plain, x, LEVEL, trace=True)
        its, also = vector(reference(1, lattice), x[:, None], LEVEL, trace=True)
        torch.testing.assert_close(its[:, 0], R, rtol=0, atol=1e-8)  # means over a Gaussian are sums over nodes
        torch.testing.assert_close(also, trace, rtol=0, atol=1e-8)


# --- divergence and density ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"ordered": True, "screened": True}, {"inputs": 2, "outputs": 1}])
@pytest.mark.parametrize("n, lattice", CASES)
def test_trace_is_that_of_the_jacobian(n, lattice, options):
    gaussian, made = reference(n, lattice), network(len(lattice) + 1, **options)
    x = normal((2, n, *lattice), 4)
    _, trace = made(gaussian, x, LEVEL, trace=True)
    C = gaussian.posterior(gaussian.expand((2 * LEVEL).exp()))[1]
    assert trace.dtype == torch.float64
    for field, found in zip(x, trace, strict=True):
        jacobian = torch.autograd.functional.jacobian(
            lambda f: gaussian.filter(made(gaussian, f[None], LEVEL)[0], C)[0], field
        )
        exact = jacobian.reshape(field.numel(), -1).trace()
        assert float(found) == pytest.approx(float(exact), abs=1e-10)


@pytest.mark.parametrize("n, lattice", [(2, (2, 3)), (3, (2,))])
def test_log_q_is_the_full_jacobian_of_the_map(n, lattice):
    """Of the discrete map with so many steps that the integral of the divergence is its log det to 1e-4."""
    flow = flow_of(n, lattice, steps=32)
    y = normal((1, n, *lattice), 5)
    _, log_q = flow.down(y)
    jacobian = torch.autograd.functional.jacobian(lambda noise: flow.down(noise[None], gradients=True)[0][0], y[0])
    size = y[0].numel()
    _, log_det = torch.linalg.slogdet(jacobian.reshape(size, size))
    exact = -0.5 * float((y**2).sum()) - 0.5 * size * math.log(2 * math.pi) - float(log_det)
    assert float(log_q[0]) == pytest.approx(exact, abs=1e-4)


@pytest.mark.parametrize("n", [2, 3])
def test_density_of_one_site_is_normalised_and_gives_the_integral(n):
    """For N = 2 on a grid of the plane, no use made of the symmetry; for N = 3 along a ray."""
    flow = flow_of(n, (1,), steps=24, m2=-0.5, lam=0.3)
    if n == 2:
        points, step = np.linspace(-8, 8, 81, retstep=True)
        fields, measure = np.stack(np.meshgrid(points, points, indexing="ij")).reshape(2, -1).T, step**2
    else:
        r, step = np.linspace(0, 8, 401, retstep=True)
        direction = np.array([1.0, 2.0, -2.0]) / 3
        fields, measure = r[:, None] * direction, 4 * np.pi * r**2 * step
    q = np.exp(flow.up(torch.as_tensor(fields)[:, :, None])[1].numpy())
    assert (q * measure).sum() == pytest.approx(1, abs=1e-4)
    # and the mean weight of draws is the integral of exp(-S): 4.5 standard errors
    action = flow.gaussian.action
    z = float((np.exp(-action(fields[:, :, None])) * measure).sum())
    drawn, log_q = flow.down(normal((4000, n, 1), 6))
    weights = np.exp(-np.asarray(action(drawn.numpy())) - log_q.numpy())
    error = weights.std() / math.sqrt(len(weights))
    assert abs(weights.mean() - z) < 4.5 * error
    assert error < 0.05 * z


def test_normal_ordering_leaves_features_no_mean_slope():
    """The table against a sum over many draws of the vector: 4.5 standard errors."""
    for n in (2, 3, 5):
        for s in (0.3, 2.0):
            u = s * np.random.default_rng(7).normal(size=(200_000, n))
            square = (u**2).sum(1)
            first = (1 + square) ** -0.5 - u[:, 0] ** 2 * (1 + square) ** -1.5
            second = square / (1 + square) + 2 * u[:, 0] ** 2 / (1 + square) ** 2
            ratio = float(slope_ratio(torch.tensor(s * s, dtype=torch.float64), n))
            left = second - ratio * first
            assert abs(left.mean()) < 4.5 * left.std() / math.sqrt(len(left))
    for n in (2, 3):
        found = gaussian_mean(lambda h: h * h, torch.tensor([0.7], dtype=torch.float64), n, 513)
        assert float(found) == pytest.approx(n * 0.49, rel=1e-4)


# --- targets ---------------------------------------------------------------------------------------------------------


def test_targets_of_one_component_are_those_of_phi4():
    lattice, v = (4, 3), torch.full((3, 1, 1), 0.3, dtype=torch.float64)
    plain = GaussianReference(Phi4.A(-1.0, 1.5), some_propagator(lattice), dtype=torch.float64)
    phi, z = normal((3, *lattice), 8), normal((3, *lattice), 9)
    several = three_targets(reference(1, lattice), phi[:, None], z[:, None], v[:, None])
    for its, one in zip(several, three_targets(plain, phi, z, v), strict=True):
        torch.testing.assert_close(its[:, 0], one, rtol=0, atol=1e-11)


@pytest.mark.parametrize("n", [2, 3])
def test_targets_agree_given_the_noised_field(n):
    """At one site the posterior of phi is an integral: the mean of each target is the same, at 5 standard errors."""
    gaussian = reference(n, (1,), m2=0.2, lam=0.4)
    rng, v = np.random.default_rng(10), 0.4
    x = np.zeros((n, 1))
    x[0] = 0.8
    phi = x + math.sqrt(v) * rng.normal(size=(400_000, n, 1))  # weighted by exp(-S) they are posterior fields
    weights = np.exp(-gaussian.action(phi))
    weights = torch.as_tensor(weights / weights.mean())
    z = (torch.as_tensor(x) - torch.as_tensor(phi)) / math.sqrt(v)
    levels = torch.full((1, 1, 1), v, dtype=torch.float64)
    stein, force, noise = three_targets(gaussian, torch.as_tensor(phi), z, levels)
    for other in (stein, noise):
        gap = (weights[:, None] * (other - force)[:, :, 0]).numpy()
        assert (np.abs(gap.mean(0)) < 5 * gap.std(0) / math.sqrt(len(gap))).all()
    W = weights[:, None, None]
    spread = [float((W * (t - (W * t).mean(0)).square()).mean()) for t in (stein, force, noise)]
    assert spread[0] < 0.2 * min(spread[1:])  # and the first one has little noise left


# --- models, cards ---------------------------------------------------------------------------------------------------


def test_model_is_stored_and_proposes_by_both_routes(tmp_path):
    made = vector_model()
    save_model(made, tmp_path / "m")
    again = load_model(tmp_path / "m", action=theory(2, 2), shape=(2, 4, 4))
    assert again.fingerprint() == made.fingerprint()
    assert isinstance(again.network, Compiled) and not isinstance(again.network, Differentiable)
    ode = OdeProposal(again, steps=10)
    draw = ode.draw(6, np.random.default_rng(3))
    assert draw.phi.shape == (6, 2, 4, 4)
    np.testing.assert_allclose(ode.weigh(draw.phi), draw.log_q, rtol=0, atol=1e-4)
    for kernel in ("gaussian", "dressed"):
        sde = SdeProposal(again, steps=6, ladder="geometric", kernel=kernel)
        drawn = sde.draw(4, np.random.default_rng(4))
        assert drawn.phi.shape == (4, 2, 4, 4) and np.isfinite(drawn.log_q).all()
    for action, shape in ((theory(3, 2), (3, 4, 4)), (theory(2, 2, m2=0.5), (2, 4, 4)), (Phi4.A(-1.0, 1.5), (4, 4))):
        with pytest.raises(ModelError, match="wanted"):
            load_model(tmp_path / "m", action=action, shape=shape)
    with pytest.raises(ModelError, match="no couplings to go between"):
        again.at(theory(2, 2, m2=0.5), (2, 4, 4), outside=True)


CARD = '[action]\nname = "on"\ncomponents = 2\nconvention = "A"\nm2 = -1.0\nlam = 1.5\n[lattice]\nshape = [4, 4]\n'


def test_card_without_a_network_has_the_one_that_fits():
    card = parse_card(CARD)
    assert card.network.name == "vector_ridge" and card.shape == (2, 4, 4)
    assert parse_card(card.to_toml()) == card
    made = build_network(card)
    assert isinstance(made, VectorRidgeNetwork) and made.ordered and made.ndim == 3


@pytest.mark.parametrize("name", ["ridge", "conservative_ridge", "residual", "unet"])
def test_networks_of_one_component_are_refused(name):
    with pytest.raises(CardError, match=r"take network.name = .vector_ridge"):
        build_network(parse_card(CARD, [f"network.name={name}"]))


def test_network_of_several_is_refused_for_one_component():
    with pytest.raises(CardError, match=r"take network.name = .ridge"):
        one = CARD.replace('name = "on"\ncomponents = 2\n', "")
        build_network(parse_card(one, ["network.name=vector_ridge"]))
    plain = GaussianReference(Phi4.A(-1.0, 1.5), some_propagator((4, 4)))
    with pytest.raises(UserError, match="several components"):
        VectorRidgeNetwork(2)(plain, torch.zeros(1, 4, 4), torch.zeros(1))
    with pytest.raises(UserError, match="vector_ridge"):
        RidgeNetwork(3)(reference(2, (4, 4), torch.float32), torch.zeros(1, 2, 4, 4), torch.zeros(1))


def test_reference_singles_out_no_direction():
    propagator = np.stack([some_propagator((4, 4)), 1.01 * some_propagator((4, 4))])
    with pytest.raises(UserError, match="same for every component"):
        GaussianReference(theory(2, 2), propagator)
    alike = np.broadcast_to(some_propagator((4, 4)), (2, 4, 4)).copy()
    for options in ({"vacuum": 0.5}, {"one_sided": True}):
        with pytest.raises(UserError, match=r"training.phase = symmetric"):
            GaussianReference(theory(2, 2), alike, **options)


def test_recipe_expands_around_zero_with_the_network_of_components():
    found = recipe(parse_card(CARD))
    assert found.card.network.name == "vector_ridge" and found.card.training.phase == "symmetric"
    assert found.card.training.sites == "all" and found.card.hmc.cluster is None
    assert "2 components" in found.reasons[0]

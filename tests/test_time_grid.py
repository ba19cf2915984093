"""Laws of time grids and of the multistep scheme: what is fitted to a model stays an approximation of its flow."""

import math

import numpy as np
import pytest
import torch
from learned_toys import QUARTIC, SHAPE, model, network, normal, some_propagator
from scipy.integrate import solve_ivp

from latticediff.action import Phi4
from latticediff.build.learned import build_proposal, passing_proposal, store_grid
from latticediff.config import load_card
from latticediff.diffusion.between import FineRidge, InterpolatedFlow
from latticediff.diffusion.compiled import CompiledFlow
from latticediff.diffusion.flow import ProbabilityFlow
from latticediff.diffusion.ladder import NoiseRange
from latticediff.diffusion.multistep import Adams
from latticediff.diffusion.runge_kutta import integrate, scheme
from latticediff.diffusion.time_grid import STEEP, TimeGrid, _Secant, evaluations, fit_grid
from latticediff.errors import UserError
from latticediff.gaussian.reference import GaussianReference
from latticediff.model.storage import load_model, save_model
from latticediff.proposal import OdeProposal, grid
from latticediff.proposal.grid import own_scheme

STEPS = 10


@pytest.fixture(scope="module")
def made():
    """An untrained network: larger slopes, and larger errors, than a trained one has."""
    return model(QUARTIC, SHAPE, 0.3, sigmas=(0.02, 4.0))


@pytest.fixture(scope="module")
def optimised(made):
    return OdeProposal(made, STEPS, "adams5", grid="optimised")


# --- multistep -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [1, 2, 5])
def test_an_adams_step_is_exact_for_slopes_of_lower_degree(order):
    """The last of some uneven steps; the next degree is missed."""
    times, method = np.cumsum([0.0, 0.3, 0.1, 0.2, 0.4, 0.5, 0.3]), Adams("a", order)
    last = method.passage(times).weights - np.append(method.passage(times[:-1]).weights, 0.0)
    for degree in range(order + 1):
        miss = last @ times[:-1] ** degree - (times[-1] ** (degree + 1) - times[-2] ** (degree + 1)) / (degree + 1)
        assert (abs(miss) < 1e-12) == (degree < order)


def test_adams_has_its_order_where_the_slope_begins_at_zero():
    """y' = sin(t)^8 (1 + y): a passage of one evaluation a step, error of order 5; where it does not vanish, 2."""

    def error(slope, y_exact, n):
        return abs(
            integrate(lambda y, t: (slope(y, t), 0.0), 0.0, np.linspace(0, 2, n + 1), scheme("adams5"))[0] - y_exact
        )

    fine = integrate(lambda y, t: (math.sin(t) ** 8 * (1 + y), 0.0), 0.0, np.linspace(0, 2, 500), scheme("dopri5"))[0]
    for slope, exact, order in (
        (lambda y, t: math.sin(t) ** 8 * (1 + y), fine, 5),
        (lambda y, t: 1 + y, math.e**2 - 1, 2),
    ):
        assert math.log2(error(slope, exact, 128) / error(slope, exact, 256)) == pytest.approx(order, abs=0.4)


def test_compiled_and_plain_multistep_flows_agree(made):
    """Float32 inside the one: 1e-5 of log_q's slope. Both directions on different grids."""
    grids = TimeGrid.uniform(made.noise, STEPS)
    grids = TimeGrid(grids.down, np.concatenate([grids.down[:1], grids.down[1:-1] + 0.1, grids.down[-1:]]))
    gaussian = GaussianReference(QUARTIC, made.gaussian.propagator_full, dtype=torch.float64)
    plain = ProbabilityFlow(
        type(made.network)(2, features=6, hidden=8).double(), gaussian, grids.down, scheme("adams5"), True, grids.up
    )
    plain.network.load_state_dict(made.network.state_dict())
    fast, y = OdeProposal(made, STEPS, "adams5", grid=grids), normal((4, *SHAPE), 1)
    assert fast.compiled
    assert plain.evaluations == fast.evaluations_per_draw == STEPS
    phi, log_q = plain.down(y)
    draw = fast.transport(y.numpy())
    np.testing.assert_allclose(draw.phi, phi, atol=1e-4)
    np.testing.assert_allclose(draw.log_q, log_q, atol=2e-3)
    np.testing.assert_allclose(fast.estimate(draw.phi), plain.up(phi)[1], atol=2e-3)


def test_recomputing_keeps_a_multistep_passage_whole(made):
    """Cut into its steps it would be Euler's method; results with gradients are those without."""
    gaussian = made.gaussian
    for method in ("rk4", "adams5"):
        flow = ProbabilityFlow(made.network, gaussian, made.noise.grid(6), scheme(method), recompute=True)
        y = normal((2, *SHAPE), 2, torch.float32)
        torch.testing.assert_close(flow.down(y, gradients=True), flow.down(y))


def test_fixed_grids_agree_with_adaptive_integration():
    """An eighth-order adaptive scheme of another library, at a tolerance of 1e-10, on the float64 flow."""
    net, y = network(2, 0.3).double(), normal((1, *SHAPE), 3)
    gaussian = GaussianReference(QUARTIC, some_propagator(SHAPE), dtype=torch.float64)
    noise = NoiseRange(0.05, 4.0)
    flow = ProbabilityFlow(net, gaussian, noise.grid(1), scheme("rk4"))

    @torch.no_grad()
    def slope(t, state):
        dy, trace = flow.slope(torch.as_tensor(state[:-1]).reshape(y.shape), float(t))
        return np.append(dy.numpy().ravel(), trace.item())

    found = solve_ivp(slope, flow.grid, np.append(y.numpy().ravel(), 0.0), "DOP853", rtol=1e-10, atol=1e-10).y[:, -1]
    phi = gaussian.colour(torch.as_tensor(found[:-1]).reshape(y.shape), math.exp(2 * flow.grid[-1]))
    log_q = flow._log_q(y, torch.as_tensor(-found[-1:]), math.exp(2 * flow.grid[-1]))
    for method, steps, tolerance in (("rk4", 128, 1e-5), ("dopri5", 64, 1e-6), ("adams5", 1024, 2e-4)):
        fixed = ProbabilityFlow(net, gaussian, noise.grid(steps), scheme(method))
        torch.testing.assert_close(fixed.down(y), (phi, log_q), rtol=0, atol=tolerance)


# --- grids -----------------------------------------------------------------------------------------------------------


def test_bisecting_halves_every_step():
    once = TimeGrid(np.array([1.0, 0.2, -1.0]), np.array([1.0, 0.4, -1.0]))
    twice = once.bisected()
    np.testing.assert_allclose(twice.down, [1.0, 0.6, 0.2, -0.4, -1.0])
    np.testing.assert_allclose(twice.up, [1.0, 0.7, 0.4, -0.3, -1.0])
    noise = NoiseRange(math.exp(-1.0), math.exp(1.0))
    again = TimeGrid.from_inner(noise, once.inner())
    np.testing.assert_allclose([again.down, again.up], [once.down, once.up])


@pytest.mark.parametrize(
    ("down", "up", "message"),
    [
        ([1.0, 2.0, 0.0], [1.0, 0.5, 0.0], "down is .* expected descending"),
        ([1.0, 0.5, 0.0], [1.0, float("nan"), 0.0], "up is .* expected descending"),
        ([1.0, 0.5, 0.0], [1.0, 0.0], "expected the same ends and steps"),
        ([1.0, 0.5, 0.0], [1.0, 0.5, 0.1], "expected the same ends and steps"),
    ],
)
def test_bad_grids_are_refused(down, up, message):
    with pytest.raises(UserError, match=message):
        TimeGrid(np.array(down), np.array(up))


def test_a_fitted_grid_descends_keeps_its_ends_and_has_a_smaller_error():
    """A known integral, exp(-8 t^2) over (-1, 2), by the Adams weights; the scale is another one for each 'field'."""
    scales = np.linspace(0.8, 1.2, 40)

    def errors(grid):
        passage = scheme("adams5").passage(grid)
        exact = [
            math.sqrt(math.pi / 32) / s * (math.erf(-s * math.sqrt(8)) - math.erf(2 * s * math.sqrt(8))) for s in scales
        ]
        return np.exp(-8 * np.outer(scales, passage.times[0]) ** 2) @ passage.weights - exact

    start = np.linspace(2.0, -1.0, 15)
    found = fit_grid(start, errors)
    assert (np.diff(found) < 0).all()
    assert (found[0], found[-1], len(found)) == (2.0, -1.0, 15)
    assert np.median(np.abs(errors(found))) < 0.1 * np.median(np.abs(errors(start)))


def test_a_fitted_grid_has_no_sudden_steps():
    """Errors that want the last step to vanish: a multistep scheme would multiply rounding there."""
    scales = np.linspace(0.5, 1.5, 30)

    def errors(grid):
        sizes = -np.diff(grid)
        return scales * (sizes[-1] - 1e-4) + 0.01 * scales**2 * (sizes[0] - sizes[1])

    sizes = -np.diff(fit_grid(np.linspace(2.0, -1.0, 13), errors))
    ratios = sizes[1:] / sizes[:-1]
    assert sizes[-1] < 0.15  # it gives way
    assert max(ratios.max(), 1 / ratios.min()) < 1.2 * STEEP


@pytest.mark.parametrize("n_fields", [64, 4096])
@pytest.mark.parametrize("target", [(1, 1, 1, 1000, 1, 1), (1, 30, 1, 30, 1, 30), (5e-5, *[1] * 7)])
def test_steps_stay_alike_however_many_fields_ask_for_others(n_fields, target):
    """Every field wants the step sizes of `target`: the price of sudden steps is not outvoted."""
    scales = np.random.default_rng(3).normal(size=n_fields)

    def errors(grid):
        sizes = -np.diff(grid) / (grid[0] - grid[-1])
        return scales * np.abs(np.log(sizes / (np.array(target) / np.sum(target)))).sum()

    sizes = -np.diff(fit_grid(np.linspace(2.0, -1.0, len(target) + 1), errors))
    assert np.abs(np.log(sizes[1:] / sizes[:-1])).max() <= np.log(1.05 * STEEP)
    assert not np.allclose(sizes, sizes[0])  # and they are not those of the start


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_where_nothing_can_be_fitted_the_grid_stays(value):
    start = np.linspace(1.0, 0.0, 6)
    assert fit_grid(start, lambda grid: np.full(30, value)) is start


def test_a_fit_evaluates_the_errors_about_as_often_as_it_says():
    """A search pays differences once and secants from there on: the estimate of a dry run counts on it."""
    scales, calls = np.random.default_rng(5).uniform(0.5, 1.5, 60), []

    def errors(grid):
        calls.append(grid)
        passage = scheme("adams5").passage(grid)
        values = np.exp(-8 * np.outer(scales, passage.times[0]) ** 2) @ passage.weights
        return values + np.sqrt(np.pi / 32) / scales

    for n_steps in (11, 30):
        calls.clear()
        fit_grid(np.linspace(2.0, -2.0, n_steps + 1), errors)
        assert len(calls) < 1.5 * evaluations(n_steps)
        assert len(calls) > 0.4 * evaluations(n_steps)


def test_a_solver_may_write_into_what_it_was_given():
    """SciPy before 1.16 scales residuals and slopes in place; the search goes on from the true ones."""
    rng = np.random.default_rng(8)
    coefficients, points = rng.standard_normal((9, 3)), rng.standard_normal((4, 3))
    searches = [_Secant(lambda p: np.tanh(coefficients @ p)) for _ in range(2)]
    for p in points:
        given = [(search.values(p), search.slopes(p)) for search in searches]
        for mine, theirs in zip(*given, strict=True):
            assert np.array_equal(mine, theirs)
            mine *= 0.1
        assert np.array_equal(*(search.values(p) for search in searches))


@pytest.mark.parametrize("theory", [QUARTIC, Phi4.A(-4.0, 6.0)])
def test_tables_between_levels_are_those_of_the_network(theory):
    """Far below the errors that a fit compares, on a network with larger slopes than a trained one."""
    made = model(theory, SHAPE, 0.3, sigmas=(0.02, 4.0))
    low, high = made.noise.log_range
    grid = np.concatenate([[high], np.sort(np.random.default_rng(3).uniform(low, high, 12))[::-1], [low]])
    fine = FineRidge(made.network, made.gaussian, made.noise.log_range)
    flows = [
        CompiledFlow(made.network, made.gaussian, grid, scheme("adams5")),
        InterpolatedFlow(fine, grid, scheme("adams5")),
    ]
    noise = np.random.default_rng(4).standard_normal((20, *SHAPE))
    (phi, log_q), (again, density) = (flow.down(noise) for flow in flows)
    np.testing.assert_allclose(again, phi, atol=1e-4)
    np.testing.assert_allclose(density, log_q, atol=1e-3)
    np.testing.assert_allclose(flows[1].up(phi)[1], flows[0].up(phi)[1], atol=1e-3)


# --- a model's grid --------------------------------------------------------------------------------------------------


def log_weight(proposal, noise):
    draw = proposal.transport(noise)
    return -QUARTIC(draw.phi) - draw.log_q


def test_an_optimised_grid_has_a_smaller_error_on_fresh_fields_both_ways(made, optimised):
    noise = np.random.default_rng(7).standard_normal((200, *SHAPE))
    uniform, exact = OdeProposal(made, STEPS, "adams5"), OdeProposal(made, 64)
    phi = exact.transport(noise).phi
    assert uniform.evaluations_per_draw == optimised.evaluations_per_draw == STEPS
    down = [np.median(np.abs(log_weight(p, noise) - log_weight(exact, noise))) for p in (optimised, uniform)]
    up = [np.median(np.abs(p.weigh(phi) - exact.weigh(phi))) for p in (optimised, uniform)]
    assert down[0] < 0.3 * down[1]
    assert up[0] < 0.3 * up[1]
    # the ways have a grid each: the other one's is no good; for some fields no noise is found at all
    swapped = OdeProposal(made, STEPS, "adams5", grid=TimeGrid(optimised.grid.up, optimised.grid.down))
    off = np.abs(swapped.weigh(phi) - exact.weigh(phi))
    assert np.median(np.where(np.isnan(off), np.inf, off)) > 2 * up[0]


def test_the_fit_is_no_artefact_of_what_is_fitted(made, optimised):
    """log_q of draws against the density of the *discrete* map by its Jacobian: what a chain meets."""
    y, errors = np.random.default_rng(8).standard_normal((12, *SHAPE)), []
    volume, h = y[0].size, 0.02
    for proposal in (optimised, OdeProposal(made, STEPS, "adams5")):
        found = []
        for one, log_q in zip(y, proposal.transport(y).log_q, strict=True):
            shifts = h * np.eye(volume).reshape(volume, *SHAPE)
            fields = [proposal.transport(one + c * shifts).phi.reshape(volume, -1) for c in (2, 1, -1, -2)]
            jacobian = (-fields[0] + 8 * fields[1] - 8 * fields[2] + fields[3]) / (12 * h)
            normal_part = -0.5 * (one**2).sum() - 0.5 * volume * math.log(2 * math.pi)
            found.append(log_q - normal_part + np.linalg.slogdet(jacobian)[1])
        errors.append(np.median(np.abs(found)))
    assert errors[0] < 0.5 * errors[1]


def test_calibration_is_a_function_of_the_model(made, optimised, monkeypatch):
    monkeypatch.setattr(grid, "_grids", {})
    again = OdeProposal(made, STEPS, "adams5", batch=7, grid="optimised")
    np.testing.assert_array_equal([again.grid.down, again.grid.up], [optimised.grid.down, optimised.grid.up])
    assert again.fingerprint() == optimised.fingerprint() != OdeProposal(made, STEPS, "adams5").fingerprint()


def test_doubling_an_optimised_grid_bisects_its_steps(made, optimised):
    doubled = optimised.doubled()
    np.testing.assert_array_equal(doubled.grid.up, optimised.grid.bisected().up)
    assert doubled.steps == 2 * STEPS
    noise = np.random.default_rng(9).standard_normal((50, *SHAPE))
    exact = log_weight(OdeProposal(made, 64), noise)
    change = np.median(np.abs(log_weight(doubled, noise) - log_weight(optimised, noise)))
    error, uniform = (
        np.median(np.abs(log_weight(p, noise) - exact)) for p in (optimised, OdeProposal(made, STEPS, "adams5"))
    )
    # halves of optimised steps do not cancel as the steps did: doubling is on the safe side of the error
    assert 0.5 * error < change < uniform


def test_a_model_that_blows_up_keeps_the_uniform_grid():
    wild = model(QUARTIC, SHAPE, 1e4)
    proposal = OdeProposal(wild, 4, "adams5", grid="optimised")
    np.testing.assert_array_equal(proposal.grid.down, wild.noise.grid(4))


def test_a_grid_is_kept_with_the_model_that_it_was_made_for(made, tmp_path, monkeypatch):
    card = load_card("configs/demo.toml", [f"sampling.ode.steps={STEPS}", "lattice.shape=[4, 6]"])
    store_grid(card, made)
    save_model(made, tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    monkeypatch.setattr("latticediff.proposal.ode.calibrated_grid", None)  # must not be needed
    proposal = build_proposal(card, loaded, "ode")
    np.testing.assert_array_equal(proposal.grid.up, OdeProposal(made, STEPS, "adams5", grid="optimised").grid.up)
    assert not proposal.is_uniform
    assert passing_proposal(card, loaded).is_uniform
    with pytest.raises(TypeError):
        OdeProposal(loaded, STEPS + 1, "adams5", grid="optimised")
    made.card.clear()


def test_a_model_brings_its_integrator_and_what_is_given_is_taken():
    """That of its last grid, else of its measured ESS, else plain; a foreign method begins with plain steps."""
    made, plain = model(QUARTIC, SHAPE, 0.1), {"steps": 16, "method": "rk4", "grid": "uniform"}
    assert own_scheme(made) == plain
    made.card = {"metrics": {"proposal": "sde", "steps": 30}}
    assert own_scheme(made) == plain
    made.card = {"metrics": {"proposal": "ode", "steps": 9, "method": "dopri5", "grid": "uniform"}}
    assert own_scheme(made) == {"steps": 9, "method": "dopri5", "grid": "uniform"}
    for steps in (STEPS, STEPS + 2):
        made.card = grid.with_grid(made.card, steps, "adams5", TimeGrid.uniform(made.noise, steps))
    own = {"steps": STEPS + 2, "method": "adams5", "grid": "optimised"}
    assert own_scheme(made) == own_scheme(made, method="adams5") == own
    assert own_scheme(made, steps=5) == {**own, "steps": 5}
    assert own_scheme(made, grid="uniform") == {**own, "grid": "uniform"}
    assert own_scheme(made, method="rk4", steps=8) == {**plain, "steps": 8}
    # the grid of a theory does not follow the network to another one; the scheme of its ESS does
    moved = made.at(Phi4.A(-4.0, 6.2), outside=True)
    assert own_scheme(moved)["method"] == "dopri5"


def test_unknown_and_unfit_grids_are_refused(made):
    with pytest.raises(UserError, match="grid is 'best'; expected one of uniform, optimised"):
        OdeProposal(made, 4, grid="best")
    with pytest.raises(UserError, match=r"in 4 steps; expected 1\.38.* in 5"):
        OdeProposal(made, 5, grid=TimeGrid.uniform(made.noise, 4))

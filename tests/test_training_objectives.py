"""Every objective of a training has one mean gradient, with more or less noise.

The theory is a free field on a propagator that is not its own: then R is not zero, yet its score is known.
"""

import numpy as np
import pytest
import torch
from learned_toys import network, normal, some_propagator

from latticediff.action import Phi4, free_propagator
from latticediff.diffusion.ladder import NoiseRange
from latticediff.errors import CardError, UserError
from latticediff.gaussian.reference import GaussianReference
from latticediff.targets.objectives import EmpiricalScore, ModelScore
from latticediff.training import Task, Trainer, TrainingData, TrainingPlan
from latticediff.training.gradient_noise import fit_w0, gradient_noise
from latticediff.training.objective import Objective, draw_batch

SHAPE, FREE, NOISE = (4, 4), Phi4.A(0.8, 0.0), NoiseRange(0.3, 2.0)


@pytest.fixture(scope="module")
def data():
    white = np.fft.fftn(np.random.default_rng(1).normal(size=(8192, *SHAPE)), axes=(1, 2))
    phis = np.fft.ifftn(white * np.sqrt(free_propagator(FREE, SHAPE)), axes=(1, 2)).real
    return TrainingData(phis, n_chains=8)


@pytest.fixture(scope="module")
def net():
    return network(2, 0.5, features=2, hidden=2)


def objective(name, data, net, **plan):
    """An objective by the name of its target, or of its trace for the implicit one."""
    if name not in ("stein", "mixed", "denoising", "force", "explicit"):
        plan |= {"target": "implicit", "trace": name, "trace_reach": 3}  # at L = 4 that is every site
    else:
        plan |= {"target": name}
    gaussian = GaussianReference(FREE, some_propagator(SHAPE))
    return Objective(TrainingPlan(**plan), gaussian, data, NOISE, net)


@pytest.fixture(scope="module")
def stein(data, net):
    return objective("stein", data, net)  # its fit is the longest part of this file


def gradients(made, data, net, n_batches=16, size=256):
    """Gradients of the same batches, (n_batches, parameters), float64."""
    rows = []
    for number in range(n_batches):
        batch = draw_batch(data, size, NOISE, made.plan, [7, number])
        found = torch.autograd.grad(made(net, batch).mean(), list(net.parameters()))
        rows.append(torch.cat([g.flatten() for g in found]).double())
    return torch.stack(rows)


@pytest.fixture(scope="module")
def explicit_gradients(data, net):
    return gradients(objective("explicit", data, net), data, net)


def largest_deviation(rows):
    """Largest mean over its standard error, among parameters whose difference is more than rounding."""
    mean, error = rows.mean(0), rows.std(0) / len(rows) ** 0.5
    return float((mean / error.clamp(min=1e-5)).abs().max())


@pytest.mark.parametrize("name", ["stein", "mixed", "denoising", "force", "closed_form", "hutchinson"])
def test_every_objective_has_the_gradient_of_the_explicit_one(name, data, net, stein, explicit_gradients):
    """t distribution with 15 degrees of freedom, about 130 parameters: above 7 with probability 5e-4 for each name."""
    made = stein if name == "stein" else objective(name, data, net)
    assert largest_deviation(gradients(made, data, net) - explicit_gradients) < 7


def test_a_biased_target_is_seen(data, net, explicit_gradients):
    """Denoising for the score of the free field that the propagator describes, not the one of the data."""
    made = objective("denoising", data, net)
    made.target = lambda gaussian, phi, z, v: z / v.sqrt()
    assert largest_deviation(gradients(made, data, net) - explicit_gradients) > 14


def test_traces_that_are_exact_agree_on_every_configuration(data, net):
    found = [objective(name, data, net) for name in ("closed_form", "full", "coloured")]
    batch = draw_batch(data, 8, NOISE, found[0].plan, [0])
    closed, full, coloured = (made(net, batch).float() for made in found)
    torch.testing.assert_close(closed, full, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(coloured, full, rtol=1e-4, atol=1e-4)
    narrow = Objective(
        TrainingPlan(target="implicit", trace="coloured", trace_reach=1), found[0].gaussian, data, NOISE, net
    )
    assert not torch.allclose(narrow(net, batch), full, rtol=1e-2)  # a reach that is too short gives a wrong number


def test_held_out_losses_by_hutchinson_are_those_by_the_exact_trace(data, net):
    """Within 4 errors on 1,000 configurations, false alarms 6e-5; a probe of ones knows only the zero mode."""
    task = Task(GaussianReference(FREE, some_propagator(SHAPE)), data)
    exact, sliced = (
        Trainer(net, task, NOISE, TrainingPlan(target="implicit", trace=trace)).losses(0, data.held_out[:1000]).double()
        for trace in ("closed_form", "hutchinson")
    )
    assert largest_deviation((sliced - exact)[:, None]) < 4
    made = objective("hutchinson", data, net)
    batch = draw_batch(data, 1000, NOISE, made.plan, [0])
    ones = made(net, batch._replace(probes=torch.ones_like(batch.phi)))
    assert largest_deviation((ones - objective("closed_form", data, net)(net, batch)).double()[:, None]) > 14


def test_empirical_target_is_the_residual_of_the_noised_data(data):
    """A network that is the target has the score of the kernel density."""
    few = TrainingData(data.train[:64].numpy(), n_chains=8)
    gaussian = GaussianReference(FREE, some_propagator(SHAPE), dtype=torch.float64)
    made = Objective(TrainingPlan(target="explicit", oracle="empirical"), gaussian, few, NOISE, None)
    x, sigma = normal((5, *SHAPE), 3), torch.linspace(0.4, 1.5, 5, dtype=torch.float64)

    def residual(gaussian, x, log_sigma, trace):
        v = gaussian.expand((2 * log_sigma).exp())
        return made.target(gaussian, x, torch.zeros_like(x), v), None

    expected = EmpiricalScore(few.train)(x, sigma)
    torch.testing.assert_close(ModelScore(residual, gaussian)(x, sigma), expected, rtol=1e-8, atol=1e-8)


def test_weightings_differ_by_the_factor_they_state(data, net):
    batch = draw_batch(data, 16, NOISE, TrainingPlan(), [0])
    likelihood, squared, uniform = (
        objective("mixed", data, net, weighting=name)(net, batch)
        for name in ("likelihood", "sigma_squared", "uniform_log_sigma")
    )
    torch.testing.assert_close(squared, likelihood)
    torch.testing.assert_close(uniform * (2 * batch.log_sigma).exp(), likelihood)


@pytest.mark.parametrize("levels", ["stratified", "antithetic", "independent"])
def test_noise_levels_fill_the_range_as_named(levels, data):
    low, high = NOISE.log_range
    batch = draw_batch(data, 64, NOISE, TrainingPlan(levels=levels), [3])
    u = ((batch.log_sigma.double() - low) / (high - low)).numpy()
    assert ((u >= 0) & (u <= 1)).all()
    if levels == "stratified":
        assert len(set(np.floor(u * 64 - 1e-4 + 0.5).tolist())) >= 63  # one in each of 64 intervals
    if levels == "antithetic":
        np.testing.assert_allclose(u[:32] + u[32:], 1, atol=1e-5)


# --- noise of the gradient -------------------------------------------------------------------------------------------


def test_gradient_noise_falls_from_denoising_to_the_blend(data, net, stein):
    made = {"stein": stein} | {name: objective(name, data, net) for name in ("mixed", "denoising")}
    found = {name: gradient_noise(net, made[name], data, NOISE) for name in made}
    assert found["stein"].variance < found["mixed"].variance < found["denoising"].variance
    # several errors apart, on the same batches
    assert found["denoising"].variance - found["stein"].variance > 3 * found["denoising"].error


def test_fitted_w0_has_the_least_noise_on_fresh_batches(data, net):
    made = objective("mixed", data, net)
    best, measured = fit_w0(net, made, data, NOISE, grid=(0.0, 0.1, 1.0, 10.0, 1e4), n_batches=16)
    assert best == min(measured, key=lambda w0: measured[w0].variance)
    again = {}
    for w0 in measured:
        made.set_w0(w0)
        again[w0] = gradient_noise(net, made, data, NOISE, n_batches=16, seed=1).variance
    assert again[best] < 0.9 * max(again[0.0], again[1e4])


def test_fitted_w0_is_kept_in_the_checkpoint(tmp_path, data):
    def trainer(seed):
        task = Task(GaussianReference(FREE, some_propagator(SHAPE)), data)
        plan = TrainingPlan(steps=4, batch=8, warmup=2, target="mixed", w0="fit")
        return Trainer(network(2, 0.5, seed, features=2, hidden=2), task, NOISE, plan)

    path = tmp_path / "checkpoint"
    whole = trainer(0)
    whole.run(path)
    other = trainer(3)  # other first weights may fit another value
    other.run(path)
    assert whole.w0 is not None
    assert other.w0 == whole.w0
    assert other.objectives[0].target.keywords == {"w0": whole.w0[0]}


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "stain"}, r"target is 'stain' \(did you mean 'stein'\?\)"),
        ({"w0": "auto"}, 'expected a number of at least 0, or "fit"'),
        ({"w0": -1.0}, "w0 is -1.0"),
        ({"levels": "random"}, "levels is 'random'"),
        ({"weighting": "none"}, "weighting is 'none'"),
        ({"target": "implicit", "trace": "coloured"}, "coloured probes need trace_reach"),
    ],
)
def test_plans_that_make_no_sense_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        TrainingPlan(**options)


def test_the_score_of_an_interacting_theory_is_not_known(data, net):
    gaussian = GaussianReference(Phi4.A(0.8, 1.0), some_propagator(SHAPE))
    with pytest.raises(UserError, match="is not known; the explicit target takes free fields"):
        Objective(TrainingPlan(target="explicit"), gaussian, data, NOISE, net)


def test_a_network_without_closed_form_is_told_so(data, net):
    class Deep(torch.nn.Module):
        def describe(self):
            return {"name": "deep"}

        def forward(self, gaussian, x, log_sigma, trace=False):
            return torch.zeros_like(x), None

    gaussian = GaussianReference(FREE, some_propagator(SHAPE))
    with pytest.raises(UserError, match="the network deep has no closed-form trace; take trace = full"):
        Objective(TrainingPlan(target="implicit"), gaussian, data, NOISE, Deep())


def test_card_takes_a_number_or_fit():
    from latticediff.config import parse_card

    text = '[action]\nconvention = "A"\nm2 = 1.0\nlam = 0.1\n[lattice]\nshape = [4, 4]\n[training]\n'
    assert parse_card(text + 'w0 = "fit"\n').training.w0 == "fit"
    assert parse_card(text + "w0 = 0.5\n").training.w0 == 0.5
    with pytest.raises(CardError, match="w0"):
        parse_card(text + 'w0 = "best"\n')

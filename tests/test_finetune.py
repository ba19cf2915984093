"""Laws of fine-tuning through the flow: gradients are derivatives, their means agree, the guard stops what is no gain.

Identities in float64 on a few sites. The Gaussian theory serves wherever the ensemble or log Z must be exact.
Statistical tolerances are 5 standard errors: a false alarm in 2e6 runs of one comparison.
"""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from learned_toys import FREE, QUARTIC, model, network, normal, some_propagator

from latticediff.action import Phi4, free_propagator
from latticediff.diffusion.flow import ProbabilityFlow
from latticediff.diffusion.ladder import NoiseRange
from latticediff.diffusion.runge_kutta import scheme
from latticediff.errors import FileError, StopRequested, UserError
from latticediff.gaussian.propagator import measured_propagator
from latticediff.gaussian.reference import GaussianReference
from latticediff.hmc import HMC
from latticediff.model.storage import load_model
from latticediff.streams import Streams
from latticediff.training import Task, TrainingData
from latticediff.training.finetune import FineTuner, FineTuningPlan
from latticediff.training.guard import Guard
from latticediff.training.likelihood import OBJECTIVES, Path, action_of, jittered_grid

SHAPE = (3, 2)
NOISE = NoiseRange(0.1, 3.0)
DIRECTIONS = ("forward", "reverse")


def flow_of(action=None, shape=SHAPE, strength=0.3, steps=4, recompute=False, seed=0):
    """A flow in float64 with a network that fits badly."""
    action = action or Phi4.A(-1.0, 0.5, len(shape))
    gaussian = GaussianReference(action, some_propagator(shape), dtype=torch.float64)
    return ProbabilityFlow(
        network(len(shape), strength, seed).double(), gaussian, NOISE.grid(steps), scheme("rk4"), recompute
    )


def moved(flow, direction, by):
    """Move all weights along `direction`."""
    with torch.no_grad():
        for p, d in zip(flow.network.parameters(), direction, strict=True):
            p += by * d


def some_direction(flow, seed=3):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in flow.network.parameters()]


def derivative(flow, direction, values, by=1e-5):
    """Central difference of ``values()`` along a direction of the weights; exact to about by^2."""
    moved(flow, direction, by)
    with torch.no_grad():
        above = values()
    moved(flow, direction, -2 * by)
    with torch.no_grad():
        below = values()
    moved(flow, direction, by)
    return (above - below) / (2 * by)


def slope_of(flow, direction, loss):
    """Derivative along a direction by torch."""
    gradients = torch.autograd.grad(loss, list(flow.network.parameters()), allow_unused=True)
    return float(sum((g * d).sum() for g, d in zip(gradients, direction, strict=True) if g is not None))


def log_weight(flow, phi):
    return -action_of(flow.gaussian, phi) - flow.up(phi)[1]


# --- gradients -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5,), (4, 6), (2, 3, 2)])
def test_torch_action_is_the_action(shape):
    action = Phi4.A(-1.0, 0.5, len(shape))
    gaussian = GaussianReference(action, some_propagator(shape), dtype=torch.float64)
    phi = normal((3, *shape), 1)
    np.testing.assert_allclose(action_of(gaussian, phi), action(phi.numpy()), rtol=1e-12)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("name", ["kl", "log_variance"])
def test_gradient_is_the_derivative_of_the_objective(name, direction):
    """Of the discrete map, so to rounding; the variance is taken over configurations that do not move."""
    flow, start, along = flow_of(), normal((5, *SHAPE), 2), some_direction(flow_of())
    if name == "log_variance":
        fixed = start if direction == "forward" else flow.down(start)[0]
        expected = derivative(flow, along, lambda: 0.5 * log_weight(flow, fixed).var())
    else:
        expected = derivative(flow, along, lambda: getattr(OBJECTIVES[name], direction)(flow, start)[0])
    loss, _ = getattr(OBJECTIVES[name], direction)(flow, start)
    assert slope_of(flow, along, loss) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_path_gradient_is_the_pulled_force_times_the_change_of_the_map(direction):
    flow, start, along = flow_of(), normal((4, *SHAPE), 2), some_direction(flow_of())
    phi, y = (start, flow.up(start)[0]) if direction == "forward" else (flow.down(start)[0], start)
    g = torch.zeros_like(phi)
    for site in np.ndindex(*SHAPE):  # grad log_weight, one site at a time
        shift = torch.zeros(SHAPE, dtype=torch.float64)
        shift[site] = 1e-5
        g[(slice(None), *site)] = (log_weight(flow, phi + shift) - log_weight(flow, phi - shift)) / 2e-5
    expected = -(g * derivative(flow, along, lambda: flow.down(y)[0])).flatten(1).sum(1).mean()
    loss, _ = getattr(Path, direction)(flow, start)
    assert slope_of(flow, along, loss) == pytest.approx(float(expected), rel=1e-5)


def test_recomputed_steps_have_the_bits_of_kept_ones():
    gradients = []
    for recompute in (False, True):
        flow = flow_of(recompute=recompute)
        loss, _ = OBJECTIVES["kl"].reverse(flow, normal((4, *SHAPE), 2))
        gradients.append(torch.autograd.grad(loss, list(flow.network.parameters())))
    for kept, again in zip(*gradients, strict=True):
        assert torch.equal(kept, again)


# --- means and noise -------------------------------------------------------------------------------------------------


def exact_draws(n, shape=SHAPE, seed=5, action=FREE):
    """Independent configurations of the Gaussian theory."""
    gaussian = GaussianReference(action, free_propagator(action, shape), dtype=torch.float64)
    return gaussian.colour(normal((n, *shape), seed), 0.0)


def per_sample(flow, along, direction, start):
    """Derivatives along a direction of the weights, one a sample: of the divergence, and along the path."""
    if direction == "forward":
        plain = derivative(flow, along, lambda: -flow.up(start)[1])
        phi, y = start, flow.up(start)[0]
    else:
        plain = derivative(flow, along, lambda: -log_weight_down(flow, start))
        phi, y = flow.down(start)[0], start
    _, force, _ = Path._pull(flow, phi)
    change = derivative(flow, along, lambda: flow.down(y)[0])
    bare = -(force + (action_force(flow, phi) - force) * 2) * change  # the term of log q with the wrong sign
    return plain, -(force * change).flatten(1).sum(1), bare.flatten(1).sum(1)


def log_weight_down(flow, y):
    phi, log_q = flow.down(y)
    return -action_of(flow.gaussian, phi) - log_q


def action_force(flow, phi):
    phi = phi.detach().requires_grad_()
    return torch.autograd.grad(-action_of(flow.gaussian, phi).sum(), phi)[0]


def z_score(difference):
    return float(difference.mean() / (difference.std() / math.sqrt(len(difference))))


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_path_gradient_has_the_mean_of_the_divergence(direction):
    """And with a wrong term it has not. The grid is fine enough that the discrete map counts as the flow."""
    flow = flow_of(FREE, steps=16, strength=0.2)
    along = some_direction(flow)
    start = exact_draws(600) if direction == "forward" else normal((600, *SHAPE), 6)
    plain, path, wrong = per_sample(flow, along, direction, start)
    assert abs(z_score(plain - path)) < 5
    assert abs(z_score(plain - wrong)) > 10
    assert path.std() < plain.std()  # what it is for


def test_log_variance_has_the_gradient_of_the_reverse_divergence():
    """Cov(log w, -d log q) over draws, sample by sample against the derivative of <S + log q>."""
    flow = flow_of(FREE, steps=16, strength=0.2)
    along, y = some_direction(flow), normal((600, *SHAPE), 7)
    plain = derivative(flow, along, lambda: -log_weight_down(flow, y))
    phi = flow.down(y)[0]
    change = derivative(flow, along, lambda: log_weight(flow, phi))
    weight = log_weight(flow, phi)
    terms = (weight - weight.mean()) * (change - change.mean())
    assert abs(z_score(plain - terms)) < 5
    loss, _ = OBJECTIVES["log_variance"].reverse(flow, y)
    assert slope_of(flow, along, loss) == pytest.approx(float(terms.sum() / (len(terms) - 1)), rel=1e-5)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_noise_vanishes_at_the_optimum_where_it_should(name, direction):
    """The Gaussian theory with its own propagator needs no network: log w is constant up to sigma_min^2."""
    gaussian = GaussianReference(FREE, free_propagator(FREE, SHAPE), dtype=torch.float64)
    noise = NoiseRange(1e-4, 3.0)
    flow = ProbabilityFlow(network(2, 0.0).double(), gaussian, noise.grid(8), scheme("rk4"))
    start = exact_draws(8) if direction == "forward" else normal((8, *SHAPE), 6)
    loss, _ = getattr(OBJECTIVES[name], direction)(flow, start)
    # a slope along one direction of the weights may be small by chance
    gradients = torch.autograd.grad(loss, list(flow.network.parameters()), allow_unused=True)
    size = float(torch.cat([g.flatten() for g in gradients if g is not None]).norm())
    assert size > 1e-2 if name == "kl" else size < 1e-5


def test_jitter_moves_nodes_to_either_side():
    """Shift and stretch are symmetric: of 400 grids 200 +- 10 have their middle node below that of the even grid."""
    noise, generator = NoiseRange(0.02, 4.0), torch.Generator().manual_seed(3)
    even = noise.grid(8)
    below = sum(jittered_grid(noise, 8, generator)[4] < even[4] for _ in range(400))
    assert abs(below - 200) < 50  # five standard errors


def test_grids_are_jittered_between_fixed_ends():
    grids = [jittered_grid(NOISE, 5, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert np.array_equal(grids[0], grids[1]) and not np.array_equal(grids[0], grids[2])
    for grid in grids:
        assert len(grid) == 6 and (np.diff(grid) < 0).all()
        assert grid[[0, -1]] == pytest.approx(NOISE.log_range[::-1], abs=1e-12)


# --- the loop --------------------------------------------------------------------------------------------------------

BOX = (4, 4)
PLAN = {"steps": 8, "batch": 6, "warmup": 2, "integration_steps": 3, "check_every": 3, "n_check": 24, "ema_decay": 0.5}


def tuner(propagator=None, strength=0.1, seed=0, n=64, sigmas=(0.05, 4.0), **plan):
    gaussian = GaussianReference(FREE, some_propagator(BOX) if propagator is None else propagator)
    data = TrainingData(exact_draws(n, BOX).numpy(), n_chains=8)
    plan = FineTuningPlan(**{**PLAN, **plan})
    return FineTuner(network(2, strength, seed), Task(gaussian, data), NoiseRange(*sigmas), plan)


def weights(made):
    return [t.clone() for t in (*made.network.state_dict().values(), *made.ema.state_dict().values())]


def assert_same(one, other):
    assert one.checks == other.checks and one.stopped == other.stopped
    for a, b in zip(weights(one), weights(other), strict=True):
        assert torch.equal(a, b)


def stopping_after(calls):
    counter = itertools.count(1)
    return lambda: "told to" if next(counter) == calls else None


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_resumed_finetuning_equals_uninterrupted(tmp_path, objective):
    whole, path = tuner(objective=objective), tmp_path / "checkpoint"
    whole.run()
    with pytest.raises(StopRequested, match="stopped at step 5 of 8, saved"):
        tuner(objective=objective).run(path, checkpoint_every=2, stop=stopping_after(5))
    resumed = tuner(objective=objective, seed=5)  # other first weights: all that counts is in the checkpoint
    resumed.run(path)
    assert [check.step for check in whole.checks] == [0, 3, 6, 8]
    assert_same(resumed, whole)
    with pytest.raises(FileError, match=r"differs in .*plan"):
        tuner(objective=objective, reverse=0.25).run(path)


def test_finetuning_raises_the_ess_of_a_spoilt_model():
    """A trained model at another coupling and lattice, its amplitudes damped: ESS rises, both ways."""
    shape, kernel, streams = BOX, HMC(QUARTIC, 0.2, 5), Streams(2)
    state = kernel.start(0.5 * np.random.default_rng(2).normal(size=(32, *shape)))
    state, _ = kernel.advance(state, streams, 100, 100)
    fields = kernel.advance(state, streams, 640, 10)[1].phi.reshape(-1, *shape)
    trained = load_model("phi4-A-L8")
    for p in trained.network.amplitude.parameters():
        p.data *= 0.9
    gaussian = GaussianReference(QUARTIC, measured_propagator([fields], shape))
    plan = FineTuningPlan(
        steps=48, batch=16, warmup=3, integration_steps=6, check_every=48, n_check=1200, ema_decay=0.7
    )
    made = FineTuner(
        trained.network, Task(gaussian, TrainingData(fields, n_chains=32, held_out=0.5)), trained.noise, plan
    )
    made.run()
    first, last = made.checks
    assert not made.stopped and last.step == 48
    (before, error_before), (after, error) = first.ess_reverse, last.ess_reverse
    assert after > before + 5 * math.hypot(error_before, error)
    # the forward ESS of a spoilt model hangs on few fields, whose number has no Gaussian error: three quarters of what
    # it lacks must be gone
    assert 1 - last.ess_forward[0] < 0.25 * (1 - first.ess_forward[0])
    assert last.var_forward < 0.7 * first.var_forward


# --- the guard -------------------------------------------------------------------------------------------------------

#: One fixed step, the reverse divergence, a large learning rate: what destroys models
RECKLESS = {
    "steps": 60,
    "batch": 32,
    "learning_rate": 3e-2,
    "objective": "kl",
    "reverse": 1.0,
    "integration_steps": 1,
    "jitter": False,
    "warmup": 1,
    "clip": 5.0,
    "n_check": 128,
    "strength": 0.0,
    "n": 400,
}


def true_free_energy():
    return -0.5 * float(np.log(2 * np.pi * free_propagator(FREE, BOX)).sum())


class Growing(torch.nn.Module):
    """All modes grow by exp(z) on the way down, R = -z x / (C length): its flow is known in closed form.

    One Runge-Kutta step multiplies modes by the fourth-order polynomial p(z) and says log det = V z, n of them by
    p(z/n)^n; so log q is too small by V log(exp(z) / p(z/n)^n).
    """

    name, ndim, closed_form_trace = "growing", 2, True

    def __init__(self, z, length):
        super().__init__()
        self.z, self.length = torch.nn.Parameter(torch.tensor(z)), length

    def describe(self):
        return {"name": self.name}

    def forward(self, gaussian, x, log_sigma, trace=False):
        _, C = gaussian.posterior(gaussian.expand((2 * log_sigma).exp()))
        rate = -self.z / self.length
        R = gaussian.filter(x, rate / C)
        return R, (rate * gaussian.volume).double().expand(len(x)) if trace else None


def growth(z, n):
    """What n Runge-Kutta steps multiply by."""
    return sum((z / n) ** k / math.factorial(k) for k in range(5)) ** n


Z, SIGMAS = 2.5, (0.01, 4.0)  # at z = Z one step ends at the very propagator of the free field


def growing_tuner(zs, **plan):
    """A fine-tuning whose steps set z to the numbers of `zs` after the first: no optimiser amplifies rounding."""
    noise = NoiseRange(*SIGMAS)
    propagator = free_propagator(FREE, BOX) / growth(Z, 1) ** 2
    data = TrainingData(exact_draws(400, BOX).numpy(), n_chains=8)
    options = {"steps": len(zs) - 1, "batch": 8, "integration_steps": 1, "check_every": 1, "n_check": 256, **plan}
    task = Task(GaussianReference(FREE, propagator - SIGMAS[0] ** 2), data)
    low, high = noise.log_range
    made = FineTuner(Growing(zs[0], high - low), task, noise, FineTuningPlan(**{**PLAN, **options}))

    def advance():
        if made.step == 0:
            made._start_guards()
        made.step += 1
        for copy in (made.network, made.averaged()):
            copy.z.data.fill_(zs[made.step])
        return torch.zeros(())

    made.advance = advance
    return made


@pytest.mark.parametrize("steps", [1, 2])
def test_the_estimate_falls_through_the_floor_on_a_coarse_grid(steps):
    """At z = 2.5 one step puts <S + log q> 1.8 below -log Z, which no density can; closed forms within 5 errors."""
    made = growing_tuner([Z, Z])
    made.guards[0].steps = steps
    check = made.guards[0].look(made.network, 0)
    volume = math.prod(BOX)
    for n, found in ((steps, check.free_energy), (2 * steps, check.free_energy_fine)):
        ratio = (growth(Z, n) / growth(Z, 1)) ** 2  # of variances
        expected = true_free_energy() + volume * (0.5 * (ratio - 1 - math.log(ratio)) - Z + math.log(growth(Z, n)))
        error = 0.5 * abs(ratio - 1) * math.sqrt(2 * volume / 256)
        assert abs(found - expected) < 5 * error + 2e-3  # the flow is float32
    if steps == 1:
        assert check.free_energy < true_free_energy() - 1.5


def test_guard_stops_what_the_fine_grid_does_not_confirm():
    """ESS rises on both grids up to z = 2.5, where the coarse one gains 1.7 more than the spread of log_weight, 0.6."""
    made = growing_tuner([1.0, 1.5, 2.0, Z, 3.0])
    made.run()
    assert made.step == 3
    assert made.stopped.startswith("step 3: 1 integration steps put the free energy")
    assert made.stopped.endswith("The weights of step 2 were restored")
    assert made.averaged().z.item() == 2.0
    *_, last_good, bad = made.checks
    assert bad.flattery > max(10, last_good.flattery) and bad.ess_reverse[0] > last_good.ess_reverse[0]
    assert made.guards[0].look(made.averaged(), last_good.step) == last_good  # the very weights


def test_without_guard_nothing_stops_it():
    made = growing_tuner([1.0, 1.5, 2.0, Z, 3.0], check_every=0)
    made.run()
    assert made.step == 4 and not made.stopped and made.averaged().z.item() == 3.0


def test_guard_is_quiet_about_an_honest_gain():
    made = tuner(steps=8, batch=16, integration_steps=4, check_every=2, n_check=128, learning_rate=3e-3)
    made.run()
    assert made.step == 8 and not made.stopped and len(made.checks) == 5


def test_guard_stops_where_forward_weights_get_worse():
    """Forward is what the reverse divergence forgets: a verdict on made-up checks, one at a time."""
    gaussian = GaussianReference(FREE, some_propagator(BOX))
    guard = Guard(gaussian, NoiseRange(0.05, 4.0), exact_draws(32, BOX), steps=4, n=32)
    first = guard.look(network(2, 0.0), 0)
    assert guard.verdict(first) == ""
    fell = replace(first, ess_forward=(first.ess_forward[0] ** 1.5 - 0.3, 0.001), largest_forward=0.0)
    first_errors = replace(first, ess_forward=(first.ess_forward[0], 0.001))
    guard.first = first_errors
    assert "forward ESS fell" in guard.verdict(fell)
    assert "largest forward log_weight rose" in guard.verdict(
        replace(first_errors, largest_forward=first.largest_forward + 1.1)
    )
    assert guard.verdict(first_errors) == ""


def test_restored_run_stays_stopped(tmp_path):
    path, zs = tmp_path / "checkpoint", [1.0, 1.5, 2.0, Z, 3.0]
    made = growing_tuner(zs)
    made.run(path)
    resumed = growing_tuner([0.3, *zs[1:]])
    resumed.run(path)
    assert resumed.stopped and resumed.averaged().z.item() == 2.0
    assert_same(resumed, made)


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"objective": "score"}, "expected one of path, kl, log_variance"),
        ({"reverse": 1.5}, "a fraction between 0 and 1"),
        ({"steps": 0}, "at least 1"),
        ({"integration_steps": 0}, "at least 1, 0 and 8"),
        ({"objective": "log_variance", "batch": 2, "reverse": 0.5}, "a variance needs 2"),
    ],
)
def test_impossible_plans_are_refused(plan, message):
    with pytest.raises(UserError, match=message):
        FineTuningPlan(**plan)


def test_a_grid_too_coarse_for_the_model_is_refused_before_the_first_step():
    with pytest.raises(
        UserError, match=r"before fine-tuning, 1 integration steps .* raise finetune\.integration_steps"
    ):
        tuner(**{**RECKLESS, "n_check": 4000}, check_every=5).run()


def test_a_passage_that_diverges_to_a_finite_number_teaches_nothing():
    """One field far from all others: gradients are those of the batch without it."""
    made, gradients = tuner(objective="path", reverse=0.0), []
    phi, _, grid = made.draw(0)
    spoilt, forward = torch.cat([phi, 1e3 * phi[:1]]), made.objectives[0].forward
    assert 1e3 < abs(forward(made.flow(grid), spoilt)[1][-1]) < torch.inf
    for start in (phi, spoilt):
        made.optimizer.zero_grad()
        loss, log_weight = made._finite(made.flow(grid), start, forward)
        assert len(log_weight) == len(phi)
        loss.backward()
        gradients.append([p.grad.clone() for p in made.network.parameters()])
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)


def test_weights_that_blow_up_are_never_saved(tmp_path):
    made = tuner(learning_rate=1e6, warmup=1, clip=1e9, check_every=0, steps=4)
    with pytest.raises(UserError, match=r"lower finetune\.learning_rate"):
        made.run(tmp_path / "checkpoint", checkpoint_every=1, log_every=1)


def test_model_is_not_changed_by_looking():
    made = model(FREE, BOX, 0.1)
    before = made.fingerprint()
    guard = Guard(made.gaussian, made.noise, exact_draws(32, BOX), steps=4, n=32)
    assert guard.look(made.network, 3) == guard.look(made.network, 3)
    assert made.fingerprint() == before

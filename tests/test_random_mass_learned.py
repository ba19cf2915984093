"""One network for many random masses: reference, targets, flows and their densities, training, storage."""

import copy

import numpy as np
import pytest
import torch

from latticediff.action import ExternalField, Phi4, Polynomial, RandomMass
from latticediff.action.external_field import normal_field
from latticediff.action.random_mass import normal_mass
from latticediff.config import parse_card
from latticediff.diffusion.differentiable import DifferentiableFlow
from latticediff.diffusion.flow import ProbabilityFlow
from latticediff.diffusion.ladder import NoiseRange
from latticediff.diffusion.runge_kutta import scheme
from latticediff.errors import CardError, ModelError, UserError
from latticediff.gaussian.reference import GaussianReference
from latticediff.hmc import HMC
from latticediff.lattice import p_hat_squared
from latticediff.model.score_model import ScoreModel
from latticediff.model.storage import load_model, save_model
from latticediff.networks.ridge.gated import GatedRidgeNetwork
from latticediff.proposal import proposal_for
from latticediff.proposal.ode import OdeProposal
from latticediff.stages.finetune import finetune
from latticediff.stages.generate import generate
from latticediff.stages.train import train
from latticediff.streams import Streams
from latticediff.targets.control_variates import three_targets
from latticediff.training import TrainingData

PHI4 = Phi4.A(m2=-4.0, lam=6.0, ndim=2)
SEXTIC = Polynomial(1.0, (0.0, 1.0, 0.0, -0.4, 0.0, 0.3), ndim=2)  # no closed form: its local part is a spline


def with_mass(theory, shape, seed=3):
    return RandomMass(theory, normal_mass(shape, 1.2, seed))


def with_both(theory, shape):
    return ExternalField(with_mass(theory, shape), normal_field(shape, 0.7, 4))


CASES = [
    (with_mass, PHI4, (4, 5)),
    (with_both, PHI4, (4, 5)),
    (with_mass, SEXTIC, (3, 4)),
    (with_mass, Phi4.A(m2=-1.0, lam=6.0, ndim=1), (7,)),
    (with_mass, Phi4.A(m2=-4.0, lam=6.0, ndim=3), (2, 3, 4)),
]


def reference(action, shape, dtype=torch.float32):
    return GaussianReference(action, 1 / (1.3 + p_hat_squared(shape)), dtype=dtype)


def network(ndim):
    torch.manual_seed(0)
    net = GatedRidgeNetwork(ndim, features=6, hidden=16, ordered=True, screened=True, channels=5)
    with torch.no_grad():
        net.amplitude.weight.normal_(0, 0.1)
        net.amplitude.bias.normal_(0, 0.3)
        net.coupling.weight.normal_(0, 0.1)
        net.coupling.bias.normal_(0, 0.3)
    return net


# --- reference, baseline, targets ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("make", "theory", "shape"), CASES)
def test_the_residual_force_and_the_baseline_without_noise_hold_the_mass(make, theory, shape):
    gaussian = reference(make(theory, shape), shape, torch.float64)
    phi, axes = np.random.default_rng(4).normal(size=(3, *shape)), tuple(range(1, 1 + len(shape)))
    G = gaussian.propagator_full.numpy()
    field = getattr(gaussian.action, "field", np.zeros(shape))
    around = np.fft.ifftn(np.fft.fftn(phi, axes=axes) / G, axes=axes).real - field
    wanted = -gaussian.action.force(phi) - around
    np.testing.assert_allclose(gaussian.delta_force(torch.tensor(phi)).numpy(), wanted, atol=1e-12)
    baseline = GatedRidgeNetwork(len(shape), features=2, hidden=4).double()
    R, _ = baseline(gaussian, torch.tensor(phi), torch.full((1,), -12.0, dtype=torch.float64))
    np.testing.assert_allclose(R.detach().numpy(), wanted, atol=1e-4)


def test_of_a_free_field_the_baseline_is_the_exact_residual_to_second_order_of_the_mass():
    """``R = r (1 + C r)^-1 y``, C a matrix; the baseline has its diagonal alone, exact up to r C r off the diagonal."""
    shape, rng = (4, 4), np.random.default_rng(5)
    free = Phi4.N(m2=1.1, lam=0.0)
    G = 1 / free.quadratic_form(shape)
    x, r = rng.normal(size=(1, *shape)), rng.normal(size=shape)
    errors = []
    for size in (0.02, 0.01):
        gaussian = GaussianReference(RandomMass(free, size * r), G, dtype=torch.float64)
        R, _ = GatedRidgeNetwork(2, features=2, hidden=4).double()(gaussian, torch.tensor(x), torch.zeros(1).double())
        delta = np.eye(16).reshape(16, *shape)
        W = np.fft.ifftn(np.fft.fftn(delta, axes=(1, 2)) * (G / (G + 1)), axes=(1, 2)).real.reshape(16, 16)
        D = np.diag(size * r.ravel())  # v = 1, so that C = W
        exact = D @ np.linalg.solve(np.eye(16) + W @ D, W @ x.ravel())
        errors.append(np.abs(R.detach().numpy().ravel() - exact).max())
        assert errors[-1] < 0.1 * np.abs(exact).max()
    assert 3.5 < errors[0] / errors[1] < 4.5


def test_what_is_left_of_the_mass_is_what_a_gap_equation_leaves_to_first_order():
    """``Delta_x = r_x + 12 b [C_Delta(x, x) - C(x, x)]``, solved with matrices for a small r."""
    shape = (4, 5)
    size, r = 1e-5, np.random.default_rng(6).normal(size=shape)
    gaussian = reference(RandomMass(PHI4, size * r), shape, torch.float64)
    v = 0.7
    _, C = gaussian.posterior(torch.full((1, 1, 1), v, dtype=torch.float64))
    full = gaussian.propagator_full.numpy()
    delta = np.eye(20).reshape(20, *shape)
    dense = np.fft.ifftn(np.fft.fftn(delta, axes=(1, 2)) * (full * v / (full + v)), axes=(1, 2)).real.reshape(20, 20)
    shift = size * r.ravel()
    for _ in range(200):
        narrowed = np.linalg.inv(np.linalg.inv(dense) + np.diag(shift))
        shift = 0.8 * shift + 0.2 * (size * r.ravel() + 12 * PHI4.b * (np.diag(narrowed) - np.diag(dense)))
    np.testing.assert_allclose(gaussian.mass_shift(C).numpy().ravel(), shift, atol=1e-3 * size)


@pytest.mark.parametrize(("make", "theory", "shape"), CASES[:3])
def test_all_three_targets_have_one_mean_at_every_field(make, theory, shape):
    """Their differences are orthogonal to functions of x, whatever the mass."""
    action = make(theory, shape)
    kernel = HMC(action, 0.1, 8, jitter=0.2)
    state, _ = kernel.advance(kernel.start(np.zeros((64, *shape))), Streams(3), 200)
    _, block = kernel.advance(state, Streams(3), 400, 4)
    phi = torch.tensor(block.phi.reshape(-1, *shape))
    gaussian = reference(action, shape, torch.float64)
    z = torch.randn(phi.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    v = torch.full((1, 1, 1), 0.2, dtype=torch.float64)
    stein, force, noise = three_targets(gaussian, phi, z, v)
    x = phi + v.sqrt() * z
    for other in (force, noise):
        for function in (torch.ones_like(x), x, x**3, x.roll(1, 1)):
            terms = ((stein - other) * function).reshape(-1, 64, *shape).mean(0)
            pull = terms.mean(0) / (terms.std(0) / 8)
            assert float(pull.abs().max()) < 5.5  # 416 numbers in all, 63 degrees of freedom: false alarm 3e-4


def test_the_control_variate_takes_the_noise_of_the_mass_to_second_order():
    """Of a free field ``T_stein = r (y - C r phi)``, where the force alone is ``r phi``."""
    shape, rng = (4, 4), np.random.default_rng(9)
    free = Phi4.N(m2=1.1, lam=0.0)
    phi, z, r = (
        torch.tensor(rng.normal(size=(50, *shape))),
        torch.tensor(rng.normal(size=(50, *shape))),
        rng.normal(size=shape),
    )
    v = torch.full((1, 1, 1), 0.5, dtype=torch.float64)
    noise = []
    for size in (0.02, 0.01):
        gaussian = GaussianReference(RandomMass(free, size * r), 1 / free.quadratic_form(shape), dtype=torch.float64)
        W, _ = gaussian.posterior(v)
        stein, force, _ = three_targets(gaussian, phi, z, v)
        ideal = gaussian.masses * gaussian.filter(phi + v.sqrt() * z, W)
        noise.append(float((stein - ideal).std()))
        assert noise[-1] < 0.1 * float((force - ideal).std())
    assert 3.5 < noise[0] / noise[1] < 4.5


# --- the network and its flows ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("make", "theory", "shape"), CASES)
def test_the_trace_is_that_of_the_full_jacobian(make, theory, shape):
    gaussian, net = reference(make(theory, shape), shape, torch.float64), network(len(shape)).double()
    x = torch.tensor(np.random.default_rng(7).normal(size=(1, *shape)))
    level = torch.full((1,), -0.4, dtype=torch.float64)
    _, trace = net(gaussian, x, level, trace=True)
    jacobian = torch.autograd.functional.jacobian(lambda y: net(gaussian, y, level)[0], x).reshape(x.numel(), x.numel())
    _, C = gaussian.posterior(gaussian.expand((2 * level).exp()))
    exact = gaussian.filter(jacobian.T.reshape(-1, *shape), C).reshape(x.numel(), x.numel()).trace()
    np.testing.assert_allclose(trace.detach().numpy()[0], exact.detach().numpy(), rtol=1e-6)


def test_the_residual_is_odd_and_moves_with_the_mass():
    gaussian, net = reference(with_mass(PHI4, (4, 5)), (4, 5), torch.float64), network(2).double()
    x = torch.tensor(np.random.default_rng(8).normal(size=(3, 4, 5)))
    level = torch.zeros(1, dtype=torch.float64)
    R, _ = net(gaussian, x, level)
    np.testing.assert_allclose(net(gaussian, -x, level)[0].detach(), -R.detach(), atol=1e-12)
    moved = reference(RandomMass(PHI4, np.roll(gaussian.mass, (1, 2), (0, 1))), (4, 5), torch.float64)
    there, _ = net(moved, x.roll((1, 2), (1, 2)), level)
    np.testing.assert_allclose(there.detach(), R.roll((1, 2), (1, 2)).detach(), atol=1e-12)
    other = reference(with_mass(PHI4, (4, 5), seed=5), (4, 5), torch.float64)
    assert float((net(other, x, level)[0] - R).detach().abs().max()) > 0.1


@pytest.mark.parametrize(("make", "theory", "shape"), CASES)
def test_density_of_the_flow_is_that_of_its_map(make, theory, shape):
    """log_q against the determinant of differences, compiled; the same of torch; and back."""
    noise = np.random.default_rng(5).normal(size=(20, *shape))
    V, step = noise[0].size, 1e-3
    model = ScoreModel.for_flow(network(len(shape)), reference(make(theory, shape), shape), NoiseRange(0.1, 2.0))
    fine = OdeProposal(model, steps=60)
    moves = step * np.eye(V).reshape(V, *shape)
    ends = fine.transport(np.concatenate([noise[0] + moves, noise[0] - moves])).phi.reshape(2, V, V)
    _, log_det = np.linalg.slogdet((ends[0] - ends[1]) / (2 * step))
    exact = -0.5 * (noise[0] ** 2).sum() - 0.5 * V * np.log(2 * np.pi) - log_det
    assert abs(float(fine.transport(noise[:1]).log_q[0]) - exact) < 2e-3
    compiled, plain = OdeProposal(model, steps=12), OdeProposal(model, steps=12, compiled=False)
    draw, same = compiled.transport(noise), plain.transport(noise)
    np.testing.assert_allclose(draw.phi, same.phi, atol=1e-5)
    np.testing.assert_allclose(draw.log_q, same.log_q, atol=1e-4)
    np.testing.assert_allclose(compiled.weigh(draw.phi), draw.log_q, atol=1e-4)


@pytest.mark.parametrize("compiled", [True, False])
def test_weights_have_the_partition_function_of_the_dense_determinant(compiled):
    """A free field: ``log Z = -1/2 log det[(K + r) / 2 pi]``, K written out as a matrix here."""
    shape, m2 = (4, 4), 0.9
    mass, sites = normal_mass(shape, 0.6, 2), np.arange(16).reshape(4, 4)
    K = np.diag(np.full(16, 4 + m2) + mass.ravel())
    for axis in (0, 1):
        for sign in (1, -1):
            np.subtract.at(K, (sites.ravel(), np.roll(sites, sign, axis).ravel()), 1)
    exact = -0.5 * np.linalg.slogdet(K / (2 * np.pi))[1]
    free = Phi4.N(m2=m2, lam=0.0)
    action = RandomMass(free, mass)
    gaussian = GaussianReference(action, 1 / free.quadratic_form(shape))
    model = ScoreModel.for_flow(GatedRidgeNetwork(2, features=2, hidden=4), gaussian, NoiseRange(1e-3, 3.0))
    draw = OdeProposal(model, steps=24, compiled=compiled).draw(2000, np.random.default_rng(7))
    w = np.exp(-action(draw.phi) - draw.log_q - exact)
    assert abs(w.mean() - 1) < 4 * w.std() / np.sqrt(2000)  # false alarm 6e-5
    assert w.std() < 0.6  # so that the mean is known to a hundredth


@pytest.mark.parametrize(("make", "theory", "shape"), [*CASES[:3], (with_mass, PHI4, (24, 22))])
def test_compiled_gradients_are_those_of_torch(make, theory, shape):
    net, gaussian = network(2), reference(make(theory, shape), shape)
    net.requires_grad_(True)
    noise = torch.tensor(np.random.default_rng(6).normal(size=(8, *shape))).float()
    found = []
    for kind in (DifferentiableFlow, ProbabilityFlow):
        net.zero_grad()
        y = noise.clone().requires_grad_(True)
        flow = kind(net, gaussian, np.linspace(np.log(2.0), np.log(0.1), 7), scheme("rk4"))
        phi, log_q = flow.down(y, gradients=True)
        (log_q.sum() + (phi**3).sum()).backward()
        weights = net.A, net.amplitude.weight, net.gain_out.weight, net.coupling.weight, net.first, net.second_bias
        found.append([g.double() for g in (y.grad, *(w.grad.clone() for w in weights))])
    for ours, theirs in zip(*found, strict=True):
        assert float((ours - theirs).abs().max() / theirs.abs().max()) < 2e-4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GaussianReference(with_mass(PHI4, (4, 4)), np.ones((4, 4)), vacuum=0.5), "around zero alone"),
        (lambda: GaussianReference(with_mass(PHI4, (4, 4)), np.ones((4, 5))), "random mass has shape"),
        (lambda: network(2)(reference(PHI4, (4, 4)), torch.zeros(1, 4, 4), torch.zeros(1)), "network ridge"),
        (lambda: GatedRidgeNetwork(2, channels=0), "channels = 0"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()


# --- one network for many masses -------------------------------------------------------------------------------------

LEARN = """
[run]
seed = 5
[action]
name = "random_mass"
width = 2.0
seed = {seed}
[action.of]
convention = "A"
m2 = -4.0
lam = 6.0
[lattice]
shape = [4, 4]
[hmc]
n_chains = 8
n_warmup = 100
n_updates = 1000
thin = 10
jitter = 0.1
[gate]
enforce = false
[network]
features = 8
[training]
steps = 800
batch = 64
learning_rate = 5e-3
sigma_min = 0.02
sigma_max_factor = 2.0
[finetune]
steps = 40
batch = 16
check_every = 40
n_check = 32
[sampling]
n_forward = 50
"""


def card(seed, *overrides):
    return parse_card(LEARN.format(seed=seed), overrides)


def test_cards_with_a_mass_take_the_network_that_sees_it():
    assert card(1).network.name == "gated_ridge"
    inner = '[action]\nname = "external_field"\nwidth = 0.5\nseed = 9\n[action.of]\nname = "random_mass"'
    text = (
        LEARN.format(seed=1)
        .replace('[action]\nname = "random_mass"', inner)
        .replace("[action.of]\nconv", "[action.of.of]\nconv")
    )
    assert parse_card(text).network.name == "gated_ridge"
    train_card = card(1, "network.name=ridge")
    with pytest.raises(CardError, match=r"does not see a random mass.* take network.name = .gated_ridge"):
        _build(train_card)
    plain = parse_card(LEARN.format(seed=1).replace('name = "random_mass"\nwidth = 2.0\nseed = 1\n[action.of]\n', ""))
    with pytest.raises(CardError, match=r"sees a random mass.* take network.name = .ridge"):
        _build(plain.model_copy(update={"network": card(1).network}))


def _build(of):
    from latticediff.build.network import build_network

    return build_network(of)


def test_configurations_with_a_mass_are_not_moved_in_training():
    phi = np.random.default_rng(8).normal(size=(64, 4, 4)).astype(np.float32)
    data, rows = TrainingData(phi, theory=with_mass(PHI4, (4, 4))), {row.tobytes() for row in phi}
    batches = [data.batch(8, torch.Generator().manual_seed(seed)) for seed in range(8)]
    assert all(row.numpy().tobytes() in rows for batch in batches for row in batch)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A network trained and fine-tuned on eight masses; the folder of both."""
    folder = tmp_path_factory.mktemp("masses")
    files = []
    for seed in range(8):
        files.append(folder / f"{seed}.h5")
        generate(card(seed), files[-1])
    train(card(0), files, folder / "score")
    finetune(card(0), folder / "score", files, folder / "model")
    return folder


def ess(action, draw):
    w = np.exp(-action(draw.phi) - draw.log_q + (action(draw.phi) + draw.log_q).min())
    return w.mean() ** 2 / (w * w).mean()


def test_the_network_serves_a_mass_that_it_has_not_seen(trained):
    model = load_model(trained / "model")
    assert not model.members  # masses leave nothing behind
    action = card(99).theory()
    there = model.at(action)
    draw = proposal_for(there).draw(2000, np.random.default_rng(1))
    assert ess(action, draw) > 0.8
    # the same network, told another mass, proposes for that one
    assert ess(action, proposal_for(model).draw(2000, np.random.default_rng(1))) < 0.6
    assert there.fingerprint() != model.fingerprint()
    weights = np.exp(-action(draw.phi) - draw.log_q)
    ours = np.tensordot(weights, draw.phi**2, 1) / weights.sum()
    kernel = HMC(action, 0.15, 7)
    state, _ = kernel.advance(kernel.start(np.zeros((64, 4, 4))), Streams(2), 100)
    _, block = kernel.advance(state, Streams(2), 500)
    means = (block.phi**2).mean(axis=0)
    error = np.hypot(means.std(axis=0, ddof=1) / 8, (draw.phi**2).std(axis=0) / np.sqrt(0.8 * 2000))
    assert np.abs((ours - means.mean(axis=0)) / error).max() < 5  # 16 sites, false alarm 1e-4
    assert np.ptp(ours) > 10 * error.max()  # and sites differ


def test_the_reverse_process_of_a_mass_has_its_density_too(trained):
    action = card(99).theory()
    there = load_model(trained / "model").at(action)
    draw = proposal_for(there, "sde", steps=60).draw(2000, np.random.default_rng(3))
    assert ess(action, draw) > 0.4


def test_one_network_learns_masses_and_fields_together(tmp_path):
    inner = '[action]\nname = "external_field"\nwidth = 0.4\nseed = {seed}\n[action.of]\nname = "random_mass"'
    text = LEARN.replace('[action]\nname = "random_mass"', inner).replace("[action.of]\nconv", "[action.of.of]\nconv")
    cards, files = [parse_card(text.format(seed=seed)) for seed in (0, 1, 2, 3, 4, 5, 99)], []
    for number, own in enumerate(cards[:-1]):
        files.append(tmp_path / f"{number}.h5")
        generate(own, files[-1])
    train(cards[0], files, tmp_path / "model")
    model, action = load_model(tmp_path / "model"), cards[-1].theory()
    draw = proposal_for(model.at(action)).draw(1000, np.random.default_rng(1))
    assert ess(action, draw) > 0.7
    assert ess(action, proposal_for(model).draw(1000, np.random.default_rng(1))) < 0.5


def test_a_model_of_masses_is_stored_and_loaded_for_another_one(trained, tmp_path):
    action = card(7).theory()
    there = load_model(trained / "model", action=action, shape=(4, 4))
    assert there.theory.describe() == action.describe()
    save_model(copy.deepcopy(there), tmp_path / "there")
    again = load_model(tmp_path / "there")
    assert again.fingerprint() == there.fingerprint()
    noise = np.random.default_rng(2).normal(size=(3, 4, 4))
    np.testing.assert_array_equal(proposal_for(again).transport(noise).phi, proposal_for(there).transport(noise).phi)


def test_a_model_of_masses_serves_no_other_theory(trained):
    model, r = load_model(trained / "model"), np.zeros((4, 4))
    others = (
        PHI4,
        RandomMass(Phi4.A(m2=-4.0, lam=7.0), r),
        ExternalField(RandomMass(PHI4, r), r),
        ExternalField(PHI4, r),
    )
    for other in others:
        with pytest.raises(ModelError):
            model.at(other)


def test_a_mass_beside_another_theory_or_around_vacua_is_not_one_training(tmp_path):
    files = []
    for lam in ("6.0", "7.0"):
        files.append(tmp_path / f"{lam}.h5")
        generate(card(1, f"action.of.lam={lam}", "hmc.n_updates=100"), files[-1])
    with pytest.raises(UserError, match=r"lam=7.*beside.*lam=6.*differ in the field or the mass alone"):
        train(card(1), files, tmp_path / "model")
    with pytest.raises(UserError, match="expanded around zero"):
        train(card(1, "training.phase=broken"), files[:1], tmp_path / "model")

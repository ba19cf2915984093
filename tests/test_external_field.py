"""A theory in an external field: action, HMC, Gaussian reference, flows, one network for many fields."""

import copy
import os
import re

import numpy as np
import pytest
import torch

from latticediff.action import (
    ExternalField,
    Modulated,
    OddSites,
    Phi4,
    Polynomial,
    action_from_description,
    free_propagator,
)
from latticediff.action.external_field import normal_field
from latticediff.cluster import Cluster
from latticediff.config import parse_card
from latticediff.diffusion.differentiable import DifferentiableFlow
from latticediff.diffusion.flow import ProbabilityFlow
from latticediff.diffusion.ladder import NoiseRange
from latticediff.diffusion.runge_kutta import scheme
from latticediff.errors import CardError, ModelError, UserError
from latticediff.gaussian.reference import GaussianReference
from latticediff.hmc import HMC
from latticediff.lattice import p_hat_squared
from latticediff.local_updates import LocalMetropolis
from latticediff.model.score_model import ScoreModel
from latticediff.model.storage import load_model, save_model
from latticediff.networks.ridge.network import RidgeNetwork
from latticediff.proposal import proposal_for
from latticediff.proposal.ode import OdeProposal
from latticediff.stages.finetune import finetune
from latticediff.stages.generate import generate
from latticediff.stages.train import train
from latticediff.streams import Streams
from latticediff.training import TrainingData

PHI4 = Phi4.A(m2=-4.0, lam=6.0, ndim=2)
SEXTIC = Polynomial(1.0, (0.0, 1.0, 0.0, -0.4, 0.0, 0.3), ndim=2)  # no closed form: its local part is a spline
THEORIES = [
    (PHI4, (6, 8)),
    (PHI4, (16, 14)),
    (Phi4.A(m2=-1.0, lam=6.0, ndim=1), (7,)),
    (Phi4.A(m2=-4.0, lam=6.0, ndim=3), (4, 3, 5)),
    (Modulated(1.0, -0.35, 0.5, 0.4, ndim=2), (6, 6)),
]


def in_field(theory, shape, width=0.7, seed=3):
    return ExternalField(theory, normal_field(shape, width, seed))


# --- the action ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("theory", "shape"), THEORIES)
def test_the_field_adds_a_linear_term_and_its_force(theory, shape):
    action, rng = in_field(theory, shape), np.random.default_rng(1)
    phi = rng.normal(size=(3, *shape))
    axes = tuple(range(1, phi.ndim))
    np.testing.assert_allclose(action(phi), theory(phi) - (action.field * phi).sum(axis=axes), rtol=1e-13)
    np.testing.assert_allclose(action.force(phi) - theory.force(phi), np.broadcast_to(action.field, phi.shape))
    direction, h = rng.normal(size=shape), 1e-5
    rise = (action(phi + h * direction) - action(phi - h * direction)) / (2 * h)
    np.testing.assert_allclose(rise, -(action.force(phi) * direction).sum(axis=axes), rtol=1e-6)


def test_a_field_is_told_whole_and_found_again():
    action = in_field(PHI4, (3, 4))
    again = action_from_description(action.describe())
    assert again.describe() == action.describe()
    np.testing.assert_array_equal(again.field, action.field)
    assert action.describe() != in_field(PHI4, (3, 4), seed=4).describe()


def test_normal_fields_are_those_of_their_seed_and_width():
    field = normal_field((200, 200), 0.5, 7)
    np.testing.assert_array_equal(field, normal_field((200, 200), 0.5, 7))
    assert abs(field.mean()) < 4 * 0.5 / 200  # false alarm 6e-5
    assert abs(field.std() / 0.5 - 1) < 4 / np.sqrt(2 * 200**2)


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (np.zeros(4), "has 2 dimensions"),
        (np.full((2, 2), np.nan), "external field"),
    ],
)
def test_fields_that_do_not_fit_are_refused(field, message):
    with pytest.raises(UserError, match=message):
        ExternalField(PHI4, field)


def test_a_field_in_a_field_other_lattices_and_half_lattices_are_refused():
    action = in_field(PHI4, (4, 4))
    with pytest.raises(UserError, match="once"):
        ExternalField(action, np.zeros((4, 4)))
    with pytest.raises(UserError, match="once"):
        ExternalField(OddSites(PHI4), np.zeros((4, 2)))
    with pytest.raises(UserError, match=r"training\.sites = all"):
        OddSites(action)
    with pytest.raises(UserError, match=r"lattice \(4, 4\)"):
        action(np.zeros((2, 4, 5)))


CARD = """
[run]
seed = 5
[action]
name = "external_field"
{field}
[action.of]
convention = "A"
m2 = -4.0
lam = 6.0
[lattice]
shape = [4, 4]
"""


def test_a_card_names_theory_and_field(tmp_path):
    drawn = parse_card(CARD.format(field="width = 0.5\nseed = 9")).theory()
    np.testing.assert_array_equal(drawn.field, normal_field((4, 4), 0.5, 9))
    assert drawn.of.describe() == PHI4.describe()
    np.save(tmp_path / "h.npy", drawn.field)
    given = parse_card(CARD.format(field=f'file = "{tmp_path}/h.npy"')).theory()
    assert given.describe() == drawn.describe()


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("width = 0.5", "width and seed"),
        ("", "width and seed"),
        ('width = 0.5\nseed = 1\nfile = "h.npy"', "beside file"),
        ('file = "nowhere.npy"', "nowhere.npy"),
        ('file = "/dev/stdin"', "file"),
        ("width = 1e308\nseed = 1", "width"),
        ("width = 0.5\nseed = 1\nsed = 2", "sed"),
        ("width = -1.0\nseed = 1", "width"),
    ],
)
def test_cards_without_one_clear_field_are_refused(field, message):
    with pytest.raises(CardError, match=message):
        parse_card(CARD.format(field=field)).theory()


@pytest.mark.parametrize("kind", ["archive", "empty", "text", "shape", "pipe"])
def test_files_that_hold_no_field_are_refused(kind, tmp_path):
    path = tmp_path / "h.npy"
    if kind == "archive":
        with path.open("wb") as file:
            np.savez(file, h=np.zeros((4, 4)))
    elif kind == "shape":
        np.save(path, np.zeros((4, 5)))
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.write_text("" if kind == "empty" else "1 2 3")
    said = {"shape": r"shape \(4, 5\)", "pipe": "is a pipe"}.get(kind, "no .npy file")
    with pytest.raises(CardError, match=said):
        parse_card(CARD.format(field=f'file = "{path}"')).theory()


@pytest.mark.parametrize(
    ("of", "message"),
    [
        ('name = "modulated"\nnext_nearest = -0.35\na = 0.5', r"of \(modulated\) lacks b"),
        ("m2 = -4.0\nlam = 6.0", r"of \(phi4\) lacks convention"),
        ('name = "external_field"\nwidth = 0.1\nseed = 1', "a theory without a field"),
        ('name = "polynomial"\na2 = 1.0\na4 = 0.3\nlinks = 3', r"of \(polynomial\)"),
    ],
)
def test_errors_of_the_theory_in_the_field_say_whose_they_are(of, message):
    text = CARD.format(field="width = 0.5\nseed = 1")
    text = re.sub(r"\[action.of\].*?\[lattice\]", f"[action.of]\n{of}\n[lattice]", text, flags=re.DOTALL)
    with pytest.raises(CardError, match=message):
        parse_card(text).theory()


# --- HMC -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("theory", "shape"), THEORIES)
def test_compiled_trajectories_have_the_energy_and_the_force_of_the_action(theory, shape):
    action, rng = in_field(theory, shape), np.random.default_rng(2)
    phi, momentum = 0.5 * rng.normal(size=(5, *shape)), rng.normal(size=(5, *shape))
    axes = tuple(range(1, phi.ndim))
    end, back, hamiltonian = HMC(action, 0.02, 7).integrate(phi, momentum)
    np.testing.assert_allclose(hamiltonian, 0.5 * (back**2).sum(axis=axes) + action(end), rtol=1e-12)
    x, p = phi.copy(), momentum.copy()
    for _ in range(7):  # leapfrog, kick first, in NumPy
        p = p + 0.01 * action.force(x)
        x = x + 0.02 * p
        p = p + 0.01 * action.force(x)
    np.testing.assert_allclose(end, x, rtol=0, atol=1e-12)
    np.testing.assert_allclose(back, p, rtol=0, atol=1e-12)


def test_hmc_has_the_averages_of_quadrature_on_two_sites():
    action = ExternalField(Phi4.A(m2=-1.0, lam=2.0, ndim=1), [0.8, -0.3])
    grid = np.linspace(-4, 4, 401)
    x, y = np.meshgrid(grid, grid, indexing="ij")
    w = np.exp(-action(np.stack([x, y], -1)))
    exact = np.array([(x * w).sum(), (y * w).sum(), (x * y * w).sum()]) / w.sum()
    kernel = HMC(action, 0.2, 5)
    state, _ = kernel.advance(kernel.start(np.zeros((64, 2))), Streams(1), 50)
    _, block = kernel.advance(state, Streams(1), 2000)
    phi = block.phi
    samples = np.stack([phi[..., 0], phi[..., 1], phi[..., 0] * phi[..., 1]], -1).mean(axis=0)  # of each chain
    error = samples.std(axis=0, ddof=1) / 8
    assert np.all(np.abs(samples.mean(axis=0) - exact) < 4.5 * error)  # false alarm 4e-4 with 63 degrees of freedom
    assert np.all(error < 0.01)


def test_kernels_that_know_no_field_refuse_it():
    action = in_field(PHI4, (4, 4))
    for make in (
        lambda: Cluster(action),
        lambda: LocalMetropolis(action, 0.5),
        lambda: HMC(action, 0.1, 5, mass=0.5),
    ):
        with pytest.raises(UserError, match="no external field"):
            make()


# --- reference and flows ---------------------------------------------------------------------------------------------


def reference(theory, shape, dtype=torch.float32):
    return GaussianReference(in_field(theory, shape), 1 / (1.3 + p_hat_squared(shape)), dtype=dtype)


def network(ndim):
    torch.manual_seed(0)
    net = RidgeNetwork(ndim, features=6, hidden=16, ordered=True, screened=True)
    with torch.no_grad():
        net.amplitude.weight.normal_(0, 0.1)
        net.amplitude.bias.normal_(0, 0.3)
    return net


@pytest.mark.parametrize(("theory", "shape"), [(PHI4, (4, 5)), (SEXTIC, (3, 4))])
def test_the_residual_force_is_that_around_the_linear_response(theory, shape):
    gaussian = reference(theory, shape, torch.float64)
    phi = np.random.default_rng(4).normal(size=(3, *shape))
    chi = phi - np.fft.ifftn(gaussian.propagator_full.numpy() * np.fft.fftn(gaussian.action.field)).real
    around = np.fft.ifftn(np.fft.fftn(chi, axes=(1, 2)) / gaussian.propagator_full.numpy(), axes=(1, 2)).real
    wanted = -gaussian.action.force(phi) - around
    np.testing.assert_allclose(gaussian.delta_force(torch.tensor(phi)).numpy(), wanted, atol=1e-12)
    baseline = RidgeNetwork(2, features=2, hidden=4).double()
    R, _ = baseline(gaussian, torch.tensor(phi), torch.full((1,), -12.0, dtype=torch.float64))
    np.testing.assert_allclose(R.detach().numpy(), wanted, atol=1e-4)  # without noise the baseline is that force


@pytest.mark.parametrize(("theory", "shape"), [(PHI4, (4, 5)), (SEXTIC, (3, 4))])
def test_density_of_the_flow_is_that_of_its_map(theory, shape):
    """log_q against the determinant of differences, compiled; the same of torch; and back."""
    noise = np.random.default_rng(5).normal(size=(20, *shape))
    V, step = noise[0].size, 1e-3
    model = ScoreModel.for_flow(network(2), reference(theory, shape), NoiseRange(0.1, 2.0))
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
def test_a_free_field_has_its_exact_mean_and_partition_function(compiled):
    """log Z = 1/2 sum_k log(2 pi G) + 1/2 h G h; an untrained network adds nothing to the reference."""
    free, shape = Phi4.A(m2=0.8, lam=0.0, ndim=2), (4, 6)
    action, G = in_field(free, shape), free_propagator(free, shape)
    model = ScoreModel.for_flow(
        RidgeNetwork(2, features=2, hidden=4), GaussianReference(action, G), NoiseRange(1e-4, 3.0)
    )
    draw = OdeProposal(model, steps=8, compiled=compiled).draw(500, np.random.default_rng(7))
    mean = np.fft.ifftn(G * np.fft.fftn(action.field)).real
    log_z = 0.5 * np.log(2 * np.pi * G).sum() + 0.5 * (action.field * mean).sum()
    np.testing.assert_allclose(-action(draw.phi) - draw.log_q, log_z, atol=2e-3)
    error = draw.phi.std(axis=0) / np.sqrt(500)
    assert np.abs((draw.phi.mean(axis=0) - mean) / error).max() < 5  # 24 sites, false alarm 2e-5


def test_compiled_gradients_are_those_of_torch():
    net, gaussian = network(2), reference(PHI4, (4, 5))
    net.requires_grad_(True)
    noise = torch.tensor(np.random.default_rng(6).normal(size=(8, 4, 5))).float()
    found = []
    for kind in (DifferentiableFlow, ProbabilityFlow):
        net.zero_grad()
        y = noise.clone().requires_grad_(True)
        flow = kind(net, gaussian, np.linspace(np.log(2.0), np.log(0.1), 7), scheme("rk4"))
        phi, log_q = flow.down(y, gradients=True)
        (log_q.sum() + (phi**3).sum()).backward()
        found.append([g.double() for g in (y.grad, net.A.grad.clone(), net.gain_out.weight.grad.clone())])
    for ours, theirs in zip(*found, strict=True):
        assert float((ours - theirs).abs().max() / theirs.abs().max()) < 1e-4


def test_a_vacuum_in_a_field_and_a_field_of_another_lattice_are_refused():
    action = in_field(PHI4, (4, 4))
    with pytest.raises(UserError, match="response"):
        GaussianReference(action, np.ones((4, 4)), vacuum=0.5)
    with pytest.raises(UserError, match="external field has shape"):
        GaussianReference(action, np.ones((4, 5)))


# --- one network for many fields -------------------------------------------------------------------------------------

LEARN = (
    CARD
    + """
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
steps = 600
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
)


def card(seed):
    return parse_card(LEARN.format(field=f"width = 0.5\nseed = {seed}"))


def test_configurations_in_a_field_are_not_moved_in_training():
    """A reflection belongs to another field; without a field it is taken."""
    phi = np.random.default_rng(8).normal(size=(64, 4, 4)).astype(np.float32)
    for theory, moves in ((in_field(PHI4, (4, 4)), False), (PHI4, True)):
        data, rows = TrainingData(phi, theory=theory), {row.tobytes() for row in phi}
        batches = [data.batch(8, torch.Generator().manual_seed(seed)) for seed in range(8)]
        found = [row.numpy().tobytes() in rows for batch in batches for row in batch]
        assert all(found) != moves


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A network trained and fine-tuned on six fields; the folder of both."""
    folder = tmp_path_factory.mktemp("fields")
    files = []
    for seed in range(6):
        files.append(folder / f"{seed}.h5")
        generate(card(seed), files[-1])
    train(card(0), files, folder / "score")
    finetune(card(0), folder / "score", files, folder / "model")
    return folder


def ess(action, draw):
    w = np.exp(-action(draw.phi) - draw.log_q + (action(draw.phi) + draw.log_q).min())
    return w.mean() ** 2 / (w * w).mean()


def test_the_network_serves_a_field_that_it_has_not_seen(trained):
    model = load_model(trained / "model")
    assert not model.members  # fields leave nothing behind
    action = card(99).theory()
    there = model.at(action)
    draw = proposal_for(there).draw(2000, np.random.default_rng(1))
    assert ess(action, draw) > 0.8
    # the same network, told another field, proposes for that one
    assert ess(action, proposal_for(model).draw(2000, np.random.default_rng(1))) < 0.5
    assert there.fingerprint() != model.fingerprint()
    weights = np.exp(-action(draw.phi) - draw.log_q)
    ours = np.tensordot(weights, draw.phi, 1) / weights.sum()
    kernel = HMC(action, 0.15, 7)
    state, _ = kernel.advance(kernel.start(np.zeros((64, 4, 4))), Streams(2), 100)
    _, block = kernel.advance(state, Streams(2), 500)
    means = block.phi.mean(axis=0)
    error = np.hypot(means.std(axis=0, ddof=1) / 8, draw.phi.std(axis=0) / np.sqrt(0.8 * 2000))
    assert np.abs((ours - means.mean(axis=0)) / error).max() < 5  # 16 sites, false alarm 1e-4


def test_the_reverse_process_of_a_field_has_its_density_too(trained):
    action = card(99).theory()
    there = load_model(trained / "model").at(action)
    draw = proposal_for(there, "sde", steps=60).draw(2000, np.random.default_rng(3))
    assert ess(action, draw) > 0.4


def test_a_model_of_fields_is_stored_and_loaded_for_another_one(trained, tmp_path):
    action = card(7).theory()
    there = load_model(trained / "model", action=action, shape=(4, 4))
    assert there.theory.describe() == action.describe()
    save_model(copy.deepcopy(there), tmp_path / "there")
    assert load_model(tmp_path / "there").fingerprint() == there.fingerprint()


def test_a_model_of_fields_serves_no_other_theory(trained):
    model = load_model(trained / "model")
    with pytest.raises(ModelError):
        model.at(ExternalField(Phi4.A(m2=-4.0, lam=7.0, ndim=2), np.zeros((4, 4))))
    with pytest.raises(ModelError):
        model.at(PHI4)


def test_a_field_beside_another_theory_is_not_one_training(tmp_path):
    files = []
    text = LEARN.format(field="width = 0.5\nseed = 1").replace("n_updates = 1000", "n_updates = 100")
    for lam in ("6.0", "7.0"):
        files.append(tmp_path / f"{lam}.h5")
        generate(parse_card(text.replace("lam = 6.0", f"lam = {lam}")), files[-1])
    with pytest.raises(UserError, match=r"lam=7.*beside.*lam=6.*differ in the field or the mass alone"):
        train(card(1), files, tmp_path / "model")
    broken = parse_card(text, ["training.phase=broken"])
    with pytest.raises(UserError, match="no two equal vacua"):
        train(broken, files[:1], tmp_path / "model")

"""Every stage that torch does, on every device there is: the same bodies run on the CPU and on a far device that is
none (`far_device`: no tensor of the CPU may meet one of its) by default, and on CUDA with ``pytest -m gpu``. What a
device computes is compared with the compiled CPU versions or with the CPU's bits."""

import numpy as np
import pytest
import torch
from far_device import far_device
from learned_toys import QUARTIC
from training_toys import THEORY, phis

from latticediff.config import parse_card
from latticediff.diffusion.differentiable import DifferentiableFlow
from latticediff.diffusion.flow import ProbabilityFlow
from latticediff.diffusion.langevin import annealed_langevin, predictor_corrector
from latticediff.diffusion.runge_kutta import scheme
from latticediff.ensemble import save_ensemble
from latticediff.metropolis import IndependenceMetropolis, LatentMetropolis
from latticediff.metropolis.moves import Block, Coloured
from latticediff.model.score_error import score_error
from latticediff.model.storage import load_model
from latticediff.proposal import OdeProposal
from latticediff.proposal.sde import SdeProposal
from latticediff.stages.finetune import finetune
from latticediff.stages.train import train
from latticediff.streams import Streams
from latticediff.targets.objectives import ModelScore

CARD = (
    THEORY
    + """
[network]
hidden = 4
[training]
steps = 6
batch = 16
warmup = 2
ema_decay = 0.9
[finetune]
steps = 2
batch = 8
integration_steps = 2
check_every = 1
n_check = 16
[sampling.ode]
steps = 1
"""
)
SHIPPED, SCORE = "phi4-A-L8", "phi4-A-L8-score"


@pytest.fixture(params=["cpu", "far", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request, monkeypatch):
    if request.param != "far":
        yield request.param
        return
    with far_device(monkeypatch) as name:
        yield name


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "a.h5"
    save_ensemble(path, phis(), action=QUARTIC, n_chains=8)
    return path


RIDGE = {"network.features": 4}


def card(device, options):
    return parse_card(CARD, [f"{key}={value}" for key, value in {"training.device": device, **options}.items()])


def test_the_far_device_refuses_what_cuda_refuses(monkeypatch):
    """Or none of the tests on it could fail."""
    with far_device(monkeypatch) as name:
        near, far = torch.ones(3), torch.ones(3, device=name)
        for mix in (lambda: near + far, lambda: far @ near, lambda: torch.stack([far, near]), lambda: far.mul_(near)):
            with pytest.raises(RuntimeError, match="tensors on cuda:0 and on cpu"):
                mix()
        with pytest.raises(TypeError, match="can't convert cuda:0"):
            far.numpy()
        assert far.device.type == (far * 2.0)[torch.tensor([0, 1])].device.type == near.to(name).device.type == "cuda"
        assert (2 * far).cpu().numpy().tolist() == [2, 2, 2] and float(far.sum()) == 3


def test_a_training_and_its_fine_tuning_make_models_for_the_cpu(device, path, tmp_path):
    score = train(card(device, RIDGE), path, tmp_path / "score")
    assert score.gaussian.device.type == device
    tuned = finetune(card(device, RIDGE), tmp_path / "score", path, tmp_path / "tuned")
    assert tuned.card["finetune"]["steps_done"] == 2 and tuned.gaussian.device.type == device
    for model in (score, tuned):
        where = tmp_path / ("score" if model is score else "tuned")
        assert load_model(where).fingerprint() == model.fingerprint()


@pytest.mark.parametrize(
    "options",
    [
        {**RIDGE, "network.name": "conservative_ridge"},
        {"network.name": "residual", "network.channels": 2, "network.depth": 1},
        {"network.name": "unet", "network.channels": 2, "network.levels": 1},
        {**RIDGE, "network.conditioned": "true", "network.kernel_size": 1},
        {**RIDGE, "training.optimizer": "soap"},
        {**RIDGE, "training.target": "mixed", "training.w0": "fit"},
        {**RIDGE, "training.target": "denoising", "training.levels": "antithetic"},
        {**RIDGE, "training.target": "force", "training.weighting": "sigma_squared"},
        {**RIDGE, "training.target": "implicit"},
        {**RIDGE, "training.target": "implicit", "training.trace": "hutchinson"},
        {**RIDGE, "training.target": "explicit", "training.oracle": "empirical"},
        {**RIDGE, "training.watch_every": 6, "training.watch_samples": 16, "training.keep": "best"},
    ],
    ids=lambda options: " ".join(f"{key.split('.')[1]}={value}" for key, value in options.items() if key not in RIDGE),
)
@pytest.mark.parametrize(
    "device",
    ["cpu", pytest.param("far", marks=pytest.mark.slow), pytest.param("cuda", marks=pytest.mark.gpu)],
    indirect=True,
)
def test_every_network_and_objective_is_trained(device, options, path, tmp_path):
    made = train(card(device, options), path, tmp_path / "model")
    assert all(p.device.type == device for p in made.network.parameters())
    drawn = OdeProposal(made, 2).draw(3, np.random.default_rng(1))
    assert np.isfinite(drawn.log_q).all()


def test_a_broken_phase_is_trained(device, tmp_path):
    """Around the vacua +-2."""
    phi = phis() / 4 + 2 * np.random.default_rng(2).choice([-1, 1], (64, 1, 1))
    save_ensemble(tmp_path / "broken.h5", phi, action=QUARTIC, n_chains=8)
    made = train(card(device, {**RIDGE, "training.phase": "broken"}), tmp_path / "broken.h5", tmp_path / "model")
    assert made.gaussian.device.type == device and abs(made.gaussian.vacuum - 2) < 0.1
    m = OdeProposal(made, 2).draw(20, np.random.default_rng(1)).phi.mean(axis=(1, 2))
    assert (m > 1).any() and (m < -1).any()


def test_data_from_the_file_give_the_bits_of_resident_data(device, path, tmp_path):
    one, other = (
        train(card(device, {**RIDGE, "training.data": data}), path, tmp_path / data).network.state_dict()
        for data in ("resident", "stream")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_device_draws_and_weighs_what_the_compiled_flow_does(device):
    """Plain torch in float32 against the kernels: log_weight, of a spread of 0.03, to a few times 1e-5 per site."""
    here, there = load_model(SHIPPED, device), load_model(SHIPPED)
    plain, compiled = OdeProposal(here, 12, compiled=False), OdeProposal(there, 12, compiled=True)
    noise = np.random.default_rng(1).standard_normal((32, 8, 8))
    drawn, wanted = plain.transport(noise), compiled.transport(noise)
    assert np.abs(drawn.phi - wanted.phi).max() < 1e-4
    assert np.abs(drawn.log_q - wanted.log_q).max() < 64 * 5e-5
    assert np.abs(plain.weigh(wanted.phi) - compiled.weigh(wanted.phi)).max() < 64 * 5e-5


@pytest.mark.parametrize("kernel", ["gaussian", "site", "dressed"])
def test_a_device_draws_the_paths_of_the_cpu(device, kernel):
    """Plain torch both, float32 networks under float64 steps."""
    drawn = []
    for where in (device, "cpu"):
        proposal = SdeProposal(load_model(SCORE, where), 4, kernel=kernel, compiled=False)
        draw = proposal.draw(24, np.random.default_rng(1))
        drawn.append((draw.phi, draw.log_q, proposal.weigh(draw.phi, np.random.default_rng(2))))
    for one, other, tolerance in zip(*drawn, (1e-3, 64 * 5e-4, 64 * 5e-4), strict=True):
        assert np.abs(one - other).max() < tolerance


@pytest.mark.parametrize("move", [Coloured(0.5), Block(3)], ids=["coloured", "block"])
def test_moves_and_tries_run_there(device, move):
    model = load_model(SHIPPED, device)
    kernel = LatentMetropolis(OdeProposal(model, 3), model.action, move, 2)
    streams = Streams(3)
    _, block = kernel.advance(kernel.hot_start(5, streams), streams, 2)
    assert np.isfinite(block.phi).all() and block.info["accepted"].mean() > 0


def test_score_errors_and_langevin_dynamics_are_measured_there(device):
    model, streams = load_model(SCORE, device), Streams(4)
    phi = OdeProposal(model, 3).draw(8, streams.generator("draw")).phi
    found = score_error(model, phi, n_levels=2, n_fields=2)
    assert np.isfinite(found.error).all()
    score = ModelScore(model.network, model.gaussian)
    x = torch.as_tensor(phi, dtype=torch.float32).to(device)
    for sampler in (annealed_langevin, predictor_corrector):
        moved = sampler(score, x, [2.0, 1.0, 0.5], streams.generator("langevin"))
        assert moved.device.type == device and bool(torch.isfinite(moved).all())


@pytest.mark.parametrize("route", [OdeProposal, SdeProposal])
def test_the_split_into_batches_changes_no_chain(device, route):
    """On the CPU no bit; on CUDA other kernels serve other batches, and the same fields come to 1e-4."""
    model, fields = load_model(SHIPPED, device), []
    for batch in (7, 40):
        kernel = IndependenceMetropolis(route(model, 4, batch=batch), model.action)
        streams = Streams(3)
        _, block = kernel.advance(kernel.hot_start(10, streams), streams, 2)
        fields.append(block.phi)
    if device == "cpu":
        assert np.array_equal(*fields)
    assert np.abs(fields[0] - fields[1]).max() < 1e-4


def test_a_step_of_fine_tuning_has_the_gradient_of_the_compiled_flow(device):
    """The path gradient of one passage, plain torch there, compiled adjoint here; float32 both."""
    gradients = []
    for where, flow in ((device, ProbabilityFlow), ("cpu", DifferentiableFlow)):
        model = load_model(SHIPPED, where)
        network = model.network.requires_grad_(True)
        y = torch.as_tensor(np.random.default_rng(2).standard_normal((8, 8, 8)), dtype=torch.float32, device=where)
        grid = model.noise.grid(6)
        phi, log_q = flow(network, model.gaussian, grid, scheme("rk4")).down(y, gradients=True)
        (log_q.sum() + (phi**2).sum()).backward()
        gradients.append(torch.cat([p.grad.double().cpu().flatten() for p in network.parameters()]))
    assert float((gradients[0] - gradients[1]).norm() / gradients[1].norm()) < 1e-3

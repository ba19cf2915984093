"""Every stage that torch does, on every device there is: the same bodies run on the CPU by default and on CUDA with
``pytest -m gpu``. What a device computes is compared with the compiled CPU versions or with the CPU's bits."""

import numpy as np
import pytest
import torch
from learned_toys import QUARTIC
from training_toys import THEORY, phis

from latticediff.config import parse_card
from latticediff.diffusion.flow import ProbabilityFlow
from latticediff.diffusion.runge_kutta import scheme
from latticediff.ensemble import save_ensemble
from latticediff.metropolis import IndependenceMetropolis
from latticediff.pipeline.finetune import finetune
from latticediff.pipeline.train import train
from latticediff.proposal import OdeProposal
from latticediff.proposal.sde import SdeProposal
from latticediff.score.differentiable import DifferentiableFlow
from latticediff.score.model import load_model
from latticediff.streams import Streams

CARD = (
    THEORY
    + """
[network]
features = 4
hidden = 4
[training]
steps = 30
batch = 16
warmup = 5
ema_decay = 0.9
[finetune]
steps = 4
batch = 8
integration_steps = 4
check_every = 2
n_check = 16
[sampling.ode]
steps = 6
"""
)
SHIPPED = "phi4-A-L8"

device = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "a.h5"
    save_ensemble(path, phis(), action=QUARTIC, n_chains=8)
    return path


def card(device, *overrides):
    return parse_card(CARD, [f"training.device={device}", *overrides])


@device
def test_a_training_and_its_fine_tuning_make_models_for_the_cpu(device, path, tmp_path):
    score = train(card(device), path, tmp_path / "score")
    assert score.background.device.type == device
    tuned = finetune(card(device), tmp_path / "score", path, tmp_path / "tuned")
    assert tuned.card["finetune"]["steps_done"] == 4 and tuned.background.device.type == device
    for model in (score, tuned):
        where = tmp_path / ("score" if model is score else "tuned")
        assert load_model(where).fingerprint() == model.fingerprint()


@device
def test_data_from_the_file_give_the_bits_of_resident_data(device, path, tmp_path):
    one, other = (
        train(card(device, f"training.data={data}"), path, tmp_path / data).network.state_dict()
        for data in ("resident", "stream")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


@device
def test_a_device_draws_and_weighs_what_the_compiled_flow_does(device):
    """Plain torch in float32 against the kernels: log_weight, of a spread of 0.03, to a few times 1e-5 per site."""
    here, there = load_model(SHIPPED, device), load_model(SHIPPED)
    plain, compiled = OdeProposal(here, 12, compiled=False), OdeProposal(there, 12, compiled=True)
    noise = np.random.default_rng(1).standard_normal((64, 8, 8))
    drawn, wanted = plain.transport(noise), compiled.transport(noise)
    assert np.abs(drawn.phi - wanted.phi).max() < 1e-4
    assert np.abs(drawn.log_q - wanted.log_q).max() < 64 * 5e-5
    assert np.abs(plain.weigh(wanted.phi) - compiled.weigh(wanted.phi)).max() < 64 * 5e-5


@device
@pytest.mark.parametrize("route", [OdeProposal, SdeProposal])
def test_the_split_into_batches_changes_no_chain(device, route):
    """On the CPU no bit; on CUDA other kernels serve other batches, and the same fields come to 1e-4."""
    model, fields = load_model(SHIPPED, device), []
    for batch in (7, 40):
        kernel = IndependenceMetropolis(route(model, 12, batch=batch), model.action)
        streams = Streams(3)
        _, block = kernel.advance(kernel.hot_start(10, streams), streams, 4)
        fields.append(block.phi)
    if device == "cpu":
        assert np.array_equal(*fields)
    assert np.abs(fields[0] - fields[1]).max() < 1e-4


@device
def test_a_step_of_fine_tuning_has_the_gradient_of_the_compiled_flow(device):
    """The path gradient of one passage, plain torch there, compiled adjoint here; float32 both."""
    gradients = []
    for where, flow in ((device, ProbabilityFlow), ("cpu", DifferentiableFlow)):
        model = load_model(SHIPPED, where)
        network = model.network.requires_grad_(True)
        y = torch.as_tensor(np.random.default_rng(2).standard_normal((8, 8, 8)), dtype=torch.float32, device=where)
        grid = model.noise.grid(6)
        phi, log_q = flow(network, model.background, grid, scheme("rk4")).down(y, gradients=True)
        (log_q.sum() + (phi**2).sum()).backward()
        gradients.append(torch.cat([p.grad.double().cpu().flatten() for p in network.parameters()]))
    assert float((gradients[0] - gradients[1]).norm() / gradients[1].norm()) < 1e-3

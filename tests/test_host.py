"""What the program around the package has set changes no bit of ours, and is as it was afterwards."""

import hashlib
import threading

import numpy as np
import pytest
import torch

from latticediff.action import Phi4
from latticediff.analysis import ess_forward, ess_reverse, tau_int
from latticediff.build.network import build_network
from latticediff.config import parse_card
from latticediff.diffusion.ladder import NoiseRange
from latticediff.gaussian.reference import GaussianReference
from latticediff.hmc import HMC
from latticediff.host import torch_defaults
from latticediff.metropolis import MultipleTry
from latticediff.model.score_error import score_error
from latticediff.model.storage import load_model
from latticediff.proposal import OdeProposal, SdeProposal
from latticediff.streams import Streams
from latticediff.training import Task, Trainer, TrainingData, TrainingPlan
from latticediff.training.calibrate import finish_model
from latticediff.training.finetune import FineTuner, FineTuningPlan

CARD = """
[action]
convention = "A"
m2 = -4.0
lam = 6.0
[lattice]
shape = [4, 4]
[network]
features = 4
hidden = 8
"""


def digest(*arrays):
    found = hashlib.sha256()
    for array in arrays:
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


class Near:
    """Numbers of plain torch, float32, whose last bits depend on where its buffers happen to lie."""

    def __init__(self, *arrays):
        self.numbers = np.concatenate([np.ravel(array) for array in arrays])

    def __eq__(self, other):
        return np.allclose(self.numbers, other.numbers, rtol=1e-4, atol=1e-4)

    __hash__ = None


def learned():
    """Digests of all that is computed with torch: load, draw, weigh, train, fine-tune."""
    found = {}
    model = load_model("phi4-A-L8")
    found["loaded"] = model.fingerprint()
    for name, kind, compiled in (
        ("ode", OdeProposal, True),
        ("ode in torch", OdeProposal, False),
        ("sde", SdeProposal, True),
        ("sde in torch", SdeProposal, False),
    ):
        proposal = kind(model, steps=4, compiled=compiled)
        draw = proposal.draw(3, np.random.default_rng(1))
        weight = proposal.weigh(draw.phi, np.random.default_rng(2))
        found[name] = digest(draw.phi, draw.log_q, weight) if compiled else Near(draw.phi, draw.log_q, weight)
    card = parse_card(CARD)
    phis = np.random.default_rng(3).standard_normal((64, 4, 4))
    data = TrainingData(phis, 8, 0.25, "cpu")
    gaussian = GaussianReference(card.theory(), np.full((4, 4), 0.3))
    task, noise = Task(gaussian, data), NoiseRange(0.02, 2.0)
    trainer = Trainer(build_network(card), [task], noise, TrainingPlan(steps=3, batch=16, seed=1))
    for _ in range(3):
        trainer.advance()
    found["loss"] = digest(trainer.held_out_loss())
    tuner = FineTuner(trainer.averaged(), [task], noise, FineTuningPlan(steps=2, batch=8, check_every=0, seed=1))
    for _ in range(2):
        tuner.advance()
    tuned = finish_model(tuner.averaged(), gaussian, noise, data)
    found["tuned"] = tuned.fingerprint()
    found["score error"] = digest(score_error(tuned, phis[:8], n_levels=2, n_fields=4).error)
    return found


def classical():
    """Digests of all that is computed with NumPy and compiled kernels."""
    action, streams = Phi4.A(-4.0, 6.0), Streams(5)
    kernel = HMC(action, step_size=0.05, n_leapfrog=5)
    state, block = kernel.advance(kernel.start(streams.generator("hot").standard_normal((4, 4, 4))), streams, 30)
    series = block.phi.mean(axis=(2, 3)).T
    # weights of which all but one underflow
    steep = np.array([0.0, -800.0, -2000.0, -5.0] * 10)
    found = {"hmc": digest(state.phi, block.phi), "tau": digest(tau_int(series).value)}
    found["ess"] = digest(ess_reverse(steep).value, ess_forward(np.abs(steep)).value)
    chain = MultipleTry(Steep(), action, tries=4)
    streams = Streams(6)
    _, block = chain.advance(chain.start(np.zeros((2, 4, 4))), streams, 20)
    found["tries"] = digest(block.phi)
    return found


class Steep:
    """A bad proposal of the contract: its weights differ by hundreds of orders of magnitude."""

    is_deterministic, lattice_shape = True, (4, 4)
    evaluations_per_draw = 1

    def draw(self, n, rng):
        from latticediff.metropolis import Draw

        phi = 6 * rng.standard_normal((n, 4, 4))
        return Draw(phi, self.weigh(phi))

    def weigh(self, phi, rng=None):
        return -0.5 * (phi**2).sum(axis=(1, 2)) / 36 - 8 * np.log(2 * np.pi * 36)

    def describe(self):
        return {"name": "steep"}

    def fingerprint(self):
        return "steep"


def state_of_host():
    return (
        torch.get_default_dtype(),
        torch.empty(0).device,
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.get_float32_matmul_precision(),
        torch.get_num_threads(),
        torch.is_autocast_enabled("cpu"),
        digest(torch.get_rng_state()),
        np.geterr(),
        digest(np.random.get_state()[1]),  # noqa: NPY002, the host's
    )


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Products this small only wait for threads; and the plain torch passages follow their number."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def clean():
    return learned()


@pytest.fixture
def restored():
    """A hostile test leaves the process as it found it."""
    yield
    torch.set_default_device(None)
    torch.set_default_dtype(torch.float32)
    torch.set_float32_matmul_precision("highest")
    torch.set_grad_enabled(True)


HOSTILE = {
    "float64": lambda: torch.set_default_dtype(torch.float64),
    "bfloat16": lambda: torch.set_default_dtype(torch.bfloat16),
    "device": lambda: torch.set_default_device("meta"),
    "no gradients": lambda: torch.set_grad_enabled(False),
    "low precision": lambda: torch.set_float32_matmul_precision("medium"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_bits_do_not_depend_on_settings_of_the_host(name, clean, restored):
    HOSTILE[name]()
    before = state_of_host()
    assert learned() == clean
    assert state_of_host() == before


@pytest.mark.parametrize(
    "context",
    [torch.inference_mode, torch.no_grad, lambda: torch.device("meta"), lambda: torch.autocast("cpu", torch.bfloat16)],
    ids=["inference", "no_grad", "device", "autocast"],
)
def test_bits_do_not_depend_on_contexts_of_the_host(context, clean):
    with context():
        before = state_of_host()
        assert learned() == clean
        assert state_of_host() == before


def test_numpy_that_raises_at_everything_raises_at_nothing_of_ours(clean):
    expected = classical()
    before = state_of_host()
    with np.errstate(all="raise"):
        assert learned() == clean
        assert classical() == expected
        assert set(np.geterr().values()) == {"raise"}
    assert state_of_host() == before


def test_error_of_ours_leaves_the_settings_as_they_were(restored):
    torch.set_default_dtype(torch.float64)
    with pytest.raises(ValueError, match="no model"):
        load_model("absent")
    assert torch.get_default_dtype() == torch.float64


def test_settings_survive_threads_that_overlap(restored):
    torch.set_default_dtype(torch.float64)
    inside, leave = threading.Event(), threading.Event()

    def stay():
        with torch_defaults():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=stay)
    with torch_defaults():
        thread.start()
        assert inside.wait(10)
    # the other one is still at work
    assert torch.get_default_dtype() == torch.float32
    leave.set()
    thread.join()
    assert torch.get_default_dtype() == torch.float64

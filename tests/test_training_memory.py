"""What a training holds in memory changes no result: streamed data give the bits of resident ones, pieces of a batch
the gradient of the whole."""

import warnings

import h5py
import numpy as np
import pytest
import torch
from learned_toys import QUARTIC
from learned_toys import model as learned
from training_toys import SHAPE, THEORY, phis, trainer

from latticediff.build.learned import build_proposal
from latticediff.config import parse_card
from latticediff.ensemble import Ensemble, save_ensemble
from latticediff.errors import UserError
from latticediff.model.storage import load_model, save_model
from latticediff.stages.train import train
from latticediff.stages.weigh import weigh
from latticediff.training import TrainingData, rows
from latticediff.training.gradient import in_low_precision
from latticediff.training.rows import choose

CARD = (
    THEORY
    + """
[network]
features = 2
hidden = 4
[training]
steps = 6
batch = 8
device = "cpu"
[sampling.ode]
steps = 2
"""
)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "a.h5"
    save_ensemble(path, phis(), action=QUARTIC, n_chains=8)
    return path


# --- data ------------------------------------------------------------------------------------------------------------


def test_streamed_rows_are_resident_rows(path):
    with Ensemble(path) as ensemble:
        streamed, resident = (TrainingData(ensemble, where=where) for where in ("stream", "resident"))
        array = TrainingData(phis(), n_chains=8)
        for part in ("train", "held_out"):
            here, there = getattr(streamed, part), getattr(resident, part)
            assert torch.equal(here[:], there)
            assert torch.equal(getattr(array, part), there)
            assert torch.equal(torch.cat(list(here.split(5))), there)
            index = torch.tensor([3, 1, 1, 0])
            assert torch.equal(here[index], there[index])
            assert here.shape == there.shape
        draws = [data.batch(7, torch.Generator().manual_seed(2)) for data in (streamed, resident)]
        assert torch.equal(*draws)


@pytest.mark.parametrize("target", ["stein", "explicit"])
def test_model_of_streamed_data_has_the_bits_of_a_resident_one(path, tmp_path, target):
    models = [
        train(
            parse_card(CARD, [f"training.data={where}", f"training.target={target}", "training.oracle=empirical"]),
            path,
            tmp_path / where,
        )
        for where in ("stream", "resident")
    ]
    assert models[0].fingerprint() == models[1].fingerprint()


def test_configurations_are_taken_by_number_from_any_layout(path, tmp_path):
    numbers = np.array([0, 3, 17, 63])
    chunked = tmp_path / "chunked.h5"
    with h5py.File(path) as old, h5py.File(chunked, "w") as new:
        for name in old:
            old.copy(name, new)
        new.attrs.update(old.attrs)
        del new["configurations/phi"]
        new["configurations"].create_dataset("phi", data=phis(), chunks=(5, *SHAPE), compression="gzip")
    for file in (path, chunked):
        with Ensemble(file) as ensemble:
            assert np.array_equal(ensemble.take(numbers), phis()[numbers])


@pytest.mark.parametrize("all_chains", [False, True])
def test_weighing_reads_what_it_weighs(path, tmp_path, monkeypatch, all_chains):
    """The held-out part of an ensemble larger than memory, or every k-th of all: the fields, in their order."""
    card = parse_card(CARD + "[sampling]\nn_forward = 6\nmax_doubling = 'any'\n", ["training.held_out=0.25"])
    save_model(learned(QUARTIC, SHAPE, 0.1), tmp_path / "model")
    read = Ensemble.phis

    def batch(ensemble, *bounds):
        assert len(bounds) == 2  # not the whole file
        return read(ensemble, *bounds)

    monkeypatch.setattr(Ensemble, "phis", batch)
    arrays = weigh(card, path, tmp_path / "model", "ode", tmp_path / "w.npz", all_chains=all_chains)
    whole = phis().reshape(-1, 8, *SHAPE)
    chains = np.arange(8) if all_chains else np.array([6, 7])
    rows = whole[:, chains].reshape(-1, *SHAPE)
    fields = rows[:: len(rows) // 6][:6]
    proposal = build_proposal(card, load_model(tmp_path / "model"), "ode")
    expected = QUARTIC(fields) + proposal.weigh(fields, None)
    assert np.abs(arrays["log_weight"] + expected).max() < 1e-3 < np.ptp(expected)
    assert np.array_equal(arrays["chain"], np.arange(0, len(rows), len(rows) // 6)[:6] % len(chains))


def test_auto_streams_what_takes_more_than_half_the_memory(monkeypatch):
    assert choose("auto", 1000, "cpu") == "resident"
    assert choose("auto", 10**18, "cpu") == "stream"
    monkeypatch.setattr(rows, "fits", lambda n_bytes, device: False)
    assert TrainingData(phis(), n_chains=8, where="auto").where == "stream"
    with pytest.raises(UserError, match="expected one of auto, resident, stream"):
        choose("disk", 1000, "cpu")


def test_streamed_data_that_are_not_finite_are_refused():
    bad = phis()
    bad[40, 1, 1] = np.inf
    with pytest.raises(UserError, match="not finite"):
        TrainingData(bad, n_chains=8, where="stream")


# --- pieces ----------------------------------------------------------------------------------------------------------


def gradient_of(made):
    made.advance()
    return torch.cat([p.grad.flatten() for p in made.network.parameters()])


@pytest.mark.parametrize("micro_batch", [1, 5, 16])
def test_pieces_of_a_batch_have_the_gradient_of_the_whole(micro_batch):
    whole = gradient_of(trainer(target="mixed", strength=0.3))
    made = trainer(target="mixed", strength=0.3)
    made.gradient.micro_batch = micro_batch
    assert distance(gradient_of(made), whole) < 1e-5
    made = trainer(target="mixed", strength=0.3)
    made.draw = lambda step, number, start, stop: type(made).draw(made, step + 1, number, start, stop)
    assert distance(gradient_of(made), whole) > 0.1  # another batch has another gradient


def distance(gradient, other):
    return float((gradient - other).norm() / other.norm())


class Narrow(torch.nn.Module):
    """A network on a device with room for `room` configurations."""

    def __init__(self, network, room):
        super().__init__()
        self.inner, self.room, self.largest = network, room, 0

    def describe(self):
        return self.inner.describe()

    def forward(self, gaussian, x, log_sigma, trace=False):
        if torch.is_grad_enabled() and len(x) > self.room:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        self.largest = max(self.largest, len(x))
        return self.inner(gaussian, x, log_sigma, trace)


def test_a_batch_that_does_not_fit_is_halved_until_it_does():
    whole, made = (trainer(target="mixed", strength=0.3) for _ in range(2))
    expected, lines = gradient_of(whole), []
    made.gradient.forward, made.gradient.say = Narrow(made.network, 5), lines.append
    found = gradient_of(made)
    assert made.gradient.micro_batch == made.gradient.forward.largest == 4  # 16, 8, 4
    assert "16 configurations do not fit into the memory of cpu; going on in pieces of 8" in lines[0]
    assert distance(found, expected) < 1e-5
    made.gradient.forward = Narrow(made.network, 0)
    with pytest.raises(UserError, match=r"one configuration on \(4, 4\) does not fit"):
        made.advance()


# --- precision -------------------------------------------------------------------------------------------------------


def test_low_precision_is_for_the_network_on_cuda_only():
    with pytest.raises(UserError, match="precision = bfloat16 needs a CUDA device"):
        trainer(precision="bfloat16")
    made = trainer(target="mixed", strength=0.3)
    phi, _, log_sigma, _ = made.draw(0)
    phi.requires_grad_()  # so that torch does the work, not the compiled core
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        R, _ = in_low_precision(made.network, torch.device("cpu"))(made.gaussian, phi, log_sigma)
    exact, _ = made.network(made.gaussian, phi, log_sigma)
    assert R.dtype == torch.float32
    difference = float((R - exact).norm().detach() / exact.norm().detach())
    assert 1e-5 < difference < 0.05  # eight bits of mantissa


@pytest.mark.gpu
def test_low_precision_trains_on_a_gpu(path, tmp_path):
    model = train(parse_card(CARD, ["training.device=cuda", "training.precision=bfloat16"]), path, tmp_path / "model")
    assert model.gaussian.dtype == torch.float32

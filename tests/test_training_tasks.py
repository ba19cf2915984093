"""Several theories in one training: which step takes what, exact resumption, and the model's table between them.

Free fields decide about the table: their inverse propagator is linear in p_hat^2 and in the couplings, in closed form.
"""

import numpy as np
import pytest
import torch
from learned_toys import network

from latticediff.action import Phi4, free_propagator
from latticediff.analysis import ess_reverse
from latticediff.config import parse_card
from latticediff.diffusion.ladder import NoiseRange
from latticediff.ensemble import save_ensemble
from latticediff.errors import CardError, FileError, ModelError, StopRequested, UserError
from latticediff.gaussian.reference import GaussianReference
from latticediff.model.couplings import Member, interpolate, propagator_on
from latticediff.model.score_model import ScoreModel
from latticediff.model.storage import load_model, save_model
from latticediff.networks.embedding import coupling_features
from latticediff.proposal import OdeProposal
from latticediff.stages.sample import sample
from latticediff.stages.small import small_trainer
from latticediff.stages.train import train
from latticediff.training import Task, Trainer, TrainingData, TrainingPlan
from latticediff.training.calibrate import finish_model
from latticediff.training.tasks import schedule

NOISE = NoiseRange(0.05, 6.0)
MASSES = (0.6, 1.0, 1.4)


def free_fields(action, shape, n, seed=0):
    """Independent configurations of a free field."""
    G = free_propagator(action, shape)
    white = np.fft.fftn(np.random.default_rng(seed).normal(size=(n, *shape)), axes=(1, 2))
    return np.fft.ifftn(white * np.sqrt(G), axes=(1, 2)).real


def task(mass=1.0, shape=(4, 4), n=64, frequency=1.0, lam=0.0):
    action = Phi4.A(mass, lam)
    free = Phi4.A(mass, 0.0)
    data = TrainingData(free_fields(free, shape, n), n_chains=8)
    return Task(GaussianReference(action, free_propagator(free, shape)), data, frequency)


def trainer(tasks=None, seed=0, **plan):
    tasks = tasks or [task(), task(0.6, (4, 6)), task(1.4)]
    plan = {"steps": 12, "batch": 12, "warmup": 4, "target": "mixed", **plan}
    return Trainer(network(2, 0.3, seed), tasks, NOISE, TrainingPlan(**plan))


def weights(made):
    return [t.clone() for t in (*made.network.state_dict().values(), *made.ema.state_dict().values())]


# --- the order of tasks ----------------------------------------------------------------------------------------------


def test_round_robin_keeps_every_prefix_in_proportion():
    assert schedule("round_robin", [1, 1, 1], 7, 0)[:, 0].tolist() == [0, 1, 2, 0, 1, 2, 0]
    frequencies = np.array([3.0, 1.0, 1.5])
    order = schedule("round_robin", frequencies, 400, 0)[:, 0]
    counts = np.cumsum(order[:, None] == np.arange(3), axis=0)
    expected = np.arange(1, 401)[:, None] * frequencies / frequencies.sum()
    assert np.abs(counts - expected).max() < 1.5


def test_random_order_has_the_frequencies_and_follows_from_the_seed():
    order = schedule("random", [3, 1], 4000, seed=5)[:, 0]
    # 4 standard deviations of a binomial: false alarm 6e-5
    assert abs((order == 0).mean() - 0.75) < 4 * np.sqrt(0.75 * 0.25 / 4000)
    assert np.array_equal(order[:100], schedule("random", [3, 1], 100, seed=5)[:, 0])
    assert not np.array_equal(order[:100], schedule("random", [3, 1], 100, seed=6)[:, 0])


def test_batches_have_equal_numbers_of_sites():
    assert trainer([task(), task(shape=(4, 6)), task(shape=(8, 8))]).batches == [12, 8, 3]


@pytest.mark.parametrize("order", ["round_robin", "random", "all"])
def test_resumed_training_on_several_ensembles_equals_uninterrupted(tmp_path, order):
    path, calls = tmp_path / "checkpoint", iter(range(100))
    whole = trainer(schedule=order)
    whole.run()
    with pytest.raises(StopRequested):
        trainer(schedule=order).run(path, stop=lambda: "told to" if next(calls) == 6 else None)
    resumed = trainer(seed=5, schedule=order)
    resumed.run(path)
    for one, other in zip(weights(whole), weights(resumed), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(FileError, match="differs in ensembles"):
        trainer([task(), task(0.6, (4, 6)), task(1.4, frequency=2.0)], schedule=order).run(path)


def test_all_ensembles_in_one_step_add_their_gradients_per_site():
    """Against each task alone: the gradient of a step is the weighted sum of theirs, per site."""
    tasks = [task(frequency=3.0), task(0.6, (8, 8))]
    both = trainer(tasks, schedule="all")
    volumes, expected = (16, 64), 0
    for number, share in enumerate((0.75, 0.25)):
        loss = both.objectives[number](both.network, both.draw(0, number)).mean() * share * 16 / volumes[number]
        expected = expected + torch.autograd.grad(loss, both.network.A)[0]
    both.plan = TrainingPlan(**{**vars(both.plan), "clip": 1e9})
    both.advance()
    torch.testing.assert_close(both.network.A.grad, expected, rtol=1e-4, atol=1e-6)


def test_one_ensemble_draws_what_it_drew_alone():
    alone, first = trainer([task()]), trainer()
    for one, other in zip(alone.draw(3)[:3], first.draw(3, 0)[:3], strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(first.draw(3, 0)[1], first.draw(3, 2)[1])  # independent noise for another task


def test_tasks_that_do_not_fit_are_refused():
    line = Phi4.A(1.0, 0.0, 1)
    chain = Task(GaussianReference(line, free_propagator(line, (16,))), TrainingData(np.ones((16, 16)), 4))
    with pytest.raises(UserError, match="one network has one dimension"):
        trainer([task(), chain])
    with pytest.raises(UserError, match=r"batch = 24 on \(2, 4\) but there are 14"):
        trainer([task(), task(shape=(2, 4), n=16)])
    with pytest.raises(UserError, match="nothing to train on"):
        Trainer(network(2, 0.0), [], NOISE, TrainingPlan())
    with pytest.raises(UserError, match=r"frequency of a training ensemble is 0\.0"):
        task(frequency=0.0)
    with pytest.raises(UserError, match="schedule is 'al'"):
        TrainingPlan(schedule="al")


# --- the model of a line of theories ---------------------------------------------------------------------------------


def member(mass, shape, **options):
    action = Phi4.A(mass, 0.0, **options)
    return Member(action, free_propagator(action, shape), np.ones((3, *shape)) * mass)


def test_a_free_propagator_is_exact_on_any_other_lattice():
    action = Phi4.A(0.7, 0.0)
    for shape in ((8, 8), (4, 10)):
        found = propagator_on(free_propagator(action, (6, 6)), shape)
        np.testing.assert_allclose(found, free_propagator(action, shape), rtol=1e-8)


def test_between_the_couplings_log_g_is_interpolated():
    members = [member(mass, (4, 6)) for mass in MASSES]
    exact = free_propagator(Phi4.A(0.8, 0.0), (4, 6))
    found = interpolate(members, Phi4.A(0.8, 0.0), (4, 6))
    # log G(0) = -log 2m2 bends: a chord from 0.6 to 1.0 misses it by 0.032, the cubic has to do better
    assert np.abs(np.log(found.propagator / exact)).max() < 0.02
    assert found.power == pytest.approx(0.8, abs=0.02)
    other_lattice = interpolate([*members, member(0.6, (8, 8))], Phi4.A(1.2, 0.0), (6, 6))
    exact = free_propagator(Phi4.A(1.2, 0.0), (6, 6))
    assert np.abs(np.log(other_lattice.propagator / exact)).max() < 0.02


def test_members_are_found_exactly_in_any_convention():
    members = [member(mass, (4, 6)) for mass in MASSES]
    assert interpolate(members, Phi4.A(1.0, 0.0), (4, 6)) is members[1]
    assert interpolate(members, Phi4.A(1.0, 0.0), (4, 6)).propagator is members[1].propagator


def test_a_plane_of_couplings_is_triangulated():
    members = [
        Member(Phi4.A(m2, lam), np.full((4, 4), np.exp(m2 + 2 * lam)), np.ones((2, 4, 4)))
        for m2, lam in ((1, 0), (2, 0), (1, 1), (2, 1))
    ]
    found = interpolate(members, Phi4.A(1.3, 0.4), (4, 4))
    np.testing.assert_allclose(found.propagator, np.exp(1.3 + 0.8), rtol=1e-12)
    with pytest.raises(ModelError, match="is no theory between"):
        interpolate(members, Phi4.A(2.3, 0.4), (4, 4))


@pytest.mark.parametrize(
    ("action", "shape", "message"),
    [
        (Phi4.A(1.5, 0.0), (4, 6), r"Phi4\.A\(m2=1\.5.* is no theory between"),
        (Phi4.A(1.0, 0.2), (4, 6), "is no theory between"),
        (Phi4.A(1.0, 0.0), (8, 8), "lattice 8x8 for lattices of extents 4 to 6"),
    ],
)
def test_outside_the_trained_range_is_refused_or_warned_of(action, shape, message):
    members = [member(mass, (4, 6)) for mass in MASSES]
    with pytest.raises(ModelError, match=message):
        interpolate(members, action, shape)
    with pytest.warns(UserWarning, match=message):
        found = interpolate(members, action, shape, outside=True)
    assert found.shape == shape
    assert (found.propagator > 0).all()


def test_another_dimension_is_refused_even_outside():
    with pytest.raises(ModelError, match="of 2 dimensions"):
        interpolate([member(1.0, (4, 6))], Phi4.A(1.0, 0.0, 3), (4, 4, 4), outside=True)


def line_model():
    tasks = [task(0.6), task(1.4), task(0.6, (6, 6))]
    return finish_model(
        network(2, 0.0), tasks[0].gaussian, NOISE, tasks[0].data, {"note": {"of": "a test"}}, 0, tasks[1:]
    )


def test_model_of_several_theories_survives_its_file(tmp_path):
    model = line_model()
    save_model(model, tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert loaded.fingerprint() == model.fingerprint()
    assert [m.shape for m in loaded.members] == [(4, 4), (6, 6)]
    assert loaded.at() is loaded
    other = load_model(tmp_path / "model", action=Phi4.A(1.4, 0.0), shape=(4, 4))
    assert np.array_equal(other.gaussian.propagator_full.numpy(), free_propagator(Phi4.A(1.4, 0.0), (4, 4)))
    assert other.fingerprint() != model.fingerprint()
    with pytest.raises(ModelError, match="is no theory between"):
        load_model(tmp_path / "model", action=Phi4.A(1.5, 0.0))


def test_model_between_its_theories_proposes_with_a_high_weight():
    """R = 0 is exact for a free field, so the ESS shows the error of the interpolated propagator alone."""
    model = line_model().at(Phi4.A(0.9, 0.0), (5, 5))
    proposal = OdeProposal(model, steps=6)
    draw = proposal.draw(2000, np.random.default_rng(3))
    # with a network that is zero the baseline's linear part corrects what the propagator lacks
    assert ess_reverse(-model.action(draw.phi) - draw.log_q).value > 0.95
    # and the propagator of the model's own theory in its place does not
    own, grid = line_model().at(shape=(6, 6)), model.power_grid
    wrong = ScoreModel(model.network, own.gaussian, NOISE, grid, np.ones((len(grid), 6, 6)))
    draw = OdeProposal(wrong, steps=6).draw(2000, np.random.default_rng(3))
    assert ess_reverse(-Phi4.A(0.9, 0.0)(draw.phi) - draw.log_q).value < 0.95


# --- card and pipeline -----------------------------------------------------------------------------------------------

CARD = """
[action]
convention = "A"
m2 = 0.6
lam = 0.0
[lattice]
shape = [4, 4]
[gate]
enforce = false
[network]
features = 2
hidden = 4
[training]
steps = 6
batch = 8
target = "mixed"
device = "cpu"
[sampling]
batch = 32
[sampling.ode]
n_chains = 4
n_warmup = 2
n_updates = 4
steps = 2
"""


def test_card_names_further_ensembles():
    text = f"{CARD}[[training.ensembles]]\n"
    card = parse_card(text + 'file = "b.h5"\nfrequency = 2.0\n')
    assert (card.training.ensembles[0].file, card.training.ensembles[0].frequency) == ("b.h5", 2.0)
    assert parse_card(card.to_toml()) == card
    with pytest.raises(CardError, match=r"\[training\.ensembles\] has no key 'fil' \(did you mean 'file'\?\)"):
        parse_card(text + 'fil = "b.h5"\n')


STRIPES = """
[action]
name = "modulated"
hopping = 1.0
next_nearest = -0.45
a = 0.2
b = 0.25
[lattice]
shape = [8, 8]
[hmc]
n_chains = 8
[training]
sigma_max_factor = 1.5
"""


def test_one_model_for_several_files_samples_between_them(tmp_path):
    for name, mass, shape in (("a", 0.6, (4, 4)), ("b", 1.4, (4, 4)), ("c", 1.0, (4, 6))):
        action = Phi4.A(mass, 0.0)
        save_ensemble(tmp_path / f"{name}.h5", free_fields(action, shape, 64), action=action, n_chains=8)
    card = parse_card(f'{CARD}[[training.ensembles]]\nfile = "{tmp_path / "c.h5"}"\n', ["network.conditioned=true"])
    files = [tmp_path / "a.h5", tmp_path / "b.h5"]
    model = train(card, files, tmp_path / "model")
    assert [(m.action.couplings["m2"], m.shape) for m in model.members] == [(1.4, (4, 4)), (1.0, (4, 6))]
    seen = np.mean([coupling_features(theory.action) for theory in model.theories()], axis=0)
    assert np.allclose(model.network.embed.couplings[0], seen, rtol=1e-6)
    # the noise drowns the largest mode, the zero mode of m2 = 0.6
    widest = max(float(model.gaussian.propagator_full.max()), *(float(m.propagator.max()) for m in model.members))
    assert model.noise.sigma_max == pytest.approx(4 * widest**0.5)
    assert [parent["file"] for parent in model.card["further_ensembles"]] == ["b.h5", "c.h5"]
    between = parse_card(CARD, ["action.m2=1.2", "lattice.shape=[4, 6]"])
    chain = sample(between, tmp_path / "model", "ode", tmp_path / "chain.h5")
    assert (chain.action, chain.shape) == (Phi4.A(1.2, 0.0), (4, 6))
    with pytest.raises(ModelError, match="is no theory between"):
        sample(parse_card(CARD, ["action.m2=2.0"]), tmp_path / "model", "ode", tmp_path / "other.h5")
    with pytest.raises(FileError, match="is of action"):
        train(card, files[::-1], tmp_path / "second")


def test_the_noise_drowns_the_largest_mode_wherever_it_is():
    """Stripes: the largest mode is that of their period, and the zero mode is next to nothing."""
    card = parse_card(STRIPES)
    rng, x = np.random.default_rng(3), np.arange(8)
    waves = 3.0 * np.cos(2 * np.pi * x / 4 + 2 * np.pi * rng.random((64, 1)))
    trainer = small_trainer(card, waves[:, :, None] + 0.1 * rng.standard_normal((64, 8, 8)))
    power = (np.abs(np.fft.fftn(trainer.data.train.numpy(), axes=(1, 2))) ** 2).mean(0) / 64
    assert power[0, 0] < 0.05 and power.max() > 50
    # both axes share what stripes along one have
    assert trainer.noise.sigma_max == pytest.approx(1.5 * (0.5 * power.max()) ** 0.5, rel=0.02)

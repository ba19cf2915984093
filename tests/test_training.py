"""Laws of training: resumed equals uninterrupted bit for bit, threads change nothing, bad data are refused.

A tiny lattice and a few steps; only `test_training_beats_the_baseline` asks whether anything was learned, and
its margin of a tenth is many times the fluctuation of the held-out loss, which uses the same noise every time.
"""

import math

import numba
import numpy as np
import pytest
import torch
from learned_toys import QUARTIC, network, some_propagator
from learned_toys import model as toy_model
from training_toys import PLAN, SHAPE, assert_same, phis, stopping_after, trainer

from latticediff._kernels import threads
from latticediff.action import Phi4, free_propagator
from latticediff.config import parse_card
from latticediff.diffusion.ladder import NoiseRange
from latticediff.errors import FileError, ModelError, StopRequested, UserError
from latticediff.gaussian.propagator import measured_propagator
from latticediff.gaussian.reference import GaussianReference
from latticediff.hmc import HMC
from latticediff.model.storage import save_model
from latticediff.stages.train import Source, build_trainer
from latticediff.streams import Streams
from latticediff.targets.matching import mixed_target
from latticediff.training import Task, Trainer, TrainingData, TrainingPlan, calibrate
from latticediff.training.calibrate import finish_model
from latticediff.training.checkpoint import read_checkpoint, write_checkpoint
from latticediff.training.data import lattice_symmetries

# --- resumption ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def uninterrupted():
    made = trainer()
    made.run()
    return made


def stop_in_the_middle(path, step=13):
    with pytest.raises(StopRequested, match=f"told to: training stopped at step {step} of 24, saved") as stopped:
        trainer().run(path, checkpoint_every=5, stop=stopping_after(step))
    assert stopped.value.exit_code == 75


def test_resumed_training_equals_uninterrupted(tmp_path, uninterrupted):
    path = tmp_path / "checkpoint"
    stop_in_the_middle(path)
    resumed = trainer(seed=5)  # other first weights: all that counts is in the checkpoint
    resumed.run(path)
    assert resumed.step == 24
    assert_same(resumed, uninterrupted)
    done = trainer(seed=5)
    done.run(path)  # once more, with nothing left to do
    assert_same(done, uninterrupted)


def test_rows_of_the_log_do_not_show_where_a_training_was_cut(tmp_path):
    """A row is the mean over steps before and after a stop; without anything left to do the last one is still known."""
    whole, cut, path = [], [], tmp_path / "checkpoint"
    trainer().run(log=whole.append, log_every=10)
    with pytest.raises(StopRequested):
        trainer().run(path, log=cut.append, log_every=10, stop=stopping_after(13))
    trainer(seed=5).run(path, log=cut.append, log_every=10)
    done = trainer(seed=5)
    done.run(path, log=cut.append, log_every=10)
    told = [[{**row, "seconds": 0.0} for row in rows] for rows in (whole, cut, [done.last_row])]
    assert [row["step"] for row in whole] == [10, 20, 24]
    assert told[1] == told[0] and told[2] == told[0][-1:]


def test_torn_checkpoint_falls_back_to_the_one_before(tmp_path, uninterrupted):
    path = tmp_path / "checkpoint"
    stop_in_the_middle(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert read_checkpoint(path)[1]["step"] == 10
    resumed = trainer(seed=5)
    resumed.run(path)
    assert_same(resumed, uninterrupted)


def test_checkpoint_keeps_two_generations(tmp_path):
    path = tmp_path / "folder" / "checkpoint"
    assert read_checkpoint(path) is None
    for step in range(3):
        write_checkpoint(path, {"a": torch.full((2,), float(step))}, {"step": step})
    assert read_checkpoint(path)[1] == {"step": 2}
    path.unlink()  # killed between the two renames
    tensors, meta = read_checkpoint(path)
    assert meta == {"step": 1}
    assert tensors["a"].tolist() == [1.0, 1.0]
    assert not path.with_name("checkpoint.part").exists()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"batch": 8}, "plan"),
        ({"features": 8}, "network"),
        ({"action": Phi4.A(-4.0, 6.0)}, "action"),
        ({"sigmas": (0.05, 5.0)}, "noise"),
        ({"data": TrainingData(phis(72), n_chains=8)}, "n_train"),
    ],
)
def test_foreign_checkpoint_is_refused(tmp_path, change, named):
    path = tmp_path / "checkpoint"
    trainer(steps=1).save(path)
    message = rf"belongs to another run \(differs in .*{named}.* there, .* here\); remove it"
    with pytest.raises(FileError, match=message):
        trainer(**{"steps": 1, **change}).run(path)


def test_a_different_order_of_weights_is_seen(uninterrupted):
    """What the tests above guard: another seed of the plan gives other weights."""
    other = trainer(seed=0, steps=24)
    object.__setattr__(other.plan, "seed", 1)
    other.run()
    assert not torch.equal(other.network.A, uninterrupted.network.A)


# --- determinism -----------------------------------------------------------------------------------------------------


def test_threads_do_not_change_a_bit(monkeypatch):
    monkeypatch.setattr(threads, "_SMALL", 0)  # threads even for this little work
    results, before = [], (numba.get_num_threads(), torch.get_num_threads())
    try:
        for count in (1, 2):
            numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))
            torch.set_num_threads(count)
            made = trainer(steps=6)
            made.run()
            assert torch.get_num_threads() == count  # given back as found
            results.append(made)
    finally:
        numba.set_num_threads(before[0])
        torch.set_num_threads(before[1])
    assert_same(*results)


def test_batch_is_a_function_of_seed_and_step_alone():
    one, other = trainer(), trainer(seed=5)
    other.draw(3)
    for a, b in zip(one.draw(7)[:3], other.draw(7)[:3], strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(one.draw(7)[1], one.draw(8)[1])


def test_noise_levels_are_stratified():
    log_sigma = trainer().draw(0).log_sigma
    low, high = math.log(0.05), math.log(4.0)
    strata = ((log_sigma.double() - low) / (high - low) * 16).floor().long()
    assert strata.sort().values.tolist() == list(range(16))


# --- what is learned -------------------------------------------------------------------------------------------------


def test_training_beats_the_baseline():
    kernel, streams = HMC(QUARTIC, 0.2, 5), Streams(2)
    start = kernel.start(0.5 * np.random.default_rng(2).normal(size=(16, *SHAPE)))
    state, _ = kernel.advance(start, streams, 100, 100)
    fields = kernel.advance(state, streams, 400, 5)[1].phi.reshape(-1, *SHAPE)
    data, G = TrainingData(fields, n_chains=16), measured_propagator([fields], SHAPE)
    rows, made = [], network(2, 0.0)
    plan = TrainingPlan(steps=150, batch=64, warmup=20, ema_decay=0.95)
    learner = Trainer(made, Task(GaussianReference(QUARTIC, G), data), NoiseRange(0.05, 4.0), plan)
    before = learner.held_out_loss()
    learner.run(log=rows.append, log_every=50)
    assert [row["step"] for row in rows] == [50, 100, 150]
    assert rows[-1]["held_out_loss"] < 0.9 * before


def test_learning_rate_warms_up_and_ends_near_zero():
    plan = TrainingPlan(steps=100, batch=1, learning_rate=1.0, warmup=10)
    assert plan.rate(0) == pytest.approx(0.1)
    assert max(plan.rate(step) for step in range(100)) == pytest.approx(plan.rate(9), rel=0.03)
    assert plan.rate(99) < 1e-3


def test_calibration_of_a_gaussian_theory_is_one():
    """``(G + v) <|s_k|^2> / V`` with R = 0, and a model that proposes with it."""
    action = Phi4.A(0.8, 0.0)
    gaussian = GaussianReference(action, free_propagator(action, SHAPE))
    model = finish_model(network(2, 0.0), gaussian, NoiseRange(0.05, 4.0), TrainingData(phis(), 8))
    # the linear part of the baseline, 2a - 2c cos - 1/G, is zero to float32 rounding only
    np.testing.assert_allclose(model.power, 1.0, atol=1e-5)
    assert model.power_grid[[0, -1]] == pytest.approx([math.log(0.05), math.log(4.0)])


# --- data ------------------------------------------------------------------------------------------------------------


def test_whole_chains_are_held_out():
    fields = np.arange(24.0).reshape(24, 1, 1) * np.ones((1, *SHAPE))  # field value = number; chain = number mod 8
    data = TrainingData(fields, n_chains=8, held_out=0.25)
    assert sorted(set(data.held_out[:, 0, 0].numpy() % 8)) == [6, 7]
    assert sorted(set(data.train[:, 0, 0].numpy() % 8)) == list(range(6))
    alone = TrainingData(fields, n_chains=1, held_out=0.25)
    assert alone.held_out[:, 0, 0].tolist() == list(range(18, 24))


@pytest.mark.parametrize(("shape", "order"), [((5,), 2), ((4, 4), 8), ((4, 6), 4), ((3, 3, 3), 48), ((2, 3, 3), 16)])
def test_batches_are_moved_by_the_point_group_of_the_box(shape, order):
    assert len(lattice_symmetries(shape)) == order


def test_symmetries_leave_the_action_alone():
    data, generator = TrainingData(phis(), n_chains=8), torch.Generator().manual_seed(0)
    known = np.sort(QUARTIC(data.train.numpy()))
    for _ in range(12):
        actions = QUARTIC(data.batch(5, generator).numpy())
        nearest = known[np.abs(known[:, None] - actions).argmin(axis=0)]
        np.testing.assert_allclose(actions, nearest, rtol=1e-6)


@pytest.mark.parametrize(
    ("fields", "options", "message"),
    [
        (np.full((8, *SHAPE), np.nan), {}, "not finite"),
        (np.zeros((0, *SHAPE)), {}, "n_cfg >= 1"),
        (np.zeros(8), {}, "expected"),
        (np.zeros((8, *SHAPE)), {"held_out": 0.0}, "between 0 and 1"),
        (np.zeros((2, *SHAPE)), {"held_out": 0.1}, "cannot be split"),
    ],
)
def test_unusable_data_are_refused(fields, options, message):
    with pytest.raises(UserError, match=message):
        TrainingData(fields, **options)


def test_plans_that_cannot_be_run_are_refused():
    with pytest.raises(UserError, match="batch = 57 but there are 56 training configurations"):
        trainer(batch=57)
    with pytest.raises(UserError, match="training data live on"):
        trainer(data=TrainingData(phis(shape=(4, 6)), n_chains=8))
    with pytest.raises(UserError, match="steps = -1, batch = 256; expected at least 0 and 1"):
        TrainingPlan(steps=-1)


@pytest.mark.parametrize(
    ("checkpoint_every", "message"), [(1, "weights are not finite at step 8"), (50, "loss is nan at step 20")]
)
def test_training_that_blows_up_stops_before_it_is_saved(tmp_path, checkpoint_every, message):
    """The checkpoint that is left has finite weights, however often checkpoints are written."""
    path, made = tmp_path / "checkpoint", trainer()
    made.objectives[0].target = lambda gaussian, phi, z, v: (
        mixed_target(gaussian, phi, z, v) * (math.nan if made.step == 7 else 1.0)
    )
    with pytest.raises(UserError, match=rf"{message}; lower training\.learning_rate"):
        made.run(path, checkpoint_every=checkpoint_every, log_every=20)
    if checkpoint_every == 50:  # nothing was due before
        assert read_checkpoint(path) is None
        return
    tensors, meta = read_checkpoint(path)
    assert meta["step"] == 7
    assert all(bool(torch.isfinite(t).all()) for t in tensors.values())


def test_held_out_loss_is_the_same_every_time():
    made = trainer()
    assert made.held_out_loss() == made.held_out_loss()
    assert math.isfinite(made.held_out_loss(5))


# --- bad input: one line each, and what was good is kept -----------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, r"differs in plan\.seed: 0 there, 1 here"),
        ({"learning_rate": 0.1}, r"differs in plan\.learning_rate: 0\.003 there, 0\.1 here"),
    ],
)
def test_message_about_a_foreign_checkpoint_names_key_and_values(tmp_path, change, message):
    path = tmp_path / "checkpoint"
    trainer(steps=2).run(path)
    before = path.read_bytes()
    task = trainer().tasks
    plan = TrainingPlan(**{**PLAN, "steps": 2, **change})
    with pytest.raises(FileError, match=message):
        Trainer(network(2, 0.0, features=6), task, NoiseRange(0.05, 4.0), plan).run(path)
    assert path.read_bytes() == before


def test_checkpoint_of_another_version_is_refused_and_one_of_an_older_is_read(tmp_path):
    path = tmp_path / "checkpoint"
    made = trainer(steps=2)
    made.run(path)
    tensors, meta = read_checkpoint(path)
    write_checkpoint(path, tensors, {**meta, "format": 99})
    with pytest.raises(FileError, match="has format 99, this version reads 1; go on with the version that wrote it"):
        trainer(steps=2).run(path)
    old = {key: meta[key] for key in ("step", "seconds")}
    plan = {key: meta["identity"]["plan"][key] for key in ("steps", "batch", "learning_rate", "target", "seed")}
    plan |= {"warmup": 4, "clip": 1.0, "ema_decay": 0.999}  # all that the first version knew
    write_checkpoint(path, tensors, {**old, "identity": {**meta["identity"], "plan": plan}})
    again = trainer(seed=5, steps=2)
    again.run(path)
    assert_same(made, again)


def test_first_weights_of_another_network_or_dimension_are_refused(tmp_path):
    text = '[action]\nconvention = "A"\nm2 = -4.0\nlam = 6.0\n[lattice]\nshape = {}\n[network]\nfeatures = {}\n'
    source = [Source(QUARTIC, TrainingData(phis(), n_chains=8))]
    save_model(toy_model(QUARTIC, SHAPE, 0.1, features=6, hidden=8), tmp_path / "model")
    overrides = [f"training.init={tmp_path / 'model'}", "training.batch=8"]
    card = parse_card(text.format([4, 4], 4), overrides)
    with pytest.raises(ModelError, match=r"holds a 2-dimensional network .*'features': 6.*; the card asks for 2"):
        build_trainer(card, source)
    line = Phi4.A(-4.0, 6.0, 1)
    card = parse_card(text.format([16], 6), [*overrides, "network.hidden=8"])
    data = TrainingData(phis(shape=(16,)), n_chains=8)
    with pytest.raises(ModelError, match="the card asks for 1 dimensions"):
        build_trainer(card, [Source(line, data)])


def test_no_steps_make_a_model_of_the_given_weights_for_another_lattice(tmp_path):
    save_model(toy_model(QUARTIC, SHAPE, 0.1, features=6, hidden=8), tmp_path / "model")
    text = '[action]\nconvention = "A"\nm2 = -4.0\nlam = 6.0\n[lattice]\nshape = [6, 6]\n[network]\nfeatures = 6\n'
    overrides = [
        "network.hidden=8",
        f"training.init={tmp_path / 'model'}",
        "training.steps=0",
        "network.ordered=false",
        "network.screened=false",
        "training.batch=8",
    ]
    data = TrainingData(phis(shape=(6, 6)), n_chains=8)
    made = build_trainer(parse_card(text, overrides), [Source(Phi4.A(-4.0, 6.0), data)])
    kept = made.run().state_dict()
    given = toy_model(QUARTIC, SHAPE, 0.1, features=6, hidden=8).network.state_dict()
    assert all(torch.equal(kept[name], given[name]) for name in given)
    assert made.gaussian.shape == (6, 6)


def test_noise_that_leaves_no_room_is_refused():
    text = '[action]\nconvention = "A"\nm2 = -4.0\nlam = 6.0\n[lattice]\nshape = [4, 4]\n[training]\nsigma_min = 50.0\n'
    with pytest.raises(UserError, match=r"sigma_min = 50, sigma_max = .*; expected 0 < sigma_min < sigma_max"):
        build_trainer(parse_card(text), [Source(QUARTIC, TrainingData(phis(), n_chains=8))])


@pytest.mark.parametrize("phase", ["symmetric", "broken"])
def test_score_power_of_the_compiled_network_is_that_of_torch(phase, monkeypatch):
    """The same fields and noise: the tables differ by the rounding of float32 inside of the network."""
    vacuum = 1.5 if phase == "broken" else 0.0
    gaussian = GaussianReference(QUARTIC, some_propagator(SHAPE), vacuum=vacuum)
    fields = phis() + vacuum * np.sign(np.random.default_rng(1).normal(size=(len(phis()), 1, 1)))
    data, grid = TrainingData(fields, 8), np.log([0.05, 0.3, 2.0])
    net = network(2, 0.3).eval()
    compiled = calibrate.measured_power(net, gaussian, data, grid, 3)
    monkeypatch.setattr(calibrate, "Compiled", int)  # which no network is
    plain = calibrate.measured_power(net, gaussian, data, grid, 3)
    np.testing.assert_allclose(compiled, plain, rtol=2e-5)
    assert np.abs(plain - 1).max() > 0.01  # of a Gaussian theory it is 1

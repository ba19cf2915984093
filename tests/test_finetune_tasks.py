"""Laws of fine-tuning one network on several theories: whose gradient a step has, resumption, a guard for each."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from learned_toys import FREE, model, network, normal, some_propagator

from latticediff.action import Phi4, free_propagator
from latticediff.cli import main
from latticediff.config import load_card
from latticediff.diffusion.differentiable import DifferentiableFlow
from latticediff.diffusion.flow import ProbabilityFlow
from latticediff.diffusion.ladder import NoiseRange
from latticediff.diffusion.runge_kutta import scheme
from latticediff.ensemble import save_ensemble
from latticediff.errors import FileError, StopRequested, UserError
from latticediff.gaussian.reference import GaussianReference
from latticediff.job.log import JsonLog, read_log
from latticediff.model.storage import load_model, save_model
from latticediff.stages.finetune import finetune
from latticediff.training import Task, TrainingData
from latticediff.training.calibrate import finish_model
from latticediff.training.finetune import FineTuner, FineTuningPlan
from latticediff.training.likelihood import OBJECTIVES

NOISE = NoiseRange(0.05, 4.0)
BOX = (4, 4)
PLAN = {"steps": 8, "batch": 6, "warmup": 2, "integration_steps": 3, "check_every": 3, "n_check": 24, "ema_decay": 0.5}


def free_fields(action, shape, n, seed=5):
    """Independent configurations of a Gaussian theory, (n, *lattice)."""
    gaussian = GaussianReference(action, free_propagator(action, shape), dtype=torch.float64)
    return gaussian.colour(normal((n, *shape), seed), 0.0).numpy()


def task(m2=0.8, shape=BOX, frequency=1.0, n=64):
    action = Phi4.A(m2, 0.0, len(shape))
    data = TrainingData(free_fields(action, shape, n), n_chains=8)
    return Task(GaussianReference(action, some_propagator(shape)), data, frequency)


def tuner(tasks=None, seed=0, strength=0.1, **plan):
    """Two couplings and two sizes, a conditioned network."""
    tasks = tasks or [task(), task(1.6), task(0.8, (8, 4))]
    made = network(tasks[0].gaussian.ndim, strength, seed, conditioned=True)
    return FineTuner(made, tasks, NOISE, FineTuningPlan(**{**PLAN, **plan}))


def weights(made):
    return [t.clone() for t in (*made.network.state_dict().values(), *made.ema.state_dict().values())]


def gradients(made):
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in made.network.parameters()]


# --- gradients -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["kl", "log_variance"])
def test_gradient_by_the_weights_of_the_couplings_is_a_derivative(name):
    """Of the discrete map in float64, along the columns of the embedding that only the couplings enter by."""
    action = Phi4.A(-1.0, 0.5)
    gaussian = GaussianReference(action, some_propagator((3, 2)), dtype=torch.float64)
    net = network(2, 0.3, conditioned=True).double()
    flow = ProbabilityFlow(net, gaussian, NOISE.grid(4), scheme("rk4"))
    phi, first = normal((5, 3, 2), 2), net.embed[0].weight
    along = torch.zeros_like(first)
    along[:, -3:] = normal(along[:, -3:].shape, 3)
    loss, _ = OBJECTIVES[name].forward(flow, phi)
    slope = float((torch.autograd.grad(loss, first)[0] * along).sum())
    values = []
    for by in (1e-5, -1e-5):
        with torch.no_grad():
            first += by * along
            values.append(float(OBJECTIVES[name].forward(flow, phi)[0].detach()))
            first -= by * along
    assert slope == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-6)
    assert abs(slope) > 1e-4


def test_couplings_reach_the_gradient_of_the_compiled_flow():
    """The same columns, through the compiled flow that fine-tuning takes, against plain torch."""
    made, found = tuner(), []
    phi, _, grid = made.draw(0, 1)
    compiled = made.flow(grid, 1)
    assert isinstance(compiled, DifferentiableFlow)
    for flow in (compiled, ProbabilityFlow(made.network, made.tasks[1].gaussian, grid, made.method)):
        loss, _ = OBJECTIVES["kl"].forward(flow, phi)
        found.append(torch.autograd.grad(loss, made.network.embed[0].weight)[0][:, -3:])
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-3 * float(found[1].abs().max()))
    assert float(found[1].abs().max()) > 1e-4


def test_a_step_on_all_adds_up_the_gradients_of_its_tasks_each_in_units_of_its_usual_length():
    tasks = [task(), task(1.6, frequency=3.0)]
    whole = tuner(tasks, schedule="all", check_every=0, clip=1e9)
    before = [p.clone() for p in whole.network.parameters()]
    whole.advance()
    wanted = [torch.zeros_like(p) for p in before]
    units = []
    for number, weight in enumerate((0.25, 0.75)):
        part = tuner(tasks, check_every=0)
        part.gradients(0, number)
        length = torch.nn.utils.get_total_norm(gradients(part))
        units.append(length)
        for total, gradient in zip(wanted, gradients(part), strict=True):
            total += weight * gradient * units[0] / length
    for got, want in zip(gradients(whole), wanted, strict=True):
        torch.testing.assert_close(got, want)


def test_steps_take_turns_and_batches_have_equal_numbers_of_sites():
    made = tuner()
    assert made.batches == [6, 6, 3]
    phi, y, _ = made.draw(5, 2)
    assert (len(phi), len(y)) == (1, 2) and phi.shape[1:] == y.shape[1:] == (8, 4)
    assert [made.tasks_of(step)[0][0] for step in range(6)] == [0, 1, 2, 0, 1, 2]
    # a lattice so large that its share would be one configuration still has one of each kind
    assert tuner([task(), task(0.8, (8, 8), n=32)]).batches == [6, 2]
    assert tuner([task(), task(0.8, (8, 8), n=32)], objective="log_variance", batch=8).batches == [8, 4]


def test_a_task_of_several_draws_what_it_would_alone():
    """So that one ensemble has the bits it always had."""
    alone, first = tuner([task()]), tuner()
    for one, other in zip(alone.draw(3), first.draw(3, 0), strict=True):
        assert np.array_equal(one, other)
    assert not np.array_equal(first.draw(3, 1)[0], first.draw(3, 0)[0])


# --- the loop --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ["round_robin", "random", "all"])
def test_resumed_finetuning_of_several_equals_uninterrupted(tmp_path, schedule):
    whole, path = tuner(schedule=schedule), tmp_path / "checkpoint"
    whole.run()
    calls = itertools.count(1)
    with pytest.raises(StopRequested, match="stopped at step 5 of 8, saved"):
        tuner(schedule=schedule).run(path, checkpoint_every=2, stop=lambda: "told to" if next(calls) == 5 else None)
    resumed = tuner(schedule=schedule, seed=5)  # other first weights: all that counts is in the checkpoint
    resumed.run(path)
    assert [(check.step, check.task) for check in whole.checks] == list(itertools.product((0, 3, 6, 8), (0, 1, 2)))
    assert resumed.checks == whole.checks and resumed.usual_norms == whole.usual_norms
    for a, b in zip(weights(resumed), weights(whole), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(FileError, match="another run"):
        tuner([task(), task(1.6)], schedule=schedule).run(path)


def test_norms_of_gradients_are_remembered_task_by_task():
    made = tuner(check_every=0, steps=4)
    made.run()
    assert len(set(made.usual_norms)) == 3 and all(norm > 0 for norm in made.usual_norms)


def test_every_guard_must_be_content():
    made = tuner(check_every=4, n_check=256)
    for _ in range(4):
        made.advance()
    good = {k: t.clone() for k, t in made.good.items()}
    # as if the second theory had been perfect before
    made.guards[1].first = replace(made.guards[1].first, ess_forward=(0.99999, 0.00001))
    made.guards[1].first = replace(made.guards[1].first, ess_reverse=(0.99999, 0.00001))
    made.inspect()
    assert made.finished and made.good_step == 0
    assert made.stopped.startswith("step 4: Phi4.A(m2=1.6, lam=0, ndim=2) on 4x4: reverse ESS fell")
    for name, tensor in made.averaged().state_dict().items():
        assert torch.equal(tensor, good[name])


def test_one_finetuning_improves_all_its_theories():
    """Random amplitudes spoil two couplings and two sizes; what is gained is gained on each, by 4 errors."""
    tasks = [task(), task(0.5), task(0.8, (8, 4))]
    plan = {"steps": 90, "batch": 16, "learning_rate": 3e-3, "check_every": 90, "n_check": 600, "ema_decay": 0.8}
    made = tuner(tasks, strength=0.04, **plan)
    made.run()
    assert not made.stopped and len(made.checks) == 6
    for first, last in zip(made.checks[:3], made.checks[3:], strict=True):
        (before, error_before), (after, error) = first.ess_reverse, last.ess_reverse
        assert after > before + 4 * math.hypot(error_before, error)
        assert last.var_forward < 0.5 * first.var_forward


@pytest.mark.parametrize(
    ("tasks", "plan", "message"),
    [
        ([], {}, "at least one ensemble"),
        ([task(), task(0.8, (2, 4, 4))], {}, "one network has one dimension"),
        ([task()], {"schedule": "robin"}, "expected one of round_robin, random, all"),
        ([task(), task(1.6, n=8)], {"batch": 16}, r"batch = 16 on \(4, 4\) but there are 7"),
    ],
)
def test_impossible_tasks_are_refused(tasks, plan, message):
    with pytest.raises(UserError, match=message):
        FineTuner(network(2, 0.1), tasks, NOISE, FineTuningPlan(**{**PLAN, **plan}))


# --- card and pipeline -----------------------------------------------------------------------------------------------

CARD = """
[run]
seed = 5
[action]
convention = "A"
m2 = 0.8
lam = 0.0
[lattice]
shape = [4, 4]
[gate]
enforce = false
[training]
device = "cpu"
sigma_max_factor = 2.0
[finetune]
steps = 6
batch = 8
warmup = 2
integration_steps = 4
check_every = 3
n_check = 64
ema_decay = 0.5
checkpoint_every = 2
[sampling]
device = "cpu"
[sampling.ode]
steps = 4
"""
FILES = ("a", "b", "c")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A card, a model of two theories (m2 = 0.8 and 1.6), their ensembles and one of another lattice."""
    path = tmp_path_factory.mktemp("finetune")
    (path / "card.toml").write_text(CARD)
    tasks = [task(), task(1.6), task(0.8, (8, 4))]
    for name, of in zip(FILES, tasks, strict=True):
        fields = free_fields(of.gaussian.action, of.gaussian.shape, 64)
        save_ensemble(path / f"{name}.h5", fields, action=of.gaussian.action, n_chains=8)
    own, other, _ = tasks
    start = finish_model(network(2, 0.05, conditioned=True), own.gaussian, NOISE, own.data, {}, 0, [other])
    save_model(start, path / "start")
    return path


def tune(folder, out, files=FILES, *overrides, **options):
    card = load_card(folder / "card.toml", overrides)
    return finetune(card, folder / "start", [folder / f"{name}.h5" for name in files], out, **options)


@pytest.fixture(scope="module")
def tuned(folder):
    return tune(folder, folder / "tuned", log=JsonLog(folder / "log.jsonl"))


def test_the_model_is_of_all_ensembles(folder, tuned):
    again = load_model(folder / "tuned")
    assert again.fingerprint() == tuned.fingerprint()
    assert [(m.action.couplings["m2"], m.shape) for m in again.theories()] == [(0.8, BOX), (1.6, BOX), (0.8, (8, 4))]
    start = load_model(folder / "start")
    for one, other in zip(again.theories(), start.theories(), strict=False):
        assert np.array_equal(one.propagator, other.propagator)
    # what the model had not seen comes from the data: close to the free field's, and not what the others have
    measured = again.members[1].propagator / free_propagator(FREE, (8, 4))
    assert 0.5 < measured.min() < measured.max() < 2 and not np.allclose(measured, 1)
    found = again.card["finetune"]
    assert [row["theory"] for row in found["further"]] == [
        "Phi4.A(m2=1.6, lam=0, ndim=2) on 4x4",
        "Phi4.A(m2=0.8, lam=0, ndim=2) on 8x4",
    ]
    rows = [found, *found["further"]]
    assert all(row["before"]["ess_forward"] != row["after"]["ess_forward"] for row in rows)
    assert [parent["file"] for parent in again.card["further_ensembles"]] == ["b.h5", "c.h5"]
    last = read_log(folder / "log.jsonl", "finetuning")[-1]
    assert [last["check"]["task"], *(check["task"] for check in last["further_checks"])] == [0, 1, 2]


def test_a_killed_stage_goes_on_to_the_same_model(folder, tuned, tmp_path):
    questions = iter(range(10))
    with pytest.raises(StopRequested, match="stopped at step 3 of 6"):
        tune(folder, tmp_path / "cut", stop=lambda: "told to" if next(questions) == 2 else None)
    with pytest.raises(FileError, match="another run"):
        tune(folder, tmp_path / "cut", ("a", "b"), resume=True)
    assert tune(folder, tmp_path / "cut", resume=True).fingerprint() == tuned.fingerprint()


def test_ensembles_of_the_card_follow(folder, tuned, tmp_path):
    text = CARD + "".join(f'[[training.ensembles]]\nfile = "{folder / name}.h5"\n' for name in FILES[1:])
    (tmp_path / "card.toml").write_text(text)
    card = load_card(tmp_path / "card.toml")
    same = finetune(card, folder / "start", folder / "a.h5", tmp_path / "out")
    assert same.fingerprint() == tuned.fingerprint()


def test_the_first_ensemble_must_be_of_the_card(folder, tmp_path):
    with pytest.raises(FileError, match="is of action"):
        tune(folder, tmp_path / "out", ("b", "a"))
    assert not (tmp_path / "out").exists()


def test_command_takes_several_ensembles_and_prints_a_table_for_each(folder, tmp_path, capsys):
    files = [argument for name in FILES for argument in ("--ensemble", str(folder / f"{name}.h5"))]
    arguments = ["--model", str(folder / "start"), *files, "--quiet", "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as done:
        main(["finetune", str(folder / "card.toml"), *arguments, "--set", "finetune.steps=3"])
    printed = capsys.readouterr().out
    assert done.value.code == 0, printed
    assert printed.count("ESS reverse") == 3 and "Phi4.A(m2=0.8, lam=0, ndim=2) on 8x4" in printed


def test_noise_too_weak_for_an_ensemble_is_said(folder, tmp_path, capsys):
    from latticediff.job.progress import Progress

    weak = model(FREE, BOX, 0.05, sigmas=(0.05, 0.4))
    save_model(weak, tmp_path / "weak")
    card = load_card(folder / "card.toml", ["finetune.steps=1", "finetune.check_every=0"])
    finetune(card, tmp_path / "weak", folder / "a.h5", tmp_path / "out", progress=Progress(quiet=False))
    assert "hardly drowns the fluctuations of Phi4.A(m2=0.8, lam=0, ndim=2) on 4x4" in capsys.readouterr().err

"""The pipeline: a run is its card and seed, however it was cut; a folder belongs to one card."""

import json

import numpy as np
import pytest

from latticediff.action import Phi4, free_propagator
from latticediff.analysis import ess_forward
from latticediff.build.learned import build_proposal
from latticediff.config import parse_card
from latticediff.ensemble import Ensemble, content_digest, save_ensemble
from latticediff.errors import FileError, GateError, StopRequested, UserError
from latticediff.job.folder import RunFolder
from latticediff.job.log import JsonLog, read_log
from latticediff.job.progress import Progress
from latticediff.lattice import p_hat_squared
from latticediff.model.storage import load_model
from latticediff.proposal import OdeProposal
from latticediff.signals import StopReason
from latticediff.stages.chains import chain_result
from latticediff.stages.compare import compare
from latticediff.stages.curves import propagator_curve, rho_error
from latticediff.stages.gate import is_even
from latticediff.stages.generate import generate
from latticediff.stages.measure import measure
from latticediff.stages.run import run
from latticediff.stages.weigh import read_weights

# small enough for seconds: nothing here tests how well a network learns
TINY = """
[run]
name = "tiny"
seed = 5
[action]
convention = "A"
m2 = -4.0
lam = 6.975
[lattice]
shape = [4, 6]
[hmc]
n_chains = 8
n_warmup = 100
n_updates = 400
thin = 2
[gate]
enforce = false
[network]
features = 2
hidden = 4
[training]
steps = 12
batch = 32
warmup = 4
checkpoint_every = 5
held_out = 0.25
device = "cpu"
[sampling]
max_doubling = "any"
device = "cpu"
batch = 8
n_forward = 16
[sampling.ode]
n_chains = 4
n_warmup = 2
n_updates = 12
steps = 2
[sampling.sde]
n_chains = 4
n_warmup = 2
n_updates = 12
steps = 4
"""


class StopAfter:
    """A `stop` that gives a reason at the n-th question."""

    def __init__(self, n):
        self.n = n

    def __call__(self):
        self.n -= 1
        return StopReason("stopped by the test", 130) if self.n <= 0 else None


def run_with_stops(card, out, questions):
    """Run to the end, stopped at every look at the flag of number `questions`, and resumed.

    `questions` must be more than a warm-up asks, which is not saved and would be stopped for ever.
    """
    for stops in range(30):
        try:
            return run(card, out, resume=stops > 0, stop=StopAfter(questions))
        except StopRequested:
            continue
    raise AssertionError(f"stopped 30 times; the last stage begun: {read_log(out / 'log.jsonl', 'begin')[-1]}")


pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture(scope="module")
def card():
    return parse_card(TINY)


@pytest.fixture(scope="module")
def finished(card, tmp_path_factory):
    """The run folder of one uninterrupted run."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    run(card, out)
    return RunFolder(out, card, resume=True)


def test_run_leaves_every_file(finished):
    names = {path.name for path in finished.path.iterdir()}
    assert {"card.toml", "run.json", "log.jsonl", "ensemble.h5", "model"} <= names
    assert {"chain_hmc.h5", "chain_ode.h5", "chain_sde.h5", "report.json", "report.html", "figures"} <= names
    assert not list(finished.path.rglob("*.part")) and not list(finished.path.rglob("*.run"))
    report = json.loads((finished.path / "report.json").read_text())
    assert set(report["chains"]) == {"hmc", "ode", "sde"} and report["shape"] == [4, 6]
    assert {"generate", "sample_hmc", "train", "sample_ode", "sample_sde", "total"} <= set(report["seconds"])
    assert {"schwinger_dyson", "exp_minus_delta_h", "log_weight_step_doubling_max"} <= set(report["checks"])
    assert report["checks"]["log_weight_step_doubling_bias_bound"] > 0
    for name in ("ode", "sde"):
        assert 0 < report["chains"][name]["ess_reverse"] <= 1 and report["chains"][name]["ess_forward"] is not None
    stages = [row["stage"] for row in read_log(finished.log, "end")]
    assert stages == ["generate", "sample_hmc", "train", "sample_ode", "weigh_ode", "sample_sde", "weigh_sde", "report"]


def test_forward_weights_are_those_of_held_out_chains(finished, card):
    """Of the file of the stage, and of the model's card; chains trained on have other weights.

    Eight chains, a quarter held out: the last two of every update.
    """
    with Ensemble(finished.ensemble) as ensemble:
        chains = ensemble.phis().reshape(-1, 8, 4, 6).astype(np.float32).astype(np.float64)
    model = load_model(finished.model)
    proposal = build_proposal(card, model, "ode")

    def log_weight(first, last, n):
        some = chains[:, first:last].reshape(-1, 4, 6)
        some = some[:: max(1, len(some) // n)][:n]
        return -model.action(some) - proposal.weigh(some)

    weights, metrics = read_weights(finished.weights("ode")), model.card["metrics"]
    np.testing.assert_allclose(weights["log_weight"], log_weight(6, 8, 16), rtol=0, atol=1e-9)
    assert np.abs(log_weight(0, 6, 16) - weights["log_weight"]).max() > 0.01
    held_out, trained_on = (ess_forward(log_weight(*chosen, 1000)).value for chosen in ((6, 8), (0, 6)))
    assert metrics["ess_forward"][0] == pytest.approx(held_out, abs=1e-9)
    assert abs(metrics["ess_forward"][0] - trained_on) > 1e-6


def test_errors_of_the_forward_ess_follow_the_chains(finished):
    """On the page, too: the rows weighed are 25 apart, so they are of the two held-out chains in turn."""
    rows = read_weights(finished.weights("ode"))["log_weight"]
    right = ess_forward([rows[::2], rows[1::2]])
    told = json.loads((finished.path / "report.json").read_text())["chains"]["ode"]
    assert [told["ess_forward"], told["ess_forward_error"]] == pytest.approx(right.pair(), rel=1e-9)


def test_the_doubling_of_a_run_is_the_whole_change(finished, card):
    """Against the proposal with twice the steps, built by hand: at given fields, and at draws."""
    model = load_model(finished.model)
    coarse, fine = (OdeProposal(model, steps) for steps in (2, 4))
    weights = read_weights(finished.weights("ode"))
    with Ensemble(finished.ensemble) as ensemble:
        held_out = ensemble.phis().reshape(-1, 8, 4, 6)[:, 6:].reshape(-1, 4, 6)[::25][:16].astype(np.float32)
    change = coarse.weigh(held_out) - fine.weigh(held_out)
    assert np.abs(change).max() > 1e-3
    np.testing.assert_allclose(weights["doubling"], change, rtol=0, atol=1e-4)
    draw = coarse.draw(2000, np.random.default_rng(1))
    spread = (draw.log_q - fine.weigh(draw.phi)).std()
    # 300 draws of the run: its spread has an error of 4 % for a Gaussian, here of somewhat more
    assert weights["doubling_draws"].std() == pytest.approx(spread, rel=0.25)
    checks = json.loads((finished.path / "report.json").read_text())["checks"]
    for key, name in (("spread", "doubling"), ("draws_spread", "doubling_draws")):
        assert checks[f"log_weight_step_doubling_{key}"] == pytest.approx(weights[name].std(), rel=1e-9)


def test_provenance_leads_from_chain_to_model_to_ensemble(finished, card):
    from latticediff.model.storage import read_card

    model = read_card(finished.model)
    with Ensemble(finished.ensemble) as ensemble, Ensemble(finished.chain("ode")) as chain:
        assert model["ensemble"] == ensemble.parent()
        assert chain.provenance.parents == [{"file": "model", "fingerprint": model["sha256"]}]
        assert parse_card(chain.provenance.config_toml) == card
        assert chain.algorithm["proposal"]["model"] == model["sha256"]


@pytest.fixture
def short_blocks(monkeypatch):
    """A look at the stop flag after every few updates, however fast they are."""
    monkeypatch.setattr("latticediff.stages.generate.block_length", lambda *_: 40)


def test_stopped_and_resumed_run_equals_one_run(finished, card, tmp_path, short_blocks):
    folder = run_with_stops(card, tmp_path / "cut", 8)
    stopped = {row["stage"] for row in read_log(folder.log, "end") if not row["finished"]}
    assert {"generate", "train"} < stopped, stopped  # and in a chain, or this test shows nothing
    for name in ("ensemble.h5", "chain_hmc.h5", "chain_ode.h5", "chain_sde.h5"):
        assert content_digest(folder.path / name) == content_digest(finished.path / name), name
    weights = (folder.model / "weights.safetensors").read_bytes()
    assert weights == (finished.model / "weights.safetensors").read_bytes()


def test_another_seed_gives_another_ensemble(finished, card, tmp_path):
    other = generate(parse_card(TINY, ["run.seed=6"]), tmp_path / "other.h5")
    assert content_digest(other.path) != content_digest(finished.ensemble)


def test_finished_stages_are_skipped(finished, card):
    assert finished.is_finished("report")
    before = {path: path.stat().st_mtime_ns for path in finished.path.rglob("*") if path.is_file()}
    run(card, finished.path, resume=True)
    after = {path: path.stat().st_mtime_ns for path in finished.path.rglob("*") if path.is_file()}
    changed = {path.name for path in after if after[path] != before.get(path)}
    assert changed <= {"lock"}


def test_folder_of_another_run_is_refused(finished, card):
    other = parse_card(TINY, ["hmc.n_chains=16"])
    with pytest.raises(FileError, match=r"holds another run \(hmc.n_chains = 8 there, 16 here\)"):
        run(other, finished.path, resume=True)
    with pytest.raises(FileError, match="holds a finished run of this card; go on with --resume"):
        run(card, finished.path)


def test_folder_with_other_files_is_refused(card, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(FileError, match="holds other files"):
        run(card, tmp_path)
    with pytest.raises(FileError, match="is a file"):
        run(card, tmp_path / "thesis.tex")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_folder_has_one_writer(card, tmp_path):
    with RunFolder(tmp_path / "run", card), pytest.raises(FileError, match="another process"):
        RunFolder(tmp_path / "run", card, resume=True).__enter__()
    with RunFolder(tmp_path / "run", card, resume=True) as folder:
        folder.record("train", 2.0, finished=False)
        folder.record("train", 3.0, finished=True)
        assert folder.marker("train") == {"stage": "train", "finished": True, "seconds": 5.0}


def test_stopped_and_resumed_generation_equals_one_run(card, tmp_path, short_blocks):
    one = generate(card, tmp_path / "one.h5")
    generate(parse_card(TINY, ["hmc.n_updates=200"]), tmp_path / "two.h5")
    with pytest.raises(StopRequested, match="--resume"):
        generate(card, tmp_path / "cut.h5", stop=_stop_once_begun(tmp_path / "cut.h5.run"))
    resumed = generate(card, tmp_path / "cut.h5", resume=True)
    extended = generate(card, tmp_path / "two.h5", resume=True)
    assert one.n_updates == resumed.n_updates == extended.n_updates == 400
    assert content_digest(resumed.path) == content_digest(extended.path) == content_digest(one.path)


def _stop_once_begun(directory):
    return lambda: StopReason("stopped by the test", 130) if directory.exists() else None


def test_stop_during_warm_up_leaves_nothing(card, tmp_path):
    with pytest.raises(StopRequested, match="warm-up"):
        generate(card, tmp_path / "ens.h5", stop=StopAfter(1))
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(card, tmp_path, finished):
    with pytest.raises(FileError, match="exists"):
        generate(card, finished.ensemble)
    other = parse_card(TINY, ["hmc.trajectory_length=2.0"])
    with pytest.raises(FileError, match=r"begun by another card \(hmc.trajectory_length = 1.0 there, 2.0 here\)"):
        generate(other, finished.ensemble, resume=True)
    from latticediff.stages.sample import sample
    from latticediff.stages.train import train

    with pytest.raises(FileError, match="already holds a model"):
        train(card, finished.ensemble, finished.model)
    with pytest.raises(FileError, match="exists"):
        sample(card, finished.model, "ode", finished.chain("ode"))


def test_model_of_another_theory_is_refused(finished, tmp_path):
    from latticediff.stages.sample import sample
    from latticediff.stages.train import train

    for override, what in (("action.lam=6.0", "trained for"), ("lattice.shape=[6, 6]", "trained on")):
        with pytest.raises(UserError, match=what):
            sample(parse_card(TINY, [override]), finished.model, "ode", tmp_path / "chain.h5")
        with pytest.raises(FileError, match=r"is of (action|lattice)"):
            train(parse_card(TINY, [override]), finished.ensemble, tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_failed_gate_stops_the_run_and_says_what_to_change(tmp_path):
    short = parse_card(TINY, ["gate.enforce=true", "hmc.n_updates=60"])
    with pytest.raises(GateError, match=r"not fit to train on: .*times as many updates"):
        run(short, tmp_path / "run")
    folder = RunFolder(tmp_path / "run", short, resume=True)
    assert not folder.is_finished("generate") and folder.ensemble.exists() and not folder.model.exists()
    with pytest.raises(GateError):
        run(short, tmp_path / "run", resume=True)


def test_even_potentials_are_recognised():
    class Tilted(Phi4):
        def potential(self, phi):
            return super().potential(phi) + 0.1 * phi

    assert is_even(Phi4.A(-4, 6.0)) and not is_even(Tilted("A", {"m2": -4, "lam": 6.0}))


def free_field(n, shape, rng):
    """Exact configurations of a free field, and its action."""
    action = Phi4.A(1.0, 0.0, ndim=len(shape))
    axes = tuple(range(1, len(shape) + 1))
    white = np.fft.rfftn(rng.standard_normal((n, *shape)), axes=axes)
    return np.fft.irfftn(white * np.sqrt(free_propagator(action, shape, half=True)), s=shape, axes=axes), action


def test_propagator_curve_of_a_free_field_is_exact(tmp_path):
    shape = (4, 6)
    phis, action = free_field(8000, shape, np.random.default_rng(7))
    save_ensemble(tmp_path / "free.h5", phis, action=action, n_chains=4)
    with Ensemble(tmp_path / "free.h5") as ensemble:
        curve = propagator_curve(ensemble)
    p2, exact = p_hat_squared(shape), free_propagator(action, shape)
    expected = [exact[np.isclose(p2, level)].mean() for level in curve.p_hat_squared]
    # 4 sigma, Student t with about 30 bins: 4e-4 per level, 10 levels
    assert np.all(np.abs(curve.value - expected) < 4 * curve.error)
    assert np.all(curve.error < 0.05 * curve.value)


def test_error_of_rho_covers_the_spread_of_ar1_series():
    a, n, shown = 0.6, 2000, 8
    rng = np.random.default_rng(11)
    x = rng.standard_normal((400, n))
    x[:, 0] /= np.sqrt(1 - a * a)
    for t in range(1, n):
        x[:, t] += a * x[:, t - 1]
    gamma = np.array([(x[:, : n - t] * x[:, t:]).mean(axis=1) for t in range(shown)])
    spread = (gamma / gamma[0]).std(axis=1)
    predicted = rho_error(a ** np.arange(60.0), n, shown)
    # the standard deviation of 400 values is known to 3.5 %, the formula to O(1/n)
    assert np.allclose(predicted[1:], spread[1:], rtol=0.15) and predicted[0] == 0


def test_measure_and_compare_agree_with_exact_free_field(tmp_path):
    shape = (4, 6)
    for index in (1, 2):
        phis, action = free_field(4000, shape, np.random.default_rng(index))
        save_ensemble(tmp_path / f"free{index}.h5", phis, action=action, n_chains=4)
    found = measure(tmp_path / "free1.h5")
    data = json.loads(found.to_json())
    assert set(data["observables"]) == {"abs_m", "chi", "chi_abs", "binder", "phi2", "action_per_site", "xi_2nd"}
    assert set(data["tau_int"]) == {"m", "abs_m", "m2", "action"} and data["n"] == 4000
    G = free_propagator(action, shape)
    # 4 sigma: 6e-5 each
    for name, exact in (("chi", G[0, 0]), ("phi2", G.mean()), ("action_per_site", 0.5), ("binder", 0.0)):
        value, error = data["observables"][name]
        assert abs(value - exact) < 4 * error, name
    paths = compare([tmp_path / "free1.h5", tmp_path / "free2.h5"], tmp_path / "page")
    assert set(json.loads(paths["json"].read_text())["chains"]) == {"free1", "free2"}
    with pytest.raises(FileError, match="never overwritten"):
        compare([tmp_path / "free1.h5"], tmp_path / "page")


def test_compare_refuses_other_theories(tmp_path):
    phis, action = free_field(100, (4, 6), np.random.default_rng(1))
    save_ensemble(tmp_path / "a.h5", phis, action=action)
    save_ensemble(tmp_path / "b.h5", phis, action=Phi4.A(1.1, 0.0))
    with pytest.raises(FileError, match="is of action"):
        compare([tmp_path / "a.h5", tmp_path / "b.h5"], tmp_path / "page")


def test_chain_that_never_moved_is_named(tmp_path):
    save_ensemble(tmp_path / "still.h5", np.ones((10, 4, 4)), action=Phi4.A(1.0, 1.0))
    with Ensemble(tmp_path / "still.h5") as ensemble, pytest.raises(UserError, match=r"still\.h5.*(constant|never)"):
        chain_result("still", "still", ensemble)


def test_log_survives_a_torn_line(tmp_path):
    path = tmp_path / "log.jsonl"
    log = JsonLog(path)
    log("begin", value=np.float64(1.5), bad=float("nan"), array=np.arange(2))
    with open(path, "a") as file:
        file.write('{"event": "tor')
    JsonLog(path)("end")
    rows = read_log(path)
    assert [row["event"] for row in rows] == ["begin", "end"]
    assert rows[0]["value"] == 1.5 and rows[0]["bad"] is None and rows[0]["array"] == [0, 1]
    assert read_log(path, "end") == rows[1:] and read_log(tmp_path / "none") == []


def test_a_run_whose_fine_tuning_gains_nothing_goes_on_with_what_it_has(tmp_path):
    reckless = """
[finetune]
steps = 4
batch = 4
learning_rate = 10.0
warmup = 1
clip = 100.0
check_every = 2
n_check = 32
"""
    said = []

    class Heard(Progress):
        def say(self, text):
            said.append(text)

    with run(parse_card(TINY + reckless), tmp_path / "run", progress=Heard()) as folder:
        assert folder.is_finished("finetune") and folder.is_finished("report")
        score, model = load_model(folder.score), load_model(folder.model)
    assert score.fingerprint() == model.fingerprint()
    warned = [line for line in said if line.startswith("warning: ")]
    assert ["lower finetune.learning_rate" in line for line in warned] == [True, True, False]
    assert warned[2] == "warning: going on with the score-matched model, as it is"

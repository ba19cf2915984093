"""The command line as a subprocess: what a person or a batch queue meets."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from warm import ALONE, latticediff

from latticediff.config import parse_card
from latticediff.ensemble import content_digest

CARD = """
[run]
seed = 3
[action]
convention = "A"
m2 = -4.0
lam = 6.975
[lattice]
shape = [4, 4]
[hmc]
n_chains = 16
n_warmup = 200
n_updates = 2000
thin = 5
[network]
features = 2
hidden = 4
[training]
steps = 4
batch = 16
device = "cpu"
"""
# one thread: on a busy machine threads that wait for each other are slow; bits do not depend on their number
ENVIRONMENT = {**os.environ, **ALONE}
COMMANDS = ("run", "generate", "train", "sample", "measure", "compare", "info", "verify")


def cli(*arguments):
    """Run the command; returns the finished process."""
    return latticediff(*arguments)


def assert_one_clear_line(done, *words, code=2):
    """A user's error: exit code, one line on standard error, nothing on standard output, no traceback."""
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert done.stdout == ""
    for word in words:
        assert word in done.stderr


@pytest.fixture
def card(tmp_path):
    path = tmp_path / "card.toml"
    path.write_text(CARD)
    return path


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    (folder / "card.toml").write_text(CARD)
    done = cli("generate", folder / "card.toml", "--out", folder / "ens.h5", "--quiet")
    assert done.returncode == 0, done.stderr
    assert done.stdout == done.stderr == ""
    return folder / "ens.h5"


def test_help_lists_every_command_and_imports_nothing_heavy():
    script = (
        "import sys\n"
        "from latticediff.cli import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit as exit:\n    assert not exit.code\n"
        "assert not {'torch', 'numba', 'numpy', 'h5py', 'matplotlib'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert all(command in done.stdout for command in COMMANDS)


def test_every_command_has_help():
    script = (
        "from latticediff.cli import main\n"
        f"for command in {COMMANDS!r}:\n"
        "    try:\n        main([command, '--help'])\n"
        "    except SystemExit as exit:\n        assert not exit.code\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Usage:") == len(COMMANDS)
    assert "{CARD}" not in done.stdout and "list[" not in done.stdout and "--ensemble PATH" in done.stdout


def test_measure_prints_the_json_of_the_report(ensemble):
    data = json.loads(cli("measure", ensemble, "--json").stdout)
    assert set(data["observables"]) == {"abs_m", "chi", "chi_abs", "binder", "phi2", "action_per_site", "xi_2nd"}
    assert set(data["tau_int"]) == {"m", "abs_m", "m2", "action"}
    assert data["n"] == 16 * 400 and all(len(pair) == 2 for pair in data["observables"].values())


def test_info_and_verify_describe_an_ensemble(ensemble):
    text = cli("info", ensemble).stdout
    for expected in (
        "convention A: m2 = -4, lam = 6.975",
        "convention H: kappa",
        "convention SL: mu0_sq",
        "4x4",
        "hmc",
    ):
        assert expected in text
    done = cli("verify", ensemble)
    assert done.returncode == 0 and content_digest(ensemble) in done.stdout


def test_verify_finds_damage(ensemble, tmp_path):
    import h5py

    damaged = tmp_path / "damaged.h5"
    damaged.write_bytes(ensemble.read_bytes())
    with h5py.File(damaged, "r+") as file:
        file["configurations/phi"][7, 1, 2] += 1e-3
    assert_one_clear_line(cli("verify", damaged), "is damaged", "stored action differs")
    torn = tmp_path / "torn.h5"
    torn.write_bytes(ensemble.read_bytes()[:-1000])
    assert_one_clear_line(cli("measure", torn), "truncated")


def test_dry_run_prints_card_and_estimate_and_writes_nothing(card, tmp_path):
    done = cli("generate", card, "--out", tmp_path / "ens.h5", "--dry-run", "--set", "hmc.n_updates=4000")
    assert done.returncode == 0, done.stderr
    text, _, table = done.stdout.partition("\nestimate")
    assert parse_card(text).hmc.n_updates == 4000
    assert "generate" in table and " s" in table and "MB" in table
    assert [path.name for path in tmp_path.iterdir()] == ["card.toml"]


@pytest.mark.parametrize("phase", ["symmetric", "broken"])
def test_dry_run_of_the_whole_job_names_every_stage(card, tmp_path, phase):
    done = cli("run", card, "--out", tmp_path / "run", "--dry-run", "--set", f"training.phase={phase}")
    assert done.returncode == 0, done.stderr
    table = done.stdout.partition("\nestimate")[2]
    stages = ("generate", "train", "finish train", "sample_ode", "sample_sde", "together")
    assert all(stage in table for stage in stages)
    assert [path.name for path in tmp_path.iterdir()] == ["card.toml"]


@pytest.mark.parametrize(
    ("model", "changes", "said"),
    [
        ("phi4-A-L9", [], "no shipped model is called 'phi4-A-L9'"),
        ("absent/model", [], "no model in absent/model"),
        ("phi4-A-L8", ["action.lam=5.0"], "was trained for"),
        ("phi4-A-L8", ["lattice.shape=[4, 4]"], "was trained on"),
        (None, ["action.lam=5.0"], "no shipped model was made for just this theory"),
    ],
)
def test_dry_run_refuses_a_model_as_the_run_does(tmp_path, model, changes, said):
    card = tmp_path / "card.toml"
    card.write_text('[action]\nconvention = "A"\nm2 = -4.0\nlam = 6.008\n[lattice]\nshape = [8, 8]\n')
    words = ["sample", card, "--route", "ode", "--out", tmp_path / "ode.h5"]
    words += ["--model", model] if model else []
    words += [word for change in changes for word in ("--set", change)]
    dry, real = cli(*words, "--dry-run"), cli(*words)
    assert_one_clear_line(dry, said)
    assert dry.stderr == real.stderr and not dry.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["card.toml"]


def test_user_errors_are_one_line_and_exit_code_2(card, tmp_path, ensemble):
    out = tmp_path / "out.h5"
    assert_one_clear_line(
        cli("generate", card, "--out", out, "--set", "hmc.n_chain=3"), "[hmc] has no key 'n_chain'", "'n_chains'"
    )
    assert_one_clear_line(cli("generate", tmp_path / "absent.toml", "--out", out), "no run-card")
    assert_one_clear_line(cli("generate", card, "--out", ensemble), "exists")
    assert_one_clear_line(cli("measure", tmp_path / "absent.h5"), "does not exist")
    assert_one_clear_line(cli("info", tmp_path), "no run folder")
    assert_one_clear_line(cli("run", card, "--out", card), "is a file")
    assert not out.exists()


def test_usage_errors_exit_with_2():
    assert_one_clear_line(cli("generate"), "Missing argument 'CARD'; see latticediff generate --help")
    assert_one_clear_line(cli("paint"), "No such command 'paint'")
    assert_one_clear_line(cli("sample", "x", "--route"), "Option '--route' requires an argument; see latticediff")
    assert cli("sample", "card.toml", "--model", "m", "--route", "sideways", "--out", "x").returncode == 2


def test_failed_gate_has_its_own_exit_code(card, tmp_path):
    done = cli("generate", card, "--out", tmp_path / "ens.h5", "--set", "hmc.n_updates=100", "--quiet")
    assert_one_clear_line(done, "not fit to train on", "times as many updates", code=3)


LONG = (  # several blocks of work on any machine, a block being half a second or so; few bytes
    ("--set", "lattice.shape=[32, 32]", "--set", "hmc.n_chains=4", "--set", "hmc.n_warmup=50")
    + ("--set", "hmc.n_updates=80000", "--set", "hmc.thin=2000", "--set", "gate.enforce=false")
)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Digest of the long run, done in one go."""
    folder = tmp_path_factory.mktemp("long")
    (folder / "card.toml").write_text(CARD)
    done = cli("generate", folder / "card.toml", "--out", folder / "whole.h5", *LONG)
    assert done.returncode == 0, done.stderr
    return content_digest(folder / "whole.h5")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_saves_and_resume_equals_one_run(card, tmp_path, number, uninterrupted):
    cut = tmp_path / "cut.h5"
    command = [sys.executable, "-m", "latticediff", "generate", str(card), "--out", str(cut), *LONG]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    deadline = time.monotonic() + 120
    while not (tmp_path / "cut.h5.run").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 128 + number, stderr
    assert stderr.splitlines()[-1].startswith("stopped: ") and "--resume" in stderr
    assert not cut.exists()
    assert_one_clear_line(cli("generate", card, "--out", cut, "--quiet", *LONG), "unfinished run")
    assert cli("generate", card, "--out", cut, "--resume", *LONG).returncode == 0
    assert content_digest(cut) == uninterrupted


def test_deadline_stops_with_its_own_code(card, tmp_path):
    done = cli("generate", card, "--out", tmp_path / "ens.h5", "--max-walltime", "0.01", "--quiet")
    assert done.returncode == 75 and done.stderr.startswith("stopped: ")
    assert_one_clear_line(cli("generate", card, "--out", tmp_path / "x.h5", "--max-walltime", "soon"), "duration is")


def test_dry_run_of_fine_tuning_refuses_a_model_as_the_run_does(card, tmp_path):
    words = "finetune", card, "--model", "phi4-A-L15", "--ensemble", tmp_path / "none.h5", "--out", tmp_path / "model"
    dry = cli(*words, "--dry-run")
    assert_one_clear_line(dry, "no model folder and no shipped model is called 'phi4-A-L15'")
    assert dry.stderr == cli(*words).stderr


def test_dry_run_of_sample_knows_its_routes(card, tmp_path):
    dry = cli("sample", card, "--route", "odo", "--model", "phi4-A-L8", "--out", tmp_path / "x.h5", "--dry-run")
    assert_one_clear_line(dry, "route is 'odo'; expected one of")


NAMES_A_MODEL = (
    ("sample", "configs/demo.toml", "--model", "nope", "--route", "ode", "--out", "x.h5"),
    ("weigh", "--model", "nope", "--fields", "a.npy", "--out", "w.npz"),
    ("propose", "nope", "--out", "p.h5"),
    ("accept", "p.h5", "--out", "x.h5", "--model", "nope"),
    ("diagnose", "nope", "--out", "d"),
    ("free-energy", "--model", "nope"),
    ("tune", "configs/demo.toml", "--model", "nope"),
    ("line", "nope", "--along", "lam=4:5:3", "--out", "l"),
    ("reweight", "ens.h5", "--to", "lam=6", "--model", "nope"),
    ("finetune", "configs/demo.toml", "--model", "nope", "--ensemble", "e.h5", "--out", "t"),
    ("mix", "nope", "nope", "--out", "both"),
    ("warm-up", "nope"),
)


def test_a_wrong_model_name_is_refused_before_anything_heavy_is_imported():
    script = (
        "import sys\n"
        "from latticediff.cli import main\n"
        f"for words in {NAMES_A_MODEL!r}:\n"
        "    try:\n        main(words)\n"
        "    except SystemExit as exit:\n        assert exit.code == 2, words\n"
        "assert not {'torch', 'numba', 'h5py'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == len(NAMES_A_MODEL)
    assert all("no model folder and no shipped model is called 'nope'" in line for line in lines)


def test_a_model_that_is_a_file_or_nowhere_is_refused(card):
    assert_one_clear_line(cli("propose", card, "--out", "p.h5"), "no model in", "that is a file")
    assert_one_clear_line(cli("propose", "nowhere/model", "--out", "p.h5"), "no model in", "no such folder")


def test_success_says_what_was_made_and_the_next_command(ensemble, tmp_path):
    """On standard output, which is a pipe here; progress and notes go to standard error."""
    card, model, chain = ensemble.parent / "card.toml", tmp_path / "model", tmp_path / "ode.h5"
    made = cli("generate", card, "--out", tmp_path / "again.h5")
    assert re.search(
        r"again\.h5: 6400 configurations of 16 chains on 4x4, acceptance 0\.\d+; passed the gate", made.stdout
    )
    assert f"next: latticediff train {card} --ensemble {tmp_path / 'again.h5'}" in made.stdout
    trained = cli("train", card, "--ensemble", ensemble, "--out", model)
    assert "finishing the model: score power, time grid, ESS" in trained.stderr
    assert re.search(r"model: a model of .* on 4x4, .* ESS of the ode route reverse", trained.stdout), trained.stdout
    assert f"next: latticediff sample {card} --model {model} --route ode" in trained.stdout
    few = ("--set", "sampling.ode.n_updates=20", "--set", "sampling.max_doubling=100")
    sampled = cli("sample", card, "--model", model, "--route", "ode", "--out", chain, *few)
    assert re.search(r"ode\.h5: \d+ configurations .*acceptance .*ESS of the proposals", sampled.stdout), sampled.stderr
    assert f"next: latticediff measure {chain}" in sampled.stdout


def test_quiet_still_warns(card, tmp_path):
    loose = ("--set", "hmc.n_updates=200", "--set", "gate.enforce=false", "--quiet")
    done = cli("generate", card, "--out", tmp_path / "ens.h5", *loose)
    assert done.returncode == 0 and done.stdout == ""
    assert all(line.startswith("warning: ") for line in done.stderr.splitlines()) and "ens.h5" in done.stderr

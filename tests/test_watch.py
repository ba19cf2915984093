"""latticediff watch: how far another command is, from the file beside its output."""

import json
import subprocess
import sys
import time

import pytest

from latticediff.cli import main
from latticediff.job.progress import Progress
from latticediff.job.status import read_status, status_path

CARD = """
[run]
seed = 3
[action]
convention = "A"
m2 = -4.0
lam = 6.0
[lattice]
shape = [8, 8]
[hmc]
n_chains = 16
n_warmup = 100
n_updates = 20_000_000
thin = 1000
[gate]
enforce = false
"""


def test_tasks_are_written_while_they_run_and_nothing_stays(tmp_path):
    out, progress = tmp_path / "model", Progress()
    with progress.seen_at(out):
        with progress.task("training", 10, initial=2) as task:
            row = read_status(out)
            assert (row["task"], row["done"], row["total"], row["past"]) == ("training", 2, 10, [])
            task.reach(10, loss=0.5, ess=float("nan"))
            row = read_status(out)
            assert row["done"] == 10 and row["numbers"] == {"loss": 0.5, "ess": None}
        with progress.task("ESS", 4):
            row = read_status(out)
            assert row["task"] == "ESS" and row["past"] == ["training"]
    assert read_status(out) is None and not status_path(out).exists()
    with progress.task("later", 1):  # outside: nobody is told
        assert read_status(out) is None


def test_the_time_left_is_that_of_the_speed_so_far(tmp_path):
    progress = Progress()
    with progress.seen_at(tmp_path / "x"), progress.task("steady", 100) as task:
        task.advance(1)  # the first piece compiles
        for _ in range(11):
            time.sleep(0.11)
            task.advance(1)
        left = read_status(tmp_path / "x")["seconds_left"]
    assert 88 * 0.11 / 1.5 < left < 90 * 0.11 * 1.5


def test_an_output_that_cannot_have_a_file_beside_it_stops_nothing(tmp_path):
    progress = Progress()
    with progress.seen_at(tmp_path / "nowhere" / "x"), progress.task("work", 2) as task:
        task.advance(2)
    assert task.done == 2


def watch(*arguments, code=0):
    with pytest.raises(SystemExit) as done:
        main(["watch", *map(str, arguments)])
    assert done.value.code == code


@pytest.fixture
def running(tmp_path):
    """A generate that will not end by itself; its output."""
    card, out = tmp_path / "card.toml", tmp_path / "ens.h5"
    card.write_text(CARD)
    command = [sys.executable, "-m", "latticediff", "generate", str(card), "--out", str(out), "--quiet"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(600):
        if (row := read_status(out)) is not None and row["past"]:
            break
        assert process.poll() is None
        time.sleep(0.1)
    yield process, out
    process.kill()
    process.wait()


def test_a_run_is_seen_until_it_ends(running, capsys):
    process, out = running
    watch(out, "--once")
    said = capsys.readouterr().out
    assert "warm-up" in said and " of " in said
    watch(out, "--json")
    assert json.loads(capsys.readouterr().out)["pid"] == process.pid
    follower = subprocess.Popen(
        [sys.executable, "-m", "latticediff", "watch", str(out)], stdout=subprocess.PIPE, text=True
    )
    assert "HMC: " in follower.stdout.readline()
    process.terminate()  # it seals its state and goes
    assert process.wait(60) != 0 and not status_path(out).exists()
    assert "has ended" in follower.communicate(timeout=60)[0]


def test_a_killed_run_is_told_by_its_age(running, capsys):
    process, out = running
    process.kill()
    process.wait()
    row = read_status(out)
    row["written"] = "2020-01-01T00:00:00+00:00"
    status_path(out).write_text(json.dumps(row))
    watch(out, "--once")
    assert "it may have been killed" in capsys.readouterr().out


def test_what_is_not_running_is_said(tmp_path, capsys):
    watch(tmp_path / "nothing", code=2)
    assert "no command is writing" in capsys.readouterr().err
    status_path(tmp_path / "other").write_text("[]")
    watch(tmp_path / "other", code=2)
    assert "is no progress of a command" in capsys.readouterr().err

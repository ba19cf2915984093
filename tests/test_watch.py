"""latticediff watch: how far another command is, from the file beside its output."""

import json
import os
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from latticediff.cli import main
from latticediff.job.pace import Ahead
from latticediff.job.progress import Progress
from latticediff.job.status import read_status, status_path, written

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


def test_what_a_killed_command_left_is_removed_by_one_that_finds_all_done(tmp_path):
    """Not that of a process that lives, nor of another machine, nor a file of somebody else."""
    path, ended = status_path(tmp_path / "out"), subprocess.Popen(["true"])
    ended.wait()
    here = {"pid": ended.pid, "host": socket.gethostname()}
    for row, stays in (
        (here, False),
        ({**here, "pid": os.getpid()}, True),
        ({**here, "host": "elsewhere"}, True),
        ({**here, "pid": "1"}, True),
        ([], True),
    ):
        path.write_text(json.dumps(row))
        with written(tmp_path / "out"):
            pass
        assert path.exists() is stays, row


def test_the_time_left_is_that_of_the_speed_so_far(tmp_path):
    progress = Progress()
    with progress.seen_at(tmp_path / "x"), progress.task("steady", 100) as task:
        task.advance(1)  # the first piece compiles
        for _ in range(11):
            time.sleep(0.11)
            task.advance(1)
        left = read_status(tmp_path / "x")["seconds_left"]
    assert 88 * 0.11 / 1.5 < left < 90 * 0.11 * 1.5


def test_units_of_different_length_are_weighed(tmp_path, monkeypatch):
    """Units of work 1 take 0.3 s each, from the end of the first on; one of 8 is left."""
    monkeypatch.setattr("latticediff.job.status.SECONDS", 0.0)
    progress = Progress()
    with progress.seen_at(tmp_path / "x"), progress.task("cells", 4, work=11) as task:
        task.advance(1, 1.0)
        for _ in range(2):
            time.sleep(0.3)
            task.advance(1, 1.0)
        row = read_status(tmp_path / "x")
    assert (row["done"], row["total"]) == (3, 4)
    assert 8 * 0.3 / 1.5 < row["seconds_left"] < 8 * 0.3 * 1.5


def test_a_command_that_works_in_silence_is_seen_to_live(tmp_path, monkeypatch):
    monkeypatch.setattr("latticediff.job.status.BEAT", 0.1)
    out, progress = tmp_path / "x", Progress()
    with progress.seen_at(out), progress.task("cells", 3) as task:
        task.advance(1)
        time.sleep(1.1)
        task.advance(1, tau_int=0.7)
        first, stamp = read_status(out), status_path(out).stat().st_mtime_ns
        time.sleep(0.5)
        later = read_status(out)
        assert status_path(out).stat().st_mtime_ns > stamp
        assert later["seconds_left"] < first["seconds_left"] - 0.2
        assert {k: v for k, v in later.items() if k not in ("written", "seconds_left")} == {
            k: v for k, v in first.items() if k not in ("written", "seconds_left")
        }
    assert not status_path(out).exists()


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


def test_a_file_gets_a_line_now_and_then(tmp_path, monkeypatch, capsys):
    import latticediff.cli.watching as watching

    rows = [{"task": "cells", "done": n, "total": 9, "written": "", "past": [], "numbers": {}} for n in range(9)]
    looks = iter([*rows[1:], None])
    monkeypatch.setattr("latticediff.job.status.read_status", lambda out: next(looks))
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    clock = iter(range(0, 1000, 20))
    monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(watching, "_age", lambda row: 0.0)
    watching._follow(tmp_path / "x", rows[0])
    said = capsys.readouterr().out.splitlines()
    assert [line.split(" (")[0] for line in said[:-1]] == ["cells: 0 of 9", "cells: 3 of 9", "cells: 6 of 9"]
    assert said[-1].endswith("has ended")


def test_what_is_known_of_the_time_ahead_is_shown_within_a_unit(tmp_path, capsys, monkeypatch):
    """A study knows what it still has to do: of one of its cells too, and of what comes after this task."""
    monkeypatch.setattr("latticediff.job.status.SECONDS", 0.0)
    out, progress = tmp_path / "study", Progress()
    with progress.seen_at(out), progress.task("cells", 4) as task:
        task.advance(1, ahead=Ahead(600.0, 0.25, "hmc at 8x8: search"), tau_int=0.7)
        task.advance(0, ahead=Ahead(540.0, 0.325, "hmc at 64x64: search 40 %"), tau_int=0.7)
        watch(out, "--once")
        row = read_status(out)
    assert capsys.readouterr().out == (
        "cells: 1 of 4 (32%), hmc at 64x64: search 40 %, about 9 min left of all, tau_int 0.7\n"
    )
    assert (row["done"], row["share"], row["seconds_left"]) == (1, 0.325, 540.0)


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


def test_a_block_of_proposals_tells_its_ess():
    """That of `ess_reverse`; a draw of weight zero counts, and a block of nothing else has none."""
    from latticediff.analysis import ess_reverse
    from latticediff.stages.sample import _worth_showing

    log_weight = np.append(np.random.default_rng(1).normal(500.0, 1.0, (20, 8)), [[-np.inf] * 8], axis=0)
    told = _worth_showing({"accepted": np.ones((21, 8)), "log_weight": log_weight})
    assert told == {"acceptance": 1.0, "ESS": pytest.approx(ess_reverse(log_weight.ravel()).value, rel=1e-12)}
    nothing = {"accepted": np.zeros((1, 8)), "log_weight": np.full((1, 8), -np.inf)}
    assert _worth_showing(nothing) == {"acceptance": 0.0}
    assert _worth_showing({"accepted": np.zeros((1, 8))}) == {"acceptance": 0.0}

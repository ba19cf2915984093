"""On a real SLURM: whatever ends a job early, all members are there in the end, none twice, with the same bits."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from slurm_toys import LONG, SHORT, command, planned, wait_until

from latticediff.ensemble import Ensemble
from latticediff.slurm import MemberTask, replicas
from latticediff.training.checkpoint import read_checkpoint

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Fingerprints of the two members of the long card, run here without any break."""
    folder = tmp_path_factory.mktemp("reference") / "plan"
    planned(folder, 2, LONG)
    return [fingerprint(task()) for task in MemberTask.of_plan(folder)]


def fingerprint(path):
    with Ensemble(path) as ensemble:
        return ensemble.fingerprint()


def began(cluster, folder, text, *options):
    """Plan and submit; returns the folder and the number of the array."""
    card = folder / "card.toml"
    card.write_text(text)
    command(card, "--out", folder / "plan", "--submit", *options, environment=cluster.environment, cwd=folder)
    return folder / "plan", json.loads((folder / "plan" / "jobs.json").read_text())["chains"][-1]


def states(cluster, folder):
    return json.loads(command(folder, "--status", "--json", environment=cluster.environment))


def ended(cluster, folder, seconds=120):
    """Wait until no member is in the queue, and say what became of each."""
    wait_until(lambda: all(row["queue"] is None for row in states(cluster, folder)), seconds, every=1)
    return states(cluster, folder)


@contextlib.contextmanager
def frozen(out, seconds=90):
    """Whoever writes `out` stands still within the block, in the middle of its work; gives the process's number.

    A signal from SLURM then comes at a moment that does not depend on how fast this machine is.
    """
    (program,) = wait_until(lambda: out.with_name(out.name + ".run").is_dir() and programs(out), seconds, every=0.05)
    time.sleep(0.3)  # some blocks
    os.kill(program, signal.SIGSTOP)
    assert not out.exists()
    try:
        yield program
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(program, signal.SIGCONT)


def told(program):
    """Whether TERM waits for a process that stands still."""
    with open(f"/proc/{program}/status") as file:
        pending = [int(line.split()[1], 16) for line in file if line.startswith(("SigPnd", "ShdPnd"))]
    return any(mask >> (signal.SIGTERM - 1) & 1 for mask in pending)


def restarts(cluster, job):
    text = cluster.ask("scontrol", "show", "job", job)
    return int(text.split("Restarts=")[1].split()[0])


def require_bits(cluster, folder, wanted):
    rows = ended(cluster, folder)
    assert all(row["finished"] for row in rows), rows
    assert [fingerprint(folder / row["out"]) for row in rows] == wanted


def test_eight_members_one_file_and_one_network(cluster, tmp_path):
    """Array, merge, training by torchrun on two processes: three jobs that wait for each other."""
    folder, _ = began(cluster, tmp_path, SHORT, "--chains", 8, "--at-once", 3, "--train", 2)
    wait_until((folder / "model" / "card.toml").exists)
    rows = ended(cluster, folder)
    assert [row["finished"] for row in rows] == [True] * 8
    with Ensemble(folder / "ensemble.h5") as whole:
        assert whole.n_chains == 8 * 4 and whole.n_cfg == 8 * 4 * 20
        assert len(np.unique(whole.read("action", 0, whole.n_cfg))) == whole.n_cfg  # none twice
        found = replicas(whole)
        phi = whole.phis(0, whole.n_cfg).reshape(20, 32, 8, 8)
    assert [replica.seed for replica in found] == [row["seed"] for row in rows]
    for replica, row in zip(found, rows, strict=True):
        with Ensemble(folder / row["out"]) as member:
            own = member.phis(0, member.n_cfg).reshape(20, 4, 8, 8)
        assert np.array_equal(phi[:, slice(*replica.chains)], own)


def test_a_warned_job_requeues_itself_and_has_the_same_bits(cluster, tmp_path, uninterrupted):
    """The other member is left alone."""
    folder, job = began(cluster, tmp_path, LONG, "--chains", 2)
    with frozen(folder / "member-0000.h5") as program:
        cluster.ask("scancel", "--batch", "--signal=USR1", f"{job}_0")
        wait_until(lambda: told(program))
    require_bits(cluster, folder, uninterrupted)
    assert (restarts(cluster, f"{job}_0"), restarts(cluster, f"{job}_1")) == (1, 0)
    assert "stopped by SIGTERM" in (folder / "logs" / "chains-0.log").read_text()


def test_preemption_by_an_urgent_job(cluster, tmp_path, uninterrupted):
    """SLURM itself takes the nodes, and puts the members back into the queue."""
    folder, job = began(cluster, tmp_path, LONG, "--chains", 2)
    with frozen(folder / "member-0000.h5") as program:
        cluster.ask("sbatch", "-p", "urgent", "--nodes=4", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 1")
        wait_until(lambda: restarts(cluster, f"{job}_0") == 1 or told(program))
    require_bits(cluster, folder, uninterrupted)
    assert restarts(cluster, f"{job}_0") == 1


def test_the_wall_time_limit(cluster, tmp_path, uninterrupted):
    """Told a minute before the limit of two, or up to half a minute earlier; SLURM itself ends nobody.

    A member stands still within half a minute of its start, so that nobody is told before.
    """
    folder, job = began(cluster, tmp_path, LONG, "--chains", 2, "--time", "00:02:00", "--margin", 60)
    with frozen(folder / "member-0000.h5", 29) as program:
        wait_until(lambda: told(program), 90)
    require_bits(cluster, folder, uninterrupted)
    assert restarts(cluster, f"{job}_0") >= 1
    log = (folder / "logs" / "chains-0.log").read_text()
    assert "stopped by SIGTERM" in log and "TIME LIMIT" not in log


def test_a_member_that_died_is_found_and_run_again_alone(cluster, tmp_path, uninterrupted):
    folder, _ = began(cluster, tmp_path, LONG, "--chains", 2)
    with frozen(folder / "member-0001.h5") as program:
        os.kill(program, signal.SIGKILL)
    rows = ended(cluster, folder)
    assert [row["lost"] for row in rows] == [False, True]
    refused = command(folder, "--merge", environment=cluster.environment, check=False)
    assert refused.returncode == 2 and "1 of 2 members" in refused.stderr and "member 1 the first" in refused.stderr
    before = os.stat(folder / "member-0000.h5").st_mtime_ns
    answer = command(folder, "--rerun", "--submit", environment=cluster.environment)
    assert "members 1\n" in answer
    require_bits(cluster, folder, uninterrupted)
    assert os.stat(folder / "member-0000.h5").st_mtime_ns == before
    wait_until((folder / "ensemble.h5").exists)


def test_a_cancelled_member_is_sealed_and_stays_away(cluster, tmp_path, uninterrupted):
    """Until it is asked for again, while another member is still at work; the merge then waits for both."""
    folder, job = began(cluster, tmp_path, LONG, "--chains", 2)
    with frozen(folder / "member-0001.h5"):
        with frozen(folder / "member-0000.h5"):
            cluster.ask("scancel", f"{job}_0")
        wait_until(lambda: states(cluster, folder)[0]["queue"] is None)
        row = states(cluster, folder)[0]
        assert row["lost"] and row["done"].endswith(" updates"), row  # something is stored
        assert "stopped by SIGTERM" in (folder / "logs" / "chains-0.log").read_text()
        assert "members 0\n" in command(folder, "--rerun", "--submit", environment=cluster.environment)
        wait_until((folder / "member-0000.h5").exists)
    require_bits(cluster, folder, uninterrupted)
    wait_until((folder / "ensemble.h5").exists)


def test_a_lost_node(cluster, tmp_path, uninterrupted):
    """The node vanishes with all that ran there; SLURM runs the members elsewhere, and they go on."""
    folder, job = began(cluster, tmp_path, LONG, "--chains", 2)
    with frozen(folder / "member-0000.h5"):
        node = cluster.ask("squeue", "-h", "-j", f"{job}_0", "-o", "%N").strip()
        cluster.manage("lose", node)
    try:
        wait_until(lambda: restarts(cluster, f"{job}_0") == 1)
        require_bits(cluster, folder, uninterrupted)
    finally:
        cluster.manage("back", node)
        wait_until(lambda: cluster.ask("sinfo", "-h", "-N", "-n", node, "-p", "main", "-o", "%t").strip() == "idle")


def test_a_training_that_is_warned_goes_on(cluster, tmp_path):
    """torchrun passes the word on, both processes stop with one checkpoint, and the weights have the same bits."""
    text = SHORT.replace("steps = 40", "steps = 400\ncheckpoint_every = 20")
    folder, _ = began(cluster, tmp_path, text, "--chains", 1, "--train", 2)
    job = json.loads((folder / "jobs.json").read_text())["train"][-1]
    checkpoint = folder / "model" / "checkpoint.safetensors"
    wait_until(checkpoint.exists, every=0.02)
    cluster.ask("scancel", "--batch", "--signal=USR1", job)
    wait_until(lambda: restarts(cluster, job) == 1)
    assert 0 < read_checkpoint(checkpoint)[1]["step"] < 400
    weights = folder / "model" / "weights.safetensors"
    wait_until((folder / "model" / "card.toml").exists)
    again = (folder / "train.sbatch").read_text().replace(f"{folder}/model", f"{folder}/again")
    (folder / "again.sbatch").write_text(again)
    cluster.ask("sbatch", "--wait", str(folder / "again.sbatch"))
    assert weights.read_bytes() == (folder / "again" / "weights.safetensors").read_bytes()


STUDY = """
[study]
samplers = ["hmc_unit", "hmc"]
reference = "hmc_unit"
precision = 0.3
seconds = 2.0
n_chains = 16
sites = 256
budget = 20000
[action]
convention = "A"
m2 = 1.0
lam = 0.5
[[line]]
shape = [4, 4]
[[line]]
shape = [4, 6]
"""


def test_the_parts_of_a_study(cluster, tmp_path):
    """One part is warned in the middle, and runs again; the page has all cells, and no file was written twice."""
    (tmp_path / "card.toml").write_text(STUDY)
    folder = tmp_path / "study"
    line = (tmp_path / "card.toml", "--out", folder, "--chains", 2, "--submit")
    said = command(*line, environment=cluster.environment, cwd=tmp_path)
    job = said.split("cells: job ")[1].split()[0]
    wait_until(lambda: cluster.ask("squeue", "-h", "-j", f"{job}_1", "-o", "%T").strip() == "RUNNING", every=0.05)
    cluster.ask("scancel", "--batch", "--signal=USR1", f"{job}_1")
    wait_until((folder / "study.html").exists, 300)
    document = json.loads((folder / "study.json").read_text())
    assert not document["failed"]
    assert len(document["cells"]) == 4
    assert len(list((folder / "cells").glob("*.json"))) == 4 + 2  # and the timing of two theories
    # parts alone have the bits of one process
    line = [sys.executable, "-m", "latticediff", "study", tmp_path / "card.toml", "--out", tmp_path / "alone", "-q"]
    subprocess.run(line, check=True, timeout=300)
    alone = json.loads((tmp_path / "alone" / "study.json").read_text())
    for ours, theirs in zip(document["cells"], alone["cells"], strict=True):
        assert ours["digest"] == theirs["digest"]
        assert ours["kernel"] == theirs["kernel"]
        assert ours["history"] == theirs["history"]


def programs(out):
    """Numbers of the processes that write `out`."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{entry}/cmdline", "rb") as file:
            if os.fsencode(out) in file.read().split(b"\0"):
                found.append(int(entry))
    return found

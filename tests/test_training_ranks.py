"""Data-parallel training: two processes have the loss and the weights of one, and stop together."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from learned_toys import QUARTIC
from safetensors.torch import load_file
from training_toys import THEORY, phis, trainer

from latticediff.config import parse_card
from latticediff.ensemble import save_ensemble
from latticediff.errors import UserError
from latticediff.job.log import read_log
from latticediff.model.storage import load_model
from latticediff.stages.finetune import finetune
from latticediff.stages.train import train
from latticediff.training.checkpoint import read_checkpoint
from latticediff.training.finetune import FineTuner, FineTuningPlan
from latticediff.training.ranks import ALONE, Ranks

CARD = (
    THEORY
    + """
[run]
seed = 3
[network]
features = 2
hidden = 4
[training]
steps = 12
batch = 9
target = "mixed"
device = "cpu"
schedule = "all"
watch_every = 6
watch_samples = 8
[sampling.ode]
steps = 2
"""
)

# one thread each; the processes share two cores
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "latticediff"]


# torchrun without an agent: a process that has imported everything forks two for each command, with what torchrun
# tells its own. One import serves all of them.
FORKS = """
import json, os, runpy, sys
import torch._dynamo
import latticediff.stages.finetune, latticediff.stages.train

def rank(number, port, words, errors):
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    os.dup2(0, 1)
    os.environ.update(RANK=str(number), LOCAL_RANK=str(number), WORLD_SIZE="2", TORCHELASTIC_RUN_ID="forked",
                      MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    sys.argv = words
    runpy.run_module("latticediff", run_name="__main__")

for line in sys.stdin:
    order, ranks = json.loads(line), []
    for number in range(2):
        if not (pid := os.fork()):
            rank(number, **order)
            break
        ranks.append(pid)
    else:
        print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in ranks]), flush=True)
        continue
    break
"""


@pytest.fixture(scope="module")
def pair(folder):
    """Runs a command in two processes: exit codes, and what they said on stderr."""
    line = [sys.executable, "-c", FORKS]
    with subprocess.Popen(
        line, cwd=folder, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:

        def run(*words):
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                order = {"port": free.getsockname()[1], "words": words, "errors": str(folder / "stderr")}
            (folder / "stderr").write_text("")
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline()), (folder / "stderr").read_text()

        yield run
        process.stdin.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("ranks")
    (path / "card.toml").write_text(CARD)
    save_ensemble(path / "a.h5", phis(), action=QUARTIC, n_chains=8)
    save_ensemble(path / "b.h5", phis(shape=(4, 6)), action=QUARTIC, n_chains=8)
    return path


def command(out, *options):
    return [*LAUNCH, "train", "card.toml", "--ensemble", "a.h5", "--ensemble", "b.h5", "--out", out, *options]


def alone(folder, out, *overrides):
    train(parse_card(CARD, overrides), [folder / "a.h5", folder / "b.h5"], folder / out)
    return load_file(folder / out / "weights.safetensors")


def test_two_processes_have_the_weights_of_one(folder):
    """Batches of 9 and 6 cannot be shared evenly; the order of additions is all that differs."""
    done = subprocess.run(command("two"), cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    together = load_file(folder / "two" / "weights.safetensors")
    one, other = alone(folder, "one"), alone(folder, "other", "run.seed=4")
    assert one.keys() == together.keys()
    distance = 0.0
    for name, tensor in one.items():
        torch.testing.assert_close(together[name], tensor, rtol=2e-3, atol=2e-4)
        distance = max(distance, float((other[name] - tensor).abs().max()))
    assert distance > 0.1  # another seed: what the tolerance would not let pass
    # one process has written, and watched
    rows = [row["step"] for row in read_log(folder / "two" / "log.jsonl", "watch")]
    assert rows == [6, 12]
    assert {"card.toml", "log.jsonl", "weights.safetensors"} >= {f.name for f in (folder / "two").iterdir()} - {"best"}


ENDED = """
from pathlib import Path
import torch
from torch import distributed
from latticediff.training.ranks import data_parallel

with data_parallel(torch.device("cpu")) as ranks:
    import torch._dynamo, torch.distributed.nn.functional  # what an optimizer of torch imports at its first step
    ranks.any(True, torch.device("cpu"))
    during = [p.read_text().strip() for p in Path("/proc/self/task").glob("*/comm")]
after = [p.read_text().strip() for p in Path("/proc/self/task").glob("*/comm")]
assert any("gloo" in name for name in during), during
assert not any("gloo" in name for name in after), after
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="the threads of a process are read from /proc")
def test_no_thread_of_the_process_group_outlives_it(folder):
    """One that did could ask for the interpreter's lock while the interpreter ends: the process would abort."""
    (folder / "ended.py").write_text(ENDED)
    line = [*LAUNCH[: LAUNCH.index("-m", 3)], "ended.py"]
    done = subprocess.run(line, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_shares_cover_a_batch_once():
    for size in (1, 2, 3, 5):
        for n in (1, 4, 9):
            rows = [np.arange(*Ranks(rank, size).share(n)) for rank in range(size)]
            assert np.concatenate(rows).tolist() == list(range(n))
            assert max(map(len, rows)) - min(map(len, rows)) <= 1


def test_gradients_of_the_shares_add_up():
    """Without processes: what each of three would compute, against the whole."""
    options = {"target": "mixed", "strength": 0.3, "clip": 1e9}
    whole, total, loss = trainer(**options), 0, 0.0
    expected_loss = whole.advance()
    expected = whole.network.A.grad
    for rank in range(3):
        made = trainer(**options)
        made.gradient.ranks = Silent(rank, 3)
        loss = loss + made.advance()
        total = total + made.network.A.grad
    assert float((total - expected).norm() / expected.norm()) < 1e-5
    torch.testing.assert_close(loss, expected_loss, rtol=1e-5, atol=1e-6)


class Silent(Ranks):
    """A process that hears nothing of the others."""

    def add_gradients(self, parameters, loss):
        return loss

    def gather(self, values):
        return values

    def any(self, yes, device):
        return bool(yes)


@pytest.mark.slow
def test_a_signal_stops_all_processes_with_one_checkpoint(folder):
    process = subprocess.Popen(
        command("stopped", "--set", "training.steps=1000000", "--set", "training.checkpoint_every=20"),
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 120
        while not (folder / "stopped" / "checkpoint.safetensors").exists():
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)  # torchrun passes it on
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode != 0
    assert "training stopped at step" in errors
    assert read_checkpoint(folder / "stopped" / "checkpoint.safetensors")[1]["step"] % 20 == 0


LONG = ("--set", "training.steps=300", "--set", "training.checkpoint_every=20", "--resume")


def kill_a_rank(folder, out, restarts):
    """Start two processes, kill the second one after the first checkpoint, with SIGKILL; what torchrun ends with."""
    line = [*command(out, *LONG)]
    line.insert(line.index("--standalone"), f"--max-restarts={restarts}")
    process = subprocess.Popen(
        line, cwd=folder, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + 120
        while not (folder / out / "checkpoint.safetensors").exists():
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.02)
        children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True)
        os.kill(max(map(int, children.stdout.split())), signal.SIGKILL)
        _, errors = process.communicate(timeout=300)
    finally:
        process.kill()
    return process.returncode, errors


@pytest.mark.slow
def test_a_killed_rank_is_started_again_or_ends_all_and_the_weights_are_the_same(folder):
    """With --max-restarts torchrun begins anew from the checkpoint; without, all end, and the command goes on."""
    done = subprocess.run(command("whole", *LONG), cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    whole = load_file(folder / "whole" / "weights.safetensors")
    code, errors = kill_a_rank(folder, "restarted", 1)
    assert code == 0, errors
    code, errors = kill_a_rank(folder, "ended", 0)
    assert code != 0 and "Signal 9" in errors
    assert 0 < read_checkpoint(folder / "ended" / "checkpoint.safetensors")[1]["step"] < 300
    assert not (folder / "ended" / "weights.safetensors").exists()
    again = subprocess.run(command("ended", *LONG), cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    for out in ("restarted", "ended"):
        assert all(torch.equal(load_file(folder / out / "weights.safetensors")[k], whole[k]) for k in whole), out


def test_fine_tuning_gradients_of_the_shares_add_up():
    """Without processes: what each of three would compute of a batch of 7, against the whole."""

    def tuner(ranks):
        made, generator = trainer(), torch.Generator().manual_seed(1)
        with torch.no_grad():  # fresh weights give no score, and most gradients vanish
            for p in made.network.parameters():
                p.add_(0.05 * torch.randn(p.shape, generator=generator))
        plan = FineTuningPlan(steps=2, batch=7, check_every=0, integration_steps=4)
        return FineTuner(made.network, made.tasks, made.noise, plan, ranks=ranks)

    whole = tuner(ALONE)
    whole.gradients(0)
    expected, total = whole.network.A.grad, 0
    for rank in range(3):
        part = tuner(Silent(rank, 3))
        part.gradients(0)
        total = total + part.network.A.grad
    assert float((total - expected).norm() / expected.norm()) < 1e-4
    with pytest.raises(UserError, match="no sum over a batch, which 3 processes could share"):
        FineTuner(whole.network, whole.tasks, whole.noise, FineTuningPlan(objective="log_variance"), ranks=Silent(0, 3))


# Adam, for which equal gradients make equal steps: SOAP takes them in bases that, after a few steps, rounding decides
TUNED = (
    CARD.replace("features = 2\n", "features = 4\n")
    + "[finetune]\nlearning_rate = 0.01\noptimizer = 'adam'\nsteps = 6\nbatch = 5\ncheck_every = 3\nn_check = 16\n"
)


def test_two_processes_fine_tune_as_one_does(folder, pair):
    """Shares of 5, of which 2 or 3 are drawn, are uneven; the guard of the first process looks for both."""
    card = parse_card(TUNED)
    (folder / "tuned.toml").write_text(TUNED)
    train(card, [folder / "a.h5"], folder / "start")
    line = ["latticediff", "finetune", "tuned.toml", "--model", "start", "--ensemble", "a.h5", "--out"]
    codes, errors = pair(*line, "pair")
    assert codes == [0, 0], errors
    finetune(card, folder / "start", folder / "a.h5", folder / "single")
    finetune(parse_card(TUNED, ["run.seed=4"]), folder / "start", folder / "a.h5", folder / "differs")
    start, both, single, differs = (
        load_file(folder / name / "weights.safetensors") for name in ("start", "pair", "single", "differs")
    )

    def apart(one, other):
        """By how much three quarters of the network's weights differ at most: the rest have gradients of rounding."""
        names = [name for name in start if name.startswith("network.")]
        differences = torch.cat([(one[name] - other[name]).abs().flatten() for name in names])
        return float(differences.quantile(0.75))

    # 0, where without the sum over processes it is a third of what another seed makes
    assert apart(single, both) < 0.01 * min(apart(single, start), apart(single, differs))
    told = [load_model(folder / name).card["finetune"] for name in ("pair", "single")]
    assert told[0]["steps_done"] == told[1]["steps_done"] == 6
    assert not told[0]["stopped"]
    # an objective that is no sum over the batch
    codes, errors = pair(*line, "refused", "--set", 'finetune.objective="log_variance"')
    assert 0 not in codes
    assert errors.count("no sum over a batch, which 2 processes could share") == 2
    assert not (folder / "refused" / "weights.safetensors").exists()

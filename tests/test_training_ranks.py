"""Data-parallel training: two processes have the loss and the weights of one, and stop together."""

import os
import signal
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
from latticediff.job.log import read_log
from latticediff.stages.train import train
from latticediff.training.checkpoint import read_checkpoint
from latticediff.training.ranks import Ranks

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

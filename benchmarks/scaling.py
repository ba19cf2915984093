"""Weak scaling of members and strong scaling of a training over processes of this machine; prints a table.

Two lengths of each run are timed and subtracted, so that imports, compilation and warm-up drop out. Wall time says what
a user waits for, and on a machine that others use says little; processor time says what the processes cost together.

    python benchmarks/scaling.py --processes 1 --processes 2
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CARD = """
[run]
seed = 5
[action]
convention = "A"
m2 = -4.0
lam = 5.113
[lattice]
shape = [16, 16]
[hmc]
n_chains = 32
n_warmup = 100
n_updates = 1000
thin = 10
[gate]
enforce = false
[training]
batch = 256
device = "cpu"
checkpoint_every = 1000000
"""
UPDATES = (4_000, 24_000)
STEPS = (50, 350)
PROGRAM = [sys.executable, "-m", "latticediff"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}


def timed(commands: list[list[str]], folder: Path) -> tuple[float, float]:
    """Wall and processor seconds of commands that run at the same time."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    running = [
        subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, stdout=subprocess.DEVNULL) for command in commands
    ]
    if any([process.wait() for process in running]):
        raise SystemExit(f"a command failed: {commands[0]}")
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def members(n: int, updates: int, folder: Path, tag: str) -> list[list[str]]:
    """`n` members of an array at once, each as long as one alone."""
    options = [["--out", f"{tag}-{k}.h5", "--set", f"run.seed={100 + k}"] for k in range(n)]
    common = ["generate", "card.toml", "-q", "--set", f"hmc.n_updates={updates}"]
    return [[*PROGRAM, *common, *own] for own in options]


def training(n: int, steps: int, folder: Path, tag: str) -> list[list[str]]:
    """One training by `n` processes, at the same global batch."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n}", *PROGRAM[1:]]
    what = ["train", "card.toml", "--ensemble", "data.h5", "--out", tag, "-q", "--set", f"training.steps={steps}"]
    return [[*launch, *what]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, action="append", help="repeatable; default 1 and 2")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=("members", "training"))
    options = parser.parse_args()
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}; least of {options.repeats}")
    print("what       processes  wall s  processor s")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "card.toml").write_text(CARD)
        timed([[*PROGRAM, "generate", "card.toml", "--out", "data.h5", "-q"]], folder)
        for what, make, lengths in (("members", members, UPDATES), ("training", training, STEPS)):
            if options.only not in (None, what):
                continue
            for n in options.processes or [1, 2]:
                timed(make(n, lengths[0], folder, f"{what}-{n}-first"), folder)  # compiles
                short, long = (
                    [timed(make(n, length, folder, f"{what}-{n}-{length}-{k}"), folder) for k in range(options.repeats)]
                    for length in lengths
                )
                wall, processor = (
                    min(b) - min(a) for a, b in zip(zip(*short, strict=True), zip(*long, strict=True), strict=True)
                )
                print(f"{what:10} {n:9}  {wall:6.1f}  {processor:11.1f}", flush=True)
        print(f"load {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()

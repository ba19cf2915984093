"""Largest resident memory of each stage on large data, every stage in a process of its own.

A million configurations of 8x8 written, verified, measured and trained on from the file, and chains of 256x256 by a
model with the weights of phi4-A-L128-odd, which suit 256x256 badly: memory does not depend on how well. Then 4,000
fields of 32x32, weighed through a flow that is refined by four rungs.

    python benchmarks/memory.py [--configurations 1000000] [--L 256] [--only WORD] [--json]

One row for each stage: seconds of processor time and MiB at most, of which importing the package takes what the first
row says.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CARD = """
[run]
seed = 1
[action]
convention = "A"
m2 = -4.0
lam = {lam}
[lattice]
shape = [{L}, {L}]
[hmc]
n_chains = {n_chains}
n_warmup = 50
n_updates = {n_updates}
[gate]
enforce = false
[network]
features = {features}
[training]
steps = {steps}
batch = {batch}
data = "stream"
device = "cpu"
sites = "odd"
[sampling]
n_forward = 16
[sampling.ode]
n_chains = 4
n_updates = 3
steps = 16
"""


def line(name, *arguments):
    """Run a stage of the command line in a process of its own; its processor seconds and largest memory."""
    program = (
        "import resource, sys\n"
        "from latticediff.cli import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "except SystemExit as exc:\n    code = exc.code or 0\n"
        "used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "print('\\nUSED', used.ru_utime + used.ru_stime, used.ru_maxrss, code)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True)
    words = done.stdout.rsplit("USED", 1)[-1].split()
    if len(words) != 3 or words[2] != "0":
        raise SystemExit(f"{name} failed: {done.stderr.strip()[-500:]}")
    return {"stage": name, "processor_seconds": float(words[0]), "MiB": int(words[1]) / 1024}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configurations", type=int, default=1_000_000)
    parser.add_argument("--L", type=int, default=256)
    parser.add_argument("--only", default="", help="stages that have this word in their name: many, large or refined")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        many, large = Path(folder) / "many.toml", Path(folder) / "large.toml"
        ensemble, model, chain = (Path(folder) / name for name in ("many.h5", "model", "chain.h5"))
        sizes = {"features": 8, "steps": 100, "batch": 256}
        many.write_text(CARD.format(L=8, lam=6.008, n_chains=200, n_updates=-(-options.configurations // 200), **sizes))
        sizes = {"features": 24, "steps": 1, "batch": 2}
        large.write_text(CARD.format(L=options.L, lam=4.277, n_chains=16, n_updates=20, **sizes))
        small, middle, refined = (Path(folder) / name for name in ("few.h5", "middle.h5", "refined.toml"))
        sizes = {"features": 8, "steps": 1, "batch": 2}
        refined.write_text(CARD.format(L=32, lam=4.572, n_chains=100, n_updates=3200, **sizes) + "rungs = 4\n")
        stages = (
            ("import", "--version"),
            ("generate, many", "generate", many, "--out", ensemble, "-q"),
            ("verify, many", "verify", ensemble),
            ("measure, many", "measure", ensemble),
            ("train, many", "train", many, "--ensemble", ensemble, "--out", Path(folder) / "of-many", "-q"),
            ("generate, large", "generate", large, "--out", small, "-q"),
            (
                *("train, large", "train", large, "--ensemble", small, "--out", model, "-q"),
                *("--set", "training.init=phi4-A-L128-odd"),
            ),
            (
                *("sample, large", "sample", large, "--route", "ode", "--model", model, "--out", chain, "-q"),
                *("--set", "sampling.max_doubling=1e9"),
            ),
            (
                *("weigh, large", "weigh", large, "--route", "ode", "--model", model, "--ensemble", small),
                *("--out", Path(folder) / "weights.npz"),
            ),
            ("generate, refined", "generate", refined, "--out", middle, "-q"),
            (
                *("weigh, refined", "weigh", refined, "--route", "ode", "--model", "phi4-A-L32-fast", "--ensemble"),
                *(middle, "--out", Path(folder) / "refined.npz", "--set", "sampling.max_doubling=1e9"),
                *("--set", "sampling.n_forward=4000"),
            ),
        )
        for name, *arguments in stages:
            if options.only not in name:
                continue
            began = time.perf_counter()
            row = line(name, *arguments)
            row["seconds"] = time.perf_counter() - began
            print(
                json.dumps(row)
                if options.json
                else f"{name:18} {row['MiB']:8.0f} MiB  {row['processor_seconds']:8.1f} s of processor time",
                flush=True,
            )


if __name__ == "__main__":
    main()

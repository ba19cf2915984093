"""Everything that is owed on a CUDA device, in parts of at most eight minutes each, into one JSON file.

    python benchmarks/on_gpu.py --out gpu.json [--parts tests throughput ...] [--device cuda] [--seconds 480]

- ``tests``: ``pytest -m gpu``;
- ``throughput``: score and divergence in torch, ns per site against fields in a batch;
- ``L32``, ``L64``: HMC with clusters, score matching and fine-tuning by the cards of the series, cut to the time there
  is, with the ESS before and after;
- ``ranks``: one rank of torchrun, with nccl on CUDA and gloo else, and the weights of the same training without it;
- ``bfloat16``: a short training in that precision beside float32: held-out loss of both;
- ``memory``: a batch that no device holds, whose message is one line and says what to do;
- ``baselines``: HMC and clusters on all cores of the host, ns per site and step.

A part that fails or takes too long is in the file with its last lines, and the others run on; the command then ends
with 1. Parts that are done are not run again. ``--device cpu`` tries the same commands without CUDA.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
BATCHES = (16, 256, 4096, 65536)  # fields of a network evaluation
SMALL = """
[run]
seed = 1
[action]
convention = "A"
m2 = -4.0
lam = 6.008
[lattice]
shape = [8, 8]
[hmc]
n_chains = 64
n_warmup = 200
n_updates = 400
thin = 4
[training]
steps = 300
batch = 256
"""


def latticediff(*words):
    """A command of the package, as words."""
    return [sys.executable, "-m", "latticediff", *map(str, words)]


def throughput(device):
    """ns per site of one evaluation with its divergence, by size and batch."""
    from latticediff.model.storage import load_model

    rows = []
    for name in ("phi4-A-L32", "phi4-A-L64"):
        model = load_model(name, device=device)
        for batch in BATCHES:
            if batch * model.gaussian.volume > 2**27:
                break
            x, level = torch.randn(batch, *model.shape, device=device), torch.zeros(1, device=device)
            best = float("inf")
            for _ in range(4):
                began = time.perf_counter()
                with torch.no_grad():
                    _, trace = model.network(model.gaussian, x, level, trace=True)
                trace.sum().item()  # waits for the device
                best = min(best, time.perf_counter() - began)
            rows.append({"model": name, "batch": batch, "ns_per_site": 1e9 * best / x.numel()})
    return rows


def series(extent, device, folder):
    """Commands of a training of the series."""
    card, data = ROOT / f"configs/phi4-A-L{extent}.toml", folder / f"e{extent}.h5"
    place = ["--set", f'training.device="{device}"']
    start = ["--set", "training.steps=1500", "--set", "training.batch=64", "--set", 'training.init="phi4-A-L8-score"']
    tune = ["--set", "finetune.steps=150", "--set", "finetune.batch=32"]
    yield latticediff("generate", card, "--out", data, "--quiet", "--set", "hmc.n_updates=400")
    yield latticediff("train", card, "--ensemble", data, "--out", folder / f"s{extent}", "--quiet", *place, *start)
    model = ["--model", folder / f"s{extent}", "--out", folder / f"f{extent}"]
    yield latticediff("finetune", card, *model, "--ensemble", data, *place, *tune)


def commands(part, device, folder):
    """The commands of a part, run one after the other."""
    card = folder / "small.toml"
    card.write_text(SMALL)
    ensemble, place = folder / "small.h5", ["--set", f'training.device="{device}"']
    data = latticediff("generate", card, "--out", ensemble, "--quiet")
    train = latticediff("train", card, "--ensemble", ensemble, *place)
    if part == "tests":
        yield [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-m",
            "gpu" if device == "cuda" else "not gpu",
            "tests/test_devices.py",
        ]
    elif part == "throughput":
        yield [sys.executable, str(HERE / "on_gpu.py"), "--throughput", "--device", device]
    elif part in ("L32", "L64"):
        yield from series(int(part[1:]), device, folder)
    elif part == "ranks":
        yield data
        yield [*train, "--out", str(folder / "alone"), "--quiet"]
        yield [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--nproc-per-node",
            "1",
            *train[1:],
            "--out",
            str(folder / "ranked"),
        ]
        yield latticediff("info", folder / "ranked")
    elif part == "bfloat16":
        yield data
        for precision in ("float32", "bfloat16"):
            yield [*train, "--out", str(folder / precision), "--set", f'training.precision="{precision}"']
    elif part == "memory":  # 5,600 fields of 1,024 sites with 10,000 features: 229 GB for the features alone
        yield [*data, "--set", "lattice.shape=[32, 32]"]
        large = "--set", "lattice.shape=[32, 32]", "--set", "training.batch=5600", "--set", "network.features=10000"
        yield [*train, "--out", str(folder / "too-large"), *large]
    elif part == "baselines":
        yield [sys.executable, str(HERE / "hmc_throughput.py"), "--json"]


def run(part, device, seconds):
    """One part: its commands, the last lines of each, and how it ended."""
    began, told, ended = time.monotonic(), [], "done"
    with tempfile.TemporaryDirectory() as folder:
        for words in commands(part, device, Path(folder)):
            left = seconds - (time.monotonic() - began)
            try:
                done = subprocess.run(
                    list(map(str, words)), cwd=ROOT, capture_output=True, text=True, timeout=max(1, left)
                )
            except subprocess.TimeoutExpired:
                ended = "out of time"
                told.append({"command": " ".join(map(str, words[1:])), "ended": ended})
                break
            lines = (done.stdout + done.stderr).splitlines()
            told.append({"command": " ".join(map(str, words[1:])), "returncode": done.returncode, "lines": lines[-25:]})
            wanted = part == "memory" and words is not None and "too-large" in " ".join(map(str, words))
            if (done.returncode != 0) != wanted:
                ended = "failed"
                break
    return {"part": part, "ended": ended, "seconds": time.monotonic() - began, "commands": told}


PARTS = ("tests", "throughput", "ranks", "bfloat16", "memory", "L32", "L64", "baselines")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--seconds", type=float, default=480.0, help="longest time of a part")
    parser.add_argument("--throughput", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.throughput:
        print(json.dumps(throughput(options.device)))
        return
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("error: there is no CUDA device here; --device cpu tries the commands without one")
    name = torch.cuda.get_device_name() if options.device == "cuda" else "cpu"
    found = json.loads(options.out.read_text()) if options.out.exists() else {"device": name, "parts": []}
    found |= {"cores": os.cpu_count(), "torch": torch.__version__}
    done = {row["part"] for row in found["parts"] if row["ended"] == "done"}
    for part in options.parts:
        if part in done:
            continue
        row = run(part, options.device, options.seconds)
        found["parts"] = [other for other in found["parts"] if other["part"] != part] + [row]
        options.out.write_text(json.dumps(found, indent=1))
        print(f"{part}: {row['ended']} after {row['seconds']:.0f} s", flush=True)
    sys.exit(any(row["ended"] != "done" for row in found["parts"]))


if __name__ == "__main__":
    main()

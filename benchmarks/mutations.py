"""Damage files in every way that disks and hands know, and see what each reader of the package says.

A small ensemble, a model, unfinished trainings, an unfinished chain and an unfinished run folder are made; each trial
copies them, damages one file and runs one command on it, in a process that is replaced when it hangs or dies. Outcomes:

* detected: one line on stderr and exit code 2;
* harmless: everything that the command prints and writes is what it is without damage, bit for bit, because nothing
  looks at that byte, or because a second generation of a checkpoint took the place of the first;
* silent: another result without a word;
* traceback: anything else, a hang and a crash of the process included.

What differs between two runs on sound files (seconds, dates) is not compared.

    python benchmarks/mutations.py [--trials 600] [--seed 1] [--json FILE] [--only READER ...]
"""

import argparse
import gzip
import hashlib
import json
import os
import random
import select
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import h5py
import numpy as np
from mutation_kinds import H5, KINDS

#: of child processes; this one may belong to a test run, whose threads are under way
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", **os.environ}

CARD = """
[run]
name = "toy"
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
n_updates = 160
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
checkpoint_every = 3
held_out = 0.25
device = "cpu"
[finetune]
steps = 4
batch = 8
warmup = 1
check_every = 2
n_check = 16
integration_steps = 2
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
#: to the second: two runs may agree in them by chance
DATES = ("/date", "/created", "provenance@created")
QUIET = "--quiet"
LINE = ("line", "model", "--along", "lam=6.975", "--out", "line", "--set", "sampling.ode.n_chains=4")
LINE += ("--set", "sampling.ode.steps=2", "--set", "sampling.max_doubling='any'")
MODEL = ("model/card.toml", "model/weights.safetensors")
ENS = ("ens.h5",)
SHORT = ("--n", "64", "--device", "cpu", "--steps", "2", "--method", "rk4", "--max-doubling", "inf", QUIET, "--json")
ODE = ("--model", "model", "--route", "ode")
FOLDER = [f"run/{name}" for name in ("ensemble.h5", "chain_hmc.h5", "chain_ode.h5", "chain_sde.h5", "weights_ode.npz")]
FOLDER += ["run/weights_sde.npz", "run/log.jsonl", "run/run.json", "run/stages/train.json", "run/stages/generate.json"]
FOLDER += ["run/score/card.toml", "run/model/weights.safetensors", "run/model/card.toml"]
CHAIN = ["part.h5.run/run.json", "part.h5.run/checkpoint-0.h5", "part.h5.run/checkpoint-1.h5"]
CHAIN += ["part.h5.run/000000.h5", "part.h5.run/000001.h5"]

#: reader -> files that may be damaged, command, weight: how many trials a second is worth
READERS = {
    "measure": (ENS, ("measure", "ens.h5", "--json"), 4),
    "measure, learned chain": (("ode.h5",), ("measure", "ode.h5", "--json"), 2),
    "verify": (ENS, ("verify", "ens.h5"), 3),
    "verify, model": (MODEL, ("verify", "model"), 3),
    "info": (ENS, ("info", "ens.h5"), 3),
    "info, model": (MODEL[:1], ("info", "model"), 2),
    "info, run folder": (("run/card.toml", "run/run.json", "run/stages/train.json"), ("info", "run"), 2),
    "cut": (ENS, ("cut", "ens.h5", "--start", "40", "--out", "o.h5"), 3),
    "thin": (ENS, ("thin", "ens.h5", "--every", "2", "--out", "o.h5"), 3),
    "split": (ENS, ("split", "ens.h5", "--pieces", "2", "--out", "o.h5"), 3),
    "merge": (ENS, ("merge", "ens.h5", "other.h5", "--along", "chains", "--out", "o.h5"), 3),
    "export": (ENS, ("export", "ens.h5", "--out", "o.npz"), 3),
    "export to pyerrors": (ENS, ("export", "ens.h5", "--out", "o.json.gz"), 1),
    "convert": (
        ENS,
        ("convert", "ens.h5", "--card", "card.toml", "--dataset", "configurations/phi", "--n-chains", "8")
        + ("--action-dataset", "configurations/action", "--out", "o.h5"),
        3,
    ),
    "convert, npz": (("fields.npz",), ("convert", "fields.npz", "--card", "card.toml", "--out", "o.h5"), 2),
    "extend": (ENS, ("generate", "card.toml", "--out", "ens.h5", "--more", "20", QUIET), 3),
    "extend, learned": (
        ("ode.h5", *MODEL),
        ("sample", "card.toml", *ODE, "--out", "ode.h5", "--resume", QUIET) + ("--set", "sampling.ode.n_updates=16"),
        3,
    ),
    "start": (ENS, ("generate", "card.toml", "--start", "ens.h5", "--out", "o.h5", QUIET), 3),
    "resume a chain": (CHAIN, ("generate", "card.toml", "--out", "part.h5", "--resume", QUIET), 4),
    "sample": (MODEL, ("sample", "card.toml", *ODE, "--out", "o.h5", QUIET), 2),
    "weigh": (ENS + MODEL, ("weigh", "card.toml", *ODE, "--ensemble", "ens.h5", "--out", "o.npz", QUIET, "--json"), 3),
    "train": (ENS, ("train", "card.toml", "--ensemble", "ens.h5", "--out", "o", QUIET), 2),
    "resume a training": (
        ("half/checkpoint.safetensors",),
        ("train", "card.toml", "--ensemble", "ens.h5", "--out", "half") + ("--resume", QUIET),
        2,
    ),
    "finetune": (
        ENS + MODEL,
        ("finetune", "card.toml", "--model", "model", "--ensemble", "ens.h5", "--out", "o", QUIET),
        1,
    ),
    "resume a fine-tuning": (
        ("tune/checkpoint.safetensors",),
        ("finetune", "card.toml", "--model", "model", "--ensemble") + ("ens.h5", "--out", "tune", "--resume", QUIET),
        2,
    ),
    "free-energy": (ENS + MODEL, ("free-energy", "--model", "model", "--ensemble", "ens.h5", *SHORT), 2),
    "reweight": (ENS + MODEL, ("reweight", "ens.h5", "--to", "lam=7", "--model", "model", *SHORT), 2),
    "diagnose": (
        ENS + MODEL,
        ("diagnose", "model", "--ensemble", "ens.h5", "--out", "o", "--levels", "0", *SHORT[:8]) + (QUIET, "--json"),
        1,
    ),
    "line": (("line/lam=6.975.h5", *MODEL), (*LINE, "--n", "48", "--resume", QUIET), 1),
    "compare": (ENS, ("compare", "ens.h5", "other.h5", "--out", "o", QUIET), 1),
    "resume and report": (FOLDER, ("run", "card.toml", "--out", "run", "--resume", QUIET), 2),
}


def build(folder, readers=None):
    """What the commands of `readers` read, of all by default, made with the package itself."""
    from latticediff.cli import main
    from latticediff.config import load_card
    from latticediff.stages.finetune import finetune
    from latticediff.stages.generate import generate
    from latticediff.stages.run import run
    from latticediff.stages.train import train

    os.chdir(folder)
    Path("card.toml").write_text(CARD)
    card = load_card("card.toml")
    wanted = {name for reader in readers or READERS for name in READERS[reader][0]}

    def command(*arguments):
        try:
            main([*arguments, QUIET] if arguments[0] != "export" else arguments)
        except SystemExit as done:
            assert not done.code, arguments

    command("generate", "card.toml", "--out", "ens.h5")
    command("generate", "card.toml", "--out", "other.h5", "--set", "run.seed=6")
    command("export", "ens.h5", "--out", "fields.npz")
    _interrupted(lambda stop: generate(card, "part.h5", stop=stop), 5, small_segments=True)
    train(card, "ens.h5", "model")
    if "ode.h5" in wanted:
        command("sample", "card.toml", *ODE, "--out", "ode.h5")
    if "line/lam=6.975.h5" in wanted:
        command(*LINE, "--n", "24")
        (Path("line") / "line.json").unlink()
        shutil.rmtree("line/figures")
    if "half/checkpoint.safetensors" in wanted:
        _interrupted(lambda stop: train(card, "ens.h5", "half", stop=stop), 8)
    if "tune/checkpoint.safetensors" in wanted:
        _interrupted(lambda stop: finetune(card, "model", "ens.h5", "tune", stop=stop), 2)
    if "run/ensemble.h5" in wanted:
        run(card, "run")
        for name in ("report.json", "report.html", "stages/report.json"):
            (Path("run") / name).unlink()
        shutil.rmtree("run/figures", ignore_errors=True)
    missing = [name for name in wanted if not Path(name).exists()]
    assert not missing, missing


def _interrupted(work, questions, small_segments=False):
    """Do `work`, which asks whether it is to stop, until it has asked that often."""
    from unittest.mock import patch

    from latticediff.errors import StopRequested
    from latticediff.signals import StopReason

    left = iter(range(questions))
    with ExitStack() as changes:
        if small_segments:
            changes.enter_context(patch("latticediff.ensemble.appending.SEGMENT_BYTES", 1))
            changes.enter_context(patch("latticediff.stages.generate.block_length", lambda *_: 40))
        try:
            work(lambda: StopReason("enough", 130) if next(left, None) is None else None)
        except StopRequested:
            return
    raise AssertionError("it was not stopped")


def worker():
    """Run commands that come on stdin, one JSON line each; the answer is the exit code, on the descriptor given."""
    from latticediff.cli import main

    answers = os.fdopen(int(sys.argv[2]), "w")
    for line in sys.stdin:
        order = json.loads(line)
        os.chdir(order["folder"])
        code = 0
        with open("stdout", "w") as out, open("stderr", "w") as err:
            sys.stdout, sys.stderr = out, err
            try:
                main(order["arguments"])
            except SystemExit as done:
                code = done.code or 0
            except BaseException:
                import traceback

                traceback.print_exc()
                code = 70
        print(code, file=answers, flush=True)


class Worker:
    """A process that runs commands; replaced when it dies or hangs."""

    def __init__(self, seconds=60.0):
        self.seconds, self.process = seconds, None

    def run(self, folder, arguments):
        """Exit code; negative for a signal, None for a hang."""
        if self.process is None:
            read, write = os.pipe()
            command = [sys.executable, __file__, "--worker", str(write)]
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, pass_fds=[write], text=True, env=ENVIRONMENT
            )
            os.close(write)
            self.answers = os.fdopen(read)
        self.process.stdin.write(json.dumps({"folder": str(folder), "arguments": list(arguments)}) + "\n")
        self.process.stdin.flush()
        if not select.select([self.answers], [], [], self.seconds)[0]:
            self.close()
            return None
        answer = self.answers.readline()
        if answer:
            return int(answer)
        code = self.process.wait()
        self.close()
        return code

    def close(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.answers.close()
            self.process = None


def leaves(folder, before):
    """What a command printed and wrote, as a flat dict of names and digests; `before` are the files that were there."""
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = str(path.relative_to(folder))
        if name != "stderr" and before.get(name) != path.stat().st_mtime_ns:
            found |= {f"{name}: {key}": value for key, value in _content(path).items()}
    return found


def _content(path):
    raw = path.read_bytes()
    if path.suffix == ".gz":
        return _flat(json.loads(gzip.decompress(raw)))
    if path.suffix in (".h5", ".part"):
        with h5py.File(path) as file:
            found = {}
            file.visititems(lambda name, item: found.update(_h5(name, item)))
        return {name: found[name] for name in found if not name.startswith("seal") and name not in DATES}
    if path.suffix == ".npz":
        with np.load(path) as file:
            return {name: _digest(file[name].tobytes()) for name in file.files}
    if path.suffix in (".html", ".png", ".pdf", ".jsonl") or path.name == "lock":
        return {}
    text = raw.decode(errors="replace")
    if path.suffix == ".toml":
        return _flat(tomllib.loads(text))
    try:
        return _flat(json.loads(text))
    except ValueError:
        return (
            {str(number): line for number, line in enumerate(text.splitlines())}
            if path.name == "stdout"
            else {"": _digest(raw)}
        )


def _h5(name, item):
    found = {f"{name}@{key}": repr(value) for key, value in item.attrs.items()}
    if isinstance(item, h5py.Dataset):
        content = item[()]
        found[name] = repr(content) if item.dtype.kind == "O" else _digest(np.asarray(content).tobytes())
    return found


def _digest(data):
    return hashlib.sha256(data).hexdigest()


def _flat(value, name=""):
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {k: v for key, item in items for k, v in _flat(item, f"{name}/{key}").items() if k not in DATES}
    return {name: repr(value)}


class Trials:
    """Damages copies of a folder of sound files and runs readers on them."""

    def __init__(self, sound, scratch, worker):
        self.sound, self.scratch, self.worker, self.expected = sound, scratch, worker, {}

    def _run(self, reader, damage=lambda folder: None):
        folder = self.scratch / "trial"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.sound, folder)
        damage(folder)
        before = {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}
        code = self.worker.run(folder, READERS[reader][1])
        stderr = (folder / "stderr").read_text(errors="replace")
        return code, stderr, leaves(folder, before) if code == 0 else {}

    def reference(self, reader):
        """Results on sound files; only what two runs agree in."""
        if reader not in self.expected:
            (code, stderr, first), (_, _, second) = self._run(reader), self._run(reader)
            assert code == 0, f"{reader} fails on sound files: {stderr}"
            self.expected[reader] = first.keys(), {key: first[key] for key in first if first[key] == second.get(key)}
        return self.expected[reader]

    def trial(self, reader, seed):
        """``(outcome, what was done, last words)`` of one random damage."""
        names, expected = self.reference(reader)
        rng = random.Random(f"{reader} {seed}")
        name = rng.choice(READERS[reader][0])
        kinds = [kind for kind in KINDS if kind not in H5 or name.endswith(".h5")]
        said = []

        def damage(folder):
            kind, times = rng.choice(kinds), os.stat(folder / name)
            said.append(f"{kind.__name__} of {name}: {kind(folder / name, rng)}")
            os.utime(folder / name, ns=(times.st_atime_ns, times.st_mtime_ns))  # `info` lists stages by date

        code, stderr, found = self._run(reader, damage)
        lines = stderr.strip().splitlines()
        if code == 0:
            same = found.keys() == names and all(found[key] == value for key, value in expected.items())
            differing = [key for key in names | found.keys() if key in expected and found.get(key) != expected[key]]
            return ("harmless" if same else "silent"), said[0], "; ".join(differing[:3]) or str(names ^ found.keys())
        if code == 2 and len(lines) == 1 and lines[0].startswith("error: "):
            return "detected", said[0], lines[0]
        return "traceback", said[0], f"exit {code}: {' | '.join(lines[-3:])}"


def shares(trials, readers):
    """Number of trials of each reader, by its weight, at least one."""
    total = sum(READERS[reader][2] for reader in readers)
    return {reader: max(1, round(trials * READERS[reader][2] / total)) for reader in readers}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", nargs="+", choices=READERS, metavar="READER")
    options = parser.parse_args()
    began, rows, bad = time.perf_counter(), {}, []
    with tempfile.TemporaryDirectory() as scratch:
        sound = Path(scratch) / "sound"
        sound.mkdir()
        child = subprocess.run([sys.executable, __file__, "--build", str(sound)], check=False, env=ENVIRONMENT)
        assert child.returncode == 0
        trials = Trials(sound, Path(scratch), Worker())
        for reader, n in shares(options.trials, options.only or READERS).items():
            counts = Counter()
            for number in range(n):
                outcome, what, words = trials.trial(reader, f"{options.seed} {number}")
                counts[outcome] += 1
                if outcome in ("silent", "traceback"):
                    bad.append({"reader": reader, "outcome": outcome, "damage": what, "words": words})
                    print(f"{outcome}: {reader}: {what}: {words}", file=sys.stderr)
            rows[reader] = counts
            print(f"{reader:24}" + "".join(f"{counts[key]:6} {key}" for key in OUTCOMES), flush=True)
        trials.worker.close()
    total = sum(rows.values(), Counter())
    print(f"{'all':24}" + "".join(f"{total[key]:6} {key}" for key in OUTCOMES))
    print(f"{sum(total.values())} trials, seed {options.seed}, {time.perf_counter() - began:.0f} s")
    if options.json:
        options.json.write_text(
            json.dumps({"seed": options.seed, "readers": rows, "total": total, "bad": bad}, indent=1)
        )
    return 1 if total["silent"] or total["traceback"] else 0


OUTCOMES = ("detected", "harmless", "silent", "traceback")

if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker()
    elif sys.argv[1:2] == ["--build"]:
        build(sys.argv[2])
    else:
        sys.exit(main())

"""Kill every long command with SIGKILL at random moments, go on with it, and compare what it leaves, bit for bit.

Each command runs three times: whole, whole once more, and killed. The killed one is started again by the same command
until it gets through; each start is killed at a moment that is uniform over the time that the whole one took. Kills so
fall into warm-up, chains, steps, checkpoints, renamed files and clean-up alike. Compared are the names of the files
that are left, and every number, array and attribute in them on which the two whole runs agree: what differs between
these is seconds, dates and what follows from seconds, as the mix of a cluster sampler does. Figures and logs are
compared by name alone, since they show seconds and how often a command was started.

    python benchmarks/kill_commands.py [--kills 200] [--seed 1] [--only COMMAND ...] [--json]

Children are forks of a process that has imported the package, so that no time goes into imports. They compute on one
thread. `benchmarks/kill_resume.py` kills a long chain of HMC with many checkpoints in fresh processes.
"""

import argparse
import hashlib
import json
import os
import pkgutil
import random
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from pathlib import Path

import h5py
import numpy as np

CARD = """
[run]
seed = 5
[action]
convention = "A"
m2 = -4.0
lam = 6.975
[lattice]
shape = [6, 6]
[hmc]
n_chains = 16
n_warmup = 100
n_updates = 4000
thin = 4
[gate]
enforce = false
[network]
features = 4
hidden = 8
[training]
steps = 60
batch = 64
warmup = 4
checkpoint_every = 10
held_out = 0.25
device = "cpu"
[finetune]
steps = 12
batch = 8
warmup = 1
check_every = 4
checkpoint_every = 3
n_check = 32
integration_steps = 4
[sampling]
max_doubling = "any"
device = "cpu"
batch = 64
n_forward = 64
[sampling.ode]
n_chains = 8
n_warmup = 4
n_updates = 60
[sampling.sde]
n_chains = 8
n_warmup = 4
n_updates = 40
steps = 10
"""
STUDY = """
[study]
samplers = ["hmc_unit", "hmc"]
reference = "hmc_unit"
precision = 0.2
budget = 40000
seconds = 60.0
n_chains = 16
sites = 256
[action]
convention = "A"
m2 = 1.0
lam = 0.5
[[line]]
shape = [4, 4]
[[line]]
shape = [6, 6]
"""
CRITICAL = """
[critical]
nodes = [0.0]
window = 0.6
budget = 2000
max_doubling = 10.0
n_replicas = 50
n_blocks = 16
couplings = 11
beside = []
[[point]]
lam = 0.5
kappa = 0.34
"""
SIZE = """
[[size]]
L = {}
draws = 3000
steps = 16
data = 3200
training_steps = 150
batch = 64
finetune_steps = 0
hmc_chains = 16
"""
#: places that follow from seconds, in which two runs may agree by chance, and digests of these
DATES = ("@created", "created=", "date=", "seal/parts", "paid_back_after=")
MODEL = ("sample", "card.toml", "--model", "sound/model", "--out", "out/chain.h5", "--resume", "--route")

#: name -> the command; all write below `out`, and read what is in `sound`
COMMANDS = {
    "generate": ("generate", "card.toml", "--out", "out/ensemble.h5", "--resume"),
    "train": ("train", "card.toml", "--ensemble", "sound/ensemble.h5", "--out", "out/model", "--resume"),
    "finetune": (
        ("finetune", "card.toml", "--model", "sound/model", "--ensemble", "sound/ensemble.h5")
        + ("--out", "out/tuned", "--resume")
    ),
    "sample": (*MODEL, "ode"),
    "sample, sde": (*MODEL, "sde"),
    "run": ("run", "card.toml", "--out", "out/run", "--resume"),
    "study": ("study", "study.toml", "--out", "out/study"),
    "critical": ("critical", "critical.toml", "--out", "out/critical"),
}


def leaves(folder):
    """``{name of a file and place in it: digest}`` of all that is in a folder, at any depth."""
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = str(path.relative_to(folder))
        found[name] = "is there"
        try:
            if path.suffix == ".h5":
                with h5py.File(path) as file:
                    _hdf5(found, name, file)
            elif path.suffix == ".json":
                _flat(found, name, json.loads(path.read_text()))
            elif path.suffix == ".toml":
                _flat(found, name, tomllib.loads(path.read_text()))
            elif path.suffix in (".npz", ".npy", ".safetensors", ".csv"):
                found[f"{name}:"] = hashlib.sha256(path.read_bytes()).hexdigest()
        except (OSError, ValueError) as exc:
            found[f"{name}:"] = f"not read: {exc}"
    return found


def _hdf5(found, name, file):
    def note(place, item):
        for key, value in item.attrs.items():
            found[f"{name}:{place}@{key}"] = _digest(value)
        if isinstance(item, h5py.Dataset):
            found[f"{name}:{place}"] = _digest(item[()])

    note("", file)
    file.visititems(note)


def _digest(value):
    value = np.asarray(value)
    content = repr(value.tolist()).encode() if value.dtype.kind == "O" else value.tobytes()
    return hashlib.sha256(content + str((value.shape, value.dtype)).encode()).hexdigest()


def _flat(found, place, value):
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            _flat(found, f"{place}:{key}", item)
    else:
        found[f"{place}="] = repr(value)


def differences(whole, again, other):
    """What of `other` is unlike the two whole runs where these agree, and how many places they agree on."""
    stable = {place for place, value in whole.items() if again.get(place) == value and not place.endswith(DATES)}
    wrong = [place for place in sorted(stable) if other.get(place) != whole[place]]
    files = [place for place in other if ":" not in place and place not in whole and place not in again]
    return wrong + [f"{name} should not be there" for name in files], len(stable)


class Killer:
    """Runs commands in forks of this process, in one folder."""

    def __init__(self, folder):
        self.folder = folder

    def start(self, arguments, quiet=True):
        """The process of a command that has begun, a group of its own."""
        pid = os.fork()
        if pid:
            return pid
        try:
            os.setsid()
            os.chdir(self.folder)
            with open("told", "a") as told, open("words", "a") as words:
                os.dup2(told.fileno(), 1)
                os.dup2(words.fileno(), 2)
            from latticediff.cli import main

            main([*arguments, "--quiet"] if quiet else arguments)
        except SystemExit as done:
            os._exit(done.code if isinstance(done.code, int) else 0)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(70)
        os._exit(0)

    def whole(self, arguments, quiet=True):
        """Run a command to its end; returns its seconds."""
        (self.folder / "words").write_text("")
        began = time.perf_counter()
        code = os.waitstatus_to_exitcode(os.waitpid(self.start(arguments, quiet), 0)[1])
        if code:
            raise SystemExit(f"{' '.join(arguments)}: exit code {code}: {(self.folder / 'words').read_text()[-500:]}")
        return time.perf_counter() - began

    def killed(self, arguments, seconds, rng, left):
        """Start and kill until it gets through; returns how often it was killed."""
        kills = 0
        (self.folder / "words").write_text("")
        while True:
            pid = self.start(arguments)
            if kills < left:
                time.sleep(rng.uniform(0, seconds))
                os.killpg(pid, signal.SIGKILL) if os.getpgid(pid) == pid else os.kill(pid, signal.SIGKILL)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            if code == 0:
                return kills
            if code != -signal.SIGKILL:
                words = (self.folder / "words").read_text()[-500:]
                raise SystemExit(f"{' '.join(arguments)}: after {kills} kills exit code {code}: {words}")
            kills += 1


def build(folder):
    """Cards, and the ensemble and the model that commands read."""
    for name, text in (
        ("card", CARD),
        ("study", STUDY),
        ("critical", CRITICAL + "".join(SIZE.format(L) for L in (4, 6, 8))),
    ):
        (folder / f"{name}.toml").write_text(text)
    (folder / "sound").mkdir()
    killer = Killer(folder)
    killer.whole(("generate", "card.toml", "--out", "sound/ensemble.h5"))
    killer.whole(("train", "card.toml", "--ensemble", "sound/ensemble.h5", "--out", "sound/model"))
    return killer


def import_all():
    """Every module that a command may import, so that forks need not."""
    for threads in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(threads, "1")  # a fork takes no threads along
    import latticediff

    for module in pkgutil.walk_packages(latticediff.__path__, "latticediff."):
        if ".hosts" not in module.name and not module.name.endswith("__main__"):
            __import__(module.name)
    __import__("torch._dynamo")  # which the first optimizer of a process imports


def trial(killer, arguments, kills, rng):
    """A row: the command whole, again, and killed and resumed until it was killed this often."""
    out, found = killer.folder / "out", []
    for _ in range(2):
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        seconds = killer.whole(arguments)
        found.append(leaves(out))
    row = {"kills": 0, "finished": 0, "equal": 0, "compared": 0, "seconds": round(seconds, 2), "wrong": []}
    while row["kills"] < kills:
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        row["kills"] += killer.killed(arguments, seconds, rng, kills - row["kills"])
        wrong, row["compared"] = differences(*found, leaves(out))
        row["finished"] += 1
        row["equal"] += not wrong
        row["wrong"] += wrong[:5]
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="of all commands together")
    parser.add_argument("--seed", type=int, default=1, help="of the moments of the kills")
    parser.add_argument("--only", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    import_all()
    rng, bad = random.Random(options.seed), 0
    with tempfile.TemporaryDirectory() as folder:
        killer = build(Path(folder))
        for name in options.only:
            row = trial(killer, COMMANDS[name], -(-options.kills // len(options.only)), rng)
            bad += row["finished"] - row["equal"]
            wrong = row.pop("wrong")
            words = "  ".join(f"{value} {key}" for key, value in row.items())
            print(
                json.dumps({"command": name, **row, "wrong": wrong}) if options.json else f"{name}: {words}", flush=True
            )
            for place in wrong:
                print(f"  unlike: {place}", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

"""Every command that writes, on disks as they are at three in the morning: full, read-only, taken away, or shared.

Each trial runs one command with its output on a disk of its own, in memory (tmpfs; so this needs root on Linux):

- ``full``: too small by a random amount. The command has to end with one line and exit code 2, and, once there is
  room, the same command has to get through, to the bits of one that always had it;
- ``read-only``: one line and exit code 2, nothing written;
- ``removed``: the folder goes away at a random moment. One line and no success, or done before;
- ``two``: the same command twice at once. One of them gets through, to the same bits; the other says why it does not,
  or finds the work done.

    python benchmarks/bad_disks.py [--trials 200] [--seed 1] [--only COMMAND ...] [--json]

Printed are counts: ``done``, ``refused``, and what must not be: ``traceback`` (also a hang and a crash), ``silent``
(success with other files or bits than on a sound disk) and ``stuck`` (no success afterwards).
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from kill_commands import COMMANDS as LONG
from kill_commands import build, differences, import_all, leaves

ENS = "sound/ensemble.h5"
HANG = 600.0  #: seconds

#: name -> the command; all write below `out`
COMMANDS = {
    **LONG,
    "export": ("export", ENS, "--out", "out/fields.npz"),
    "export, pyerrors": ("export", ENS, "--out", "out/fields.json.gz"),
    "thin": ("thin", ENS, "--every", "2", "--out", "out/thin.h5"),
    "cut": ("cut", ENS, "--start", "400", "--out", "out/cut.h5"),
    "split": ("split", ENS, "--pieces", "2", "--out", "out/part.h5"),
    "merge": ("merge", ENS, "sound/other.h5", "--along", "chains", "--out", "out/merged.h5"),
    "convert": ("convert", "sound/fields.npz", "--card", "card.toml", "--out", "out/foreign.h5"),
    "weigh": (
        ("weigh", "card.toml", "--route", "ode", "--model", "sound/model", "--ensemble", ENS)
        + ("--out", "out/weights.npz")
    ),
    "propose": ("propose", "sound/model", "--n", "2000", "--max-doubling", "10", "--out", "out/pool.h5"),
    "propose, bin": ("propose", "sound/model", "--n", "2000", "--max-doubling", "10", "--out", "out/pool.bin"),
    "compare": ("compare", ENS, "sound/other.h5", "--out", "out/page"),
    "diagnose": (
        ("diagnose", "sound/model", "--ensemble", ENS, "--levels", "0", "--n", "64", "--steps", "2")
        + ("--method", "rk4", "--out", "out/diagnosis")
    ),
    "slurm": ("slurm", "card.toml", "--chains", "4", "--out", "out/many"),
}

LOUD = ("slurm", "convert", "export", "export, pyerrors", "thin", "cut", "split", "merge")  #: without --quiet


def mount(folder, *options):
    """Put an empty disk in memory, or the same with other options, where the folder is."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)], check=True)


class Disk:
    """The folder `out` of one trial, on a disk of its own."""

    def __init__(self, killer, name):
        self.killer, self.out, self.arguments = killer, killer.folder / "out", COMMANDS[name]
        self.quiet = name not in LOUD

    def start(self):
        return self.killer.start(self.arguments, quiet=self.quiet)

    def run(self):
        """``(exit code, words)`` of the command; a hang is killed, and has None."""
        (self.killer.folder / "words").write_text("")
        return self.end(self.start()), self.words()

    def end(self, pid):
        deadline = time.monotonic() + HANG
        while time.monotonic() < deadline:
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.01)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return None

    def words(self):
        return (self.killer.folder / "words").read_text()

    def used(self):
        """Bytes of what is there, files rounded up to pages."""
        return sum(-(-p.stat().st_size // 4096) * 4096 for p in self.out.rglob("*") if p.is_file())


def judged(code, words):
    """How a command ended: ``done``, ``refused`` or ``traceback``."""
    if "Traceback" in words or code is None or code < 0 or code == 70:
        return "traceback"
    if code == 0:
        return "done"
    return (
        "refused" if sum(line.startswith(("error:", "stopped:")) for line in words.splitlines()) == 1 else "traceback"
    )


def full(disk, rng, whole):
    mount(disk.out, f"size={max(4096, int(rng.uniform(0.02, 0.98) * whole.bytes)) // 4096 * 4096}")
    code, words = disk.run()
    first = judged(code, words)
    mount(disk.out, "remount", "size=512m")
    if first != "refused":
        return (first, words) if first == "traceback" or not whole.unlike(disk.out) else ("silent", "small disk")
    code, words = disk.run()
    if code != 0:
        return ("traceback" if judged(code, words) == "traceback" else "stuck"), words
    wrong = whole.unlike(disk.out)
    return ("silent", f"after a full disk: {wrong[:3]}") if wrong else ("refused", "")


def read_only(disk, rng, whole):
    mount(disk.out, "size=64m")
    mount(disk.out, "remount", "ro")
    code, words = disk.run()
    found = judged(code, words)
    return ("silent", "success on a read-only disk") if found == "done" else (found, words)


def removed(disk, rng, whole):
    mount(disk.out, "size=512m")
    moment, inner = rng.uniform(0, whole.seconds), Path(disk.arguments[disk.arguments.index("--out") + 1]).parts[1]

    def remove():
        time.sleep(moment)
        for path in disk.out.glob(f"{Path(inner).stem}*"):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)

    hand = threading.Thread(target=remove)
    (disk.killer.folder / "words").write_text("")
    pid = disk.start()  # before there is a thread
    hand.start()
    code = disk.end(pid)
    hand.join()
    return judged(code, disk.words()), disk.words()


def two(disk, rng, whole):
    mount(disk.out, "size=512m")
    (disk.killer.folder / "words").write_text("")
    pids = [disk.start()]
    time.sleep(rng.uniform(0, 0.5) * whole.seconds)
    pids.append(disk.start())
    codes, words = [disk.end(pid) for pid in pids], disk.words()
    if "Traceback" in words or None in codes or min(codes) < 0 or 70 in codes:
        return "traceback", words
    if 0 not in codes:
        return "stuck", words
    wrong = whole.unlike(disk.out)
    return ("silent", f"two at once: {wrong[:3]}") if wrong else ("done" if max(codes) == 0 else "refused", words)


KINDS = {"full": full, "read-only": read_only, "removed": removed, "two": two}


class Whole:
    """What a command leaves on a sound disk, twice."""

    def __init__(self, disk):
        self.found, self.bytes = [], 0
        for _ in range(2):
            mount(disk.out, "size=512m")
            try:
                began = time.perf_counter()
                code, words = disk.run()
                self.seconds = time.perf_counter() - began
                if code:
                    raise SystemExit(f"{' '.join(disk.arguments)}: exit code {code}: {words[-500:]}")
                self.found.append(leaves(disk.out))
                self.bytes = disk.used()
            finally:
                subprocess.run(["umount", str(disk.out)], check=True)

    def unlike(self, folder):
        return differences(*self.found, leaves(folder))[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200, help="of all commands and disks together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if os.geteuid() or not shutil.which("mount"):
        raise SystemExit("this mounts disks in memory: run it as root, on Linux")
    import_all()
    rng, bad = random.Random(options.seed), 0
    each = -(-options.trials // (len(options.only) * len(KINDS)))
    with tempfile.TemporaryDirectory() as folder:
        killer = build(Path(folder))
        killer.whole(("generate", "card.toml", "--out", "sound/other.h5", "--set", "run.seed=6"))
        killer.whole(("export", ENS, "--out", "sound/fields.npz"), quiet=False)
        (killer.folder / "out").mkdir()
        for name in options.only:
            disk = Disk(killer, name)
            whole = Whole(disk)
            for kind, trial in KINDS.items():
                counts = Counter()
                for _ in range(each):
                    try:
                        outcome, words = trial(disk, rng, whole)
                    finally:
                        subprocess.run(["umount", str(disk.out)], check=True)
                    counts[outcome] += 1
                    if outcome in ("traceback", "silent", "stuck"):
                        bad += 1
                        print(f"{outcome}: {name}, {kind}: {words.strip()[-600:]}", file=sys.stderr, flush=True)
                row = {"command": name, "disk": kind, **counts}
                print(json.dumps(row) if options.json else f"{name}, {kind}: {dict(counts)}", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

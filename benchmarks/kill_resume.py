"""Kill HMC runs with SIGKILL at random moments, resume them, and compare the files bit for bit.

Each session resumes the run in a fresh process and is killed a random time after its chain has begun,
so the kills fall into trajectories, segments, checkpoints, the final merge and the clean-up alike. When
a run gets through, its content digest must be that of the uninterrupted run; then the next one begins.

    python benchmarks/kill_resume.py --kills 100 [--json]
"""

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from latticediff.action import Phi4
from latticediff.ensemble import content_digest, run_chain, run_directory, start_fields, verify
from latticediff.hmc import HMC
from latticediff.streams import Streams

SHAPE, N_CHAINS = (16, 16), 16
CHECKPOINT_SECONDS = 0.05  # many more than in real life: every session meets several


def session(path, n_updates):
    """Begin or go on with the run; says "begun" when the chain is about to move."""
    kernel = HMC(Phi4.A(-4.0, 4.98), step_size=0.1, n_leapfrog=10)

    def start():
        streams = Streams(7)
        return kernel.start(start_fields("hot", N_CHAINS, SHAPE, streams)), streams

    kernel.advance(*start(), 1)  # compiled code is loaded before the clock starts
    print("begun", flush=True)
    options = {"thin": 10, "block": 500, "resume": True, "checkpoint_seconds": CHECKPOINT_SECONDS}
    run_chain(kernel, start, path, n_updates, **options)


def launch(path, n_updates):
    command = [sys.executable, __file__, "--session", str(path), "--updates", str(n_updates)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE)
    child.stdout.readline()
    return child


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--updates", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1, help="of the moments of the kills")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--session", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.session:
        session(options.session, options.updates)
        return 0

    folder = Path(tempfile.mkdtemp())
    rng, kills, runs, equal, hits = random.Random(options.seed), 0, 0, 0, {}
    try:
        began = time.perf_counter()
        child = launch(folder / "whole.h5", options.updates)
        loop_began = time.perf_counter()
        if child.wait() != 0:
            raise SystemExit("the uninterrupted run failed")
        seconds = time.perf_counter() - loop_began
        whole = content_digest(folder / "whole.h5")
        path = folder / "killed.h5"
        while kills < options.kills or path.exists() or run_directory(path).exists():
            child = launch(path, options.updates)
            if kills < options.kills:
                time.sleep(rng.uniform(0, 0.5 * seconds))
                child.kill()
            code = child.wait()
            if code not in (0, -signal.SIGKILL):
                raise SystemExit(f"a session failed by itself with exit code {code}")
            if code != 0:
                kills += 1
                where = (
                    ("merging" if list(folder.glob("*.part")) else "running") if not path.exists() else "cleaning up"
                )
                hits[where] = hits.get(where, 0) + 1
                continue
            runs += 1
            equal += content_digest(path) == whole and verify(path).ok
            path.unlink()
        row = {
            "kills": kills,
            "kills_while": hits,
            "runs_finished": runs,
            "runs_equal_to_uninterrupted": equal,
            "uninterrupted_seconds": round(seconds, 2),
            "total_seconds": round(time.perf_counter() - began, 1),
        }
        print(json.dumps(row) if options.json else "\n".join(f"{name}: {value}" for name, value in row.items()))
        return 0 if equal == runs > 0 else 1
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())

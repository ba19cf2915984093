"""Cost of writing an ensemble beside the HMC that makes it, L=32, 16 leapfrog steps.

`append` is the writing while the chain runs (segments, checkpoints, checksums, fsync), `merge` the one
final pass into a single file; both as a share of the time in the kernel, in wall time and in processor
time. Writer and chain take turns, so nothing hides behind anything. Each row is the least of several
repetitions: memory that a virtual machine touches for the first time, and other work on it, make single
timings of a copy vary severalfold. Every run ends with one checkpoint (some 0.1 s), however short it is;
long runs have one every 30 s or 64 MB.

    python benchmarks/ensemble_write.py [--json] [--folder DIR]
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numba

from latticediff.action import Phi4
from latticediff.ensemble import RunWriter, start_fields
from latticediff.hmc import HMC
from latticediff.streams import Streams

SHAPE, N_CHAINS, N_LEAPFROG, LAM = (32, 32), 16, 16, 4.572
BLOCK = 500


class Clock:
    """Wall and processor seconds of calls, added up under names."""

    def __init__(self):
        self.wall, self.cpu = {}, {}

    def timed(self, name, call, *args):
        wall, cpu = time.perf_counter(), time.process_time()
        result = call(*args)
        self.wall[name] = self.wall.get(name, 0.0) + time.perf_counter() - wall
        self.cpu[name] = self.cpu.get(name, 0.0) + time.process_time() - cpu
        return result


def measure(thin, n_updates, threads, folder):
    """Size of the file in MB, and a `Clock` with the times of hmc, append and merge."""
    numba.set_num_threads(threads)
    action = Phi4.A(-4.0, LAM)
    kernel = HMC(action, step_size=1 / N_LEAPFROG, n_leapfrog=N_LEAPFROG)
    streams = Streams(1)
    state = kernel.start(start_fields("hot", N_CHAINS, SHAPE, streams))
    state, _ = kernel.advance(state, streams.child("warm-up"), 50, 50)
    state = state._replace(update=0)
    path, clock = Path(folder) / "write.h5", Clock()
    options = {"action": action, "kernel": kernel, "start": (state, streams), "n_updates": n_updates, "thin": thin}
    with RunWriter.open(path, **options) as writer:
        while writer.n_updates < n_updates:
            block = min(BLOCK, n_updates - writer.n_updates)
            state, done = clock.timed("hmc", kernel.advance, state, streams, block, thin)
            clock.timed("append", writer.append, done, state, streams, 0.0)
        clock.timed("append", writer.checkpoint)
        clock.timed("merge", writer.finish)
    megabytes = path.stat().st_size / 1e6
    path.unlink()
    return megabytes, clock


def row(thin, n_updates, threads, folder, repeats):
    """The least seconds of `repeats` measurements, and their ratios."""
    measured = [measure(thin, n_updates, threads, folder) for _ in range(repeats)]
    found = {"thin": thin, "threads": threads, "n_updates": n_updates, "megabytes": round(measured[0][0], 1)}
    for kind in ("wall", "cpu"):
        least = {name: min(getattr(clock, kind)[name] for _, clock in measured) for name in ("hmc", "append", "merge")}
        found |= {f"{name}_{kind}_seconds": round(seconds, 3) for name, seconds in least.items()}
        found[f"append_{kind}_percent"] = round(100 * least["append"] / least["hmc"], 2)
        found[f"append_and_merge_{kind}_percent"] = round(100 * (least["append"] + least["merge"]) / least["hmc"], 2)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--folder", default=None, help="on the disk to measure; default the temporary directory")
    parser.add_argument("--updates", type=int, default=20_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    for thin in (10, 20, 50, 100):
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            found = row(thin, options.updates, options.threads, folder, options.repeats)
        text = "  ".join(f"{name} {value}" for name, value in found.items())
        print(json.dumps(found) if options.json else text, flush=True)


if __name__ == "__main__":
    main()

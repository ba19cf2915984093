"""Cost of writing an ensemble beside the HMC that makes it, L=32, 16 leapfrog steps.

`append` is the writing while the chain runs (segments, checkpoints, checksums, fsync), `merge` the one
final pass into a single file; both as a share of the time in the kernel. Writer and chain take turns, so
nothing hides behind anything. Each row is the least of several repetitions: memory that a virtual machine
touches for the first time, and other work on it, make single timings of a copy vary severalfold.

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
BLOCK_SECONDS = 0.5


def measure(thin, n_updates, threads, folder):
    """Size of the file in MB, seconds in the kernel, in append and in merge."""
    numba.set_num_threads(threads)
    action = Phi4.A(-4.0, LAM)
    kernel = HMC(action, step_size=1 / N_LEAPFROG, n_leapfrog=N_LEAPFROG)
    streams = Streams(1)
    state = kernel.start(start_fields("hot", N_CHAINS, SHAPE, streams))
    state, _ = kernel.advance(state, streams.child("warm-up"), 50, 50)
    state = state._replace(update=0)
    hmc = append = 0.0
    path = Path(folder) / "write.h5"
    began = time.perf_counter()
    kernel.advance(state, streams, 50, thin)
    block = max(1, int(50 * BLOCK_SECONDS / (time.perf_counter() - began)))
    with RunWriter.open(
        path, action=action, kernel=kernel, start=(state, streams), n_updates=n_updates, thin=thin
    ) as writer:
        while writer.n_updates < n_updates:
            began = time.perf_counter()
            state, done = kernel.advance(state, streams, min(block, n_updates - writer.n_updates), thin)
            moved = time.perf_counter()
            writer.append(done, state, streams, moved - began)
            hmc, append = hmc + moved - began, append + time.perf_counter() - moved
        began = time.perf_counter()
        writer.checkpoint()
        append += time.perf_counter() - began
        began = time.perf_counter()
        writer.finish()
        merge = time.perf_counter() - began
    megabytes = path.stat().st_size / 1e6
    path.unlink()
    return megabytes, hmc, append, merge


def row(thin, n_updates, threads, folder, repeats):
    """The least seconds of `repeats` measurements, and their ratios."""
    measured = [measure(thin, n_updates, threads, folder) for _ in range(repeats)]
    megabytes, hmc, append, merge = (min(column) for column in zip(*measured, strict=True))
    return {
        "thin": thin,
        "threads": threads,
        "n_updates": n_updates,
        "megabytes": round(megabytes, 1),
        "hmc_seconds": round(hmc, 3),
        "append_seconds": round(append, 3),
        "merge_seconds": round(merge, 3),
        "append_percent": round(100 * append / hmc, 2),
        "append_and_merge_percent": round(100 * (append + merge) / hmc, 2),
        "append_megabytes_per_second": round(megabytes / append, 1),
    }


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

"""Long chains by the command line: memory must stay flat after the first tenth, and <phi dS/dphi> be one.

`latticediff generate` for ten million HMC updates and `latticediff sample` for a million of a learned chain, 8x8,
with the resident memory of the process read while it works.

    python benchmarks/soak.py [--hmc 10000000] [--learned 1000000] [--json]

Growth is that of the median of the last tenth of the time over that of the second tenth; start-up, compiled code and
first buffers are in the first. The identity is exact for both chains (Schwinger-Dyson), and judged in its own error.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

N_CHAINS = 50
CARD = """
[run]
seed = 1
[action]
convention = "A"
m2 = -4.0
lam = 6.008
[lattice]
shape = [8, 8]
[hmc]
n_chains = {n_chains}
n_warmup = 300
n_updates = {hmc}
thin = 100
jitter = 0.1
[sampling]
n_forward = 64
[sampling.ode]
n_chains = {n_chains}
n_updates = {learned}
"""


def resident(pid):
    """Pages of a process that lie in memory; None once it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return None


def watched(*arguments):
    """Run a command; the growth of its memory after the first tenth of its time, and how many samples say so."""
    began, samples = time.perf_counter(), []
    child = subprocess.Popen([sys.executable, "-m", "latticediff", *map(str, arguments), "-q"])
    while child.poll() is None:
        if pages := resident(child.pid):
            samples.append(pages)
        time.sleep(0.1)
    if child.returncode:
        raise SystemExit(f"latticediff {arguments[0]} ended with exit code {child.returncode}")
    tenth = len(samples) // 10
    if tenth < 5:
        raise SystemExit("it ended too soon for memory to be followed; ask for more updates")
    early, late = (statistics.median(part) for part in (samples[tenth : 2 * tenth], samples[-tenth:]))
    return {"growth": late / early - 1, "MiB": late * 4096 / 2**20, "seconds": time.perf_counter() - began}


def identity(path):
    """<phi dS/dphi> per site and its error, by `latticediff measure`."""
    told = subprocess.run(
        [sys.executable, "-m", "latticediff", "measure", str(path), "--observable", "schwinger_dyson", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    value, error = json.loads(told.stdout)["observables"]["schwinger_dyson"]
    return value, error


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hmc", type=int, default=10_000_000)
    parser.add_argument("--learned", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        card = Path(folder) / "card.toml"
        lengths = {"hmc": options.hmc // N_CHAINS, "learned": options.learned // N_CHAINS}
        card.write_text(CARD.format(n_chains=N_CHAINS, **lengths))
        for name, stage in (
            ("hmc", ("generate", card)),
            ("learned", ("sample", card, "--route", "ode", "--model", "phi4-A-L8-fast")),
        ):
            out = Path(folder) / f"{name}.h5"
            row = {"chain": name, "updates": lengths[name] * N_CHAINS, **watched(*stage, "--out", out)}
            row["identity"], row["error"] = identity(out)
            if options.json:
                print(json.dumps(row), flush=True)
                continue
            print(
                f"{name:8} {row['updates']:>12,} updates: memory {row['MiB']:.0f} MiB, {100 * row['growth']:+.2f} %"
                f" after the first tenth; <phi dS/dphi> = {row['identity']:.5f} +- {row['error']:.5f}",
                flush=True,
            )


if __name__ == "__main__":
    main()

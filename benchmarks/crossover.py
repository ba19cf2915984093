"""What an independent |m| costs by every sampler at its best, and from how many on training has paid for itself.

    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/crossover.py [--json] [--L 8 16 32 64] [--precision 0.02]
    python benchmarks/crossover.py [--json] --rows docs/critical-slowing-down.jsonl     # from rows measured before

One row for each sampler and L of `critical_slowing_down`, whose settings, searches and interleaved timing these are:
plain and Fourier-accelerated HMC (``fourier_hmc``, searched in its mass too), clusters and learned chains. Columns are
``sampler, L, seconds_per_independent_abs_m, error, evaluations, tau_int_abs_m, acceptance, threads, training_seconds,
data_seconds``. Seconds are of processor time, all threads of the process together; an independent value is 2 tau_int
updates; evaluations are gradients of the action or passes through the network. Then one row for each learned sampler
and competitor of an L: the ratio of their seconds with its error, and the number of independent values after which the
learned one, its training and data included, is the cheaper of the two; null where it never is.
"""

import argparse
import json
import math
import os
from pathlib import Path

import critical_slowing_down as measured

LEARNED = tuple(measured.MODELS)
COMPETITORS = ("hmc", "fourier_hmc", "cluster")


def cost_row(row):
    """A row of `critical_slowing_down` as one of this table."""
    value, error = row["processor_seconds_per_independent"]["abs_m"]
    counted = row.get("gradients") or row.get("network_evaluations")
    return {
        "sampler": row["algorithm"],
        "L": row["L"],
        "seconds_per_independent_abs_m": value,
        "error": error,
        "evaluations": counted["abs_m"][0] if counted else None,
        "tau_int_abs_m": row["tau_int"]["abs_m"][0],
        "acceptance": row.get("acceptance"),
        "threads": row.get("threads", 1),
        "training_seconds": row.get("training_seconds", 0.0),
        "data_seconds": row.get("data_seconds", 0.0),
    }


def ratio_rows(costs):
    """Learned samplers over their competitors, and when training is paid back."""
    table = {(row["sampler"], row["L"]): row for row in costs}
    for extent in sorted({row["L"] for row in costs}):
        for name in LEARNED:
            for other in COMPETITORS:
                if (name, extent) not in table or (other, extent) not in table:
                    continue
                mine, theirs = table[name, extent], table[other, extent]
                a, b = (row["seconds_per_independent_abs_m"] for row in (mine, theirs))
                gain = b - a
                paid = mine["training_seconds"] + mine["data_seconds"]
                yield {
                    "ratio": f"{name} / {other}",
                    "L": extent,
                    "value": a / b,
                    "error": a / b * math.hypot(mine["error"] / a, theirs["error"] / b),
                    "paid_back_after": math.ceil(paid / gain) if gain > 0 else None,
                }


def text(row):
    """A row for people."""
    if "ratio" in row:
        after = row["paid_back_after"]
        paid = f"training paid back after {after:.2g} independent |m|" if after else "training is never paid back"
        return f"L={row['L']:<4d} {row['ratio']:22s} {row['value']:8.3g} +- {row['error']:.1g}   {paid}"
    spent = f", trained {row['training_seconds']:.0f} s" if row["training_seconds"] else ""
    counted = "" if row["evaluations"] is None else f", {row['evaluations']:.0f} evaluations"
    accepted = "" if row["acceptance"] is None else f", acceptance {row['acceptance']:.3f}"
    return (
        f"L={row['L']:<4d} {row['sampler']:12s} {1e3 * row['seconds_per_independent_abs_m']:.4g}"
        f" +- {1e3 * row['error']:.1g} ms, tau_int {row['tau_int_abs_m']:.3f}{counted}{accepted}{spent}"
    )


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON row per line")
    parser.add_argument("--rows", type=Path, help="JSON lines of critical_slowing_down.py; without: measure now")
    parser.add_argument("--L", type=int, nargs="+", default=[8, 16, 32, 64], choices=sorted(measured.LAM))
    parser.add_argument("--chains", type=int, default=64, help="at least; more on small lattices")
    parser.add_argument("--precision", type=float, default=0.02)
    parser.add_argument("--seconds", type=float, default=600, help="longest time per row")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    options.algorithms = (*COMPETITORS, *LEARNED)
    if options.rows:
        rows = [row for row in map(json.loads, options.rows.read_text().splitlines()) if row.get("L") in options.L]
    else:
        threads = int(os.environ.get("NUMBA_NUM_THREADS", os.cpu_count() or 1))
        rows = [{**row, "threads": threads} for extent in options.L for row in measured.rows_at(extent, options)]
    costs = [cost_row(row) for row in rows if row["algorithm"] in options.algorithms]
    table = [*costs, *ratio_rows(costs)]
    for row in table:
        print(json.dumps(row) if options.json else text(row))
    return table


if __name__ == "__main__":
    main()

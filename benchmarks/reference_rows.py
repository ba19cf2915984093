r"""Fifteen seeds against every row of a table of reference values: are our errors errors, our means the means?

Each seed is a run of its own: random start, HMC (leapfrog) tuned and frozen, then updates of one trajectory
followed by one Swendsen-Wang update of embedded clusters, Gamma-method errors over its chains. A
pilot run with a seed outside the fifteen sets one length for all of them, such that no error of a seed
exceeds `--precision` times the row's, within `--seconds` per row. Printed per row and observable:

deviation  mean over seeds of (seed - row) / sqrt(seed error^2 + row error^2). The row's own error is common
           to all seeds, so these fifteen numbers are not independent and have no chi^2 by themselves.
chi2       of the seeds about their own weighted mean, 14 degrees of freedom: tests our errors, the row plays no part
pull       (mean of the seeds - row) in units of both errors: tests the values

Observables of one row come from the same chains and are correlated; rows are independent, hence the sums
over rows at the end, one per observable. An error that is itself known to 5 % widens chi^2 by little.

    python benchmarks/reference_rows.py [FILE] [--rows 0 4] [--seconds 60] [--json]
"""

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
from scipy.stats import chi2 as chi2_distribution

from latticediff.action import Phi4
from latticediff.analysis import format_error, observables_table
from latticediff.cluster import Cluster
from latticediff.composite import Sequence
from latticediff.ensemble import start_fields
from latticediff.hmc import warm_up
from latticediff.observables import measure_primary
from latticediff.streams import Streams

OBSERVABLES = ("abs_m", "chi_abs", "chi", "binder", "phi2", "action_per_site", "xi_2nd")
PRIMARY = ("abs_m", "m2", "m4", "phi2", "action", "g_kmin")
N_WARMUP = 200
BLOCK_BYTES = 8e6


def theory(row):
    """The action of a row: its convention's couplings are the keys that are neither lattice nor observable."""
    couplings = {key: row[key] for key in row if key not in (*OBSERVABLES, "convention", "shape")}
    return Phi4(row["convention"], couplings, len(row["shape"]))


def chains(action, shape, n_chains, streams):
    """Kernel and thermalised state of one seed."""
    # unit variance would be far above equilibrium in convention A: a chain that is still up there when the step size
    # is frozen may never come down, and the seed would not be one of equilibrium
    phi = 0.3 * start_fields("hot", n_chains, shape, streams)
    # a quarter period of the free field, whose time unit depends on the convention
    hmc, state = warm_up(action, phi, streams, trajectory_length=math.pi / (2 * math.sqrt(action.hopping)))
    kernel = Sequence([hmc, Cluster(action)])
    state, _ = kernel.advance(state, streams.child("warmup"), N_WARMUP, N_WARMUP)
    return kernel, state._replace(update=0)


def observe(kernel, state, streams, n_updates, names):
    """`Estimate` of each observable over the next `n_updates` updates."""
    shape = state.phi.shape[1:]
    block = max(1, int(BLOCK_BYTES / state.phi.nbytes))

    def blocks():
        nonlocal state
        for first in range(0, n_updates, block):
            state, done = kernel.advance(state, streams, min(block, n_updates - first))
            yield done.phi

    series = measure_primary(blocks(), kernel.parts[0].action, PRIMARY)
    return observables_table(series, kernel.parts[0].action, shape, names)


def plan(row, n_chains, precision, seconds, n_seeds, n_pilot, streams):
    """Updates per seed, from a pilot run of `n_pilot` updates."""
    action, shape = theory(row), row["shape"]
    names = [name for name in OBSERVABLES if name in row]
    kernel, state = chains(action, shape, n_chains, streams)
    began = time.perf_counter()
    found = observe(kernel, state, streams.child("chain"), n_pilot, names)
    per_update = (time.perf_counter() - began) / n_pilot
    wanted = n_pilot * max((found[name].error / (precision * row[name][1])) ** 2 for name in names)
    affordable = seconds / n_seeds / per_update - N_WARMUP
    return max(n_pilot, math.ceil(min(wanted, affordable))), wanted <= affordable


def compare(row, estimates):
    """Statistics of the seeds of one row, a dict for each observable."""
    result = {}
    for name in estimates[0]:
        values = np.array([e[name].value for e in estimates])
        errors = np.array([e[name].error for e in estimates])
        weights = errors**-2
        mean, error = float((weights * values).sum() / weights.sum()), float(weights.sum() ** -0.5)
        reference, uncertainty = row[name]
        square = float((((values - mean) / errors) ** 2).sum())
        result[name] = {
            "reference": [reference, uncertainty],
            "mean": [mean, error],
            "error_per_seed": float(errors.mean()),
            "tau_int": float(np.mean([e[name].tau_int for e in estimates])),
            "mean_deviation": float(((values - reference) / np.hypot(errors, uncertainty)).mean()),
            "chi2": square,
            "dof": len(values) - 1,
            "p": float(chi2_distribution.sf(square, len(values) - 1)),
            "pull": (mean - reference) / math.hypot(error, uncertainty),
        }
    return result


def run_row(index, row, options):
    """All seeds of one row."""
    action, shape = theory(row), row["shape"]
    n_chains = int(min(256, max(16, 2**17 // math.prod(shape))))
    began = time.perf_counter()
    pilot = Streams(options.first_seed - 1).child(f"row-{index}")
    n_updates, reached = plan(row, n_chains, options.precision, options.seconds, options.seeds, options.pilot, pilot)
    names = [name for name in OBSERVABLES if name in row]
    estimates = []
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        streams = Streams(seed).child(f"row-{index}")
        kernel, state = chains(action, shape, n_chains, streams)
        estimates.append(observe(kernel, state, streams.child("chain"), n_updates, names))
    return {
        "row": index,
        "action": repr(action),
        "shape": shape,
        "seeds": options.seeds,
        "n_chains": n_chains,
        "n_updates": n_updates,
        "precision_reached": reached,
        "seconds": time.perf_counter() - began,
        "observables": compare(row, estimates),
    }


def over_rows(results):
    """chi^2 summed over rows, per observable: rows are independent runs."""
    sums = {}
    for name in OBSERVABLES:
        found = [r["observables"][name] for r in results if name in r["observables"]]
        if found:
            square, dof = sum(f["chi2"] for f in found), sum(f["dof"] for f in found)
            pulls = sum(f["pull"] ** 2 for f in found)
            sums[name] = {
                "chi2": square,
                "dof": dof,
                "p": float(chi2_distribution.sf(square, dof)),
                "pulls_chi2": pulls,
                "rows": len(found),
                "pulls_p": float(chi2_distribution.sf(pulls, len(found))),
            }
    return sums


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path, default=Path(__file__).with_name("reference_observables.json"))
    parser.add_argument("--rows", type=int, nargs="+", help="numbers of rows, from 0; default: all")
    parser.add_argument("--seeds", type=int, default=15)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--precision", type=float, default=1.0, help="largest error of a seed, in errors of the row")
    parser.add_argument("--pilot", type=int, default=200, help="updates of the pilot run, and least per seed")
    parser.add_argument("--seconds", type=float, default=60, help="time for all seeds of a row")
    parser.add_argument("--json", action="store_true", help="one JSON row per line")
    options = parser.parse_args(arguments)
    rows, results = json.loads(options.file.read_text())["rows"], []
    for index in range(len(rows)) if options.rows is None else options.rows:
        result = run_row(index, rows[index], options)
        results.append(result)
        if options.json:
            print(json.dumps(result), flush=True)
            continue
        lattice = "x".join(map(str, result["shape"]))
        print(
            f"\n{result['action']} on {lattice}: {result['seeds']} seeds, {result['n_chains']} chains of"
            f" {result['n_updates']} updates each, {result['seconds']:.0f} s"
            + ("" if result["precision_reached"] else " (time was up before the precision asked for)")
        )
        print(
            f"  {'observable':16}{'reference':>15}{'mean of seeds':>16}{'per seed':>10}{'tau_int':>9}{'deviation':>11}"
            f"{'chi2':>8}{'p':>7}{'pull':>7}"
        )
        for name, f in result["observables"].items():
            print(
                f"  {name:16}{format_error(*f['reference']):>15}{format_error(*f['mean']):>16}"
                f"{f['error_per_seed']:10.2g}{f['tau_int']:9.2f}{f['mean_deviation']:+11.2f}"
                f"{f['chi2']:8.1f}{f['p']:7.3f}{f['pull']:+7.2f}",
                flush=True,
            )
    sums = over_rows(results)
    if options.json:
        print(json.dumps({"over_rows": sums}))
    else:
        print(f"\nover {len(results)} rows     chi2 of seeds   dof      p   chi2 of pulls  rows      p")
        for name, f in sums.items():
            seeds = f"{f['chi2']:12.1f}{f['dof']:6d}{f['p']:7.3f}"
            print(f"  {name:16}{seeds}{f['pulls_chi2']:16.2f}{f['rows']:6d}{f['pulls_p']:7.3f}")
    return results, sums


if __name__ == "__main__":
    main()

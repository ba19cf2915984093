"""tau_int along the line xi = L / 4 of two-dimensional phi^4 (m2 = -4), exponents z, and what an independent m costs.

Rows of one L:

- ``hmc``: trajectory length, integrator and acceptance searched for the fewest force evaluations per independent |m|
  (`latticediff.hmc.search`),
- ``hmc_unit``: trajectories of length 1, leapfrog, only the step size tuned, as they are usually quoted,
- ``fourier_hmc``: Fourier-accelerated, its harmonic part integrated exactly; searched like ``hmc``, and in its mass,
- ``cluster``: of the `MIXES` of embedded clusters with local sweeps or trajectories, the one of least processor time
  per independent |m| in a scan, whose rows are kept in ``scan``,
- ``learned``, ``fast``, ``coarse``: where models for L come with the package, the exact chains of their proposals (ODE
  route): of the *accurate* one, of the *fast* one with a third of the features and fewer evaluations, and from *coarse*
  to fine, with a flow of a quarter of the sites.

A row runs until the relative error of tau_int(m), or of tau_int(m^2) for clusters (they flip the sign of m at will), is
below `--precision`, or `--seconds` are over. tau_int = 1/2 + sum rho, in updates. z is the slope of a weighted fit of
log tau_int against log L from `--fit-from` on; searched trajectories grow with L, so z of the cost in force evaluations
(``gradients``) is given beside it.

Seconds are measured afterwards, all algorithms of one L in turn, `ROUNDS` times: what else the machine does meets all
alike, and the median is taken. ``processor_seconds_...`` count all threads, ``seconds_...`` are wall time; both are of
one chain among many, with one thread of one core. 2 tau_int updates are an independent value. A learned row has
the seconds of training of its whole line of ancestors besides, and of their data.

    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/critical_slowing_down.py [--json] [--out FILE.jsonl]
        [--L 6 8 ...] [--precision 0.02] [--seconds 600]

    python benchmarks/critical_slowing_down.py --settings docs/critical-slowing-down.jsonl ...

takes the settings of HMC, Fourier HMC and clusters, and their tau_int, from an earlier run instead of searching and
measuring again, which are functions of the seed and no matter of speed; learned rows, and all timings, are new.

With `--out` rows are appended to FILE as each L is done; an L that is there is not measured again, and z is of all.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np

from latticediff import bill
from latticediff.action import Phi4
from latticediff.analysis import tau_int
from latticediff.cluster import Cluster
from latticediff.composite import Sequence
from latticediff.hmc import tune
from latticediff.local_updates import LocalMetropolis
from latticediff.markov import kernel_from_description
from latticediff.metropolis import IndependenceMetropolis
from latticediff.model.shipped import model_names
from latticediff.model.storage import load_model
from latticediff.proposal import proposal_for
from latticediff.streams import Streams
from latticediff.study.fits import power_law

LAM = {6: 6.975, 8: 6.008, 10: 5.55, 12: 5.276, 14: 5.113, 16: 4.98, 20: 4.807, 32: 4.572, 64: 4.398, 128: 4.32}
OBSERVABLES = ("m", "abs_m", "m2", "action")
ALGORITHMS = ("hmc", "hmc_unit", "fourier_hmc", "cluster", "learned", "fast", "coarse")
MODELS = {"learned": "phi4-A-L{}", "fast": "phi4-A-L{}-fast", "coarse": "phi4-A-L{}-coarse"}
#: tau_int(m), tau_int(|m|) of HMC in unit trajectories, an independent code at its own step sizes
EARLIER = {6: (3.6, 1.4), 8: (6.9, 2.6), 12: (17, 6.2), 20: (50, 21), 32: (116, 46)}
BLOCK_BYTES = 64e6
ROUNDS, ROUND_SECONDS = 7, 0.3
BUDGET = 4_000_000  # force evaluations of each chain for the search: the default ends before it has decided at L = 64
WARM = 50  # updates before timing, where tau_int is known from earlier
SCAN = 200  # updates of each chain and mix, after a quarter as many; eight times as many of the best
FINALISTS = 4
SITES = 2**16  # of all chains together, at least: what Python does between updates, above all of clusters, is shared
#: clusters (method, number) and what moves |phi|: None for a Metropolis and a reflection sweep, or a trajectory length
MIXES = tuple(
    (method, number, rest)
    for method, number in (("swendsen-wang", 1), ("swendsen-wang", 2), ("wolff", 1), ("wolff", 4))
    for rest in (None, 0.5, 1.0)
)


def mixes(action, start, streams):
    """`MIXES` by name."""
    trajectories = {
        length: tune(action, start, streams.child(f"mix-{length}"), 0.85, length, jitter=0.1)
        for length in sorted({rest for *_, rest in MIXES if rest})
    }
    for method, number, rest in MIXES:
        local = trajectories[rest] if rest else LocalMetropolis(action, 0.8, 1, 1)
        name = f"{method} {number} + {f'trajectory {rest:g}' if rest else 'sweeps'}"
        yield name, Sequence([Cluster(action, method, number), local])


def best_mix(action, start, streams):
    """The mix of least processor time per independent |m|, and the rows of the scan; the best of it run on longer."""
    kernels = dict(mixes(action, start, streams))
    rows, names, length = {}, list(kernels), SCAN
    while True:
        for name in names:
            kernel, branch = kernels[name], streams.child(f"{name}-{length}")
            state, _ = kernel.advance(kernel.start(start), branch, length // 4, length // 4)
            _, block = kernel.advance(state, branch, length)
            tau = tau_int(np.abs(block.phi.mean(axis=(2, 3))).T)
            rows[name] = {"tau_int": [tau.value, tau.error]}
        seconds = timed({name: (kernels[name], kernels[name].start(start)) for name in names}, streams, 0.1, 5)
        for name in names:
            rows[name]["processor_seconds"] = 2 * rows[name]["tau_int"][0] * seconds[name][0]
        names.sort(key=lambda name: rows[name]["processor_seconds"])
        if len(names) <= FINALISTS:
            return names[0], kernels[names[0]], rows
        names, length = names[:FINALISTS], 8 * length


def kernels(extent, start, streams, wanted, settings):
    """The algorithms at one lattice: name, kernel, and what a row says beside."""
    action = Phi4.A(-4.0, LAM[extent])
    for name in [name for name in wanted if name in settings]:
        beside = {key: settings[name][key] for key in ("mix", "scan") if key in settings[name]}
        yield name, kernel_from_description(action, settings[name]["kernel"]), beside
    wanted = [name for name in wanted if name not in settings]
    if "hmc" in wanted:
        searched = {"integrator": "search", "jitter": 0.1, "budget": BUDGET}
        yield "hmc", tune(action, start, streams.child("hmc"), "search", "search", **searched), {}
    if "hmc_unit" in wanted:
        yield "hmc_unit", tune(action, start, streams, 0.85, 1.0), {}
    if "fourier_hmc" in wanted:
        searched = {"integrator": "search", "jitter": 0.1, "budget": BUDGET, "mass": "search"}
        yield "fourier_hmc", tune(action, start, streams.child("fourier"), "search", "search", **searched), {}
    if "cluster" in wanted:
        name, kernel, scan = best_mix(action, start, streams.child("mixes"))
        yield "cluster", kernel, {"mix": name, "scan": scan}
    for family, pattern in MODELS.items():
        if family in wanted and (name := pattern.format(extent)) in model_names():
            model = load_model(name)
            paid = bill.training_seconds(model.card), bill.data_seconds(model.card)
            extra = {"model": name, "training_seconds": paid[0], "data_seconds": paid[1]}
            yield family, IndependenceMetropolis(proposal_for(model), action), extra


def measure(name, kernel, start, streams, precision, seconds):
    """Run until tau_int is known well enough; the first tenth is dropped as thermalisation."""
    decisive = "m2" if name == "cluster" else "m"
    volume = start[0].size
    block = max(1, int(BLOCK_BYTES / start.nbytes))
    state = kernel.hot_start(len(start), streams) if name in MODELS else kernel.start(start)
    series, accepted, began, wanted = [], [], time.perf_counter(), 400
    while True:
        while len(series) * block < wanted or not series:
            state, done = kernel.advance(state, streams, block)
            m = done.phi.mean(axis=tuple(range(2, done.phi.ndim)))
            series.append(np.stack([m, np.abs(m), m * m, done.action / volume]))
            accepted.append(float(np.mean(done.info["accepted"])))
            if time.perf_counter() - began > 1.2 * seconds:
                break
        spent = time.perf_counter() - began
        values = np.concatenate(series, axis=1)
        values = values[:, values.shape[1] // 10 :].transpose(0, 2, 1)
        taus = {key: tau_int(value, name=key) for key, value in zip(OBSERVABLES, values, strict=True)}
        tau = taus[decisive]
        n = values.shape[2]
        if (tau.error < precision * tau.value and n > 40 * tau.value) or spent > seconds:
            break
        wanted = int(1.5 * len(series) * block) + 1
    gradients = getattr(kernel, "force_evaluations_per_update", None) if name != "cluster" else None
    row = {
        "n_updates": len(series) * block,
        "n_chains": len(start),
        "acceptance": statistics.fmean(accepted),
        "evaluations_per_update": kernel.evaluations_per_update if name in MODELS else gradients,
        "tau_int": {key: [tau.value, tau.error] for key, tau in taus.items()},
        "kernel": kernel.describe(),
    }
    return row, state


def timed(chains, streams, seconds=ROUND_SECONDS, rounds=ROUNDS):
    """Median processor and wall seconds per update of one chain, of kernels and states by name, measured in turn."""
    lengths, found = {}, {name: [] for name in chains}
    for name, (kernel, state) in chains.items():
        kernel.advance(state, streams, 1, 1)  # what a first call compiles is no cost of an update
        began = time.perf_counter()
        kernel.advance(state, streams, 2, 2)
        lengths[name] = max(2, int(2 * seconds / (time.perf_counter() - began)))
    for _ in range(rounds):
        for name, (kernel, state) in chains.items():
            n = lengths[name]
            cpu, wall = time.process_time(), time.perf_counter()
            kernel.advance(state, streams, n, n)
            spent = time.process_time() - cpu, time.perf_counter() - wall
            found[name].append([part / (n * len(state.phi)) for part in spent])
    return {name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in found.items()}


def rows_at(extent, options):
    """All rows of one L."""
    chains = max(options.chains, SITES // extent**2)
    start = 0.3 * np.random.default_rng(options.seed).normal(size=(chains, extent, extent))
    streams = Streams(options.seed).child(f"L{extent}")
    rows, ended, settings = {}, {}, {}
    for row in map(json.loads, options.settings.read_text().splitlines() if options.settings else ()):
        if row.get("L") == extent and row["algorithm"] not in MODELS:
            settings[row["algorithm"]] = row
    for name, kernel, extra in kernels(extent, start, streams, options.algorithms, settings):
        if name in settings:
            row = {key: value for key, value in settings[name].items() if "seconds" not in key}
            state, _ = kernel.advance(kernel.start(start), streams.child(name), WARM, WARM)
        else:
            row, state = measure(name, kernel, start, streams.child(name), options.precision, options.seconds)
        rows[name] = {"algorithm": name, "L": extent, "lam": LAM[extent], **row, **extra}
        ended[name] = kernel, state
    for name, (cpu, wall) in timed(ended, streams.child("timing")).items():
        row = rows[name]
        row["processor_seconds_per_update_and_chain"], row["seconds_per_update_and_chain"] = cpu, wall
        for key, cost in (("processor_seconds_per_independent", cpu), ("seconds_per_independent", wall)):
            row[key] = {o: [2 * cost * part for part in row["tau_int"][o]] for o in ("m", "abs_m")}
        if (each := row["evaluations_per_update"]) is not None:
            row["gradients" if "hmc" in name else "network_evaluations"] = {
                o: [2 * each * part for part in row["tau_int"][o]] for o in ("m", "abs_m")
            }
    return list(rows.values())


def exponent(rows, observable, fit_from, key="tau_int"):
    """z, its error and chi^2 per degree of freedom from log tau = z log L + const; None below three points."""
    points = [(r["L"], *r[key][observable]) for r in rows if r["L"] >= fit_from and observable in r.get(key, ())]
    if len(points) < 3:
        return None
    fit = power_law(*zip(*points, strict=True))
    # a power law is only asymptotic: where it does not fit, the error grows with what is left over
    return fit and {name: fit[name] for name in ("z", "error", "chi2_per_dof")}


def text(row):
    """A row for people."""
    taus = "  ".join(f"{key} {value:8.2f}({error:.2f})" for key, (value, error) in row["tau_int"].items())
    known = EARLIER.get(row["L"]) if row["algorithm"] == "hmc_unit" else None
    words = [f"{row['algorithm']:12s} L={row['L']:<4d} {taus}"]
    cpu, wall = (
        {key: 1e3 * row[name][key][0] for key in ("m", "abs_m")}
        for name in ("processor_seconds_per_independent", "seconds_per_independent")
    )
    words.append("; ".join(f"independent {key}: {cpu[key]:.3g} ms processor, {wall[key]:.3g} ms wall" for key in cpu))
    for key in ("gradients", "network_evaluations"):
        if key in row:
            words.append(f"{row[key]['abs_m'][0]:.0f} {key.replace('_', ' ')} per |m|")
    if row["algorithm"] in ("hmc", "hmc_unit", "fourier_hmc"):
        kernel = row["kernel"]
        words.append(f"T = {kernel['trajectory_length']:.3g}, {kernel['integrator']}, {kernel['n_leapfrog']} steps")
        words += [f"mass {kernel['mass']['p_hat_squared_plus']:g}"] if kernel["mass"] != "unit" else []
    words += [f"{row['mix']}"] if "mix" in row else []
    words += [f"trained {row['training_seconds']:.0f} s"] if "training_seconds" in row else []
    words += [f"earlier: m {known[0]}, abs_m {known[1]}"] if known else []
    return "; ".join(words)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON row per line")
    parser.add_argument("--out", type=Path, help="JSON lines: rows that are there are kept, new ones are appended")
    parser.add_argument("--L", type=int, nargs="+", default=[6, 8, 12, 16, 20, 32, 64], choices=sorted(LAM))
    parser.add_argument("--chains", type=int, default=64, help="at least; more on small lattices")
    parser.add_argument("--precision", type=float, default=0.02)
    parser.add_argument("--seconds", type=float, default=600, help="longest time per row")
    parser.add_argument("--fit-from", type=int, default=8)
    parser.add_argument("--algorithms", nargs="+", default=list(ALGORITHMS), choices=ALGORITHMS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--settings", type=Path, help="rows of an earlier run, whose settings are taken")
    options = parser.parse_args(arguments)
    old = options.out.read_text().splitlines() if options.out and options.out.exists() else []
    done = [row for row in map(json.loads, old) if "L" in row]
    table = {name: [row for row in done if row["algorithm"] == name] for name in options.algorithms}
    for extent in options.L:
        if any(row["L"] == extent for row in done):
            continue
        for row in rows_at(extent, options):
            table[row["algorithm"]].append(row)
            if options.out:
                with options.out.open("a") as file:
                    file.write(json.dumps(row) + "\n")
            print(json.dumps(row) if options.json else text(row), flush=True)
    for name, rows in table.items():
        for key in ("tau_int", "gradients"):
            for observable in OBSERVABLES:
                fit = exponent(rows, observable, options.fit_from, key)
                if fit is None:
                    continue
                row = {"algorithm": name, "observable": observable, "of": key, **fit}
                words = f"{name:12s} z({key}, {observable}) = {fit['z']:.2f} +- {fit['error']:.2f}"
                print(json.dumps(row) if options.json else f"{words}  (chi2/dof {fit['chi2_per_dof']:.1f})", flush=True)
    return table


if __name__ == "__main__":
    main()

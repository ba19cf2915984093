"""How often does the one-sigma interval hold the true value? Gamma method, and its rivals, on known series.

    python benchmarks/error_coverage.py --out rows.json

Pseudo-experiments: AR(1) series with exact mean and tau_int, and HMC chains of 6x6 phi^4 (convention A,
m2 = -4, lam = 6.975), whose truth is a run 20 times as long as all experiments together. Each row gives
the share of experiments within 1 and 2 claimed errors (0.683 and 0.954 for Gaussian errors that are known
exactly), and `counting_error`, what the number of experiments allows to say. Rows of short series (5 to 200 tau_int)
add the mean of the estimated over the true tau_int, and the share that the package flags. (A script called
`coverage.py` would hide the module of that name from Numba.)
"""

import argparse
import json
import math

import numpy as np
from scipy.signal import lfilter

from latticediff.action import Phi4
from latticediff.analysis import derived, jackknife, observables_table
from latticediff.hmc import tune
from latticediff.observables import binder, measure_primary
from latticediff.streams import Streams

OBSERVABLES = ("abs_m", "chi", "chi_abs", "binder", "phi2", "action_per_site", "xi_2nd")


def row(source, observable, method, pulls, **about):
    """One line of the table from deviations in units of the claimed error."""
    pulls = np.abs(np.asarray(pulls))
    return {
        "source": source,
        "observable": observable,
        "method": method,
        "experiments": len(pulls),
        **about,
        "within_1_sigma": round(float((pulls < 1).mean()), 4),
        "within_2_sigma": round(float((pulls < 2).mean()), 4),
        "counting_error": round(math.sqrt(0.683 * 0.317 / len(pulls)), 4),
    }


def ar1(a, n, n_experiments, rng):
    """Stationary AR(1) of unit variance, one experiment a row."""
    noise = rng.normal(size=(n_experiments, n)) * math.sqrt(1 - a * a)
    noise[:, 0] /= math.sqrt(1 - a * a)
    return lfilter([1.0], [1.0, -a], noise, axis=1)


def ar1_rows(n_experiments, n, seed):
    """Mean (exactly 0) and Binder cumulant (exactly 0, a non-linear quantity) of AR(1)."""
    rows = []
    for a in (0.0, 0.5, 0.9, 0.95):
        tau = (1 + a) / (2 * (1 - a))
        x = ar1(a, n, n_experiments, np.random.default_rng([seed, round(100 * a)]))
        about = {"tau_int": tau, "length_in_tau_int": round(n / tau)}
        gamma = [derived(lambda v: v, [e]) for e in x]
        rows.append(row(f"AR(1) a={a}", "mean", "gamma", [e.value / e.error for e in gamma], **about))
        cumulant = [derived(binder, [e**2, e**4]) for e in x]
        rows.append(row(f"AR(1) a={a}", "binder", "gamma", [e.value / e.error for e in cumulant], **about))
        block = max(1, round(8 * tau))
        jack = [jackknife(lambda v: v, [e], block) for e in x]
        rows.append(row(f"AR(1) a={a}", "mean", f"jackknife, {block}", [e.value / e.error for e in jack], **about))
        naive = x.mean(axis=1) / (x.std(axis=1) / math.sqrt(n))
        rows.append(row(f"AR(1) a={a}", "mean", "no autocorrelation", naive, **about))
    return rows


def short_rows(n_experiments, seed, tau=10.0):
    """Mean of short series: one mode, and two modes whose slow one holds 3/4 of tau_int in 0.3 of the variance."""
    rows = []
    a = {name: (2 * t - 1) / (2 * t + 1) for name, t in (("one", tau), ("slow", 2.5 * tau), ("fast", tau / 2.8))}
    for source, n_chains in (("one mode", 1), ("one mode", 4), ("two modes", 1), ("two modes", 4)):
        for length in (5, 10, 20, 30, 50, 100, 200):
            rng = np.random.default_rng([seed, n_chains, length])
            n, n_rows = round(length * tau / n_chains), n_experiments * n_chains
            if source == "one mode":
                x = ar1(a["one"], n, n_rows, rng)
            else:
                x = math.sqrt(0.3) * ar1(a["slow"], n, n_rows, rng) + math.sqrt(0.7) * ar1(a["fast"], n, n_rows, rng)
            found = [derived(lambda v: v, [e]) for e in x.reshape(n_experiments, n_chains, n)]
            rows.append(
                row(
                    source,
                    "mean",
                    f"gamma, {n_chains} chains",
                    [e.value / e.error for e in found],
                    tau_int=tau,
                    length_in_tau_int=length,
                    tau_estimated=round(float(np.mean([e.tau_int for e in found])) / tau, 3),
                    flagged=round(float(np.mean([not e.window_found for e in found])), 3),
                )
            )
    return rows


def hmc_rows(n_experiments, n, seed):
    """Every chain of a batch is one experiment; all start from equilibrium."""
    action, shape = Phi4.A(m2=-4.0, lam=6.975), (6, 6)
    streams = Streams(seed)
    start = 0.3 * streams.generator("start").normal(size=(n_experiments, *shape))
    kernel = tune(action, start, streams, trajectory_length=1.0)
    state, _ = kernel.advance(kernel.start(start), streams, 500, 500)

    def blocks(n_updates, block=250):
        nonlocal state
        for first in range(0, n_updates, block):
            state, done = kernel.advance(state, streams, min(block, n_updates - first))
            yield done.phi

    series = measure_primary(blocks(n), action)
    truth = observables_table(measure_primary(blocks(20 * n), action), action, shape, OBSERVABLES)
    chains = [
        observables_table({name: values[c] for name, values in series.items()}, action, shape, OBSERVABLES)
        for c in range(n_experiments)
    ]
    rows = []
    for name in OBSERVABLES:
        # an undefined estimate (xi where the data show none) covers nothing
        pulls = [(c[name].value - truth[name].value) / c[name].error for c in chains]
        pulls = np.nan_to_num(pulls, nan=math.inf)
        tau = truth[name].tau_int
        about = {"tau_int": round(tau, 2), "length_in_tau_int": round(n / tau)}
        rows.append(row("HMC 6x6", name, "gamma", pulls, **about))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ar1", type=int, default=1000, help="AR(1) pseudo-experiments")
    parser.add_argument("--ar1-length", type=int, default=10_000, help="entries in each")
    parser.add_argument("--short", type=int, default=2000, help="pseudo-experiments with short series")
    parser.add_argument("--hmc", type=int, default=200, help="HMC pseudo-experiments")
    parser.add_argument("--hmc-length", type=int, default=2000, help="trajectories in each")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", help="also write the rows to this JSON file")
    args = parser.parse_args()
    rows = ar1_rows(args.ar1, args.ar1_length, args.seed) if args.ar1 else []
    rows += short_rows(args.short, args.seed) if args.short else []
    rows += hmc_rows(args.hmc, args.hmc_length, args.seed) if args.hmc else []
    for line in rows:
        print(json.dumps(line))
    if args.out:
        with open(args.out, "w") as file:
            json.dump(rows, file, indent=1)


if __name__ == "__main__":
    main()

"""tau_int along the line xi = L / 4 of two-dimensional phi^4 (m2 = -4), and the dynamical exponents z.

HMC (leapfrog, unit trajectories), Fourier-accelerated HMC (quarter period of the free field, mass
(4 / L)^2), embedded Swendsen-Wang clusters with one Metropolis and one reflection sweep, and where a model for L
comes with the package, the exact chain of its proposals (ODE route). Each row
runs until the relative error of tau_int(m), or of tau_int(m^2) for clusters (they flip the sign of m
at will), is below `--precision`, or `--seconds` are over. tau_int = 1/2 + sum rho, in updates.
z is the slope of a weighted fit of log tau_int against log L from `--fit-from` on. A row ends with its cost, side by
side on this machine: seconds for an independent m and |m|, 2 tau_int updates of one chain; of a learned row also the
seconds of training in its model's card (data, which come from HMC or clusters, apart).

    python benchmarks/critical_slowing_down.py [--json] [--L 6 8 ...] [--precision 0.02] [--seconds 600]
"""

import argparse
import json
import math
import time

import numpy as np

from latticediff import bill
from latticediff.action import Phi4
from latticediff.analysis import tau_int
from latticediff.cluster import Cluster
from latticediff.composite import Sequence
from latticediff.hmc import tune
from latticediff.local_updates import LocalMetropolis
from latticediff.metropolis import IndependenceMetropolis
from latticediff.proposal import OdeProposal
from latticediff.proposal.grid import own_scheme
from latticediff.score.model import load_model
from latticediff.shipped import model_names
from latticediff.streams import Streams

LAM = {6: 6.975, 8: 6.008, 10: 5.55, 12: 5.276, 14: 5.113, 16: 4.98, 20: 4.807, 32: 4.572, 64: 4.398, 128: 4.32}
OBSERVABLES = ("m", "abs_m", "m2", "action")
#: tau_int(m), tau_int(|m|) of HMC in unit trajectories, an independent code at its own step sizes
EARLIER = {6: (3.6, 1.4), 8: (6.9, 2.6), 12: (17, 6.2), 20: (50, 21), 32: (116, 46)}
BLOCK_BYTES = 64e6
#: what an update is counted in: gradients of the action, evaluations of the network
EVALUATIONS = {
    "hmc": "force_evaluations_per_update",
    "fourier_hmc": "force_evaluations_per_update",
    "learned": "evaluations_per_update",
}


def kernels(extent, start, streams):
    """The algorithms at one lattice, HMC tuned to 85 % acceptance."""
    action = Phi4.A(-4.0, LAM[extent])
    quarter = math.pi / (2 * math.sqrt(action.hopping))
    yield "hmc", tune(action, start, streams, 0.85, 1.0)
    yield "fourier_hmc", tune(action, start, streams.child("fourier"), 0.85, quarter, mass=(4 / extent) ** 2)
    yield "cluster", Sequence([Cluster(action), LocalMetropolis(action, 0.8, 1, 1)])
    if (name := f"phi4-A-L{extent}") in model_names():
        model = load_model(name)
        yield "learned", IndependenceMetropolis(OdeProposal(model, **own_scheme(model)), action)


def measure(name, kernel, start, streams, precision, seconds):
    """Run until tau_int is known well enough; the first tenth is dropped as thermalisation."""
    decisive = "m2" if name == "cluster" else "m"
    volume = start[0].size
    block = max(1, int(BLOCK_BYTES / start.nbytes))
    learned = name == "learned"
    state = kernel.hot_start(len(start), streams) if learned else kernel.start(start)
    kernel.advance(state, streams.child("compile"), 1)  # what a first call compiles is no cost of an update
    series, began, wanted = [], time.perf_counter(), 400
    while True:
        while len(series) * block < wanted or not series:
            state, done = kernel.advance(state, streams, block)
            m = done.phi.mean(axis=tuple(range(2, done.phi.ndim)))
            series.append(np.stack([m, np.abs(m), m * m, done.action / volume]))
        spent = time.perf_counter() - began
        values = np.concatenate(series, axis=1)
        values = values[:, values.shape[1] // 10 :].transpose(0, 2, 1)
        taus = {key: tau_int(value, name=key) for key, value in zip(OBSERVABLES, values, strict=True)}
        tau = taus[decisive]
        n = values.shape[2]
        if (tau.error < precision * tau.value and n > 40 * tau.value) or spent > seconds:
            break
        wanted = int(1.5 * len(series) * block) + 1
    cost = spent / (len(series) * block * len(start))
    return {
        "n_updates": len(series) * block,
        "n_chains": len(start),
        "seconds_per_update_and_chain": cost,
        "evaluations_per_update": getattr(kernel, EVALUATIONS[name], None) if name in EVALUATIONS else None,
        "tau_int": {key: [tau.value, tau.error] for key, tau in taus.items()},
        "seconds_per_independent": {
            key: [2 * cost * taus[key].value, 2 * cost * taus[key].error] for key in ("m", "abs_m")
        },
        "training_seconds": bill.training_seconds(kernel.proposal.model.card) if learned else 0.0,
        "kernel": kernel.describe(),
    }


def exponent(rows, observable, fit_from):
    """z, its error and chi^2 per degree of freedom from log tau = z log L + const; None below three points."""
    points = [(r["L"], *r["tau_int"][observable]) for r in rows if r["L"] >= fit_from]
    if len(points) < 3:
        return None
    extents, taus, errors = np.array(points).T
    x, y, w = np.log(extents), np.log(taus), (taus / errors) ** 2
    mean = (w * x).sum() / w.sum()
    spread = (w * (x - mean) ** 2).sum()
    z = (w * (x - mean) * y).sum() / spread
    offset = (w * (y - z * x)).sum() / w.sum()
    chi2 = (w * (y - z * x - offset) ** 2).sum() / (len(x) - 2)
    # a power law is only asymptotic: where it does not fit, the error grows with what is left over
    return {"z": z, "error": math.sqrt(max(chi2, 1) / spread), "chi2_per_dof": chi2}


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON row per line")
    parser.add_argument("--L", type=int, nargs="+", default=[6, 8, 12, 16, 20, 32, 64], choices=sorted(LAM))
    parser.add_argument("--chains", type=int, default=64)
    parser.add_argument("--precision", type=float, default=0.02)
    parser.add_argument("--seconds", type=float, default=600, help="longest time per row")
    parser.add_argument("--fit-from", type=int, default=8)
    parser.add_argument("--algorithms", nargs="+", default=["hmc", "fourier_hmc", "cluster", "learned"])
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    table = {name: [] for name in options.algorithms}
    for extent in options.L:
        start = 0.3 * np.random.default_rng(options.seed).normal(size=(options.chains, extent, extent))
        streams = Streams(options.seed).child(f"L{extent}")
        for name, kernel in kernels(extent, start, streams):
            if name not in table:
                continue
            row = measure(name, kernel, start, streams.child(name), options.precision, options.seconds)
            row = {"algorithm": name, "L": extent, "lam": LAM[extent], **row}
            table[name].append(row)
            if options.json:
                print(json.dumps(row), flush=True)
                continue
            taus = "  ".join(f"{key} {value:8.2f}({error:.2f})" for key, (value, error) in row["tau_int"].items())
            known = EARLIER.get(extent) if name == "hmc" else None
            earlier = f"  earlier: m {known[0]}, abs_m {known[1]}" if known else ""
            cost = row["seconds_per_update_and_chain"] * 1e6
            each = "  ".join(
                f"{key} {1e3 * value:.3g}({1e3 * error:.1g})"
                for key, (value, error) in row["seconds_per_independent"].items()
            )
            print(
                f"{name:12s} L={extent:<4d} {taus}  {cost:9.1f} us/update, independent: {each} ms"
                f"{f', trained {s:.0f} s' if (s := row['training_seconds']) else ''}{earlier}",
                flush=True,
            )
    for name, rows in table.items():
        for observable in OBSERVABLES:
            fit = exponent(rows, observable, options.fit_from)
            if fit is None:
                continue
            if options.json:
                print(json.dumps({"algorithm": name, "observable": observable, **fit}), flush=True)
            else:
                print(
                    f"{name:12s} z({observable}) = {fit['z']:.2f} +- {fit['error']:.2f}"
                    f"  (chi2/dof {fit['chi2_per_dof']:.1f})"
                )
    return table


if __name__ == "__main__":
    main()

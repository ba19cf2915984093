"""phi^4 in random fields, or with random masses, that the network has never seen, against HMC with the same numbers.

    python benchmarks/random_field.py --out DIR [--card configs/random-field.toml] [--train 48] [--test 20] [--json]
    python benchmarks/random_field.py --out DIR --card configs/random-mass.toml

In DIR: ensembles of the card in `--train` fields (``action.seed = 1, 2, ...``), one network trained and fine-tuned on
all of them, and for each of `--test` further seeds a row

- ``ess``, ``ess_forward`` of the model in that field, of `N_DRAWS` proposals and of HMC's configurations,
- ``acceptance`` of the exact chain of its proposals,
- ``chi2``: of <phi_x> at all sites, or of <phi_x^2> where phi -> -phi is a symmetry, chain of the model against HMC,
  over their number: 1 if they agree, errors being those of chains of either,
- ``tau_int_m``: of m, or of |m| with the symmetry, in proposals, in trajectories of HMC as the card tunes it, and where
  clusters are valid in trajectories with one Wolff cluster each;
- ``cost_ratio``: processor time for an independent m, proposals over HMC, timed in turns, and over HMC with clusters.

What is there already is not made again.
"""

import argparse
import json
import math
import statistics
import time
from pathlib import Path

import numpy as np

from latticediff.analysis import tau_int
from latticediff.cluster import Cluster
from latticediff.composite import Sequence
from latticediff.config import load_card
from latticediff.ensemble import Ensemble
from latticediff.errors import GateError
from latticediff.hmc import HMC
from latticediff.metropolis import IndependenceMetropolis
from latticediff.model.storage import load_model
from latticediff.proposal import proposal_for
from latticediff.stages.finetune import finetune
from latticediff.stages.generate import generate
from latticediff.stages.train import train
from latticediff.streams import Streams

UNSEEN = 1_000  # seeds of fields that are measured begin above
N_DRAWS, N_CHAINS, N_UPDATES, N_CLUSTER_UPDATES = 2_000, 32, 150, 2_000
ROUNDS = 5


def ensemble(card_path, folder, seed):
    """Path of the ensemble in the field of this seed, generated if it is not there; and its card."""
    often = ["hmc.thin=2"] if seed > UNSEEN else []  # to see the autocorrelation of HMC
    card = load_card(card_path, [f"action.seed={seed}", f"run.seed={seed}", *often])
    path = folder / f"field-{seed}.h5"
    if not path.exists():
        try:
            generate(card, path, resume=True)
        except GateError as exc:
            print(f"field {seed}: {exc}", flush=True)
    return path, card


def site_means(values, n_chains):
    """Means at every site and their errors from chains, (*lattice) each; (n, *lattice) by update, then by chain."""
    chains = values.reshape(-1, n_chains, *values.shape[1:]).mean(axis=0)
    return chains.mean(axis=0), chains.std(axis=0, ddof=1) / math.sqrt(n_chains)


def ess(log_weight):
    """``<w>^2 / <w^2>``."""
    w = np.exp(log_weight - log_weight.max())
    return float(w.mean() ** 2 / (w * w).mean())


def row(model, path, card, seed):
    """The figures of one field."""
    action = card.theory()
    here = model.at(action)
    proposal = proposal_for(here)
    draw = proposal.draw(N_DRAWS, np.random.default_rng(seed))
    reverse = ess(-action(draw.phi) - draw.log_q)
    with Ensemble(path) as file:
        n_chains, thin, kernels = file.n_chains, file.thin, file.algorithm
        phis = file.phis()
    some = phis[:: max(1, len(phis) // 400)]
    log_weight = -action(some) - proposal.weigh(some)
    forward = 1 / float(np.mean(np.exp(log_weight - log_weight.max())) * np.mean(np.exp(log_weight.max() - log_weight)))
    kernel = IndependenceMetropolis(proposal, action)
    start = kernel.start(phis[-N_CHAINS:] if len(phis) >= N_CHAINS else np.resize(phis, (N_CHAINS, *phis.shape[1:])))
    state, block = kernel.advance(start, Streams(seed), N_UPDATES)
    chain = block.phi.reshape(-1, *phis.shape[1:])
    power = 2 if action.is_symmetric else 1
    ours, error = site_means(chain**power, N_CHAINS)
    theirs, other = site_means(phis**power, n_chains)
    order = np.abs if action.is_symmetric else np.asarray
    axes = tuple(range(1, phis.ndim))
    hmc_m = order(phis.mean(axis=axes)).reshape(-1, n_chains).T
    hmc = HMC.from_description(action, kernels)
    theirs_state = hmc.start(phis[-n_chains:])
    samplers = [("ours", kernel, state, 20), ("hmc", hmc, theirs_state, 200)]
    with_clusters = {}
    if action.is_symmetric:
        both = Sequence([hmc, Cluster(action, "wolff")])
        samplers.append(("cluster", both, both.start(phis[-n_chains:]), 200))
        _, found = both.advance(samplers[-1][2], Streams(seed), N_CLUSTER_UPDATES)
        with_clusters["tau_int_m_cluster"] = tau_int(
            order(found.phi.mean(axis=tuple(range(2, found.phi.ndim)))).T
        ).value
    seconds = {name: [] for name, *_ in samplers}
    for _ in range(ROUNDS):
        for name, sampler, at, updates in samplers:
            begin = time.process_time()
            sampler.advance(at, Streams(seed), updates, thin=updates)
            seconds[name].append((time.process_time() - begin) / (updates * len(at.phi)))
    our_m = order(chain.mean(axis=axes)).reshape(-1, N_CHAINS).T
    tau, tau_hmc = tau_int(our_m).value, tau_int(hmc_m).value * thin
    ours_each = statistics.median(seconds["ours"]) * tau
    if with_clusters:
        theirs_each = statistics.median(seconds["cluster"]) * with_clusters["tau_int_m_cluster"]
        with_clusters["cost_ratio_cluster"] = ours_each / theirs_each
    return {
        "seed": seed,
        "ess": reverse,
        "ess_forward": forward,
        "acceptance": float(block.info["accepted"].mean()),
        "chi2": float(np.mean((ours - theirs) ** 2 / (error**2 + other**2))),
        "tau_int_m_hmc": tau_hmc,
        "tau_int_m": tau,
        "cost_ratio": ours_each / (statistics.median(seconds["hmc"]) * tau_hmc),
        **with_clusters,
        f"mean_phi{power if power > 1 else ''}": float(theirs.mean()),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--card", type=Path, default=Path("configs/random-field.toml"))
    parser.add_argument("--train", type=int, default=48)
    parser.add_argument("--test", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    seen = [ensemble(options.card, options.out, seed)[0] for seed in range(1, options.train + 1)]
    card = load_card(options.card)
    score, tuned = options.out / "score", options.out / "model"
    train(card, seen, score, resume=True)
    finetune(card, score, seen, tuned, resume=True)
    model = load_model(tuned)
    rows = []
    for seed in range(UNSEEN + 1, UNSEEN + options.test + 1):
        path, own = ensemble(options.card, options.out, seed)
        rows.append(row(model, path, own, seed))
        print(json.dumps(rows[-1]) if options.json else rows[-1], flush=True)
    whole = {
        "fields": len(rows),
        "trained_on": options.train,
        **{f"median_{key}": statistics.median(r[key] for r in rows) for key in rows[0] if key != "seed"},
        "least_ess": min(r["ess"] for r in rows),
        "least_ess_forward": min(r["ess_forward"] for r in rows),
        "mean_chi2": statistics.fmean(r["chi2"] for r in rows),
    }
    print(json.dumps(whole) if options.json else whole)


if __name__ == "__main__":
    main()

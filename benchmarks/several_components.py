"""The price of an independent |m| of an O(N) theory, from HMC and from a model, timed in turns on one thread.

``python benchmarks/several_components.py CHAIN MODEL LEARNED``: CHAIN and LEARNED are the ensemble files of an HMC
chain and of a learned one, as `latticediff run` writes them (``chain_hmc.h5``, ``chain_ode.h5``), MODEL the folder of
the model. Prints the ratio of processor times, and the averages of both chains side by side.
"""

import argparse
import time

import numba
import numpy as np
import torch

from latticediff.ensemble import Ensemble
from latticediff.markov import kernel_from_description
from latticediff.model.storage import load_model
from latticediff.proposal.grid import own_scheme
from latticediff.proposal.ode import OdeProposal
from latticediff.stages.measure import measure
from latticediff.streams import Streams

ROUNDS, UPDATES, DRAWS = 7, 200, 128


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("chain")
    parser.add_argument("model")
    parser.add_argument("learned")
    given = parser.parse_args()
    numba.set_num_threads(1)
    torch.set_num_threads(1)
    with Ensemble(given.chain) as ensemble:
        kernel = kernel_from_description(ensemble.action, ensemble.algorithm)
        n_chains = ensemble.n_chains
        state = kernel.start(ensemble.phis(ensemble.n_cfg - n_chains))
    model = load_model(given.model)
    proposal = OdeProposal(model, batch=DRAWS, **own_scheme(model))
    kernel.advance(state, Streams(1), 2)
    proposal.draw(16, np.random.default_rng(1))
    ratios = []
    for seed in range(ROUNDS):
        times = [time.process_time()]
        kernel.advance(state, Streams(seed), UPDATES)
        times.append(time.process_time())
        proposal.draw(DRAWS, np.random.default_rng(seed))
        times.append(time.process_time())
        ratios.append((times[2] - times[1]) / DRAWS / ((times[1] - times[0]) / (n_chains * UPDATES)))
    hmc, learned = measure(given.chain), measure(given.learned)
    price = float(np.median(ratios))
    tau = learned.tau_int["abs_m"][0] / hmc.tau_int["abs_m"][0]
    print(f"a proposal takes as long as {price:.3g} updates of HMC")
    print(f"an independent |m| costs {price * tau:.3g} times as much as from HMC")
    for name, value in learned.observables.items():
        print(f"{name:17} {hmc.observables[name]!s:20} {value}")


if __name__ == "__main__":
    main()

"""One model beside classical chains: ESS, averages by weights, and the price of an independent |m|, one run in turns.

    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/beside_classical.py CARD MODEL [--seconds 120] [--json]

CARD names theory, lattice, HMC and the integrator of the proposals. Four samplers take turns of about `TURN` seconds of
processor time each, until each has had `--seconds`: the exact chain of the model's proposals; HMC as the card has it,
with its cluster updates; the HMC without clusters that `latticediff tune-hmc` finds (or that
`--plain trajectory_length=5 ...` names, [hmc] of a card); and that one with a cluster update after each trajectory. Of
each: acceptance, tau_int of |m| in updates, processor time for an independent |m|. Before that, of the model alone: ESS
of `--n` draws, the averages that their weights make, and the forward ESS, of as many configurations of fresh chains as
`--forward` says; beside the averages those of the chains.
"""

import argparse
import json
import time

import numpy as np

from latticediff.analysis import ess_forward, ess_reverse, format_error, observables_table, reweighted_table, tau_int
from latticediff.build.classical import searched_kernel, tuned_kernel
from latticediff.cluster import Cluster
from latticediff.composite import Sequence
from latticediff.config import load_card
from latticediff.ensemble import start_fields
from latticediff.metropolis import IndependenceMetropolis, doubling_error
from latticediff.model.storage import load_model
from latticediff.observables import measure_primary
from latticediff.proposal import proposal_for
from latticediff.streams import Streams

LEARNED_CHAINS, TURN, N_DOUBLING, BATCH, THIN = 16, 5.0, 200, 250, 20
PRIMARY = ("m2", "m4", "phi2", "g_kmin")
NAMES = ("binder", "xi_2nd", "chi", "phi2")


class Turns:
    """A kernel that runs in turns, its |m|, and what it took."""

    def __init__(self, kernel, state, streams, n):
        self.kernel, self.state, self.streams, self.n = kernel, state, streams, n
        self.seconds, self.abs_m, self.accepted = 0.0, [], []

    def advance(self):
        begun = time.process_time()
        while (took := time.process_time() - begun) < TURN:
            self.state, block = self.kernel.advance(self.state, self.streams, self.n)
            self.abs_m.append(np.abs(block.phi.reshape(*block.phi.shape[:2], -1).mean(axis=2)))
            self.accepted.append(block.info["accepted"].mean())
        self.seconds += took

    def forget(self):
        self.seconds, self.abs_m, self.accepted = 0.0, [], []

    def row(self):
        abs_m = np.concatenate(self.abs_m).T  # (n_chains, n_updates)
        tau = tau_int(abs_m, name="|m|")
        each = self.seconds / abs_m.size
        price = 2 * each * tau.value
        return {
            "chains": len(abs_m),
            "updates": abs_m.shape[1],
            "acceptance": float(np.mean(self.accepted)),
            "tau_int_abs_m": [tau.value, tau.error],
            "seconds_per_update": each,
            "seconds_per_independent_abs_m": [price, price * tau.error / tau.value],
        }


def pairs(table):
    """Averages with errors under the names that the literature has: Q = <m^4> / <m^2>^2 in place of U = 1 - Q / 3."""
    found = {name: [estimate.value, estimate.error] for name, estimate in table.items()}
    value, error = found.pop("binder")
    return {"Q": [3 * (1 - value), 3 * error], **found}


def weighed(proposal, action, shape, n, streams):
    """ESS of independent draws, and the averages that their weights make."""
    rng, series, weights = streams.generator("draws"), [], []
    for first in range(0, n, BATCH):
        draw = proposal.draw(min(BATCH, n - first), rng)
        weights.append(-action(draw.phi) - draw.log_q)
        series.append(measure_primary([draw.phi[None]], action, PRIMARY))
    log_weight = np.concatenate(weights)
    joined = {name: np.concatenate([part[name].ravel() for part in series])[None] for name in PRIMARY}
    table = reweighted_table(joined, log_weight[None], action, shape, NAMES)
    ess = ess_reverse(log_weight)
    return {
        "draws": n,
        "ess_reverse": [ess.value, ess.error],
        "variance_per_site": float(log_weight.var() / np.prod(shape)),
        "averages": pairs(table),
    }


def forward(proposal, action, kernel, state, streams, n):
    """Forward ESS of fresh configurations, the integration error on some of them, and the averages of the chains."""
    _, block = kernel.advance(state, streams, THIN * -(-n // len(state.phi)), THIN)
    chains = block.phi.swapaxes(0, 1)  # (n_chains, n_updates, *lattice)
    phis = chains.reshape(-1, *chains.shape[2:])
    log_q = np.concatenate([proposal.weigh(phis[i : i + BATCH]) for i in range(0, len(phis), BATCH)])
    log_weight = -action(phis) - log_q
    change = doubling_error(proposal, phis[:N_DOUBLING], log_q[:N_DOUBLING])
    ess = ess_forward(log_weight.reshape(chains.shape[:2]))
    table = observables_table(measure_primary([block.phi], action, PRIMARY), action, phis.shape[1:], NAMES)
    return {
        "configurations": len(phis),
        "ess_forward": [ess.value, ess.error],
        "largest_forward_log_weight": float(log_weight.max() - log_weight.mean()),
        "doubling_median": float(np.median(np.abs(change))),
        "doubling_spread": float(change.std()),
        "averages_classical": pairs(table),
    }


def measure(card, plain, folder, seconds, n, n_forward):
    action, shape, streams = card.theory(), card.shape, Streams(card.run.seed).child("beside")
    model = load_model(folder, action=action, shape=shape)
    ode = card.sampling.ode
    proposal = proposal_for(model, steps=ode.steps, method=ode.method, grid=ode.grid)
    start = start_fields(card.hmc.start, card.hmc.n_chains, shape, streams, action)
    own, state = tuned_kernel(card, start, streams.child("own"))
    state, _ = own.advance(state, streams.child("warmup"), card.hmc.n_warmup, card.hmc.n_warmup)
    tune = searched_kernel if plain is None else tuned_kernel
    alone = (plain or card).model_copy(update={"hmc": (plain or card).hmc.model_copy(update={"cluster": None})})
    cheapest, _ = tune(alone, state.phi, streams.child("search"))
    clusters = Sequence([cheapest, Cluster(action)])
    found = {
        "card": card.run.name,
        "evaluations": proposal.evaluations_per_draw,
        **weighed(proposal, action, shape, n, streams),
        **forward(proposal, action, own, state, streams.child("forward"), n_forward),
    }
    learned = IndependenceMetropolis(proposal, action)
    begin = learned.hot_start(LEARNED_CHAINS, streams.child("start"))
    samplers = {
        "learned": Turns(learned, begin, streams.child("learned"), 5),
        "hmc_of_the_card": Turns(own, state, streams.child("hmc"), 20),
        "hmc_alone": Turns(cheapest, cheapest.start(state.phi), streams.child("cheapest"), 20),
        "hmc_alone_and_clusters": Turns(clusters, clusters.start(state.phi), streams.child("clusters"), 20),
    }
    for sampler in samplers.values():  # what compiles and warms up does not count
        sampler.advance()
        sampler.forget()
    while min(sampler.seconds for sampler in samplers.values()) < seconds:
        for sampler in samplers.values():
            sampler.advance()
    rows = {name: sampler.row() for name, sampler in samplers.items()}
    unit = rows["learned"]["seconds_per_independent_abs_m"][0]
    for row in rows.values():
        row["price"] = [value / unit for value in row["seconds_per_independent_abs_m"]]
    return {**found, "samplers": rows}


def text(found):
    """For people; prices are in units of the learned chain's."""
    lines = [
        f"{found['card']}: ESS {format_error(*found['ess_reverse'])} of {found['draws']} draws of"
        f" {found['evaluations']} evaluations, forward {format_error(*found['ess_forward'])} of"
        f" {found['configurations']} configurations, largest log_weight {found['largest_forward_log_weight']:.2f},"
        f" log_q under doubled steps {found['doubling_spread']:.1e}"
    ]
    for name, pair in found["averages"].items():
        lines.append(f"{name:8}{format_error(*pair):>14}  classical {format_error(*found['averages_classical'][name])}")
    for name, row in found["samplers"].items():
        lines.append(
            f"{name:24}acceptance {row['acceptance']:.3f}, tau_int(|m|) {format_error(*row['tau_int_abs_m'])},"
            f" price of an independent |m| {format_error(*row['price'])}"
        )
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("card")
    parser.add_argument("model")
    parser.add_argument("--seconds", type=float, default=120.0, help="of processor time, each sampler")
    parser.add_argument("--n", type=int, default=4000, help="draws of the model")
    parser.add_argument("--forward", type=int, default=1000, help="configurations of fresh chains")
    parser.add_argument("--plain", nargs="+", metavar="KEY=VALUE", help="of [hmc], for HMC alone; default: a search")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    plain = options.plain and load_card(options.card, [f"hmc.{setting}" for setting in options.plain])
    found = measure(load_card(options.card), plain, options.model, options.seconds, options.n, options.forward)
    print(json.dumps(found) if options.json else text(found))


if __name__ == "__main__":
    main()

r"""From coarse to fine: what a proposal's parts cost, and how its quality compares with a flow of all odd sites.

    NUMBA_NUM_THREADS=1 OMP_NUM_THREADS=1 python benchmarks/coarse_to_fine.py [--L 16 32 64] [--n 16000]

For each L, the shipped models ``phi4-A-L..-fast`` (a flow of the odd sites, half of the lattice) and
``phi4-A-L..-coarse`` (a flow of the coarse sites, a quarter; then fine sites by their learned law, `latticediff.fine`).
JSON rows with, for each,

``model, evaluations, ess_reverse [v, e], ess_forward [v, e], acceptance, tau_int_abs_m [v, e]`` (of chains that take
the draws in many orders), ``doubling_spread`` (of log_weight under twice the steps), ``bias`` (that spread times its
largest correlation with |m|, m^2, phi^2, S), ``flow, fine, rest`` (processor time in units of a whole draw of the fast
model, the least of interleaved rounds, one thread), their sum ``time``, ``price``, that of an independent |m|, and
``flow_ns_per_site_and_evaluation``, of the sites that it flows;

and of a coarse model ``variance_given_coarse``, the part of the variance of log_weight that the law of the fine sites
leaves, from pairs of draws with the same coarse sites. Configurations for the forward ESS are those of fresh chains.
"""

import argparse
import json
import math
import time

import numpy as np
from ess_table import held_out

from latticediff.analysis import ess_forward, ess_reverse, field_series, integration_bias, tau_int
from latticediff.metropolis import doubling_error
from latticediff.model.storage import load_model
from latticediff.proposal import proposal_for
from latticediff.streams import Streams

N_DOUBLED, N_TIMED, ROUNDS = 800, 256, 40


def tau_of(log_weight, abs_m, n_blocks=8, n_orders=16):
    """tau_int of |m| with its error, and acceptance, of independence chains that take these draws in many orders."""
    rng, taus, accepted = np.random.default_rng(3), [], []
    for block in np.array_split(np.arange(len(log_weight)), n_blocks):
        order = np.array([rng.permutation(block) for _ in range(n_orders)])
        now, chain = order[:, 0], np.empty(order.shape)
        for step in range(order.shape[1]):
            moved = np.log(rng.random(n_orders)) < log_weight[order[:, step]] - log_weight[now]
            now = np.where(moved, order[:, step], now)
            accepted.append(moved.mean())
            chain[:, step] = abs_m[now]
        taus.append(tau_int(chain).value)
    return [float(np.mean(taus)), float(np.std(taus, ddof=1) / math.sqrt(n_blocks))], float(np.mean(accepted))


def quality(proposal, theory, given, n):
    """ESS both ways, tau_int of |m|, and what the integration error does to averages."""
    draw = proposal.draw(n, np.random.default_rng(2))
    log_weight = -theory(draw.phi) - draw.log_q
    error = doubling_error(proposal, draw.phi[:N_DOUBLED], draw.log_q[:N_DOUBLED])
    series = {name: values[:N_DOUBLED] for name, values in field_series(draw.phi, theory).items()}
    bias = integration_bias(error, series)
    tau, acceptance = tau_of(log_weight, np.abs(draw.phi.mean((1, 2))))
    reverse, forward = ess_reverse(log_weight), ess_forward(-theory(given) - proposal.weigh(given))
    return {
        "evaluations": proposal.steps,
        "ess_reverse": [reverse.value, reverse.error],
        "ess_forward": [forward.value, forward.error],
        "acceptance": acceptance,
        "tau_int_abs_m": tau,
        "doubling_spread": bias.std,
        "bias": bias.std * max(abs(value) for value, _ in bias.correlations.values()),
    }


def variance_given_coarse(proposal, n):
    """Half of the variance of the difference of log_weight between two draws of F for the same C."""
    fine, rng = proposal.odd, np.random.default_rng(4)
    theory, coarse = fine.theory, fine.coarse.draw(n, rng).phi.reshape(n, -1)
    weights = []
    for _ in range(2):
        rows, log_q = theory.compiled.draw_by_key(coarse, rng.integers(2**64, size=n, dtype=np.uint64))
        weights.append(-theory.exact(theory.law.geometry.odd(rows)) - log_q)
    return float(np.var(weights[0] - weights[1]) / 2)


def parts(proposal):
    """Functions that do the whole of a draw, its flow, and its fine sites."""
    odd, rng = proposal.odd, np.random.default_rng(7)
    inner = getattr(odd, "coarse", odd)
    noise = rng.standard_normal((N_TIMED, *inner.noise_shape))
    jobs = {"whole": lambda: proposal.draw(N_TIMED, rng), "flow": lambda: inner.flow.down(noise)}
    if inner is not odd:
        coarse, u = inner.transport(noise).phi.reshape(N_TIMED, -1), rng.random((N_TIMED, odd.theory.compiled.n))
        jobs["fine"] = lambda: odd.theory.compiled.draw(coarse, u)
    return jobs


def timed(jobs):
    """Least processor time of each function by name, taken in turn."""
    best = dict.fromkeys(jobs, math.inf)
    for _ in range(ROUNDS + 1):  # the first compiles
        for name, job in jobs.items():
            began = time.process_time()
            job()
            best[name] = min(best[name], time.process_time() - began)
    return best


def compare(extent, n, n_forward):
    """Rows of the two models of one L."""
    names = {kind: f"phi4-A-L{extent}-{kind}" for kind in ("fast", "coarse")}
    proposals = {kind: proposal_for(load_model(name)) for kind, name in names.items()}
    theory = load_model(names["fast"]).theory
    given = held_out(load_model(names["fast"]), n_forward, Streams(9))
    spent = timed({(kind, part): job for kind, proposal in proposals.items() for part, job in parts(proposal).items()})
    unit, base = spent["fast", "whole"], None
    for kind, proposal in proposals.items():
        row = {"L": extent, "model": names[kind]} | quality(proposal, theory, given, n)
        row |= {part: spent[kind, part] / unit for part in ("flow", "fine") if (kind, part) in spent}
        row["time"] = spent[kind, "whole"] / unit
        flow = getattr(proposal.odd, "coarse", proposal.odd)
        per_field = 1e9 * spent[kind, "flow"] / N_TIMED / np.prod(flow.lattice_shape)
        row["flow_ns_per_site_and_evaluation"] = per_field / flow.flow.evaluations
        row["rest"] = row["time"] - row["flow"] - row.get("fine", 0.0)
        base = base or row["tau_int_abs_m"][0]
        row["price"] = row["time"] * row["tau_int_abs_m"][0] / base
        if kind == "coarse":
            row["variance_given_coarse"] = variance_given_coarse(proposal, n)
        yield row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--L", type=int, nargs="+", default=[16, 32, 64])
    parser.add_argument("--n", type=int, default=16000, help="draws")
    parser.add_argument("--forward", type=int, default=4000, help="configurations that nothing was trained on")
    options = parser.parse_args()
    for extent in options.L:
        for row in compare(extent, options.n, options.forward):
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()

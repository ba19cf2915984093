"""What it costs to propose inside another program: the figures of docs/embedding.md.

    python benchmarks/hosts.py [--model phi4-A-L16] [--json]

Times are of one machine; what is asked for are ratios and start-up times. Run `latticediff warm-up` first.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

import numpy as np

import latticediff
from latticediff.streams import Streams


def timed(function, *arguments):
    began = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - began


def median_ratio(one, other, rounds):
    """Median over rounds of the ratio of two calls that take turns: a busy machine slows both alike."""
    one(), other()
    return statistics.median(timed(one) / timed(other) for _ in range(rounds))


def adapter(model, batch, rounds=31):
    """`HostProposal.draw` and `weigh` against what stands behind them."""
    proposal, rng = model.proposal(), np.random.default_rng(1)
    bare, phi = proposal.contract, proposal.draw(batch, 2).phi
    return {
        "draw": median_ratio(lambda: proposal.draw(batch, rng), lambda: bare.draw(batch, rng), rounds),
        # the host gets -S - log_q too
        "weigh": median_ratio(lambda: proposal.weigh(phi), lambda: bare.weigh(phi), 9),
    }


def fresh(code, rounds=5):
    """Seconds that a fresh interpreter measures, median."""
    script = f"import time; t = time.perf_counter(); {code}; print(time.perf_counter() - t)"
    found = [float(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout)
             for _ in range(rounds)]  # fmt: skip
    return statistics.median(found)


def emcee_ratio(model, n_walkers=64, n=100, rounds=7):
    """An emcee chain against `IndependenceMetropolis` of as many chains and updates; and with emcee's own `MHMove`."""
    import emcee

    from latticediff.hosts.emcee import IndependenceMove, log_prob

    proposal = model.proposal()
    start = proposal.draw(n_walkers, 1).phi
    flat = start.reshape(n_walkers, -1)
    kernel = proposal.kernel()
    state = kernel.hot_start(n_walkers, Streams(1))

    def weighing(coords, random):
        draw = proposal.draw(len(coords), int(random.randint(2**31)))
        return draw.phi.reshape(coords.shape), proposal.weigh(coords.reshape(draw.phi.shape)).log_q - draw.log_q

    def run(move, length):
        sampler = emcee.EnsembleSampler(n_walkers, flat.shape[1], log_prob(proposal), moves=move, vectorize=True)
        sampler.run_mcmc(flat, length, skip_initial_state_check=True)

    move = IndependenceMove(proposal, 1)
    ours = lambda: kernel.advance(state, Streams(2), n)  # noqa: E731
    ratio = median_ratio(lambda: run(move, n), ours, rounds)
    own = timed(run, emcee.moves.MHMove(weighing), n // 5) * 5 / timed(ours)
    return {"our move": ratio, "emcee's MHMove, weighing at every step": own}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="phi4-A-L16")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    model = latticediff.load(options.model)
    found = {"model": options.model, "adapter, batch 256": adapter(model, 256)}
    draw = f"import latticediff; latticediff.load({options.model!r}).proposal().draw(1, 1)"
    found["seconds"] = {"import latticediff": fresh("import latticediff"), "load and first draw, warm": fresh(draw)}
    try:
        found["emcee chain to ours"] = emcee_ratio(model)
    except ImportError:
        found["emcee chain to ours"] = None
    if options.json:
        print(json.dumps(found, indent=1))
        return
    for name, rows in found.items():
        for key, value in rows.items() if isinstance(rows, dict) else [("", rows)]:
            print(f"{name:22} {key:40} {value if isinstance(value, (str, type(None))) else format(value, '.4g')}")


if __name__ == "__main__":
    main()

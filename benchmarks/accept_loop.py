"""What accepting and rejecting costs beside proposing: CPU time per proposal of the loop alone, and its share.

    python benchmarks/accept_loop.py [--models NAME ...] [--chains 1 10 100 1000] [--json]

Rows: ``model, n_chains, tries, n_proposals, propose_us, accept_us, share``. The loop is measured on proposals drawn
before; what one costs is CPU time of `OdeProposal.draw` in the model's own scheme, action included.
"""

import argparse
import json
import time

import numpy as np

from latticediff.metropolis import Draw, IndependenceMetropolis, MultipleTry
from latticediff.model.storage import load_model
from latticediff.proposal import proposal_for
from latticediff.streams import Streams


class Ready:
    """Proposals drawn before, so that only the loop around them takes time."""

    is_deterministic, evaluations_per_draw = True, 0

    def __init__(self, proposal, action, n, rng):
        self.lattice_shape = proposal.lattice_shape
        draw = proposal.draw(min(n, 512), rng)
        self.phi, self.log_q = draw
        self.known = np.asarray(action(draw.phi))

    def draw(self, n, rng):
        rows = np.arange(n) % len(self.phi)
        return Draw(self.phi[rows], self.log_q[rows])

    def weigh(self, phi, rng):
        return np.full(len(phi), self.log_q.mean())

    def fingerprint(self):
        return "ready"


def timed(work, repeats=5):
    """Least CPU seconds of a few calls, all threads together: other work on the machine does not count."""
    best = np.inf
    for _ in range(repeats):
        began = time.process_time()
        work()
        best = min(best, time.process_time() - began)
    return best


def rows_of(name, chain_counts):
    """Rows of one model: proposals once, then the loop for each number of chains and of tries."""
    model = load_model(name)
    proposal, action = proposal_for(model), model.theory
    n = 512
    proposal.draw(n, np.random.default_rng(0))
    cpu = timed(lambda: action(proposal.draw(n, np.random.default_rng(1)).phi), 2) / n
    ready, total = Ready(proposal, action, n, np.random.default_rng(2)), 8192
    # what is not the loop: handing out fields and their action, which proposing costs anyway
    bare = timed(lambda: action(ready.draw(1024, None).phi)) / 1024
    for n_chains in chain_counts:
        for tries in (1, 4):
            kernel = IndependenceMetropolis(ready, action) if tries == 1 else MultipleTry(ready, action, tries)
            state, n_updates = kernel.start(ready.phi[np.arange(n_chains) % len(ready.phi)]), max(1, total // n_chains)
            whole = timed(lambda k=kernel, s=state, u=n_updates: k.advance(s, Streams(1), u, u))
            n_proposals = n_updates * n_chains * tries
            accept = max(0.0, whole / n_proposals - bare)
            yield {
                "model": name,
                "n_chains": n_chains,
                "tries": tries,
                "n_proposals": n_proposals,
                "propose_us": 1e6 * cpu,
                "accept_us": 1e6 * accept,
                "share": accept / cpu,
            }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["phi4-A-L8", "phi4-A-L32"])
    parser.add_argument("--chains", nargs="+", type=int, default=[1, 10, 100, 1000])
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    arguments = parser.parse_args()
    for name in arguments.models:
        for row in rows_of(name, arguments.chains):
            if arguments.json:
                print(json.dumps(row), flush=True)
                continue
            print(
                f"{name:11} {row['n_chains']:5} chains {row['tries']} tries: proposal {row['propose_us']:8.1f} us,"
                f" accept/reject {row['accept_us']:6.2f} us, {100 * row['share']:.2f} %",
                flush=True,
            )


if __name__ == "__main__":
    main()

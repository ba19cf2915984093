"""What is left of var(log_weight) on a quarter of the sites: how much a sampler from coarse to fine could gain.

    python benchmarks/coarse_share.py MODEL ENSEMBLE [--fields 200] [--redraws 24] [--sweeps 40] [--json]

MODEL is one of odd sites, ENSEMBLE a file of its theory in equilibrium. The odd sites of even rows, (even, odd), are a
square lattice of twice the spacing. All other sites are redrawn from their exact law given those, by `--sweeps` passes
of exact single-site draws of one colour after the other, and with the weights w of the odd sites

    log w_coarse = -log < 1 / w >_redraws,     var(log w_coarse) = its variance less that of the mean's noise:

the log weight of a sampler that proposes the coarse sites as this model does and all others from their exact law. The
last line is what remains of the variance of the odd sites, with its error by jackknife over the fields.
"""

import argparse
import json

import numpy as np

from latticediff.action.checkerboard import join, split
from latticediff.ensemble import Ensemble
from latticediff.model.storage import load_model
from latticediff.proposal import proposal_for


def redrawn(phi, theory, rng, sweeps):
    """Fields with all sites but the odd ones of even rows from their law given those."""
    fixed = phi.copy()
    L1, L2 = phi.shape[1:]
    row, column = np.indices((L1, L2))
    coarse = (row % 2 == 0) & (column % 2 == 1)

    def keys():
        return rng.integers(2**64, size=len(phi), dtype=np.uint64)

    for _ in range(sweeps):
        odd, _ = split(phi)
        phi = join(odd, theory.draw_even(odd, keys()))
        even, _ = split(np.roll(phi, 1, axis=2))  # now the even sites are those that stay
        phi = np.roll(join(even, theory.draw_even(even, keys())), -1, axis=2)
        phi[:, coarse] = fixed[:, coarse]
    return phi


def share(log_w, first):
    """``var(log w_coarse) / var(log w)`` of the fields: inverse weights (fields, redraws), and weights as they were."""
    shift = log_w.min()
    inverse = np.exp(shift - log_w)
    mean = inverse.mean(axis=1)
    coarse = shift - np.log(mean)
    noise = (inverse.var(axis=1, ddof=1) / inverse.shape[1] / mean**2).mean()
    return (coarse.var(ddof=1) - noise) / first.var(ddof=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("ensemble")
    parser.add_argument("--fields", type=int, default=200)
    parser.add_argument("--redraws", type=int, default=24)
    parser.add_argument("--sweeps", type=int, default=40)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    model, rng = load_model(arguments.model), np.random.default_rng(1)
    proposal, theory = proposal_for(model), model.action
    with Ensemble(arguments.ensemble) as ensemble:
        phi = ensemble.take(np.linspace(0, ensemble.n_cfg - 1, arguments.fields).astype(int)).astype(float)
    first = -theory.whole(phi) - proposal.weigh(phi)
    log_w = []
    for _ in range(arguments.redraws):
        fresh = redrawn(phi, theory, rng, arguments.sweeps)
        log_w.append(-theory.whole(fresh) - proposal.weigh(fresh))
    log_w = np.array(log_w).T
    left_out = np.array([share(np.delete(log_w, i, 0), np.delete(first, i)) for i in range(len(first))])
    n = len(left_out)
    row = {
        "model": arguments.model,
        "variance": float(first.var(ddof=1)),
        "share": float(share(log_w, first)),
        "error": float(np.sqrt((n - 1) / n * ((left_out - left_out.mean()) ** 2).sum())),
    }
    print(json.dumps(row) if arguments.json else f"{row['share']:.3f}({row['error']:.3f}) of {row['variance']:.3g}")


if __name__ == "__main__":
    main()

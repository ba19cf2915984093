"""var(delta_log_weight) of block moves against the block's edge, on two lattices with one network and one theory.

    python benchmarks/block_moves.py [--model phi4-A-L32] [--factor 2] [--edges 2 4 8 16] [--json]

The model is used on its own lattice and, without training, on one `factor` times as long a side, with the propagator
interpolated in the lattice momentum: errors of the network are local, so that per site they are the same. Rows:
``L, move, edge, variance, error, acceptance``; ``move`` is block or global (a fresh proposal). The flow is integrated
in the model's own scheme, with its time grid on both lattices. The fields start from proposals that a few rounds of
accepting and rejecting have weighted.
"""

import argparse
import dataclasses
import json

import numpy as np

from latticediff.gaussian.reference import GaussianReference
from latticediff.lattice import p_hat_squared
from latticediff.metropolis import IndependenceMetropolis, LatentMetropolis
from latticediff.metropolis.moves import Block, Coloured
from latticediff.model.storage import load_model
from latticediff.proposal import OdeProposal
from latticediff.proposal.grid import own_scheme
from latticediff.streams import Streams


def enlarged(model, factor):
    """The same network and couplings on a lattice `factor` times as long."""
    shape = tuple(factor * extent for extent in model.shape)
    known, G = p_hat_squared(model.shape).ravel(), model.gaussian.propagator_full.numpy().ravel()
    momenta, where = np.unique(np.round(known, 10), return_inverse=True)
    inverse = np.bincount(where, 1 / G) / np.bincount(where)
    propagator = 1 / np.interp(p_hat_squared(shape), momenta, inverse)
    power = np.ones((len(model.power_grid), *shape))
    return dataclasses.replace(model, gaussian=GaussianReference(model.action, propagator), power=power)


def rows_of(model, edges, n_chains, n_updates):
    """A row for a global move, and one for each edge of the block."""
    proposal = OdeProposal(model, **own_scheme(model))
    independent = IndependenceMetropolis(proposal, model.action)
    state, _ = independent.advance(independent.hot_start(n_chains, Streams(1)), Streams(1), 3, 3)
    for edge, move in [(0, Coloured(1.0)), *((edge, Block(edge)) for edge in edges)]:
        kernel = LatentMetropolis(proposal, model.action, move)
        _, block = kernel.advance(kernel.start(state.phi), Streams(2), n_updates, n_updates)
        deltas = block.info["delta_log_weight"]
        per_chain = (deltas**2).mean(axis=0)
        yield {
            "L": model.shape[0],
            "move": "block" if edge else "global",
            "edge": edge or model.shape[0],
            "variance": float(per_chain.mean()),
            "error": float(per_chain.std(ddof=1) / np.sqrt(n_chains)),
            "acceptance": float(block.info["accepted"].mean()),
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="phi4-A-L32")
    parser.add_argument("--factor", type=int, default=2)
    parser.add_argument("--edges", nargs="+", type=int, default=[2, 4, 8, 16])
    parser.add_argument("--chains", type=int, default=24)
    parser.add_argument("--updates", type=int, default=8)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    arguments = parser.parse_args()
    model = load_model(arguments.model)
    for case in (model, enlarged(model, arguments.factor)):
        for row in rows_of(case, arguments.edges, arguments.chains, arguments.updates):
            if arguments.json:
                print(json.dumps(row), flush=True)
                continue
            print(
                f"{row['L']:3} {row['move']:6} edge {row['edge']:3}: <delta_log_weight^2>"
                f" {row['variance']:.3f}({row['error']:.3f}), acceptance {row['acceptance']:.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()

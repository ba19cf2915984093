"""Free energy between two coexisting phases without a network: quadrature on 2x2 sites, multicanonical elsewhere.

    python benchmarks/phase_free_energy.py CARD --boundary 0.5 [--shape 8 8] [--model BOTH]

CARD names a polynomial theory of nearest neighbours in two dimensions. Phases are told apart by |m|, below and above
the boundary, as by `latticediff mix`. On 2x2 sites log Z of each phase is an integral over four numbers, done on a
grid. On larger lattices a single-site Metropolis chain samples exp(-S - f(|m|)) with f learned first (Wang and Landau)
and then fixed, so that it walks freely between the phases; its share of time in each, weighted with exp(f), is the
ratio of their Z. It shares no code with the package but the card. With ``--model``, what `latticediff mix` wrote, the
model's own draws are put beside it.
"""

import argparse
import json
import math
from pathlib import Path

import numba
import numpy as np

from latticediff.config import load_card
from latticediff.errors import ModelError
from latticediff.model.phases import Parts, load_phases
from latticediff.model.storage import load_model
from latticediff.proposal.mixture import part_log_z
from latticediff.proposal.own import proposal_for
from latticediff.streams import Streams

BINS, WALKERS, TOP = 100, 32, 1.6  # of |m|, up to TOP


@numba.njit
def potential(phi, a):
    """a_2 phi^2 + a_4 phi^4 + a_6 phi^6."""
    return a[0] * phi**2 + a[1] * phi**4 + a[2] * phi**6


@numba.njit
def bias_at(f, total, volume, top):
    """f by straight lines between the centres of its bins; infinite beyond the last."""
    at = abs(total) / volume / top * len(f) - 0.5
    if at >= len(f) - 1:
        return np.inf
    if at <= 0:
        return f[0]
    i = int(at)
    return f[i] + (at - i) * (f[i + 1] - f[i])


@numba.njit
def sweeps(phi, f, step, n, hopping, a, top, width, boundary, rng, counts):
    """`n` sweeps of one field; with `step` > 0 the bias grows where the chain is; sums of exp(f) on both sides else."""
    rows, columns = phi.shape
    volume, total = rows * columns, phi.sum()
    inner = outer = 0.0
    for _ in range(n):
        for x in range(rows):
            for y in range(columns):
                old = phi[x, y]
                new = old + width * (2 * rng.random() - 1)
                around = phi[x - 1, y] + phi[(x + 1) % rows, y] + phi[x, y - 1] + phi[x, (y + 1) % columns]
                change = potential(new, a) - potential(old, a) - hopping * (new - old) * around
                change += bias_at(f, total + new - old, volume, top) - bias_at(f, total, volume, top)
                if change <= 0 or rng.random() < math.exp(-change):
                    phi[x, y], total = new, total + new - old
        total = phi.sum()
        m = abs(total) / volume
        place = min(int(m / top * len(f)), len(f) - 1)
        counts[place] += 1
        if step > 0:
            f[place] += step
        else:
            weight = math.exp(bias_at(f, total, volume, top))
            if m < boundary:
                inner += weight
            else:
                outer += weight
    return inner, outer


def multicanonical(shape, hopping, a, boundary, n_sweeps, seed):
    """log Z of the outer phase less that of the inner one, its error, and crossings of the boundary by all walkers."""
    f, counts, width = np.zeros(BINS), np.zeros(BINS), 0.6 / math.sqrt(hopping / 3)
    walker, step, rng = np.zeros(shape), 0.1, np.random.default_rng(seed)
    while step > 2e-5:
        counts[:] = 0
        for _ in range(200):
            sweeps(walker, f, step, 500, hopping, a, TOP, width, boundary, rng, counts)
            seen = counts[counts > 0]
            if len(seen) > 10 and counts[: np.flatnonzero(counts)[-1]].min() > 0.5 * seen.mean():
                break
        step /= 2
    f -= f.min()
    inner, outer, changes = np.zeros(WALKERS), np.zeros(WALKERS), 0
    for w in range(WALKERS):
        phi = np.zeros(shape)
        sweeps(phi, f, 0.0, 1000, hopping, a, TOP, width, boundary, rng, counts)
        side = None
        for _ in range(n_sweeps // 50):
            found = sweeps(phi, f, 0.0, 50, hopping, a, TOP, width, boundary, rng, counts)
            inner[w], outer[w] = inner[w] + found[0], outer[w] + found[1]
            now = abs(phi.mean()) > boundary
            changes += side is not None and now != side
            side = now
    value = math.log(outer.sum() / inner.sum())
    left = [math.log((outer.sum() - o) / (inner.sum() - i)) for o, i in zip(outer, inner, strict=True)]
    return value, math.sqrt((WALKERS - 1) * np.var(left)), int(changes)


def quadrature(hopping, a, boundary, cells=160, reach=2.8):
    """log Z of the inner and the outer phase on 2x2 sites, and their change when the grid is made twice as fine.

    Each bond is there twice, S = sum V - 2 c s t with s = phi_1 + phi_4 and t = phi_2 + phi_3, so that four integrals
    are two of A(s) = int exp(-V(phi) - V(s - phi)) dphi. Points on the boundary |s + t| = 4 m count half each.
    """
    found = []
    for n in (cells, 2 * cells):
        step = 4 * boundary / n
        half = math.ceil(reach / step)
        weight = np.exp(-potential(step * np.arange(-half, half + 1), np.asarray(a, float)))
        pair = np.convolve(weight, weight) * step  # A, at s = step * (-2 half .. 2 half)
        s = np.arange(-2 * half, 2 * half + 1)
        with np.errstate(divide="ignore"):
            density = np.log(pair)  # -inf far out
        log_weight = np.add.outer(density, density) + 2 * hopping * step**2 * np.multiply.outer(s, s)
        shift = log_weight.max()
        weights, far = np.exp(log_weight - shift), np.abs(np.add.outer(s, s))
        on_edge = 0.5 * weights[far == n].sum()
        parts = weights[far < n].sum() + on_edge, weights[far > n].sum() + on_edge
        found.append([shift + math.log(part * step**2) for part in parts])
    coarse, fine = np.array(found)
    best = fine + (fine - coarse) / 3  # errors fall with the square of the step
    return best, np.abs(fine - coarse)


def of_model(folder, boundary, n, seed):
    """log Z of each phase by the draws of its model, `PartLogZ` in order; parts divided at the boundary."""
    parts, streams = Parts([boundary], "abs_m"), Streams(seed).child("phase-free-energy")
    try:
        models = load_phases(folder).models
    except ModelError:  # one model of both phases
        models = [load_model(folder)] * 2
    return [
        part_log_z(proposal_for(model), model.theory, parts, number, n, streams.generator(f"part-{number}"))
        for number, model in enumerate(models)
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("card", type=Path)
    parser.add_argument("--boundary", type=float, required=True)
    parser.add_argument("--shape", type=int, nargs=2, default=[8, 8])
    parser.add_argument("--model", type=Path)
    parser.add_argument("--sweeps", type=int, default=100_000, help="of each of the 32 walkers")
    parser.add_argument("--n", type=int, default=40_000, help="draws of each phase's model")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    theory = load_card(options.card).theory()
    a, hopping = tuple(theory.powers[power - 1] for power in (2, 4, 6)), theory.hopping
    row = {"theory": repr(theory), "shape": options.shape, "boundary": options.boundary}
    if options.shape == [2, 2]:
        value, error = quadrature(hopping, a, options.boundary)
        row |= {
            "log_z_inner": value[0],
            "log_z_outer": value[1],
            "delta": value[1] - value[0],
            "grid_error": error.max(),
        }
    else:
        value, error, changes = multicanonical(
            tuple(options.shape), hopping, a, options.boundary, options.sweeps, options.seed
        )
        row |= {"delta": value, "error": error, "crossings": changes, "sweeps": WALKERS * options.sweeps}
    if options.model:
        inner, outer = of_model(options.model, options.boundary, options.n, options.seed)
        row |= {
            "model_inner": [inner.log_z, inner.error],
            "model_outer": [outer.log_z, outer.error],
            "model_delta": [outer.log_z - inner.log_z, math.hypot(inner.error, outer.error)],
            "model_ess": [inner.ess, outer.ess],
        }
    print(json.dumps(row))


if __name__ == "__main__":
    main()

r"""Quantum mechanics of a double well by proposals of a learned model: energies against diagonalisation.

    python benchmarks/double_well.py MODEL [MODEL ...] --lam 1.0 --f 1.4 --time 25.6 [--n 200000] [--json]

The action of ``configs/double-well.toml`` is that of :math:`H = p^2 / 2 + \lambda (x^2 - f^2)^2` on a circle of
imaginary time T, N_t sites of spacing a = T / N_t, :math:`x = \phi`. From n proposals with their weights follow

- ``splitting``: E_1 - E_0 from C(t) = <x(0) x(t)>, which for the two lowest states is proportional to
  :math:`\cosh[(E_1 - E_0)(T/2 - t)]`: the ratio of C at T / 8 to C at T / 2, where higher states have died out;
- ``energy``: :math:`\langle V + x V' / 2 \rangle` (virial theorem), the mean energy at temperature 1 / T.

Both have errors of O(a^2), so they are held to ``exact_at_a``: the same numbers from the transfer matrix
:math:`e^{-aV/2} e^{-ap^2/2} e^{-aV/2}` on a grid, to rounding. With several models (N_t in the ratio of 2) the last
lines extrapolate to a = 0 (a^2 and a^4), to be held to the Hamiltonian, diagonalised on a grid of sinc functions.
Errors are those of a jackknife over 50 blocks.
"""

import argparse
import json

import numpy as np

from latticediff.model.storage import load_model
from latticediff.proposal import proposal_for

BLOCKS, BOX, POINTS = 50, 4.0, 500


def potential(x, lam, f):
    """V(x)."""
    return lam * (x * x - f * f) ** 2


def virial(x, lam, f):
    """``V + x V' / 2``."""
    return potential(x, lam, f) + 2 * lam * x * x * (x * x - f * f)


def levels(lam, f):
    """The lowest energies of the Hamiltonian: kinetic energy of sinc functions on a grid."""
    x = np.linspace(-BOX, BOX, POINTS)
    d = x[1] - x[0]
    i = np.subtract.outer(np.arange(POINTS), np.arange(POINTS))
    off = np.where(i == 0, 1, i)
    kinetic = np.where(i == 0, np.pi**2 / 3, 2 * (-1.0) ** i / off**2) / (2 * d * d)
    return np.linalg.eigvalsh(kinetic + np.diag(potential(x, lam, f)))


def thermal(energies, T):
    """Mean energy at temperature 1 / T."""
    weights = np.exp(-(energies - energies[0]) * T)
    return float((weights * energies).sum() / weights.sum())


def exact_at_a(lam, f, n_sites, T):
    """``(splitting, energy)`` as they are defined above, of the path integral with this many sites."""
    a = T / n_sites
    x = np.linspace(-BOX, BOX, POINTS)
    V, d = potential(x, lam, f), x[1] - x[0]
    step = np.subtract.outer(x, x)
    matrix = np.exp(-(step**2) / (2 * a) - 0.5 * a * np.add.outer(V, V)) * d / np.sqrt(2 * np.pi * a)
    values, states = np.linalg.eigh(matrix)
    keep = values > 1e-12 * values[-1]
    values, states = values[keep] / values[-1], states[:, keep]
    places = states.T @ (x[:, None] * states)

    def correlator(t):
        return float(np.einsum("i,ij,j,ij->", values ** (n_sites - t), places, values**t, places))

    energy = np.einsum("i,xi,x->", values**n_sites, states**2, virial(x, lam, f)) / (values**n_sites).sum()
    return splitting(correlator(n_sites // 8) / correlator(n_sites // 2), T), float(energy)


def splitting(ratio, T):
    """E_1 - E_0 from ``C(T / 8) / C(T / 2) = cosh(3 / 8 T (E_1 - E_0))``."""
    return float(np.arccosh(ratio) / (0.375 * T))


def measured(model, lam, f, T, n, seed=1):
    """Rows of both numbers with errors, and the ESS, from n weighted proposals."""
    proposal, rng = proposal_for(model), np.random.default_rng(seed)
    n_sites = model.lattice[0]
    sums, weights = [], []
    for _ in range(BLOCKS):
        draw = proposal.draw(n // BLOCKS, rng)
        log_weight = -model.theory(draw.phi) - draw.log_q
        spectrum = np.abs(np.fft.rfft(draw.phi)) ** 2
        C = np.fft.irfft(spectrum, n_sites)[:, [n_sites // 8, n_sites // 2]]
        values = np.column_stack([C, virial(draw.phi, lam, f).mean(axis=1)])
        weights.append(log_weight)
        sums.append(values)
    shift = max(w.max() for w in weights)
    factors = [np.exp(w - shift) for w in weights]
    totals = np.array([np.append(w @ v, w.sum()) for w, v in zip(factors, sums, strict=True)])

    def numbers(total):
        near, far, energy = total[:3] / total[3]
        return np.array([splitting(near / far, T), energy])

    whole = totals.sum(axis=0)
    left_out = np.array([numbers(whole - block) for block in totals])
    error = np.sqrt((BLOCKS - 1) * left_out.var(axis=0))
    w = np.exp(np.concatenate(weights) - shift)
    return numbers(whole), error, float(w.mean() ** 2 / (w * w).mean())


def extrapolated(values, errors):
    """At a = 0, from spacings a, a / 2, ... in this order: a polynomial in a^2 through all points."""
    weights = np.linalg.solve(
        np.vander([4.0**-k for k in range(len(values))], increasing=True).T, np.eye(len(values))[0]
    )
    return float(weights @ values), float(np.sqrt((weights**2) @ np.square(errors)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="coarsest first")
    parser.add_argument("--lam", type=float, required=True)
    parser.add_argument("--f", type=float, required=True)
    parser.add_argument("--time", type=float, required=True, help="T")
    parser.add_argument("--n", type=int, default=200_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    energies = levels(options.lam, options.f)
    found, errors = [], []
    for name in options.models:
        model = load_model(name)
        value, error, ess = measured(model, options.lam, options.f, options.time, options.n)
        exact = exact_at_a(options.lam, options.f, model.lattice[0], options.time)
        found.append(value)
        errors.append(error)
        for i, what in enumerate(("splitting", "energy")):
            row = {
                "of": what,
                "sites": model.lattice[0],
                "value": [value[i], error[i]],
                "exact_at_a": exact[i],
                "ess": ess,
            }
            print(json.dumps(row) if options.json else row, flush=True)
    if len(found) > 1:
        limits = energies[1] - energies[0], thermal(energies, options.time)
        for i, what in enumerate(("splitting", "energy")):
            row = {"of": what, "sites": None, "value": extrapolated(np.array(found)[:, i], np.array(errors)[:, i])}
            row["hamiltonian"] = float(limits[i])
            print(json.dumps(row) if options.json else row, flush=True)


if __name__ == "__main__":
    main()

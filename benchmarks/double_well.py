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

**Control variates.** The noise u that a proposal is made from is known, and so is its law: a function g(u) of mean zero
can be subtracted, times a number, from what is averaged. How often x changes wells is in the main decided by the
longest waves. With :math:`u_k` the coefficients of u on the waves of momentum :math:`2 \pi k / T` the numbers

.. math:: c_0 = 2 F_1(u_0^2) - 1, \qquad c_k = 2 F_2(|u_k|^2) - 1,

:math:`F_\nu` the distribution function of chi squared, are independent and uniform between -1 and 1, so that all
products of their Legendre polynomials but the constant have mean zero. Those of `WAVES` waves up to degree `DEGREE`
are the controls. Their factors come from a fit to the other half of the blocks, which keeps the average without bias.
Errors are those of a jackknife over 50 blocks; ``error_plain`` is that of the same draws without controls.
"""

import argparse
import itertools
import json

import numpy as np
from scipy import stats

from latticediff.fourier import real_fourier
from latticediff.model.storage import load_model
from latticediff.proposal import proposal_for

BLOCKS, BOX, POINTS = 50, 4.0, 500
WAVES, DEGREE = 3, 6


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


def controls(noise, waves=WAVES, degree=DEGREE):
    """Functions of standard normal noise (n, n_sites) whose means are zero, (n, p); see the docstring of this file."""
    coefficients = noise @ real_fourier(noise.shape[1])[: 2 * waves - 1].T
    power = [coefficients[:, 0] ** 2]
    power += [(coefficients[:, 2 * k - 1 : 2 * k + 1] ** 2).sum(axis=1) for k in range(1, waves)]
    uniform = [2 * stats.chi2.cdf(square, 1 + (k > 0)) - 1 for k, square in enumerate(power)]
    legendre = [np.polynomial.legendre.legvander(c, degree) for c in uniform]
    degrees = (d for d in itertools.product(range(degree + 1), repeat=waves) if 0 < sum(d) <= degree)
    return np.stack(
        [np.prod([table[:, d] for table, d in zip(legendre, ds, strict=True)], axis=0) for ds in degrees], 1
    )


def controlled(totals, zeros, products):
    """Sums over blocks with their controls taken off.

    Parameters
    ----------
    totals : ndarray, shape (n_blocks, K)
        Sums of what is averaged.
    zeros : ndarray, shape (n_blocks, p)
        Sums of the controls.
    products : ndarray, shape (2, 1 + p + K, 1 + p + K)
        Sums of all products of (1, controls, what is averaged) over even and over odd blocks.
    """
    p, found = zeros.shape[1], totals.copy()
    for half in (0, 1):
        other = products[1 - half]
        factors = np.linalg.lstsq(other[: p + 1, : p + 1], other[: p + 1, p + 1 :], rcond=None)[0][1:]
        found[half::2] -= zeros[half::2] @ factors
    return found


def measured(proposal, theory, n_sites, lam, f, T, n, seed=1):
    """Both numbers, their errors, the errors without controls, and the ESS, from n weighted proposals."""
    rng, shift = np.random.default_rng(seed), None
    totals, zeros, squares, products = [], [], 0.0, 0.0
    for number in range(BLOCKS):
        noise = rng.standard_normal((n // BLOCKS, n_sites))
        draw = proposal.transport(noise)
        log_weight = -theory(draw.phi) - draw.log_q
        shift = log_weight.max() if shift is None else shift
        w = np.exp(log_weight - shift)[:, None]
        C = np.fft.irfft(np.abs(np.fft.rfft(draw.phi)) ** 2, n_sites)[:, [n_sites // 8, n_sites // 2]]
        values = w * np.column_stack([C, virial(draw.phi, lam, f).mean(axis=1), np.ones(len(w))])
        g = controls(noise)
        totals.append(values.sum(axis=0))
        zeros.append(g.sum(axis=0))
        squares += (w * w).sum()
        whole = np.column_stack([np.ones(len(w)), g, values])
        products = products + np.eye(2)[number % 2][:, None, None] * (whole.T @ whole)
    totals, zeros = np.array(totals), np.array(zeros)

    def numbers(total):
        near, far, energy = total[:3] / total[3]
        return np.array([splitting(near / far, T), energy])

    def jackknife(blocks):
        whole = blocks.sum(axis=0)
        left_out = np.array([numbers(whole - block) for block in blocks])
        return numbers(whole), np.sqrt((BLOCKS - 1) * left_out.var(axis=0))

    _, plain = jackknife(totals)
    ess = totals[:, 3].sum() ** 2 / squares / (BLOCKS * (n // BLOCKS))
    return *jackknife(controlled(totals, zeros, products)), plain, float(ess)


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
        value, error, plain, ess = measured(
            proposal_for(model), model.theory, model.lattice[0], options.lam, options.f, options.time, options.n
        )
        exact = exact_at_a(options.lam, options.f, model.lattice[0], options.time)
        found.append(value)
        errors.append(error)
        for i, what in enumerate(("splitting", "energy")):
            row = {
                "of": what,
                "sites": model.lattice[0],
                "value": [value[i], error[i]],
                "error_plain": plain[i],
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

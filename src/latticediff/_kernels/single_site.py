r"""One site in the field of its neighbours, compiled: :math:`\log Z_1(h)` from a table, and exact draws.

The law is :math:`p(\phi | h) = e^{h \phi - V(\phi)} / Z_1(h)`. A draw chooses a cell of a step function that lies above
the density (Walker's alias table), a place in it, and is accepted in proportion to the density there: exact, whatever
the table, as long as the step function is above. Random numbers follow from the key of a configuration.
"""

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..types import FloatArray, IntArray
from .compile import cached, potential_name, specialise
from .potentials import phi4_value as value
from .random import fill_pairs, fill_uniforms, minus_two_log

__all__ = ["alias_tables", "build"]

ZERO, ONE, TWO = np.uint64(0), np.uint64(1), np.uint64(2)
TRIES = np.uint64(10_000)  # a step function that lets so few candidates through is broken


def around(field: FloatArray, near: IntArray, y: int) -> float:
    """Sum of the neighbours of an even site; `near` (4, V / 2) are their numbers."""
    total = 0.0
    for mu in range(near.shape[0]):
        total += field[near[mu, y]]
    return total


def log_z(h: float, low: float, inverse: float, coefficients: FloatArray) -> float:
    """``log Z_1(h)`` by the polynomial of its interval; NaN beyond the table."""
    position = (h - low) * inverse
    n = coefficients.shape[0]
    if not (position >= 0.0 and position <= n):
        return math.nan
    i = min(int(position), n - 1)
    t = 2.0 * (position - i) - 1.0
    total = coefficients[i, coefficients.shape[1] - 1]
    for k in range(coefficients.shape[1] - 2, -1, -1):
        total = total * t + coefficients[i, k]
    return total


def derivative(h: float, low: float, inverse: float, coefficients: FloatArray) -> float:
    """Derivative of `log_z`."""
    position = (h - low) * inverse
    n = coefficients.shape[0]
    if not (position >= 0.0 and position <= n):
        return math.nan
    i = min(int(position), n - 1)
    t = 2.0 * (position - i) - 1.0
    last = coefficients.shape[1] - 1
    total = last * coefficients[i, last]
    for k in range(last - 1, 0, -1):
        total = total * t + k * coefficients[i, k]
    return 2.0 * inverse * total


def evaluate(
    begin: int, end: int, h: FloatArray, low: float, inverse: float, coefficients: FloatArray, out: FloatArray,
    slope: FloatArray,
) -> None:  # fmt: skip
    """``log Z_1`` of rows begin .. end-1 of h (n, sites) into `out`, and its derivative into `slope`."""
    for row in range(begin, end):
        for x in range(h.shape[1]):
            out[row, x] = log_z(h[row, x], low, inverse, coefficients)
            slope[row, x] = derivative(h[row, x], low, inverse, coefficients)


def trial(
    h: float, row: np.uint64, first: float, second: float, edges: FloatArray, cut: FloatArray,
    alias: NDArray[np.uint64], bound: FloatArray, params: tuple[float, ...],
) -> tuple[float, float]:  # fmt: skip
    """A value from the step function of a row, from two uniforms in (0, 1], and log of density over step function."""
    cells = np.uint64(cut.shape[1])
    place = first * cells
    cell = min(np.uint64(place), cells - ONE)
    stays = np.uint64(place - cell < cut[row, cell])  # a number: half of the time a branch would be mispredicted
    cell = stays * cell + (ONE - stays) * alias[row, cell]
    phi = edges[row, ZERO] + (cell + second) * edges[row, ONE]
    return phi, h * phi - value(phi, params) - bound[row, cell]


def draw_even(
    begin: int, end: int, odd: FloatArray, keys: NDArray[np.uint64], near: IntArray, hopping: float, low: float,
    inverse_row: float, edges: FloatArray, cut: FloatArray, alias: NDArray[np.uint64], bound: FloatArray,
    params: tuple[float, ...], even: FloatArray, beyond: NDArray[np.bool_],
) -> None:  # fmt: skip
    """Even sites of configurations begin .. end-1 given their odd ones; `beyond` marks those outside the table.

    In rounds: all sites that have no value yet try once, with random numbers that are made together.
    """
    n_rows, sites = cut.shape[0], near.shape[1]
    first, second, third = np.empty(sites), np.empty(sites), np.empty(sites)
    h, drawn, excess = np.empty(sites), np.empty(sites), np.empty(sites)
    rows, waiting = np.empty(sites, np.uint64), np.empty(sites, np.uint64)
    for c in range(begin, end):
        field = odd[c]
        for y in range(sites):
            h[y] = hopping * around(field, near, y)
        count = 0
        for y in range(sites):
            even[c, y] = math.nan  # what is never drawn is seen
            position = (h[y] - low) * inverse_row
            if position >= 0.0 and position < n_rows:
                rows[y] = np.uint64(position)
                waiting[count] = y
                count += 1
            else:
                beyond[c, y] = True
        attempt = ZERO
        while count > 0 and attempt < TRIES:
            fill_pairs(first[:count], second[:count], keys[c], TWO * attempt, ZERO)
            fill_uniforms(third[:count], keys[c], TWO * attempt + ONE, ZERO)
            for i in range(count):
                third[i] = -minus_two_log(third[i])
            for i in range(count):
                y = waiting[i]
                drawn[i], excess[i] = trial(h[y], rows[y], first[i], second[i], edges, cut, alias, bound, params)
            still = 0
            for i in range(count):
                y = waiting[i]
                if not excess[i] > 0.0:
                    if 2.0 * excess[i] > third[i]:
                        even[c, y] = drawn[i]
                    else:
                        waiting[still] = y
                        still += 1
            count = still
            attempt += ONE


def conditional(
    begin: int, end: int, odd: FloatArray, even: FloatArray, near: IntArray, hopping: float, low: float,
    inverse: float, coefficients: FloatArray, params: tuple[float, ...], out: FloatArray,
) -> None:  # fmt: skip
    """``sum_y [h phi_y - V(phi_y) - log Z_1(h)]`` over the even sites y of each configuration; NaN beyond the table."""
    for c in range(begin, end):
        total = 0.0
        for y in range(near.shape[1]):
            h = hopping * around(odd[c], near, y)
            total += h * even[c, y] - value(even[c, y], params) - log_z(h, low, inverse, coefficients)
        out[c] = total


def marginal(
    begin: int, end: int, odd: FloatArray, near: IntArray, hopping: float, low: float, inverse: float,
    coefficients: FloatArray, params: tuple[float, ...], out: FloatArray,
) -> None:  # fmt: skip
    """``sum_x V(phi_x) - sum_y log Z_1(h_y)`` of each configuration of the odd sites; NaN beyond the table."""
    for c in range(begin, end):
        total = 0.0
        for x in range(odd.shape[1]):
            total += value(odd[c, x], params)
        for y in range(near.shape[1]):
            total -= log_z(hopping * around(odd[c], near, y), low, inverse, coefficients)
        out[c] = total


@cached
def alias_tables(probability: FloatArray, cut: FloatArray, alias: NDArray[np.uint64]) -> None:
    """Walker's tables for each row of probabilities (n, cells), into `cut` and `alias`."""
    cells = probability.shape[1]
    small, large = np.empty(cells, np.int64), np.empty(cells, np.int64)
    for row in range(probability.shape[0]):
        share = probability[row] * cells
        n_small = n_large = 0
        for i in range(cells):
            cut[row, i], alias[row, i] = 1.0, i
            if share[i] < 1.0:
                small[n_small] = i
                n_small += 1
            else:
                large[n_large] = i
                n_large += 1
        while n_small > 0 and n_large > 0:
            n_small -= 1
            i, j = small[n_small], large[n_large - 1]
            cut[row, i], alias[row, i] = share[i], j
            share[j] -= 1.0 - share[i]
            if share[j] < 1.0:
                n_large -= 1
                small[n_small] = j
                n_small += 1


@functools.cache
def build(potential: Any, slope: Any) -> dict[str, Any]:
    """Compiled `evaluate`, `draw_even`, `conditional` and `marginal` for one potential; built-in ones are cached."""
    bindings = {"value": potential}
    bindings["around"] = specialise(around, {}, inner=True)
    bindings["log_z"] = specialise(log_z, {}, inner=True)
    bindings["derivative"] = specialise(derivative, {}, inner=True)
    bindings["trial"] = specialise(trial, bindings, inner=True)
    name = potential_name(potential, slope)
    return {f.__name__: specialise(f, bindings, name) for f in (evaluate, draw_even, conditional, marginal)}

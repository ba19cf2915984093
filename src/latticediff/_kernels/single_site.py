r"""One site in the field of its neighbours, compiled: :math:`\log Z_1(h)` from a table, and exact draws.

The law is :math:`p(\phi | h) = e^{h \phi - V(\phi)} / Z_1(h)`. A draw chooses a cell of a step function that lies above
the density (Walker's alias table), a place in it, and is accepted in proportion to the density there: exact, whatever
the table, as long as the step function is above. Random numbers are Philox blocks (site, attempt) of the key of a
configuration; those of first attempts, nine in ten, are made for all its sites at once.
"""

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..types import FloatArray, IntArray
from .compile import potential_name, specialise
from .potentials import phi4_value as value
from .random import fill_pairs, fill_uniforms, philox

__all__ = ["build"]

LOW, TEN, TWENTY, THIRTY_TWO = np.uint64(0xFFFFFFFF), np.uint64(10), np.uint64(20), np.uint64(32)
TAIL, ZERO, ONE, TWO = np.uint64(1023), np.uint64(0), np.uint64(1), np.uint64(2)
STEP_42 = 2.0**-42
TRIES = 10_000  # an envelope that lets so many candidates through is broken


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


def one_draw(
    h: float, site: np.uint64, key: np.uint64, row: int, edges: FloatArray, cut: FloatArray, alias: IntArray,
    bound: FloatArray, params: tuple[float, ...], first: float, second: float, third: float,
) -> float:  # fmt: skip
    """One value from ``p(phi | h)``; NaN if the envelope of the row turns out to be below the density.

    `first`, `second` and `third` are the uniform numbers in (0, 1] of the first attempt.
    """
    cells = cut.shape[1]
    for attempt in range(1, TRIES):
        place = first * cells
        cell = min(int(place), cells - 1)
        if place - cell >= cut[row, cell]:
            cell = alias[row, cell]
        phi = edges[row, 0] + (cell + second) * edges[row, 1]
        excess = h * phi - value(phi, params) - bound[row, cell]
        if excess > 0.0:
            return math.nan
        if third < math.exp(excess):
            return phi
        w0, w1, w2, w3 = philox(site, TWO, np.uint64(attempt), ZERO, key & LOW, key >> THIRTY_TWO)
        first = (np.float64((w0 << TEN) | (w3 & TAIL)) + 0.5) * STEP_42
        second = (np.float64((w1 << TEN) | ((w3 >> TEN) & TAIL)) + 0.5) * STEP_42
        third = (np.float64((w2 << TEN) | ((w3 >> TWENTY) & TAIL)) + 0.5) * STEP_42
    return math.nan


def draw_even(
    begin: int, end: int, odd: FloatArray, keys: NDArray[np.uint64], near: IntArray, hopping: float, low: float,
    inverse_row: float, edges: FloatArray, cut: FloatArray, alias: IntArray, bound: FloatArray,
    params: tuple[float, ...], even: FloatArray, beyond: NDArray[np.bool_],
) -> None:  # fmt: skip
    """Even sites of configurations begin .. end-1 given their odd ones; `beyond` marks those outside the table."""
    n_rows, sites = cut.shape[0], near.shape[1]
    first, second, third = np.empty(sites), np.empty(sites), np.empty(sites)
    for c in range(begin, end):
        fill_pairs(first, second, keys[c], ZERO, ZERO)
        fill_uniforms(third, keys[c], ONE, ZERO)
        for y in range(sites):
            h = 0.0
            for mu in range(near.shape[0]):
                h += odd[c, near[mu, y]]
            h *= hopping
            position = (h - low) * inverse_row
            if position >= 0.0 and position < n_rows:
                even[c, y] = one_draw(
                    h, np.uint64(y), keys[c], int(position), edges, cut, alias, bound, params,
                    first[y], second[y], third[y],
                )  # fmt: skip
            else:
                even[c, y] = math.nan
                beyond[c, y] = True


def conditional(
    begin: int, end: int, odd: FloatArray, even: FloatArray, near: IntArray, hopping: float, low: float,
    inverse: float, coefficients: FloatArray, params: tuple[float, ...], out: FloatArray,
) -> None:  # fmt: skip
    """``sum_y [h phi_y - V(phi_y) - log Z_1(h)]`` over the even sites y of each configuration; NaN beyond the table."""
    for c in range(begin, end):
        total = 0.0
        for y in range(near.shape[1]):
            h = 0.0
            for mu in range(near.shape[0]):
                h += odd[c, near[mu, y]]
            h *= hopping
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
            h = 0.0
            for mu in range(near.shape[0]):
                h += odd[c, near[mu, y]]
            total -= log_z(hopping * h, low, inverse, coefficients)
        out[c] = total


@functools.cache
def build(potential: Any, slope: Any) -> dict[str, Any]:
    """Compiled `evaluate`, `draw_even`, `conditional` and `marginal` for one potential; built-in ones are cached."""
    bindings = {"value": potential}
    bindings["log_z"] = specialise(log_z, {}, inner=True)
    bindings["derivative"] = specialise(derivative, {}, inner=True)
    bindings["one_draw"] = specialise(one_draw, bindings, inner=True)
    name = potential_name(potential, slope)
    return {f.__name__: specialise(f, bindings, name) for f in (evaluate, draw_even, conditional, marginal)}

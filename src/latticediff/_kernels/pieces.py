"""A function given as cubic polynomials between equidistant knots, with its exact derivatives."""

import numpy as np

from .compile import cached

two, three, six = np.float32(2.0), np.float32(3.0), np.float32(6.0)


@cached
def cubic_pieces(table, low, inverse, y, n, value, slope, bend):
    """``f(y), f'(y), f''(y)`` of the first n fields `y`; `bend` may be empty.

    `table` (n_pieces, 4) holds the coefficients of ``t^3, t^2, t, 1``; t is ``(y - low) inverse`` less the number of
    the piece.
    """
    last = table.shape[0] - 1
    top = np.float32(last)
    for x in range(n):
        s = (y[x] - low) * inverse
        i = 0
        if s >= top:
            i = last
        elif s > np.float32(0.0):  # a field that is no number has the first piece, and stays none
            i = int(s)
        t = s - np.float32(i)
        c3, c2, c1 = table[i, 0], table[i, 1], table[i, 2]
        value[x] = ((c3 * t + c2) * t + c1) * t + table[i, 3]
        slope[x] = ((three * c3 * t + two * c2) * t + c1) * inverse
        if bend.shape[0] > 0:
            bend[x] = (six * c3 * t + two * c2) * inverse * inverse

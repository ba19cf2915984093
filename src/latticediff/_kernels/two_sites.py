"""Products with kernels of a few taps, two sites at a time, one configuration in each lane of `vectors`.

`SUMS_IN` sums stay in registers, and every weight that is loaded serves two sites. Fields of several components lie one
behind the other: `first`, `at` and `to` say where those of a component begin.
"""

from .compile import cached
from .vectors import LANES, add_products, load, nothing, number, store, store_all

__all__ = ["BLOCK", "ROWS", "hidden", "scatter"]

#: Features whose sums stay in registers together, for two sites each: twice as many vectors as `ROWS` of the way out
BLOCK = 8 if LANES == 16 else 4
ROWS = 5  #: output rows: 9 taps and 18 fill two and four blocks but for a tenth
SUMS_IN, SUMS_OUT = 2 * BLOCK, 2 * ROWS


@cached
def hidden(kernels, F, taps, T, x, y, u, first, J, size, g, at):
    """``h_f = sum_j A_fj * u_j`` at sites x and y into `g`, from `at` on: of each feature that at x, then that at y.

    `kernels` (F / BLOCK * J * T * BLOCK,), F a multiple of BLOCK; `taps` (V * T,) where the field at each offset from a
    site lies; J fields of `size` numbers each in `u`, from `first` on.
    """
    place, to = 0, at
    for _ in range(0, F, BLOCK):
        sums = nothing(SUMS_IN)
        for j in range(J):
            field = first + j * size
            for t in range(T):
                pair = load(u, field + number(taps, x * T + t)), load(u, field + number(taps, y * T + t))
                sums = add_products(sums, kernels, place, pair)
                place += BLOCK
        store_all(g, to, sums)
        to += SUMS_IN * LANES


@cached
def deposit(out, place, value):
    """Add a vector to what lies at a place."""
    store(out, place, load(out, place) + value)


@cached
def scatter(kernels, F, places, x, y, g, at, out, to):
    """``out_m(x - offset_t) += sum_f B_mft g_f(x)`` and the same of y; `g` as `hidden` has them, from `at` on.

    `kernels` (N * F,), rows m, t in blocks of ROWS up to N; `places` (V * N,) where what a site gives to each row goes,
    counted from `to`; behind the fields for rows that are none.
    """
    N = kernels.shape[0] // F
    place, at_x, at_y = 0, x * N, y * N
    for _ in range(0, N, ROWS):
        sums = nothing(SUMS_OUT)
        for f in range(F):
            pair = load(g, at + 2 * f * LANES), load(g, at + (2 * f + 1) * LANES)
            sums = add_products(sums, kernels, place, pair)
            place += ROWS
        deposit(out, to + number(places, at_x), sums[0])
        deposit(out, to + number(places, at_y), sums[1])
        deposit(out, to + number(places, at_x + 1), sums[2])
        deposit(out, to + number(places, at_y + 1), sums[3])
        deposit(out, to + number(places, at_x + 2), sums[4])
        deposit(out, to + number(places, at_y + 2), sums[5])
        deposit(out, to + number(places, at_x + 3), sums[6])
        deposit(out, to + number(places, at_y + 3), sums[7])
        deposit(out, to + number(places, at_x + 4), sums[8])
        deposit(out, to + number(places, at_y + 4), sums[9])
        at_x, at_y = at_x + ROWS, at_y + ROWS

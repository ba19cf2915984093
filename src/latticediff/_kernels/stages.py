"""From one stage of an explicit scheme to the next, one configuration in each lane of `vectors`."""

from .compile import cached
from .vectors import LANES, load, spread, store

__all__ = ["advance"]


@cached
def advance(state, slopes, depth, step, increments, s, factors, rows):
    """``state += step * sum_r increments[r] slope_r`` over the stages r before s.

    `slopes` (depth * size,) holds the last `depth` of them, slope_r in row r modulo `depth`; `increments` (n_stages,),
    zero for those that are no longer there; `factors` and `rows`, of `depth` elements, are scratch.
    """
    size, count = state.shape[0], 0
    for r in range(max(0, s - depth), s):
        b = step * increments[r]
        if b != 0.0:
            factors[count], rows[count] = b, r % depth * size
            count += 1
    for at in range(0, size if count > 0 else 0, LANES):
        moved = load(state, at)
        for c in range(count):
            moved = moved + spread(factors[c]) * load(slopes, rows[c] + at)
        store(state, at, moved)

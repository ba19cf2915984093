"""Configurations that lie in rows, side by side in the lanes of `vectors`, and back.

A group is `LANES` rows; lanes of the last group that have no row hold zeros.
"""

from ..types import FloatArray
from .compile import cached
from .vectors import LANES

__all__ = ["interleave", "n_groups", "separate"]


def n_groups(n: int) -> int:
    """Groups that n rows fill."""
    return -(-n // LANES)


@cached
def interleave(rows: FloatArray, group: int, out: FloatArray) -> None:
    """Rows (n, V) of a group into ``out[x * LANES + lane]``."""
    first, V = group * LANES, rows.shape[1]
    count = min(LANES, rows.shape[0] - first)
    for lane in range(count):
        row = rows[first + lane]
        for x in range(V):
            out[x * LANES + lane] = row[x]
    for lane in range(count, LANES):
        for x in range(V):
            out[x * LANES + lane] = 0.0


@cached
def separate(packed: FloatArray, group: int, rows: FloatArray) -> None:
    """The inverse of `interleave`."""
    first, V = group * LANES, rows.shape[1]
    for lane in range(min(LANES, rows.shape[0] - first)):
        row = rows[first + lane]
        for x in range(V):
            row[x] = packed[x * LANES + lane]

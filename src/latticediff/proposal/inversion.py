r"""The noise that a draw made a given field from: what gives the two ways of a flow one density.

A passage down D carries noise to a field and sums up a log_q on its way; a passage up B, the same flow integrated from
the field, leads back to nearly the same noise and sums up nearly the same log_q. The differences are those of two
integrations, :math:`B(D(x)) = x + u(x)`. A chain that weighs its draws by D and its given fields by B has two
densities, and their difference does not cancel where it alternates proposals with other updates. So the density of a
field is what D says, and B only helps to find where to ask:

.. math:: x_0 = B(\phi), \qquad x_{k+1} = x_k + B(\phi) - B(D(x_k)),

a fixed point of which is :math:`D(x) = \phi`, since B is one to one. The distance to it shrinks in every round by
:math:`c = |\partial u / \partial x|`, a part in a thousand or less for the grids in use. At :math:`x_k` both passages
are made, so the difference of their log_q is known *there*, and it changes as slowly:

.. math:: \log q(\phi) = \log q_B(\phi) - \big[\log q_B(D(x_k)) - \log q_D(x_k)\big] + O(c\,\Delta_k), \qquad
          \Delta_k^2 = \big[\log q_B(\phi) - \log q_B(D(x_k))\big]^2 + |x_{k+1} - x_k|^2

(two terms, for one may vanish by chance), which saves a round. Noise has a scale of one, hence
:math:`c \approx \max |x_1 - x_0|` to begin with where there are sites enough, and later the mean rate at which the
moves have shrunk (`test_inversion` compares what is foreseen with the error in float64). Three passages suffice for
nearly all fields of the shipped models, five for the rest. Rounding ends it: in float32, passages of neighbouring noise
differ by 1e-7 in the field and by 1e-6 (8x8) to 1e-4 (128x128) in log_q, draws among them.
"""

from collections.abc import Callable

import numpy as np

from ..types import FloatArray

__all__ = ["invert_passage"]

TOLERANCE = 1e-5  #: of log_q, and of the noise
ROUNDS = 12  #: after so many without an end, the passages do not contract
ROUNDING = 1e-3  #: what rounding may leave of log_q after the last round
FEW = 64  #: sites below which the largest of the first moves may be small by chance, and says nothing of the rate


def invert_passage(
    down: Callable[[FloatArray], tuple[FloatArray, FloatArray]],
    up: Callable[[FloatArray], tuple[FloatArray, FloatArray]],
    phi: FloatArray,
    tolerance: float = TOLERANCE,
) -> tuple[FloatArray, FloatArray]:
    """The noise that `down` carries to `phi`, and the log_q that `down` gives it on the way.

    Every field is a computation of its own: a batch of any size gives the same bits, if the passages do.

    Parameters
    ----------
    down, up : callable
        Functions of arrays (n, *lattice) that give ``(fields, log_q)`` and ``(noise, log_q)``, float64.
    phi : ndarray, shape (n, *lattice), float64
    tolerance : float
        Of log_q: a field for which a smaller error is foreseen is left alone.

    Returns
    -------
    noise : ndarray, shape (n, *lattice), float64
    log_q : ndarray, shape (n,), float64
        NaN where no noise is found: the rounds do not converge, or a passage is not finite.
    """
    axes = tuple(range(1, phi.ndim))
    with np.errstate(invalid="ignore", over="ignore"):
        first, weighed = up(phi)
        noise, log_q = first.copy(), np.full(len(phi), np.nan)
        open_rows, before = np.flatnonzero(np.isfinite(weighed) & np.isfinite(first).all(axis=axes)), log_q.copy()
        start, is_small = np.ones(len(phi)), phi[0].size < FEW if len(phi) else True
        for k in range(ROUNDS):
            if len(open_rows) == 0:
                break
            rows = open_rows
            fields, drawn = down(noise[rows])
            back, again = up(fields)
            move = first[rows] - back
            size, found = np.abs(move).max(axis=axes), weighed[rows] - (again - drawn)
            sound = np.isfinite(found) & np.isfinite(size)
            if k == 0:
                start[rows] = size
                rate = np.ones(len(rows)) if is_small else size
            else:
                rate = (size / start[rows]) ** (1 / k)
            left = rate * np.hypot(weighed[rows] - again, np.sqrt((move**2).sum(axis=axes)))
            done = sound & ((left <= tolerance) | (size <= tolerance))
            if k == ROUNDS - 1:
                done |= sound & (np.abs(found - before[rows]) <= ROUNDING * (1 - rate))
            noise[rows[sound]] += move[sound]
            before[rows] = found
            log_q[rows[done]] = found[done]
            open_rows = rows[sound & ~done]
    return noise, log_q

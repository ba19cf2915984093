r"""Where the spread of log_weight comes from, and what it does to a chain.

`explained` regresses log_weight on features of the field (powers of momentum shells, local
operators) and returns the adjusted share of its variance, with the large-sample error of a squared multiple
correlation (Olkin and Finn, Psychological Bulletin 118 (1995) 155, eq. 2). `rejections` runs the
independence Metropolis rule over given weights.
"""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from ..arrays import real_array
from ..errors import UserError
from ..host import numpy_defaults
from ..lattice import p_hat_squared
from ..types import FloatArray
from .result import Estimate

__all__ = ["expected_stay", "explained", "local_operators", "longest_rejection", "shell_powers"]


@numpy_defaults()
def explained(log_weight: ArrayLike, features: ArrayLike) -> Estimate:
    r"""Share of the variance of log_weight that a linear function of `features` explains.

    .. math:: R^2_{adj} = 1 - \frac{RSS / (n - p - 1)}{TSS / (n - 1)}

    Parameters
    ----------
    log_weight : array_like, shape (n,)
    features : array_like, shape (n, p)
        Need no normalisation; columns that are constant or repeat others do no harm.

    Returns
    -------
    Estimate
        May be below zero by its error: then the features explain nothing.

    Raises
    ------
    UserError
        Values that are not finite, or fewer than 2 p + 10 rows.
    """
    y, x = real_array(log_weight, "log_weight"), real_array(features, "features")
    n, p = x.shape
    if y.shape != (n,):
        raise UserError(f"log_weight has shape {y.shape}, features {x.shape}; expected one row for each weight")
    if n < 2 * p + 10:
        raise UserError(f"{n} configurations for {p} features; expected at least {2 * p + 10}")
    if not (np.isfinite(y).all() and np.isfinite(x).all()):
        raise UserError("log_weight or a feature is not finite; leave draws of weight zero out")
    y = y - y.mean()
    x = x - x.mean(axis=0)
    scale = x.std(axis=0)
    x = x[:, scale > 0] / scale[scale > 0]
    total = y @ y
    if not total > 0:
        raise UserError("log_weight is constant; there is no variance to explain")
    fit, _, rank, _ = np.linalg.lstsq(x, y, rcond=1e-10)
    residual = y - x @ fit
    share = 1 - (residual @ residual) / (n - rank - 1) / (total / (n - 1))
    clipped = min(max(share, 0.0), 1.0)
    error = math.hypot(2 * math.sqrt(clipped) * (1 - clipped) / math.sqrt(n), math.sqrt(2 * max(rank, 1)) / n)
    return Estimate(float(share), float(error), n=n)


@numpy_defaults()
def shell_powers(phis: FloatArray, n_shells: int = 6) -> tuple[FloatArray, list[str]]:
    r"""``|phi_k|^2 / V`` averaged over shells of momentum.

    The zero mode is a shell of its own; the other modes are cut by :math:`\hat p^2` into shells of about equal
    numbers.

    Parameters
    ----------
    phis : ndarray, shape (n, *lattice)
    n_shells : int

    Returns
    -------
    powers : ndarray, shape (n, n_found)
    labels : list of str
        Range of :math:`\hat p^2`.
    """
    shape = phis.shape[1:]
    power = np.abs(np.fft.fftn(phis, axes=tuple(range(1, phis.ndim)))).reshape(len(phis), -1) ** 2 / math.prod(shape)
    p2 = p_hat_squared(shape).ravel().round(9)
    edges = np.unique(np.quantile(p2[p2 > 0], np.linspace(0, 1, n_shells))) if (p2 > 0).any() else np.array([])
    columns, labels = [power[:, p2 == 0].mean(axis=1)], ["0"]
    for index, low in enumerate(edges[:-1]):
        high, last = edges[index + 1], index == len(edges) - 2
        inside = (p2 >= low) & ((p2 <= high) if last else (p2 < high)) & (p2 > 0)
        if inside.any():
            columns.append(power[:, inside].mean(axis=1))
            labels.append(f"{low:.2g}–{high:.2g}")
    return np.stack(columns, axis=1), labels


@numpy_defaults()
def local_operators(phis: FloatArray) -> tuple[FloatArray, list[str]]:
    """Even local operators per site: ``phi^2, phi^4, phi^6, phi phi', phi^2 phi'^2, phi^3 phi'``.

    Parameters
    ----------
    phis : ndarray, shape (n, *lattice)

    Returns
    -------
    values : ndarray, shape (n, 6)
    labels : list of str
    """
    axes = tuple(range(1, phis.ndim))
    columns = [(phis**power).mean(axis=axes) for power in (2, 4, 6)]
    pairs = np.zeros((3, len(phis)))
    for axis in axes:
        other = np.roll(phis, -1, axis)
        product = phis * other
        pairs += [
            product.mean(axis=axes),
            (product**2).mean(axis=axes),
            0.5 * (product * (phis**2 + other**2)).mean(axis=axes),
        ]
    return np.stack([*columns, *pairs], axis=1), ["φ²", "φ⁴", "φ⁶", "φφ'", "φ²φ'²", "φ³φ'"]


@numpy_defaults()
def longest_rejection(log_weight: ArrayLike, rng: np.random.Generator) -> tuple[int, float]:
    """Longest run of rejections and the acceptance when the draws are proposed one after the other.

    Parameters
    ----------
    log_weight : array_like, shape (n,)
        Of draws from the proposal; the first finite one starts the chain.
    rng : numpy.random.Generator

    Returns
    -------
    longest : int
    acceptance : float

    Raises
    ------
    UserError
        No finite weight.
    """
    log_weight = real_array(log_weight, "log_weight").ravel()
    finite = np.flatnonzero(np.isfinite(log_weight))
    if not len(finite):
        raise UserError("log_weight has no finite entry; the chain cannot start")
    log_u = np.log(rng.random(log_weight.size))
    current, longest, run, accepted = log_weight[finite[0]], 0, 0, 0
    proposed = range(finite[0] + 1, log_weight.size)
    for index in proposed:
        if log_u[index] < log_weight[index] - current:
            current, run, accepted = log_weight[index], 0, accepted + 1
        else:
            run += 1
            longest = max(longest, run)
    return longest, accepted / max(1, len(proposed))


@numpy_defaults()
def expected_stay(log_weight: ArrayLike, at: float) -> float:
    r"""Mean number of proposals that a chain stays at a configuration: ``1 / E_q[min(1, w' / w)]``.

    Parameters
    ----------
    log_weight : array_like
        Of draws from the proposal.
    at : float
        log_weight of the configuration.

    Returns
    -------
    float
    """
    log_weight = real_array(log_weight, "log_weight").ravel()
    log_mean = special.logsumexp(np.minimum(0.0, log_weight - at)) - math.log(log_weight.size)
    with np.errstate(over="ignore"):  # for ever is an answer
        return float(np.exp(-log_mean))

r"""How many chains take turns in a file, told by the autocorrelation along the file.

In a file of k chains that take turns, configuration by configuration, neighbours belong to different chains and are
independent; the next one of the same chain follows k later. The autocorrelation :math:`\rho(l)` at distance l is then
largest at l = k, where in a file of one chain it is at l = 1. Read as one chain, such a file seems to have no
autocorrelation at all.
"""

import numpy as np

from ..types import FloatArray

__all__ = ["interleaving_warning"]

_LEAST = 64  #: configurations below which nothing is said
_MOST_CHAINS = 1024
_N_SIGMA = 8.0  #: of 1/sqrt(n_cfg), the error of rho where there is no correlation
_NEAR = 0.8  #: share of the largest rho from which on the shortest distance counts: at 2k it may be as large as at k


def interleaving_warning(phi: FloatArray, n_chains: int) -> str:
    """One line if the fields look like another number of chains than was declared; else empty.

    Parameters
    ----------
    phi : ndarray, shape (n_cfg, *lattice), float64
        In the order of the file.
    n_chains : int
        As declared.
    """
    n_cfg = len(phi)
    if n_cfg < max(_LEAST, 4 * n_chains):
        return ""
    sites = phi.reshape(n_cfg, -1)
    # both are even in phi: a long trajectory of HMC turns phi into -phi, and m at even distances looks like m again
    for series in (sites.mean(axis=1) ** 2, np.einsum("ij,ij->i", sites, sites)):
        rho = _autocorrelation(series, max(min(n_cfg // 4, _MOST_CHAINS), n_chains))
        near = 1 + int(np.argmax(rho[1:] >= _NEAR * rho[1:].max()))
        largest, declared = rho[near], rho[n_chains]
        if near != n_chains and largest - declared > _N_SIGMA / np.sqrt(n_cfg) and declared < largest / 2:
            seem = f"{near} chains that take turns" if near > 1 else "one chain"
            return (
                f"the autocorrelation is {largest:.2f} at a distance of {near} configurations and {declared:.2f} at"
                f" {n_chains}, as of {seem}, not {n_chains}; if so, n_chains={near}"
                f" (--n-chains {near})"
            )
    return ""


def _autocorrelation(series: FloatArray, most: int) -> FloatArray:
    """rho(0) = 1 to rho(most), (most + 1,); zeros beyond 0 where nothing varies."""
    centred = series - series.mean()
    transform = np.fft.rfft(centred, 2 * len(series))
    products: FloatArray = np.fft.irfft(np.abs(transform) ** 2)[: most + 1] / (len(series) - np.arange(most + 1))
    return products / products[0] if products[0] > 0 else np.zeros(most + 1)

"""Configurations of the exact ensemble for a model to be judged by: from a file, or a short run made on the spot."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import numpy as np

from ..action import Action
from ..cluster import Cluster
from ..composite import Sequence
from ..ensemble import Ensemble, start_fields
from ..errors import FileError, UserError
from ..hmc import warm_up
from ..markov import Kernel
from ..streams import Streams
from ..types import Extents, FloatArray, PathLikeStr

if TYPE_CHECKING:
    from ..model.score_model import ScoreModel

__all__ = ["fresh_configurations", "from_ensemble", "require_finite", "start_of"]

N_CHAINS = 50
WARMUP, THIN = 200, 4  # updates of trajectory and clusters; tau_int of |m| is 1 to 3 of them up to L = 64


def require_finite(phis: FloatArray, path: PathLikeStr) -> FloatArray:
    """Return the fields `phis` as they are if all their values are finite.

    Parameters
    ----------
    phis : ndarray, float64
        Read from an ensemble file.
    path : path-like
        That file, for the message.

    Returns
    -------
    ndarray
        `phis`.

    Raises
    ------
    FileError
        A value is not finite.
    """
    if not np.isfinite(phis).all():
        raise FileError(
            f"{path}: a field holds a value that is not finite; `latticediff verify` says where,"
            " `latticediff repair` saves what comes before it"
        )
    return phis


def from_ensemble(path: PathLikeStr, action: Action, shape: Extents, n: int) -> FloatArray:
    """At most `n` configurations of an ensemble file, spread over its Monte Carlo time.

    Parameters
    ----------
    path : path-like
    action : Action
    shape : tuple of int
        The file must be of this theory and this lattice.
    n : int
        Most configurations, all chains together; of every chain at least two are taken.

    Returns
    -------
    ndarray, shape (n_chains, n_times, *lattice), float64

    Raises
    ------
    FileError
        No such file, one of another theory or lattice, or a field that is not finite.
    UserError
        Fewer than two configurations a chain.
    """
    with Ensemble(path) as ensemble:
        ensemble.expect(action, shape)
        n_chains = ensemble.n_chains
        times = ensemble.n_cfg // n_chains
        if times < 2:
            raise UserError(f"{path} holds {times} configurations of each chain; expected at least 2")
        kept = min(times, max(2, n // n_chains))
        every = times // kept
        rows = [ensemble.phis(t * n_chains, (t + 1) * n_chains) for t in range(0, kept * every, every)]
    return require_finite(np.stack(rows, axis=1), path)


def fresh_configurations(
    action: Action, shape: Extents, n: int, streams: Streams, start: str | float = "hot"
) -> FloatArray:
    """About `n` configurations of a short run of HMC, with clusters where the theory has them.

    Parameters
    ----------
    action : Action
        One that HMC can run.
    shape : tuple of int
    n : int
    streams : Streams
    start : str or float
        See `latticediff.ensemble.start_fields`; for a model of a single vacuum, that vacuum: chains that begin in other
        phases would stay there.

    Returns
    -------
    ndarray, shape (n_chains, n_times, *lattice), float64
        Hardly correlated in time; estimates over it should still use the Gamma method.
    """
    n_chains = min(N_CHAINS, max(1, n // 4))
    phi = start_fields(start, n_chains, shape, streams, action)
    trajectories, state = warm_up(action, phi, streams)
    kernel: Kernel = trajectories
    if isinstance(start, str):  # clusters would turn fields to another vacuum
        with contextlib.suppress(UserError):  # a theory without clusters: trajectories alone will do
            kernel = Sequence([trajectories, Cluster(action)])
    state, _ = kernel.advance(state._replace(update=0), streams.child("warmup"), WARMUP, WARMUP)
    times = max(2, -(-n // n_chains))
    _, block = kernel.advance(state._replace(update=0), streams.child("chain"), THIN * times, THIN)
    return np.ascontiguousarray(block.phi.swapaxes(0, 1))


def start_of(model: ScoreModel) -> str | float:
    """Where chains begin whose configurations a model is compared with: in its vacuum, if it has only one."""
    return model.gaussian.vacuum if model.gaussian.one_sided else "hot"

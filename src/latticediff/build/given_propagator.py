"""The propagator that a Gaussian is shaped by: of an ensemble, of a model, or from the couplings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..action import Part
from ..blocking import gap_propagator
from ..ensemble import Ensemble
from ..errors import FileError, ModelError
from ..gaussian.propagator import measured_propagator, smooth_propagator
from ..lattice import volume

if TYPE_CHECKING:
    from ..types import Extents, FloatArray, PathLikeStr

__all__ = ["given_propagator"]


def given_propagator(source: PathLikeStr | None, action: Any, shape: Extents) -> tuple[FloatArray, str]:
    """``<|phi_k|^2> / V`` on the full momentum grid, zero mode included, and where it comes from.

    Parameters
    ----------
    source : path-like, optional
        An ensemble file of the theory and lattice; a model, or its folder, of all sites of that lattice; or None, for
        the gap equation of the action.
    action : Action
    shape : tuple of int

    Returns
    -------
    propagator : ndarray, shape (*lattice), float64
    origin : str

    Raises
    ------
    FileError, ModelError
        `source` cannot be read, or is of another lattice or theory; a model of a part of the sites.
    UserError
        The gap equation has no solution.
    """
    if source is None:
        return gap_propagator(action, shape), "gap equation"
    if Path(source).suffix in (".h5", ".hdf5"):
        with Ensemble(source) as ensemble:
            ensemble.expect(action, shape)
            half = ensemble.n_cfg // 2
            if half < 2:
                raise FileError(f"{source} holds {ensemble.n_cfg} configurations; the propagator wants at least 4")
            # alternate ones, so that a drift does not pass for noise
            halves = (_alternate(ensemble, start, 2 * half) for start in (0, 1))
            first, second = [measured_propagator(rows, shape) for rows in halves]
        return smooth_propagator(first, second), str(Path(source).name)
    from ..model.storage import load_model  # torch, which nothing else here wants

    model = load_model(source)
    gaussian = model.gaussian
    if isinstance(model.action, Part):
        raise ModelError(
            f"{source} is a model of {model.action.sites} sites; give an ensemble, a model of all sites, or"
            " leave it out"
        )
    if gaussian.shape != tuple(shape):
        raise ModelError(f"{source} is of {gaussian.shape}; the fine lattice is {tuple(shape)}: leave it out")
    G = gaussian.propagator_full.numpy().copy()
    G.flat[0] += volume(shape) * gaussian.vacuum**2  # of fluctuations around a vacuum: the zero mode has the rest
    return G, f"model {Path(source).name}"


def _alternate(ensemble: Ensemble, start: int, stop: int) -> Iterator[FloatArray]:
    """Every second configuration from number `start` to `stop`, block by block."""
    first = 0
    for block in ensemble.batches():
        yield block[(start - first) % 2 : max(0, stop - first) : 2]
        first += len(block)

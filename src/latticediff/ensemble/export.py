"""Ensembles for other programs: npy and npz arrays, pyerrors observables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import real_array
from ..atomic import refuse_existing, require_space, whole
from ..errors import FileError, UserError
from ..types import PathLikeStr
from .files import canonical_json
from .reader import Ensemble
from .schema import CONFIGURATIONS

if TYPE_CHECKING:
    import pyerrors

__all__ = ["export_npy", "export_npz", "sealed_array", "to_pyerrors"]


def sealed_array(out: PathLikeStr, write: Callable[[BinaryIO], object], n_bytes: int) -> Path:
    """Make the file `out`, of about `n_bytes`, with `write`."""
    out = Path(out)
    refuse_existing(out)
    require_space(out, n_bytes)
    with whole(out) as file:
        write(file)
    return out


def export_npy(path: PathLikeStr, out: PathLikeStr) -> Path:
    """Write the fields, (n_cfg, *lattice) float64, as ``.npy``, a batch at a time; returns `out`.

    Raises
    ------
    FileError
        `out` exists or cannot be written, `path` cannot be read.
    """
    with Ensemble(path) as ensemble:

        def write(file: BinaryIO) -> None:
            header = {"descr": "<f8", "fortran_order": False, "shape": (ensemble.n_cfg, *ensemble.shape)}
            np.lib.format.write_array_header_1_0(file, header)
            for phis in ensemble.batches():
                file.write(np.ascontiguousarray(phis, "<f8").data)

        return sealed_array(out, write, 8 * ensemble.n_cfg * int(np.prod(ensemble.shape)))


def export_npz(path: PathLikeStr, out: PathLikeStr) -> Path:
    """Write ``phi, action, update, series`` and the action's description (JSON text) as ``.npz``; returns `out`.

    All arrays are held in memory at once.

    Raises
    ------
    FileError
        `out` exists or cannot be written, `path` cannot be read.
    """
    with Ensemble(path) as ensemble:
        arrays: dict[str, Any] = {name: ensemble.read(name) for name in CONFIGURATIONS}
        arrays["description"] = np.array(canonical_json(ensemble.description))

        return sealed_array(out, lambda file: np.savez(file, **arrays), sum(rows.nbytes for rows in arrays.values()))


def to_pyerrors(ensemble: Ensemble, series: Mapping[str, ArrayLike], name: str = "ensemble") -> dict[str, pyerrors.Obs]:
    """Per-configuration values as pyerrors observables, one replicum per chain.

    Parameters
    ----------
    ensemble : Ensemble
    series : dict of str to ndarray, shape (n_chains, n)
        Values by chain in Monte Carlo order, for instance from `Ensemble.by_chain`.
    name : str
        Ensemble name in pyerrors; replica are called ``name|r000`` and so on. pyerrors takes equal names for the same
        configurations, and counts their correlation: other ensembles want other names.

    Returns
    -------
    dict of str to pyerrors.Obs
        Not yet analysed: call ``gamma_method()``. Configuration numbers are update numbers.

    Raises
    ------
    UserError
        pyerrors is not installed, a series has another shape, or the name has a ``|`` or no letter.
    FileError
        The ensemble's update numbers are not evenly spaced.
    """
    if not name or "|" in name:
        raise UserError(f"name is {name!r}; expected the name of an ensemble, without | (which begins the replicum)")
    try:
        import pyerrors
    except ImportError:
        raise UserError("pyerrors is not installed; pip install 'latticediff[analysis]'") from None
    update = ensemble.series_array("update")[0]
    steps = np.unique(np.diff(update))
    if len(steps) > 1:
        raise FileError(f"{ensemble.path} has update numbers with steps {steps[:3].tolist()}; pyerrors wants one step")
    numbers = range(int(update[0]), int(update[-1]) + 1, int(steps[0]) if len(steps) else 1)
    width = max(3, len(str(ensemble.n_chains - 1)))  # pyerrors sorts by name
    replica = [f"{name}|r{chain:0{width}d}" for chain in range(ensemble.n_chains)]
    found = {}
    for key, values in series.items():
        values = real_array(values, "series", booleans=True)
        if values.shape != (ensemble.n_chains, len(update)):
            raise UserError(f"{key} has shape {values.shape}; expected {(ensemble.n_chains, len(update))}")
        found[key] = pyerrors.Obs(list(values), replica, idl=[numbers] * len(replica))
    return found

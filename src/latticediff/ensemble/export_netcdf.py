"""Series of an ensemble as netCDF-4 in the layout of ArviZ: chains and draws of a group ``posterior``.

A netCDF-4 file is an HDF5 file whose axes are named by dimension scales, so h5py writes it and neither netCDF nor ArviZ
is needed. Read it with ``arviz.from_netcdf(path)``, which needs h5netcdf or netCDF4 beside it.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import __version__
from ..arrays import real_array
from ..errors import UserError
from ..types import FloatArray, PathLikeStr
from .export import sealed_array
from .files import canonical_json
from .reader import Ensemble

__all__ = ["export_netcdf"]

_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)  #: of a variable that every reader of netCDF takes
_DIMENSIONS = ("chain", "draw")


def export_netcdf(ensemble: Ensemble, series: Mapping[str, ArrayLike], out: PathLikeStr) -> Path:
    """Write per-configuration values, and the log density, for ArviZ; returns `out`.

    The file has the groups ``posterior`` (the series) and ``sample_stats`` (``lp``, -S without its normalisation), all
    variables (chain, draw) float64. ``draw`` counts updates, so that gaps of thinning can be seen.

    Parameters
    ----------
    ensemble : Ensemble
    series : dict of str to ndarray, shape (n_chains, n)
        Values by chain in Monte Carlo order, for instance from `latticediff.stages.measure.read_series`.
    out : path-like

    Raises
    ------
    UserError
        A series has another shape, or a name that is none of a variable or that of an axis.
    FileError
        `out` exists or cannot be written, `ensemble` cannot be read.
    """
    update = ensemble.series_array("update")[0]
    shape = (ensemble.n_chains, len(update))
    values: dict[str, FloatArray] = {}
    for name, given in series.items():
        if not _NAME.fullmatch(name) or name in _DIMENSIONS:
            raise UserError(f"a series is called {name!r}; expected letters, digits and _, and not chain or draw")
        values[name] = real_array(given, name, booleans=True)
        if values[name].shape != shape:
            raise UserError(f"{name} has shape {values[name].shape}; expected {shape}")
    attributes = {
        "inference_library": "latticediff",
        "inference_library_version": __version__,
        "source": ensemble.path.name,
        "action": canonical_json(ensemble.description),
        "lattice": np.array(ensemble.shape, np.int64),
    }
    memory = io.BytesIO()
    # netCDF asks for the order in which things were made
    with h5py.File(memory, "w", track_order=True) as file:
        _write_group(file, "posterior", values, update, attributes)
        lp = {"lp": -ensemble.series_array("action")}
        _write_group(file, "sample_stats", lp, update, attributes)
    content = memory.getbuffer()
    return sealed_array(out, lambda handle: handle.write(content), content.nbytes)


def _write_group(
    file: h5py.File, name: str, values: Mapping[str, FloatArray], update: NDArray[Any], attributes: Mapping[str, Any]
) -> None:
    """A group whose variables share the axes chain and draw, each with a coordinate of its own."""
    group = file.create_group(name, track_order=True)
    for key, told in attributes.items():
        group.attrs[key] = told
    n_chains = next(iter(values.values())).shape[0] if values else 0
    for number, (axis, coordinate) in enumerate(zip(_DIMENSIONS, (np.arange(n_chains), update), strict=True)):
        scale = group.create_dataset(axis, data=np.asarray(coordinate, np.int64))
        scale.make_scale(axis)
        scale.attrs["_Netcdf4Dimid"] = np.int32(number)
    for key, rows in values.items():
        data = group.create_dataset(key, data=rows)
        for number, axis in enumerate(_DIMENSIONS):
            data.dims[number].attach_scale(group[axis])

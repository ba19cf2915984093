"""Configurations in from other programs, and out to them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..atomic import disk_error, refuse_existing
from ..ensemble import Ensemble, convert, export_netcdf, export_npy, export_npz, to_pyerrors
from ..ensemble.readers import choose_reader, read_raw
from ..errors import UserError
from .generate import provenance_of
from .measure import read_series

if TYPE_CHECKING:
    from ..config import Card
    from ..ensemble import ConvertReport
    from ..types import PathLikeStr

__all__ = ["export", "import_foreign"]


def import_foreign(
    path: PathLikeStr, out: PathLikeStr, card: Card, *, reader: str | None = None, **options: Any
) -> ConvertReport:
    """Convert configurations of another program to an ensemble file of a card's theory and lattice.

    Parameters
    ----------
    path, out : path-like
        See `latticediff.ensemble.convert`.
    card : latticediff.config.Card
        Only ``[action]`` and ``[lattice]`` count.
    reader : str, optional
        Name of the reader; found by the suffix of `path` by default.
    **options
        Of `convert` and of the reader; None means not given. Raw files take the shape from the card.

    Returns
    -------
    ConvertReport

    Raises
    ------
    FileError
        Another lattice than the card's, or as `convert`.
    UserError
        As `convert`.
    """
    options = {key: value for key, value in options.items() if value is not None}
    if choose_reader(path, reader) is read_raw:
        options["shape"] = card.shape
    return convert(
        path, out, card.theory(), lattice=card.shape, reader=reader, provenance=provenance_of(card), **options
    )


def export(path: PathLikeStr, out: PathLikeStr) -> Path:
    """Write an ensemble for other programs, in the format that the suffix of `out` names.

    Parameters
    ----------
    path : path-like
        The ensemble file.
    out : path-like
        ``.npy``: the fields. ``.npz``: fields, S, update and chain numbers. ``.json.gz``: the primary observables as
        pyerrors observables, a dictionary for ``pyerrors.input.json.load_json_dict``, whose replica are the chains,
        called by the name of the file: ``ens|r000`` and so on of ``ens.h5``. ``.nc``: the same series for ArviZ.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    UserError
        Another suffix, or pyerrors is not installed.
    FileError
        As `export_npy` and `to_pyerrors`.
    """
    out = Path(out)
    if out.suffix == ".npy":
        return export_npy(path, out)
    if out.suffix == ".npz":
        return export_npz(path, out)
    if out.name.endswith(".json.gz"):
        return _export_pyerrors(path, out)
    if out.suffix == ".nc":
        refuse_existing(out)
        with Ensemble(path) as ensemble:
            return export_netcdf(ensemble, read_series(ensemble), out)
    raise UserError(
        f"--out {out} has suffix {out.suffix!r}; expected .npy, .npz, .nc for ArviZ, or .json.gz for pyerrors"
    )


def _export_pyerrors(path: PathLikeStr, out: Path) -> Path:
    refuse_existing(out)
    with Ensemble(path) as ensemble:
        # two files under one name would count as one ensemble, with correlated errors
        name = ensemble.path.stem.replace("|", "_") or "ensemble"
        observables = to_pyerrors(ensemble, read_series(ensemble), name)
    from pyerrors.input.json import dump_dict_to_json

    try:
        with tempfile.TemporaryDirectory(dir=out.absolute().parent, prefix=out.name) as folder:
            part = Path(folder) / out.name
            dump_dict_to_json(observables, str(part), description=f"primary observables of {Path(path).name}")
            os.replace(part, out)  # all of it or nothing
    except OSError as exc:
        raise disk_error(exc, out) from exc
    return out

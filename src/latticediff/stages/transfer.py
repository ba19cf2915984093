"""Configurations in from other programs, and out to them."""

from __future__ import annotations

import math
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..action import Phi4
from ..atomic import disk_error, refuse_existing, sealed_text
from ..ensemble import (
    Ensemble,
    convert,
    croissant,
    export_netcdf,
    export_npy,
    export_npz,
    qcdml,
    to_pyerrors,
)
from ..ensemble.layouts import choose_layout
from ..ensemble.readers import choose_reader, read_raw
from ..errors import FileError, UserError
from ..provenance import collect
from ..untrusted import regular_file
from .generate import provenance_of
from .measure import read_series

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..config import Card
    from ..ensemble import ConvertReport
    from ..types import PathLikeStr

__all__ = ["export", "import_foreign"]


def import_foreign(
    path: PathLikeStr,
    out: PathLikeStr,
    card: Card | None,
    *,
    reader: str | None = None,
    layout: str | None = None,
    **options: Any,
) -> ConvertReport:
    """Convert configurations of another program to an ensemble file of a card's theory and lattice.

    Parameters
    ----------
    path, out : path-like
        See `latticediff.ensemble.convert`.
    card : latticediff.config.Card, optional
        Only ``[action]`` and ``[lattice]`` count. May be None with a `layout`, which tells the theory.
    reader : str, optional
        Name of the reader; found by the suffix of `path` by default.
    layout : str, optional
        Name of a published layout, `latticediff.ensemble.layouts`, in place of a reader and its options.
    **options
        Of `convert` and of the reader; None means not given. Raw files take the shape from the card.

    Returns
    -------
    ConvertReport

    Raises
    ------
    FileError
        Another lattice than the card's, other couplings than the layout tells, or as `convert`.
    UserError
        As `convert`; neither card nor layout, or a layout with options of a reader or without checks.
    """
    options = {key: value for key, value in options.items() if value is not None}
    if layout is not None:
        return _import_published(path, out, card, layout, {"reader": reader} | options)
    if card is None:
        raise UserError(f"neither --card nor --layout says which theory {path} is of")
    if choose_reader(path, reader) is read_raw:
        options["shape"] = card.shape
    return convert(
        path, out, card.theory(), lattice=card.shape, reader=reader, provenance=provenance_of(card), **options
    )


def _import_published(
    path: PathLikeStr, out: PathLikeStr, card: Card | None, layout: str, options: dict[str, Any]
) -> ConvertReport:
    """`import_foreign` of a file in a published layout."""
    chains = {key: options.pop(key) for key in ("n_chains", "thin") if key in options}
    if not options.pop("check", True):
        raise UserError("--no-check does not go with --layout: the identity is checked of every published file")
    if given := [key for key, value in options.items() if value is not None]:
        raise UserError(f"--{given[0].replace('_', '-')} does not go with --layout {layout}, which says how to read")
    regular_file(path, "a file of configurations")
    fields, theory = choose_layout(layout)(path)
    if card is None:
        action, convention = theory, {}
        provenance = collect()
    else:
        action, provenance = card.theory(), provenance_of(card)
        convention = _same_theory(path, action, theory)
    lattice = fields.phis.shape[1:] if card is None else card.shape
    return convert(
        path, out, action, lattice=lattice, reader=lambda _: fields, provenance=provenance, **convention, **chains
    )


def _same_theory(path: PathLikeStr, action: Any, theory: Any) -> dict[str, Any]:
    """The field convention of a file whose theory a layout tells, if not the card's; refuses another theory."""
    if action == theory:
        return {}
    if isinstance(action, Phi4) and isinstance(theory, Phi4) and action.ndim == theory.ndim:
        couplings, _ = action.in_convention(theory.convention)
        if all(math.isclose(couplings[name], value, rel_tol=1e-6) for name, value in theory.couplings.items()):
            return {"field_convention": theory.convention}
    raise FileError(f"{path} is of {theory!r}, and the card of {action!r}; leave --card out, or correct it")


def export(path: PathLikeStr, out: PathLikeStr, about: Mapping[str, str] | None = None) -> Path:
    """Write an ensemble for other programs, in the format that the suffix of `out` names.

    Parameters
    ----------
    path : path-like
        The ensemble file.
    out : path-like
        ``.npy``: the fields. ``.npz``: fields, S, update and chain numbers. ``.json.gz``: the primary observables as
        pyerrors observables, a dictionary for ``pyerrors.input.json.load_json_dict``, whose replica are the chains,
        called by the name of the file: ``ens|r000`` and so on of ``ens.h5``. ``.nc``: the same series for ArviZ.
        ``.xml``, ``.jsonld``: what the ensemble is, without its fields, with the names of QCDml and as Croissant.
    about : dict of str to str, optional
        For ``.xml`` and ``.jsonld``: see `latticediff.ensemble.qcdml`.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    UserError
        Another suffix, `about` for another one, or pyerrors is not installed.
    FileError
        As `export_npy` and `to_pyerrors`.
    """
    out = Path(out)
    if out.suffix in (".xml", ".jsonld"):
        refuse_existing(out)
        with Ensemble(path) as ensemble:
            sealed_text(out, (qcdml if out.suffix == ".xml" else croissant)(ensemble, about))
        return out
    if about:
        raise UserError(f"{next(iter(about))} is of .xml and .jsonld, and --out is {out}")
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
        f"--out {out} has suffix {out.suffix!r}; expected .npy, .npz, .nc for ArviZ, .json.gz for pyerrors, or .xml or"
        " .jsonld for a catalogue"
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

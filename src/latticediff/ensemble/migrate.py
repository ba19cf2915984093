"""Bring files of older schema versions to the present one, version by version.

Every change of the schema adds one function here, from its version to the next; old functions stay.
"""

import os
from pathlib import Path

import h5py

from ..atomic import refuse_existing, require_space, scratch
from ..errors import FileError
from ..types import PathLikeStr
from .files import canonical_json
from .reader import Ensemble
from .schema import SCHEMA_VERSION, schema_version
from .stored import open_h5
from .writer import write_ensemble

__all__ = ["MIGRATIONS", "migrate"]


def _from_0(file: h5py.File) -> None:
    """Drafts before the first release: chain numbers were called `chain`, runs began at update 0, no checksums."""
    file.move("configurations/chain", "configurations/series")
    file["ensemble"].attrs["first_update"] = 0
    for data in file.require_group("history").values():
        data.attrs["is_bool"] = data.name.endswith("/accepted")
    if "checksums" not in file:
        file["checksums"] = canonical_json({})


def _from_1(file: h5py.File) -> None:
    """Version 1 is version 2 without a seal: nothing changes, and what is written has one."""


#: version -> function that changes an open file of that version to the next
MIGRATIONS = {0: _from_0, 1: _from_1}


def migrate(path: PathLikeStr, out: PathLikeStr) -> Ensemble:
    """Write the file `path`, of an older schema version, to `out` in the present one.

    Returns
    -------
    Ensemble
        The new file, with fresh checksums and a seal; the data are copied unchanged.

    Raises
    ------
    FileError
        `path` is no ensemble, is of this version already or of a newer one, or does not have its checksums; or `out`
        exists or cannot be written.
    """
    path, out = Path(path), Path(out)
    refuse_existing(out)
    with open_h5(path) as file:
        version = schema_version(file, path)
    if version == SCHEMA_VERSION:
        raise FileError(f"{path} has schema version {version} already; nothing to do")
    if version not in MIGRATIONS:
        raise FileError(
            f"{path} has schema version {version}; this program knows {sorted(MIGRATIONS)} and {SCHEMA_VERSION}"
        )
    copy = out.with_name(out.name + ".migrating.part")
    require_space(copy, os.path.getsize(path))
    with scratch(copy, path):
        with h5py.File(copy, "r+") as file:
            for step in range(version, SCHEMA_VERSION):
                MIGRATIONS[step](file)
            # it has no seal, as a file of version 1 may
            file.attrs["schema_version"] = 1
        with Ensemble(copy, check=version >= 1) as source:
            state, streams = source.state(), source.streams()
            write_ensemble(
                out,
                source.header,
                n_cfg=source.n_cfg,
                n_updates=source.n_updates,
                columns=source.columns(),
                pieces=source.pieces(),
                provenance=source.provenance,
                state=state,
                rng=None if streams is None else streams.state(),
                run_id=source.run_id(),
            )
    return Ensemble(out)

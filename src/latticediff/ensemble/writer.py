"""Write an ensemble file from pieces; used for segments, finished runs, user arrays and every conversion."""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import h5py
import numpy as np
from numpy.typing import ArrayLike

from ..action import Action
from ..arrays import real_array
from ..atomic import refuse_existing, require_space
from ..errors import FileError, UserError
from ..lattice import check_shape, volume
from ..markov import ChainState
from ..provenance import Provenance, collect
from ..types import Description, PathLikeStr
from .digest import RunningDigest
from .files import canonical_json, sealed
from .schema import CONFIGURATIONS, SCHEMA, SCHEMA_VERSION, Header, write_provenance, write_state
from .seal import SealWriter, written_parts
from .tables import AnyArray, Columns, DataSets, Fields, Piece

BATCH_BYTES = 32 << 20

__all__ = ["history_columns", "save_ensemble", "write_ensemble"]


def history_columns(history: Mapping[str, ArrayLike]) -> Columns:
    """Type of every column of a history, as it is stored: booleans as bytes, integers as int64, the rest as float64.

    Parameters
    ----------
    history : dict of str to array_like, shape (n_updates, n_chains) or (n_updates,)

    Returns
    -------
    dict of str to (dtype, bool, bool)
        Whether the column stands for booleans, and whether it has one number for each chain.

    Raises
    ------
    UserError
        A column holds no real numbers.
    """
    columns: Columns = {}
    for name, rows in history.items():
        rows = real_array(rows, f"history of {name}", booleans=True, dtype=None)
        is_bool = rows.dtype == bool
        dtype = np.uint8 if is_bool else (np.int64 if rows.dtype.kind in "iu" else np.float64)
        columns[name] = (np.dtype(dtype), is_bool, rows.ndim == 2)
    return columns


def _datasets(header: Header, n_cfg: int, n_updates: int, columns: Columns) -> DataSets:
    """``(dtype, shape)`` of every data set with many rows, by path."""
    found: DataSets = {
        f"configurations/{name}": (dtype, (n_cfg, *header.shape) if name == "phi" else (n_cfg,))
        for name, dtype in CONFIGURATIONS.items()
    }
    for name, (dtype, _, per_chain) in columns.items():
        found[f"history/{name}"] = dtype, (n_updates, header.n_chains) if per_chain else (n_updates,)
    return found


def _create(file: h5py.File, header: Header, datasets: DataSets, columns: Columns) -> None:
    """Make all groups and data sets before any data are written: a torn tail then costs rows, never the structure."""
    file.attrs["schema"], file.attrs["schema_version"] = SCHEMA, SCHEMA_VERSION
    header.write(file)
    for group in ("configurations", "history"):
        file.create_group(group)
    for name, (dtype, shape) in datasets.items():
        file.create_dataset(name, shape, dtype)
    for name, (_, is_bool, _) in columns.items():
        file[f"history/{name}"].attrs["is_bool"] = is_bool


def write_ensemble(
    path: PathLikeStr,
    header: Header,
    *,
    n_cfg: int,
    n_updates: int,
    columns: Columns,
    pieces: Iterable[Piece],
    provenance: Provenance,
    rng: Description | None = None,
    state: ChainState | None = None,
    run_id: str = "",
    digest: RunningDigest | dict[str, str] | None = None,
) -> dict[str, str]:
    """Write one whole file: sealed, with checksums of what was written.

    Parameters
    ----------
    path : path
        Replaced if it exists (atomically); the caller decides whether that is allowed.
    header : Header
    n_cfg, n_updates : int
        Rows of the configurations and of the history.
    columns : dict
        History columns, from `history_columns`.
    pieces : iterable of (configurations, history)
        Consecutive rows as dicts of arrays; either dict may be empty. Streamed, so that a file may
        be larger than memory. A truncated file keeps most if history comes first.
    provenance : Provenance
    rng : dict, optional
        `Streams.state`; with `state` it makes the file extendable.
    state : ChainState, optional
    run_id : str
        Identity of the run that wrote the file; no part of the digest.
    digest : RunningDigest or dict, optional
        Fed with the rows and stored; default a fresh one. A dict of digests that are known already is stored as it is.

    Returns
    -------
    dict
        Checksums, dataset name to SHA-256.

    Raises
    ------
    FileError
        The disk is full, `path` cannot be written, or `pieces` brought more or fewer rows than announced.
    """
    require_space(path, n_cfg * 8 * (volume(header.shape) + 3) + sum(8 * n_updates * header.n_chains for _ in columns))
    cfg_row, history_row = 0, dict.fromkeys(columns, 0)
    known = digest if isinstance(digest, dict) else None
    running = digest if isinstance(digest, RunningDigest) else RunningDigest()
    if known is None:
        running.declare(columns)
    datasets = _datasets(header, n_cfg, n_updates, columns)
    seal = SealWriter(datasets)

    def parts(checksums: Mapping[str, str]) -> dict[str, Any]:
        return written_parts(header, provenance, run_id, checksums, columns, rng, state)

    def sum_up(name: str, rows: AnyArray) -> None:
        seal.update(name, rows)
        if known is None:
            running.update(name, rows)

    # one worker keeps the order; hashing and writing both release the interpreter lock
    with ThreadPoolExecutor(1) as hasher, sealed(path) as (file, check):
        _create(file, header, datasets, columns)
        write_provenance(file, provenance, run_id)
        if state is not None:
            write_state(file, state, rng)
        # the final text has exactly the length of this one: it is overwritten in place, in front of the data
        file["checksums"] = np.bytes_(canonical_json(known or running.result()))
        seal.reserve(file, parts(known or running.result()))

        def put(name: str, row: int, rows: AnyArray) -> None:
            summed = hasher.submit(sum_up, name, rows)
            file[name][row : row + len(rows)] = rows
            summed.result()

        for configurations, history in pieces:
            for name, rows in history.items():
                put(f"history/{name}", history_row[name], np.asarray(rows).astype(columns[name][0], copy=False))
                history_row[name] += len(rows)
            if configurations:
                for name, dtype in CONFIGURATIONS.items():
                    rows = real_array(configurations[name], name, order="C", dtype=dtype)
                    put(f"configurations/{name}", cfg_row, rows)
                cfg_row += len(configurations["phi"])
            check()
        if cfg_row != n_cfg or any(row != n_updates for row in history_row.values()):
            raise FileError(
                f"{path}: wrote {cfg_row} of {n_cfg} configurations and {history_row} of {n_updates} history rows"
            )
        checksums = known or running.result()
        file["checksums"][()] = np.bytes_(canonical_json(checksums))
        seal.write(file, parts(checksums))
    return checksums


def save_ensemble(
    path: PathLikeStr,
    phis: ArrayLike | Fields,
    *,
    action: Action,
    n_chains: int = 1,
    thin: int = 1,
    first_update: int = 0,
    algorithm: Description | None = None,
    history: Mapping[str, AnyArray] | None = None,
    provenance: Provenance | None = None,
    batch: int | None = None,
) -> dict[str, str]:
    """Save configurations that you have as an ensemble file.

    Parameters
    ----------
    path : path
        Must not exist.
    phis : array_like, shape (n_cfg, *lattice)
        Configurations, float64, lattice units, ordered by update, then by chain; anything that can be
        sliced along its first axis (`numpy.memmap`, an h5py dataset) is streamed.
    action : Action
        The theory; S is computed and stored with every configuration.
    n_chains : int
        Independent chains that take turns in `phis`; n_cfg must be a multiple.
    thin : int
        Updates between stored configurations of one chain.
    first_update : int
        Updates before the first stored interval.
    algorithm : dict, optional
        How the configurations were made; default ``{"name": "external"}``.
    history : dict, optional
        Arrays of ``n_cfg // n_chains * thin`` rows, ``(n_updates, n_chains)`` or ``(n_updates,)``.
    provenance : Provenance, optional
    batch : int, optional
        Configurations held in memory at a time; default about 32 MB.

    Returns
    -------
    dict
        Checksums, dataset name to SHA-256.

    Raises
    ------
    UserError
        Wrong shape, no configuration, numbers that do not fit `n_chains` and `thin`, or a value that is not finite or
        no real number.
    FileError
        `path` exists or cannot be written, or `history` has another number of rows.
    """
    refuse_existing(path)
    has_axes = getattr(phis, "ndim", None) is not None  # then it can be sliced
    fields: Fields = cast(Fields, phis) if has_axes else real_array(cast(ArrayLike, phis), "phis")
    if fields.ndim != action.ndim + 1:
        raise UserError(f"phis has shape {fields.shape}; expected (n_cfg, *lattice) with {action.ndim} lattice axes")
    shape, n_cfg = check_shape(fields.shape[1:], action.ndim), len(fields)
    if not n_cfg:
        raise UserError(f"phis has shape {fields.shape}: it holds no configuration")
    if n_chains < 1 or thin < 1 or n_cfg % n_chains:
        raise UserError(
            f"{n_cfg} configurations with n_chains = {n_chains}, thin = {thin}; want a multiple of n_chains"
        )
    recorded = dict(history or {})
    batch = batch or max(1, BATCH_BYTES // (8 * volume(shape)))
    n_updates = n_cfg // n_chains * thin
    header = Header.build(action.describe(), shape, algorithm or {"name": "external"}, n_chains, thin, first_update)

    def pieces() -> Iterator[Piece]:
        yield {}, recorded
        for start in range(0, n_cfg, batch):
            phi = real_array(fields[start : start + batch], "phis")
            values = action(phi)
            if not (np.isfinite(values).all() and np.isfinite(phi).all()):
                raise UserError(f"configurations {start} to {start + len(phi) - 1} hold a value that is not finite")
            row = np.arange(start, start + len(phi))
            update = first_update + (row // n_chains + 1) * thin
            yield {"phi": phi, "action": values, "update": update, "series": row % n_chains}, {}

    return write_ensemble(
        path,
        header,
        n_cfg=n_cfg,
        n_updates=n_updates if recorded else 0,
        columns=history_columns(recorded),
        pieces=pieces(),
        provenance=provenance or collect(),
    )

"""Read ensembles: finished files and, read-only, runs that are still going on; all of it lazily, all of it checked.

What decides how rows are understood (header, final state, random streams) is compared with the seal when a file is
opened, rows are compared when they are read; see `seal` and `rows`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from ..action import Action, action_from_description
from ..atomic import sealed_text
from ..digests import check_digest, with_digest
from ..errors import FileError
from ..markov import ChainState
from ..provenance import Provenance
from ..streams import Streams
from ..types import Description, Extents, FloatArray, PathLikeStr
from ..untrusted import parse_json, read_text, status
from .checkpoint import Checkpoint, load_checkpoints
from .digest import combine
from .files import canonical_json
from .rows import Part, Rows
from .schema import (
    CONFIGURATIONS,
    Header,
    check_schema,
    read_provenance,
    read_state,
    restore_streams,
    schema_version,
)
from .seal import damaged_parts, is_sealed, require_sealed, seal_problems
from .stored import Store
from .structure import check_state, check_structure, is_bool, require_dimension
from .tables import AnyArray, Columns, Piece

__all__ = ["Ensemble", "read_run_header", "run_directory", "write_run_header"]

_BATCH_BYTES = 32 << 20
_COPY_BYTES = 4 << 20  # fits the cache and reused memory: copying by 4 MB took half the time of 32 MB


def run_directory(path: PathLikeStr) -> Path:
    """The directory beside `path` that holds a run while it is unfinished."""
    path = Path(path)
    return path.with_name(path.name + ".run")


def read_run_header(directory: PathLikeStr) -> Description:
    """``run.json`` of a run directory: a dict with `header`, `run_id`, `base`, `target`, `provenance`.

    Raises
    ------
    FileError
        The file is missing, is damaged, or is something else.
    """
    path = Path(directory) / "run.json"
    if status(path) is None:
        raise FileError(f"{directory} is a directory and holds no run (run.json is missing); expected an ensemble file")
    about = parse_json(read_text(path, "the header of a run"), path)
    wanted = {"run_id": str, "header": dict, "target": int, "base": dict | None, "provenance": dict}
    if not isinstance(about, dict) or not all(isinstance(about.get(key, ...), kind) for key, kind in wanted.items()):
        raise FileError(f"{path} is not, or no longer, the header of an unfinished run; expected an ensemble file")
    header, fields = about["header"].keys(), Provenance.__dataclass_fields__.keys()
    if header != Header.__dataclass_fields__.keys() or not {"config_json"} <= about["provenance"].keys() <= fields:
        raise FileError(f"{path} is damaged: its header or provenance is not that of a run")
    if about["base"] is not None and not isinstance(about["base"].get("file"), str):
        raise FileError(f"{path} is damaged: it does not name the file that the run extends")
    return check_digest(about, path, "remove the directory to start again; `repair` saves its configurations")


def write_run_header(directory: PathLikeStr, about: Mapping[str, Any]) -> None:
    """Write ``run.json``, with its digest."""
    sealed_text(Path(directory) / "run.json", canonical_json(with_digest(about)))


class Ensemble:
    """An ensemble file, or the finished part of a run that is still going on (``X.run``).

    Parameters
    ----------
    path : path
        ``X``, or ``X.run``. While the first run into ``X`` is unfinished, ``X`` means ``X.run``.
    action : Action, optional
        The action object, for theories that cannot be rebuilt by name; its description must be that in the file.
    check : bool
        Refuse what is not as it was written. False is for callers that look at damage themselves (`verify`, `repair`).

    Attributes
    ----------
    shape : tuple of int
        Lattice extents.
    n_chains, thin, n_cfg, n_updates, first_update : int
        `n_cfg` counts configurations of all chains, `n_updates` rows of the history.
    algorithm, description : dict
        The kernel and the action as JSON.
    provenance : latticediff.provenance.Provenance
    is_complete : bool
        False for a run that is still going on.
    is_sealed : bool
        False for files of schema version 1, whose header and final state have no digest.

    Raises
    ------
    FileError
        The file is missing, truncated, not HDF5, no ensemble, of another schema version or action, or damaged. Damage
        among the rows is found when they are read.
    """

    header: Header

    def __init__(self, path: PathLikeStr, action: Action | None = None, check: bool = True) -> None:
        self.path, self._check = Path(path), check
        status(self.path)  # a name too long, for instance
        run = self.path if self.path.is_dir() else run_directory(self.path)
        self.is_complete = not (self.path.is_dir() or (not self.path.exists() and run.is_dir()))
        self._checkpoint: Checkpoint | None = None
        self._about: Description | None = None
        #: last update of the last part with a history, which the next part has to follow; None: no part had one
        self._next_update: int | None = None
        if self.is_complete:
            files = [self.path]
        else:
            files = self._running_files(run)
        # the checksums of a segment begin with the run: alone, it cannot have them
        alone = self.is_complete and self.path.absolute().parent.name.endswith(".run")
        known = None if self._checkpoint is None else self._checkpoint.digests
        self._rows = Rows(files, self._measure, {} if alone else known, check)
        self.n_cfg, self.n_updates = self._rows.count("configurations"), self._rows.count("history")
        self.is_sealed = self._rows.is_sealed
        with self._rows.open(self._rows.first) as file:
            self.provenance = read_provenance(file)
            self.history_names = tuple(file.group("history").names())
        self.description, self.algorithm = self.header.action, self.header.algorithm
        self.shape, self.n_chains, self.thin = self.header.shape, self.header.n_chains, self.header.thin
        self.first_update = self.header.first_update
        if action is not None:
            self.expect(action)
        self._action = action

    def _running_files(self, run: Path) -> list[Path]:
        """The files that hold an unfinished run: the one that it extends, and its segments."""
        about = read_run_header(run)
        checkpoints = load_checkpoints(run, about["run_id"])
        if not checkpoints:
            raise FileError(f"{run} holds no whole checkpoint; remove it and start again")
        self._checkpoint, self._about = checkpoints[0], about
        base = [run.with_name(about["base"]["file"])] if about["base"] else []
        for path in base if self._check else ():
            with Ensemble(path) as whole:
                if whole.fingerprint() != about["base"]["fingerprint"]:
                    raise FileError(f"{path} changed since {run} began to extend it; remove {run} to start again")
        files = base + [run / f"{index:06d}.h5" for index in range(len(self._checkpoint.segments))]
        if not files:
            raise FileError(f"{run} holds no configurations yet; the run has just begun")
        return files

    def _measure(self, file: Store) -> Part:
        """Check the next part of the ensemble, and count its rows; the header of the first one is kept."""
        check_schema(file, file.path)
        n_cfg, n_updates = check_structure(file)
        sealed = is_sealed(file)
        if not sealed and schema_version(file, file.path) > 1:
            raise FileError(f"{file.path} is damaged: its seal is missing (/seal); restore the file or make it again")
        if sealed and self._check:
            require_sealed(file)
        header = Header.read(file)
        self.header = getattr(self, "header", header)
        if self._check and self._about is not None:
            self._require_next(file, header)
        if n_updates:  # a part without history does not tell where it ends
            self._next_update = header.first_update + n_updates
        return Part(file.path, n_cfg, n_updates, sealed)

    def _require_next(self, file: Store, header: Header) -> None:
        """Raise `FileError` if a part of an unfinished run is of another run, or does not follow the one before."""
        if replace(header, first_update=self.header.first_update) != self.header:
            raise FileError(f"{file.path} has another header than the other parts of the run; restore it")
        if self._next_update is not None and header.first_update != self._next_update:
            raise FileError(f"{file.path} does not follow the part before it; restore it")
        assert self._about is not None  # only parts of an unfinished run come here
        base = self._about["base"]
        if not (base and Path(file.path).name == base["file"]) and _run_id(file) != self._about["run_id"]:
            raise FileError(f"{file.path} is of another run; restore it")

    def close(self) -> None:
        """Close the file; the ensemble can still be read, which opens it again."""
        self._rows.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def last_update(self) -> int:
        """Number of the last update in the file; the first one is ``first_update + 1``."""
        if self.history_names:
            return self.first_update + self.n_updates
        return int(self.read("update", self.n_cfg - 1)[0]) if self.n_cfg else self.first_update

    def __len__(self) -> int:
        return self.n_cfg

    @property
    def action(self) -> Action:
        """The action object, rebuilt from its description; raises `FileError` if it does not fit the lattice."""
        if self._action is None:
            action = action_from_description(self.description)
            require_dimension(action, self.shape, self.path)
            self._action = action
        return self._action

    def expect(self, action: Action | None = None, shape: Extents | None = None) -> Self:
        """Return the ensemble itself, or raise `FileError` if it is of another action or lattice."""
        if shape is not None and tuple(shape) != self.shape:
            raise FileError(f"{self.path} is of lattice {self.shape}; expected {tuple(shape)}")
        if action is not None:
            wanted = Header.build(action.describe(), (), {}, 1, 1).action
            if wanted != self.description:
                raise FileError(f"{self.path} is of action {self.description}; expected {wanted}")
        return self

    def read(self, name: str, start: int = 0, stop: int | None = None) -> AnyArray:
        """Rows `start` to `stop` of ``configurations/<name>``.

        Parameters
        ----------
        name : {"phi", "update", "series", "action"}
        start, stop : int
            As of a slice; default: all rows.

        Returns
        -------
        ndarray
            (n, *lattice) float64 of ``phi``; (n,) float64 of ``action``, int64 of ``update``, int32 of ``series``.

        Raises
        ------
        FileError
            The rows are not what was written, or cannot be read.
        """
        return self._rows.read(f"configurations/{name}", start, stop)

    def phis(self, start: int = 0, stop: int | None = None) -> FloatArray:
        """Configurations `start` to `stop`, (n, *lattice) float64, ordered by update, then by chain; see `read`."""
        return self.read("phi", start, stop)

    def take(self, numbers: ArrayLike) -> FloatArray:
        """A few configurations by number, (n, *lattice) float64.

        Parameters
        ----------
        numbers : array_like of int, shape (n,)
            Ascending, without repetition, from 0 to ``n_cfg - 1``.

        Raises
        ------
        FileError
            The rows are not what was written, or cannot be read.
        """
        return self._rows.take(numbers)

    def batches(self, size: int | None = None) -> Iterator[FloatArray]:
        """Iterate over `phis` in batches of `size` configurations (default about 32 MB, whole updates)."""
        for start, stop in self.batch_bounds(size):
            yield self.phis(start, stop)

    def batch_bounds(self, size: int | None = None, n_bytes: int = _BATCH_BYTES) -> list[tuple[int, int]]:
        """``(start, stop)`` of consecutive batches of `size` configurations.

        The default size holds whole updates, as many as fit into `n_bytes` and at least one.
        """
        if size is None:
            rows = max(1, n_bytes // (8 * int(np.prod(self.shape)) * self.n_chains))
            size = rows * self.n_chains
        return [(start, min(start + size, self.n_cfg)) for start in range(0, self.n_cfg, size)]

    def pieces(self, size: int | None = None) -> Iterator[Piece]:
        """``(configurations, history)`` of the whole ensemble for `write_ensemble`, history first."""
        rows = max(1, _BATCH_BYTES // (8 * self.n_chains))
        for start in range(0, self.n_updates, rows):
            yield {}, {name: self.history(name, start, start + rows) for name in self.history_names}
        for start, stop in self.batch_bounds(size, _COPY_BYTES):
            yield {name: self.read(name, start, stop) for name in CONFIGURATIONS}, {}

    def series_array(self, name: str = "action") -> AnyArray:
        """A dataset with one number for each configuration as (n_chains, n_cfg / n_chains), one row for each chain."""
        return self.by_chain(self.read(name))

    def by_chain(self, values: ArrayLike) -> AnyArray:
        """Reorder values of all configurations, (n_cfg, ...), to (n_chains, n_cfg / n_chains, ...).

        Raises
        ------
        FileError
            There are more or fewer values than configurations.
        """
        values = np.asarray(values)
        if len(values) != self.n_cfg:
            raise FileError(f"{self.path} has {self.n_cfg} configurations; got {len(values)} values")
        return values.reshape(-1, self.n_chains, *values.shape[1:]).swapaxes(0, 1)

    def history(self, name: str, start: int = 0, stop: int | None = None) -> AnyArray:
        """Rows `start` to `stop` of column `name` of the history, one row for each update, all by default.

        Returns
        -------
        ndarray, shape (n, n_chains), or (n,) for ``seconds``
            float64, int64 or bool, as the kernel recorded it.

        Raises
        ------
        FileError
            The kernel recorded no such column, or the rows are not what was written.
        """
        if name not in self.history_names:
            raise FileError(f"{self.path} has no history of {name}; it has {', '.join(self.history_names) or 'none'}")
        rows = self._rows.read(f"history/{name}", start, stop)
        with self._rows.open(self._rows.first) as file:
            return rows.astype(bool) if is_bool(file, name) else rows

    def columns(self) -> Columns:
        """The columns of the history as `write_ensemble` wants them."""
        with self._rows.open(self._rows.first) as file:
            found = {name: file.data(f"history/{name}") for name in self.history_names}
            return {name: (data.dtype, is_bool(file, name), data.ndim == 2) for name, data in found.items()}

    def state(self) -> ChainState | None:
        """The final `ChainState`, or None if the file cannot be extended.

        Raises
        ------
        FileError
            The state is damaged; or the file has no seal, and the state does not fit its configurations.
        """
        state = self._end()[0]
        if state is not None and self._check and not self.is_sealed:
            check_state(self, state)
        return state

    def streams(self) -> Streams | None:
        """The `Streams` at the end of the run, or None if the file cannot be extended."""
        return self._end()[1]

    def _end(self) -> tuple[ChainState | None, Streams | None]:
        """Final state and random streams; of a run that is still going on, those of its last checkpoint."""
        if self._checkpoint is not None:
            return self._checkpoint.state, restore_streams(self._checkpoint.rng, self.path)
        with self._rows.open(self.path) as file:
            return read_state(file)

    def checksums(self) -> dict[str, str]:
        """The stored SHA-256 of every physics dataset, by path; `verify` recomputes them."""
        if self._checkpoint is not None:
            return dict(self._checkpoint.digests)
        with self._rows.open(self.path) as file:
            return file.json("checksums")

    # for those who open with `check=False`
    def broken_seals(self) -> list[str]:
        """What is not as it was written, in words, one line each."""
        sealed = [part.path for part in self._rows.parts if part.sealed]
        return [line for path in sealed for line in self._rows.opened(path, seal_problems)]

    def damage(self) -> dict[PathLikeStr, list[str]]:
        """Names of the parts that are not what was written, by file; see `seal.damaged_parts`."""
        sealed = [part.path for part in self._rows.parts if part.sealed]
        return {path: self._rows.opened(path, damaged_parts) for path in sealed}

    def damaged_rows(self, name: str) -> list[tuple[int, int]]:
        """``(first, last)`` of every stretch of rows that is not what was written, for an ensemble of one file."""
        return self._rows.damaged(name)

    def fingerprint(self) -> str:
        """One hex digest of the content, from the stored checksums; `content_digest` recomputes it from the data."""
        state, streams = self._end()
        return combine(self.header, self.checksums(), None if streams is None else streams.state(), state)

    def run_id(self) -> str:
        """Identity of the run that wrote the file; "" for files that no chain wrote."""
        with self._rows.open(self._rows.first) as file:
            return _run_id(file)

    def parent(self) -> dict[str, str]:
        """This ensemble as an entry of another file's ``/provenance/parents``."""
        return {"file": self.path.name, "fingerprint": self.fingerprint()}

    def __repr__(self) -> str:
        kind = "" if self.is_complete else ", unfinished"
        return (
            f"Ensemble({str(self.path)!r}: {self.n_cfg} configurations of {self.n_chains} chains"
            f" on {'x'.join(map(str, self.shape))}{kind})"
        )


def _run_id(file: Store) -> str:
    """Identity of the run that wrote the file, or ""."""
    return file.attribute_text("run_id", "provenance") if file.has_attribute("run_id", "provenance") else ""

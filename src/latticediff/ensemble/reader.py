"""Read ensembles: finished files and, read-only, runs that are still going on; all of it lazily."""

from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ..errors import FileError
from ..provenance import Provenance
from ..untrusted import parse_json, read_text, status
from .checkpoint import load_checkpoints
from .digest import combine
from .schema import (
    CONFIGURATIONS,
    Header,
    action_from_description,
    check_schema,
    read_provenance,
    read_state,
    restore_streams,
)
from .stored import open_h5
from .structure import check_structure, is_bool, require_dimension

__all__ = ["Ensemble", "read_run_header", "run_directory"]

_BATCH_BYTES = 32 << 20
_COPY_BYTES = 4 << 20  # fits the cache and reused memory: copying by 4 MB took half the time of 32 MB


def run_directory(path):
    """The directory beside `path` that holds a run while it is unfinished."""
    path = Path(path)
    return path.with_name(path.name + ".run")


def read_run_header(directory):
    """``run.json`` of a run directory: a dict with `header`, `run_id`, `base`, `target`, `provenance`."""
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
    return about


class Ensemble:
    """An ensemble file, or the finished part of a run that is still going on (``X.run``).

    Parameters
    ----------
    path : path
        ``X``, or ``X.run``. While the first run into ``X`` is unfinished, ``X`` means ``X.run``.
    action : Action, optional
        The action object, for theories that cannot be rebuilt by name; its description must be the file's.

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

    Raises
    ------
    FileError
        Missing, truncated, not HDF5, no ensemble, another schema version.
    """

    def __init__(self, path, action=None):
        self.path = Path(path)
        status(self.path)  # a name too long, for instance
        run = self.path if self.path.is_dir() else run_directory(self.path)
        self.is_complete = not (self.path.is_dir() or (not self.path.exists() and run.is_dir()))
        self._checkpoint = None
        if self.is_complete:
            files = [self.path]
        else:
            files = self._running_files(run)
        self._handle = (None, None)
        self._parts = [self._measure(file) for file in files]
        self._cfg_ends = np.cumsum([part[1] for part in self._parts])
        self._update_ends = np.cumsum([part[2] for part in self._parts])
        self.n_cfg, self.n_updates = int(self._cfg_ends[-1]), int(self._update_ends[-1])
        with self._open(self._parts[0][0]) as file:
            self.header = Header.read(file)
            self.provenance = read_provenance(file)
            self.history_names = tuple(file.group("history").names())
        self.description, self.algorithm = self.header.action, self.header.algorithm
        self.shape, self.n_chains, self.thin = self.header.shape, self.header.n_chains, self.header.thin
        self.first_update = self.header.first_update
        if action is not None:
            self.expect(action)
        self._action = action

    def _running_files(self, run):
        about = read_run_header(run)
        checkpoints = load_checkpoints(run, about["run_id"])
        if not checkpoints:
            raise FileError(f"{run} holds no whole checkpoint; remove it and start again")
        self._checkpoint = checkpoints[0]
        base = [run.with_name(about["base"]["file"])] if about["base"] else []
        files = base + [run / f"{index:06d}.h5" for index in range(len(self._checkpoint.segments))]
        if not files:
            raise FileError(f"{run} holds no configurations yet; the run has just begun")
        return files

    def _measure(self, path):
        with self._open(path) as file:
            check_schema(file, path)
            return path, *check_structure(file)

    @contextmanager
    def _open(self, path):
        # one handle is kept: a run of thousands of segments would otherwise meet the limit on open files
        if self._handle[0] != path:
            self.close()
            self._handle = (path, open_h5(path))
        yield self._handle[1]

    def close(self):
        if self._handle[1] is not None:
            self._handle[1].close()
        self._handle = (None, None)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    @property
    def last_update(self):
        """Number of the last update in the file; the first one is ``first_update + 1``."""
        if self.history_names:
            return self.first_update + self.n_updates
        return int(self.read("update", self.n_cfg - 1)[0]) if self.n_cfg else self.first_update

    def __len__(self):
        return self.n_cfg

    @property
    def action(self):
        """The action object, rebuilt from its description."""
        if self._action is None:
            action = action_from_description(self.description)
            require_dimension(action, self.shape, self.path)
            self._action = action
        return self._action

    def expect(self, action=None, shape=None):
        """Raise `FileError` unless the file is of this action and lattice; returns self."""
        if shape is not None and tuple(shape) != self.shape:
            raise FileError(f"{self.path} is of lattice {self.shape}; expected {tuple(shape)}")
        if action is not None:
            wanted = Header.build(action.describe(), (), {}, 1, 1).action
            if wanted != self.description:
                raise FileError(f"{self.path} is of action {self.description}; expected {wanted}")
        return self

    def read(self, name, start=0, stop=None):
        """Rows `start` to `stop` of ``configurations/<name>`` (phi, update, series, action)."""
        return self._rows(f"configurations/{name}", start, stop, self._cfg_ends)

    def _rows(self, name, start, stop, ends):
        start, stop, _ = slice(start, stop).indices(int(ends[-1]))
        begin, found = 0, []
        for (path, *_), end in zip(self._parts, ends, strict=True):
            low, high = max(start, begin), min(stop, int(end))
            if low < high:
                with self._open(path) as file:
                    found.append(file.data(name)[low - begin : high - begin])
            begin = int(end)
        if not found:
            with self._open(self._parts[0][0]) as file:
                return file.data(name)[:0]  # no rows, but of the right shape and type
        return found[0] if len(found) == 1 else np.concatenate(found)

    def phis(self, start=0, stop=None):
        """Configurations `start` to `stop`, (n, *lattice) float64, ordered by update, then by chain."""
        return self.read("phi", start, stop)

    def take(self, numbers):
        """Configurations by number, ascending without repetition, (n, *lattice) float64; a few at a time."""
        numbers = np.asarray(numbers)
        begin, found = 0, []
        for (path, *_), end in zip(self._parts, self._cfg_ends, strict=True):
            here = numbers[(numbers >= begin) & (numbers < end)] - begin
            if len(here):
                with self._open(path) as file:
                    found.append(_read_rows(file.data("configurations/phi"), path, here))
            begin = int(end)
        return np.concatenate(found)

    def batches(self, size=None):
        """Iterate over `phis` in batches of `size` configurations (default about 32 MB, whole updates)."""
        for start, stop in self.batch_bounds(size):
            yield self.phis(start, stop)

    def batch_bounds(self, size=None, n_bytes=_BATCH_BYTES):
        """``(start, stop)`` of consecutive batches of configurations; the default size holds whole updates."""
        if size is None:
            rows = max(1, n_bytes // (8 * int(np.prod(self.shape)) * self.n_chains))
            size = rows * self.n_chains
        return [(start, min(start + size, self.n_cfg)) for start in range(0, self.n_cfg, size)]

    def pieces(self, size=None):
        """``(configurations, history)`` of the whole ensemble for `write_ensemble`, history first."""
        rows = max(1, _BATCH_BYTES // (8 * self.n_chains))
        for start in range(0, self.n_updates, rows):
            yield {}, {name: self.history(name, start, start + rows) for name in self.history_names}
        for start, stop in self.batch_bounds(size, _COPY_BYTES):
            yield {name: self.read(name, start, stop) for name in CONFIGURATIONS}, {}

    def series_array(self, name="action"):
        """A per-configuration dataset as (n_chains, n_cfg / n_chains), one row per chain."""
        return self.by_chain(self.read(name))

    def by_chain(self, values):
        """Reorder values computed per configuration, (n_cfg, ...), to (n_chains, n, ...)."""
        values = np.asarray(values)
        if len(values) != self.n_cfg:
            raise FileError(f"{self.path} has {self.n_cfg} configurations; got {len(values)} values")
        return values.reshape(-1, self.n_chains, *values.shape[1:]).swapaxes(0, 1)

    def history(self, name, start=0, stop=None):
        """Column `name` of the history: (n_updates, n_chains), or (n_updates,) for ``seconds``.

        Raises
        ------
        FileError
            The kernel recorded no such column.
        """
        if name not in self.history_names:
            raise FileError(f"{self.path} has no history of {name}; it has {', '.join(self.history_names) or 'none'}")
        rows = self._rows(f"history/{name}", start, stop, self._update_ends)
        with self._open(self._parts[0][0]) as file:
            return rows.astype(bool) if is_bool(file, name) else rows

    def columns(self):
        """History columns as `write_ensemble` wants them."""
        with self._open(self._parts[0][0]) as file:
            found = {name: file.data(f"history/{name}") for name in self.history_names}
            return {name: (data.dtype, is_bool(file, name), data.ndim == 2) for name, data in found.items()}

    def state(self):
        """The final `ChainState`, or None if the file cannot be extended."""
        return self._end()[0]

    def streams(self):
        """The `Streams` at the end of the run, or None if the file cannot be extended."""
        return self._end()[1]

    def _end(self):
        if self._checkpoint is not None:
            return self._checkpoint.state, restore_streams(self._checkpoint.rng, self.path)
        with self._open(self.path) as file:
            return read_state(file)

    def checksums(self):
        """Stored SHA-256 of every physics dataset."""
        if self._checkpoint is not None:
            return dict(self._checkpoint.digests)
        with self._open(self.path) as file:
            return file.json("checksums")

    def fingerprint(self):
        """One hex digest of the content, from the stored checksums; `content_digest` recomputes it from the data."""
        state, streams = self._end()
        return combine(self.header, self.checksums(), None if streams is None else streams.state(), state)

    def run_id(self):
        """Identity of the run that wrote the file; "" for files that no chain wrote."""
        with self._open(self._parts[0][0]) as file:
            return file.attribute_text("run_id", "provenance") if file.has_attribute("run_id", "provenance") else ""

    def parent(self):
        """This ensemble as an entry of another file's ``/provenance/parents``."""
        return {"file": self.path.name, "fingerprint": self.fingerprint()}

    def __repr__(self):
        kind = "" if self.is_complete else ", unfinished"
        return (
            f"Ensemble({str(self.path)!r}: {self.n_cfg} configurations of {self.n_chains} chains"
            f" on {'x'.join(map(str, self.shape))}{kind})"
        )


def _read_rows(dataset, path, numbers):
    offset = dataset.offset
    if offset is None:  # chunked, as other programs may write it
        return dataset[numbers]
    # HDF5 selects scattered rows a hundred times slower than the page cache gives them
    rows = np.memmap(path, dataset.dtype, "r", offset, dataset.shape)
    return np.asarray(rows[numbers])

"""Read ensembles: finished files and, read-only, runs that are still going on; all of it lazily, all of it checked.

What decides how rows are understood (header, final state, random streams) is compared with the seal when a file is
opened, rows are compared when they are read; see `seal` and `rows`.
"""

from pathlib import Path
from typing import Self

from ..action import Action, action_from_description
from ..errors import FileError
from ..markov import ChainState
from ..streams import Streams
from ..types import Description, Extents, PathLikeStr
from ..untrusted import status
from .checkpoint import Checkpoint
from .digest import combine
from .parts import PartsInOrder, begun_run, files_of_run, run_id_of
from .rows import Rows
from .run_header import read_run_header, run_directory
from .schema import (
    Header,
    read_provenance,
    read_state,
    restore_streams,
)
from .seal import damaged_parts, seal_problems
from .stored_rows import StoredRows
from .structure import check_state, require_dimension

__all__ = ["Ensemble", "read_run_header", "run_directory"]


class Ensemble(StoredRows):
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

    def __init__(self, path: PathLikeStr, action: Action | None = None, check: bool = True) -> None:
        self.path, self._check = Path(path), check
        status(self.path)  # a name too long, for instance
        run = self.path if self.path.is_dir() else run_directory(self.path)
        self.is_complete = not (self.path.is_dir() or (not self.path.exists() and run.is_dir()))
        self._checkpoint: Checkpoint | None = None
        self._about: Description | None = None
        if self.is_complete:
            files = [self.path]
        else:
            files = self._running_files(run)
        # the checksums of a segment begin with the run: alone, it cannot have them
        alone = self.is_complete and self.path.absolute().parent.name.endswith(".run")
        known = None if self._checkpoint is None else self._checkpoint.digests
        parts = PartsInOrder(self._about, check)
        self._rows = Rows(files, parts.measure, {} if alone else known, check)
        self.header = parts.header
        self.n_cfg, self.n_updates = self._rows.count("configurations"), self._rows.count("history")
        self.is_sealed = self._rows.is_sealed
        with self._rows.open(self._rows.first) as file:
            self.provenance = read_provenance(file)
            self.history_names = tuple(file.group("history").names())
        self.description, self.algorithm = self.header.action, self.header.algorithm
        self.shape, self.n_chains, self.thin = self.header.shape, self.header.n_chains, self.header.thin
        self.first_update = self.header.first_update
        self._action = action
        if action is not None:
            try:
                self.expect(action)
            except BaseException:
                self.close()
                raise

    def _running_files(self, run: Path) -> list[Path]:
        """The files that hold an unfinished run: the one that it extends, and its segments."""
        self._about, self._checkpoint = begun_run(run)
        base = self._about["base"]
        if base and self._check:
            path = run.with_name(base["file"])
            with Ensemble(path) as whole:
                if whole.fingerprint() != base["fingerprint"]:
                    raise FileError(f"{path} changed since {run} began to extend it; remove {run} to start again")
        return files_of_run(run, self._about, self._checkpoint)

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
            if hasattr(action, "components") or hasattr(self.action, "components"):
                raise FileError(
                    f"{self.path} is of {self.action!r} with fields {self.shape}; expected {action!r} with"
                    f" {tuple(shape)}: give a file of that theory and lattice, or a card of this one"
                    " (action.components, lattice.shape)"
                )
            raise FileError(
                f"{self.path} is of lattice {self.shape}; expected {tuple(shape)}: give a file of that lattice, or a"
                f" card of this one, as by --set 'lattice.shape={list(self.shape)}'"
            )
        if action is not None:
            wanted = Header.build(action.describe(), (), {}, 1, 1).action
            if wanted != self.description:
                own, other = repr(self.action), repr(action)
                if own == other:  # they differ in digits that are not shown
                    own, other = str(self.description), str(wanted)
                raise FileError(
                    f"{self.path} is of action {own}; expected {other}: give a file of that theory, or a card of"
                    " this one"
                )
        return self

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
            return run_id_of(file)

    def parent(self) -> dict[str, str]:
        """This ensemble as an entry of another file's ``/provenance/parents``."""
        return {"file": self.path.name, "fingerprint": self.fingerprint()}

    def __repr__(self) -> str:
        kind = "" if self.is_complete else ", unfinished"
        return (
            f"Ensemble({str(self.path)!r}: {self.n_cfg} configurations of {self.n_chains} chains"
            f" on {'x'.join(map(str, self.shape))}{kind})"
        )

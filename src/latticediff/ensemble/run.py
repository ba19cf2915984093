"""How a chain into a file begins: as a new run, as one that goes on after a kill, or as one that extends a file.

A kill at any moment costs what came after the last checkpoint, and the resumed run repeats exactly
that: every physics dataset of the final file has the bits of an uninterrupted run. What happens to
the blocks of the chain is in `appending`.
"""

import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Self

import numpy as np

from ..action import Action
from ..atomic import disk_error, refuse_existing, require_space, sync_dir
from ..errors import FileError, UserError
from ..markov import ChainState, Kernel
from ..provenance import Provenance, collect
from ..streams import Streams
from ..types import Extents, PathLikeStr
from ..untrusted import status
from .appending import CHECKPOINT_SECONDS, AppendingWriter
from .checkpoint import Checkpoint, load_checkpoints
from .files import canonical_json
from .reader import Ensemble
from .run_folder import acquire, birthplace_of, clear_leftovers, retire
from .run_header import read_run_header, run_directory, write_run_header
from .schema import Header

__all__ = ["RunWriter", "Start"]

Start = tuple[ChainState, Streams]  #: where a run begins: the streams as they were before the first draw


class RunWriter(AppendingWriter):
    """Append the blocks of one run; `open` it, use it in a ``with`` statement.

    Leaving the ``with`` block, by an exception too, saves every block appended so far.

    Attributes
    ----------
    state, streams : ChainState, Streams
        Where the chain stands: pass them to `Kernel.advance`.
    n_updates : int
        Updates recorded so far, of all sessions of this run.
    target : int
        Updates wanted in the file.
    """

    @classmethod
    def open(
        cls,
        path: PathLikeStr,
        *,
        action: Action,
        kernel: Kernel,
        start: Start | Callable[[], Start] | None = None,
        n_updates: int | None = None,
        thin: int = 1,
        provenance: Provenance | None = None,
        resume: bool = False,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
    ) -> Self:
        """Begin, resume or extend the run into `path`.

        Parameters
        ----------
        path : path
            The final file.
        action : Action
        kernel : Kernel
            `describe` is stored, and compared on resumption.
        start : (ChainState, Streams) or callable returning it
            Where a new run begins; a callable is called for new runs only, so that a resumed run
            does not repeat a thermalisation. Streams must be as they were *before* the first draw.
        n_updates : int, optional
            Updates wanted in the file in total; default on resumption the number asked for before.
        thin : int
            Keep every `thin`-th update.
        provenance : Provenance, optional
        resume : bool
            Go on with what exists: an unfinished run, or a finished file with fewer updates. False
            refuses to touch either.
        checkpoint_seconds : float
            Longest time between checkpoints, to the next end of a block; 0 saves every block.

        Raises
        ------
        FileError
            Something is there and `resume` is False; another process writes it; it is of another
            action, lattice, kernel or thinning; it is damaged.
        UserError
            `n_updates` or `thin` is below 1, or a new run has no start or no number of updates.
        """
        path, run = Path(path), run_directory(path)
        if thin < 1 or (n_updates is not None and n_updates < 1):
            raise UserError(f"n_updates = {n_updates}, thin = {thin}; expected at least 1")
        status(run)  # a name too long, for instance
        clear_leftovers(run)
        lock = acquire(run) if run.is_dir() else None
        try:
            if lock is not None and path.exists() and _finished_by(path) == read_run_header(run)["run_id"]:
                retire(run)  # killed after the file was complete, before the directory was gone
                os.close(lock)
                lock = None
            if lock is not None and not resume:
                raise FileError(f"{run} holds an unfinished run; resume it, or remove the directory to start again")
            if lock is not None:
                writer = cls._resume(path, action, kernel, start, n_updates, thin, lock)
            elif path.exists() and resume:
                writer = cls._extend(path, action, kernel, start, n_updates, thin, provenance)
            else:
                refuse_existing(path)
                writer = cls._begin(path, action, kernel, start, n_updates, thin, provenance)
            writer._checkpoint_seconds = checkpoint_seconds
            return writer
        except BaseException:
            if lock is not None:
                os.close(lock)
            raise

    @classmethod
    def _begin(
        cls,
        path: Path,
        action: Action,
        kernel: Kernel,
        start: Start | Callable[[], Start] | None,
        n_updates: int | None,
        thin: int,
        provenance: Provenance | None,
    ) -> Self:
        """A new run."""
        if start is None or n_updates is None:
            raise UserError(f"a new run into {path} wants a start and a number of updates")
        state, streams = start() if callable(start) else start
        n_chains, *shape = state.phi.shape
        header = Header.build(action.describe(), shape, kernel.describe(), n_chains, thin, state.update)
        writer = cls(path, header, state, streams, n_updates)
        writer._create(provenance or collect(), None)
        return writer

    @classmethod
    def _extend(
        cls,
        path: Path,
        action: Action,
        kernel: Kernel,
        start: Start | Callable[[], Start] | None,
        n_updates: int | None,
        thin: int,
        provenance: Provenance | None,
    ) -> Self:
        """A run that goes on from the end of the finished file `path`."""
        with Ensemble(path) as base:
            _require_same(base.header, action, kernel, start, thin, path)
            target = base.n_updates if n_updates is None else n_updates
            state, streams = base.state(), base.streams()
            if state is None or streams is None:
                if target <= base.n_updates:
                    state, streams = ChainState(base.phis(0, 0), np.zeros(0), base.first_update), Streams(0)
                else:
                    raise FileError(f"{path} holds no final state, so it cannot be extended; start a new file")
            writer = cls(path, base.header, state, streams, target)
            if target <= base.n_updates:
                writer.n_updates = base.n_updates
            else:
                writer._base = base.parent()
                writer._load(base)
                if writer._digest.result() != base.checksums():
                    raise FileError(f"{path} is damaged: its checksums do not match; `repair` saves what is whole")
                previous = base.provenance
                fresh = provenance or collect(previous.config_json, previous.config_toml)
                parents = [*previous.parents, *(p for p in fresh.parents if p not in previous.parents)]
                writer._create(Provenance(**{**asdict(fresh), "parents": [*parents, base.parent()]}), writer._base)
        return writer

    @classmethod
    def _resume(
        cls,
        path: Path,
        action: Action,
        kernel: Kernel,
        start: Start | Callable[[], Start] | None,
        n_updates: int | None,
        thin: int,
        lock: int,
    ) -> Self:
        """A run that goes on from the last checkpoint that its segments agree with."""
        run = run_directory(path)
        about = read_run_header(run)
        header = Header.from_json(canonical_json(about["header"]))
        _require_same(header, action, kernel, start, thin, run)
        checkpoints = load_checkpoints(run, about["run_id"])
        if not checkpoints:
            raise FileError(f"{run} holds no whole checkpoint; `repair` saves its configurations")
        newest = checkpoints[0]
        writer = cls(path, header, newest.state, Streams.restore(newest.rng), about["target"])
        writer._about, writer._lock, writer._base = about, lock, about["base"]
        if writer._base:
            with Ensemble(path) as base:
                if base.fingerprint() != writer._base["fingerprint"]:
                    raise FileError(f"{path} changed since {run} began to extend it; remove {run} to start again")
                writer._load(base)
        chosen = writer._verify_segments(checkpoints)
        writer.state, writer.streams = chosen.state, Streams.restore(chosen.rng)
        writer._update, writer._rng = int(chosen.state.update), chosen.rng
        writer._generation = newest.generation + 1
        if n_updates is not None and n_updates != about["target"]:
            writer.target = about["target"] = n_updates
            write_run_header(run, about)
        return writer

    def _verify_segments(self, checkpoints: Sequence[Checkpoint]) -> Checkpoint:
        """Feed the segments to the running digest, and return the newest checkpoint that they agree with.

        Segments beyond it are removed. Raises `FileError` if there is none.
        """
        chosen = None
        by_length = {len(c.segments): c for c in reversed(checkpoints)}
        self._segments = []
        for index in range(max(by_length) + 1):
            candidate = by_length.get(index)
            if candidate is not None and candidate.digests == self._digest.result():
                chosen = candidate
                kept = (self._digest.copy(), list(self._segments), self.n_updates, self._columns)
            if index < max(by_length):
                try:
                    with Ensemble(self.run / f"{index:06d}.h5") as segment:
                        self._segments.append([segment.n_cfg, segment.n_updates])
                        self._load(segment)
                except FileError:
                    break  # torn in spite of the sync: an older checkpoint may do without it
        if chosen is None:
            raise FileError(f"{self.run} is damaged: its segments match no checkpoint; `repair` saves what is whole")
        self._digest, self._segments, self.n_updates, self._columns = kept
        for path in self.run.glob("[0-9]*.h5"):
            if int(path.stem) >= len(self._segments):
                path.unlink()  # beyond the checkpoint; the same bits will be computed again
        return chosen

    def _create(self, provenance: Provenance, base: Mapping[str, str] | None) -> None:
        """Make and lock the run directory; it gets its name when header and first checkpoint are inside."""
        self._about = {
            "run_id": uuid.uuid4().hex,
            "header": asdict(self.header),
            "target": self.target,
            "base": base and {"file": self.path.name, "fingerprint": base["fingerprint"]},
            "provenance": asdict(provenance),
        }
        birthplace = birthplace_of(self.run)
        try:
            require_space(self.run, 0)
            birthplace.mkdir()
            write_run_header(birthplace, self._about)
            self._save_checkpoint(birthplace)
            os.rename(birthplace, self.run)
            sync_dir(self.run.absolute().parent)
        except OSError as exc:
            raise disk_error(exc, self.run) from exc
        self._lock = acquire(self.run)


def _finished_by(path: Path) -> str:
    """Identity of the run that wrote the file at `path`."""
    with Ensemble(path) as finished:
        return finished.run_id()


def _require_same(
    header: Header,
    action: Action,
    kernel: Kernel,
    start: Start | Callable[[], Start] | None,
    thin: int,
    path: PathLikeStr,
) -> None:
    """Raise `FileError` unless `header` is that of the run that the caller wants."""
    n_chains = header.n_chains
    shape: Extents = header.shape
    if start is not None and not callable(start):
        n_chains, *shape = start[0].phi.shape
    header.require_same(Header.build(action.describe(), shape, kernel.describe(), n_chains, thin), path)

"""Blocks of a chain on their way to disk: sealed segments and checkpoints in ``X.run``, one file ``X`` at the end."""

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np

from ..errors import UserError
from ..markov import Block, ChainState
from ..provenance import Provenance
from ..streams import Streams
from ..types import Description, PathLikeStr
from .checkpoint import Checkpoint, save_checkpoint
from .digest import RunningDigest
from .reader import Ensemble
from .run_folder import retire
from .run_header import run_directory
from .schema import Header
from .tables import Columns, Piece
from .writer import history_columns, write_ensemble

__all__ = ["CHECKPOINT_SECONDS", "AppendingWriter"]

SEGMENT_BYTES = 64 << 20
CHECKPOINT_SECONDS = 30.0


class AppendingWriter:
    """The part of `RunWriter` that takes blocks; see there. Leaving its ``with`` block saves what was appended."""

    def __init__(self, path: PathLikeStr, header: Header, state: ChainState, streams: Streams, target: int) -> None:
        self.path, self.run = Path(path), run_directory(path)
        self.header, self.state, self.streams, self.target = header, state, streams, target
        self.n_updates = 0
        self._segments: list[list[int]] = []  #: [n_cfg, n_updates] of each
        self._digest, self._generation = RunningDigest(), 0
        self._base: Mapping[str, str] | None = None  #: the file that this run extends, as a parent
        self._about: Description | None = None  #: ``run.json``; None if nothing is to be written
        self._lock: int | None = None
        self._columns: Columns | None = None  #: None before the first block
        self._pending: list[Piece] = []
        self._pending_bytes, self._broken = 0, False
        self._update, self._rng = int(state.update), streams.state()
        self._saved_at, self._checkpoint_seconds = time.monotonic(), CHECKPOINT_SECONDS

    def _load(self, ensemble: Ensemble) -> None:
        """Feed what a file holds to the running digest, and count its updates."""
        self._columns = ensemble.columns()
        self._digest.declare(self._columns)
        for configurations, history in ensemble.pieces():
            self._digest.add(configurations, history)
        self.n_updates += ensemble.n_updates

    def append(self, block: Block, state: ChainState, streams: Streams, seconds: float) -> None:
        """Take the next block; it is on disk after the next `checkpoint`, which comes by itself.

        Parameters
        ----------
        block : Block
            What `Kernel.advance` returned; kept, not copied, until it is written.
        state : ChainState
            The state after the block.
        streams : Streams
            As they are after the block.
        seconds : float
            Wall time of the block.

        Raises
        ------
        UserError
            The block does not fit the run, or its action is not finite.
        FileError
            The disk is full; what was saved before stays valid.
        """
        n_updates = int(state.update) - self._update
        kept = np.arange(self._update + 1, state.update + 1)
        kept = kept[kept % self.header.thin == 0]
        n_chains, shape = self.header.n_chains, self.header.shape
        if block.phi.shape != (len(kept), n_chains, *shape):
            raise UserError(f"block holds phi of shape {block.phi.shape}; expected {(len(kept), n_chains, *shape)}")
        # a field with a value that is not finite has an action that is not
        if not (np.isfinite(block.action).all() and np.isfinite(state.action).all()):
            raise UserError(
                f"update {state.update}: an action is not finite; the chain is broken, this block was not saved"
            )
        history = {name: np.asarray(rows) for name, rows in block.info.items()}
        for name, rows in history.items():
            if rows.shape != (n_updates, n_chains):
                raise UserError(f"history of {name} has shape {rows.shape}; expected {(n_updates, n_chains)}")
        history["seconds"] = np.full(n_updates, seconds / max(n_updates, 1))
        columns = history_columns(history)
        self._columns = self._columns or columns
        if columns != self._columns:
            raise UserError(f"history columns changed from {sorted(self._columns)} to {sorted(columns)} within a run")
        configurations = {
            "phi": block.phi.reshape(-1, *shape),
            "action": block.action.reshape(-1),
            "update": np.repeat(kept, n_chains),
            "series": np.tile(np.arange(n_chains), len(kept)),
        }
        self._pending.append((configurations, history))
        self._pending_bytes += block.phi.nbytes + sum(rows.nbytes for rows in history.values())
        self._update, self.n_updates = int(state.update), self.n_updates + n_updates
        # a snapshot: kernels may reuse arrays, and an interrupted draw must not leak into the checkpoint
        self.state = ChainState._make(np.array(x) if isinstance(x, np.ndarray) else x for x in state)
        self._rng = streams.state()
        if self._pending_bytes >= SEGMENT_BYTES or time.monotonic() - self._saved_at >= self._checkpoint_seconds:
            self.checkpoint()

    def checkpoint(self) -> None:
        """Write what was appended to disk, as a segment and a checkpoint; raises `FileError` if it does not fit."""
        if not self._pending:
            return
        try:
            self._seal()
            self._save_checkpoint(self.run)
        except BaseException:
            self._broken = True
            raise
        self._saved_at = time.monotonic()

    def _seal(self) -> None:
        """Write what was appended as the next segment."""
        assert self._about is not None and self._columns is not None  # something was appended
        n_cfg = sum(len(configurations["phi"]) for configurations, _ in self._pending)
        n_updates = sum(len(history["seconds"]) for _, history in self._pending)
        header = replace(self.header, first_update=self._update - n_updates)
        joined = {name: np.concatenate([history[name] for _, history in self._pending]) for name in self._columns}
        pieces: list[Piece] = [({}, joined), *((configurations, {}) for configurations, _ in self._pending)]
        write_ensemble(
            self.run / f"{len(self._segments):06d}.h5",
            header,
            n_cfg=n_cfg,
            n_updates=n_updates,
            columns=self._columns,
            pieces=pieces,
            provenance=Provenance(**self._about["provenance"]),
            run_id=self._about["run_id"],
            digest=self._digest,
        )
        self._segments.append([n_cfg, n_updates])
        self._pending, self._pending_bytes = [], 0

    def _save_checkpoint(self, directory: Path) -> None:
        """Write the next checkpoint into the run directory."""
        about, digests = self._about, self._digest.result()
        assert about is not None  # there is a run directory
        checkpoint = Checkpoint(about["run_id"], self._generation, self._segments, digests, self.state, self._rng)
        save_checkpoint(directory, checkpoint)
        self._generation += 1

    def finish(self) -> None:
        """Merge the segments into the final file and remove the run directory."""
        if self._about is None:
            return  # the file had all the updates wanted
        self.checkpoint()
        assert self._columns is not None  # the run has segments
        with Ensemble(self.run) as run:
            write_ensemble(
                self.path,
                self.header,
                n_cfg=run.n_cfg,
                n_updates=run.n_updates,
                columns=self._columns,
                pieces=run.pieces(),
                provenance=Provenance(**self._about["provenance"]),
                rng=self._rng,
                state=self.state,
                run_id=self._about["run_id"],
                digest=self._digest.result(),
            )
        retire(self.run)
        self._about = None

    def close(self) -> None:
        """Save what was appended and release the run directory."""
        try:
            if self._about is not None and not self._broken:
                self.checkpoint()
        finally:
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

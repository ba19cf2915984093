"""Content digests: SHA-256 of the physics in a file, whatever the file layout, the library or the date."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import ArrayLike

from ..markov import ChainState
from ..types import Description
from .files import canonical_json
from .schema import CONFIGURATIONS, Header
from .tables import Table

__all__ = ["RunningDigest", "combine"]

#: history columns that depend on the machine and not on the chain
UNDIGESTED = ("seconds",)


class RunningDigest:
    """SHA-256 of every physics dataset, fed row by row in Monte Carlo order.

    The result depends on the values only, not on how they were cut into calls.
    """

    def __init__(self) -> None:
        self._hashes: dict[str, hashlib._Hash] = {}

    def update(self, name: str, rows: ArrayLike) -> None:
        """Add the next `rows` of dataset `name`, as many as there are."""
        if name.removeprefix("history/") in UNDIGESTED:
            return
        rows = np.asarray(rows)
        rows = np.ascontiguousarray(rows, rows.dtype.newbyteorder("<"))
        self._hashes.setdefault(name, hashlib.sha256()).update(rows.data.cast("B") if rows.size else b"")

    def declare(self, columns: Iterable[str]) -> None:
        """Open the digests of the configurations and of the history's `columns`: a dataset without rows has one too."""
        for name in (*(f"configurations/{name}" for name in CONFIGURATIONS), *(f"history/{name}" for name in columns)):
            self.update(name, np.zeros(0, np.uint8))

    def add(self, configurations: Table, history: Table) -> None:
        """Add one piece of a run, arrays by the schema's names; either table may be empty."""
        for name, rows in configurations.items():
            self.update(f"configurations/{name}", rows)
        for name, rows in history.items():
            self.update(f"history/{name}", rows)

    def copy(self) -> RunningDigest:
        """An independent copy at this point."""
        twin = RunningDigest()
        twin._hashes = {name: running.copy() for name, running in self._hashes.items()}
        return twin

    def result(self) -> dict[str, str]:
        """Hex digest of what was fed so far, by dataset name."""
        return {name: running.hexdigest() for name, running in sorted(self._hashes.items())}


def combine(header: Header, checksums: Mapping[str, str], rng: Description | None, state: ChainState | None) -> str:
    """The content digest of an ensemble: SHA-256 of its header, datasets, random streams and final state, in hex.

    Parameters
    ----------
    header : Header
    checksums : dict
        `RunningDigest.result` over all rows.
    rng : dict, optional
        `Streams.state`, None where the file holds none.
    state : ChainState, optional
        None where the file holds none.
    """
    total = hashlib.sha256(header.to_json().encode())
    total.update(canonical_json(checksums).encode())
    total.update(canonical_json(rng).encode())
    for rows in () if state is None else (state.phi, state.action, state.log_q):  # a `latent` that is None adds nothing
        total.update(b"none" if rows is None else np.ascontiguousarray(rows, "<f8").data.cast("B"))
    if state is not None and state.latent is not None:
        total.update(np.ascontiguousarray(state.latent, "<f8").data.cast("B"))
    return total.hexdigest()

"""Content digests: SHA-256 of the physics in a file, whatever the file layout, the library or the date."""

import hashlib

import numpy as np

from .files import canonical_json
from .schema import CONFIGURATIONS

__all__ = ["RunningDigest", "combine"]

#: history columns that depend on the machine and not on the chain
UNDIGESTED = ("seconds",)


class RunningDigest:
    """SHA-256 of every physics dataset, fed row by row in Monte Carlo order.

    The result depends on the values only, not on how they were cut into calls.
    """

    def __init__(self):
        self._hashes = {}

    def update(self, name, rows):
        """Add `rows` (any leading cut) of dataset `name`."""
        if name.removeprefix("history/") in UNDIGESTED:
            return
        rows = np.asarray(rows)
        rows = np.ascontiguousarray(rows, rows.dtype.newbyteorder("<"))
        self._hashes.setdefault(name, hashlib.sha256()).update(rows.data.cast("B") if rows.size else b"")

    def declare(self, columns):
        """Open the digest of every dataset: one without rows has a checksum too."""
        for name in (*(f"configurations/{name}" for name in CONFIGURATIONS), *(f"history/{name}" for name in columns)):
            self.update(name, np.zeros(0, np.uint8))

    def add(self, configurations, history):
        """Add one piece of a run, dicts of arrays under the schema's names; either may be empty."""
        for name, rows in configurations.items():
            self.update(f"configurations/{name}", rows)
        for name, rows in history.items():
            self.update(f"history/{name}", rows)

    def copy(self):
        """An independent copy at this point."""
        twin = RunningDigest()
        twin._hashes = {name: running.copy() for name, running in self._hashes.items()}
        return twin

    def result(self):
        """Dict of dataset name to hex digest of what was fed so far."""
        return {name: running.hexdigest() for name, running in sorted(self._hashes.items())}


def combine(header, checksums, rng, state):
    """One digest of an ensemble: header, datasets, random streams and final state."""
    total = hashlib.sha256(header.to_json().encode())
    total.update(canonical_json(checksums).encode())
    total.update(canonical_json(rng).encode())
    for rows in () if state is None else (state.phi, state.action, state.log_q):
        total.update(b"none" if rows is None else np.ascontiguousarray(rows, "<f8").data.cast("B"))
    if state is not None and state.latent is not None:
        total.update(np.ascontiguousarray(state.latent, "<f8").data.cast("B"))
    return total.hexdigest()

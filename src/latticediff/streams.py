"""Random streams: one seed per run, one independent counter-based stream per purpose.

Two ways to draw, both reproducible whatever the threads, processes or batch sizes:

* `Streams.key` gives a Numba kernel its Philox key. Such a kernel draws as a pure function of
  (key, chain, update), so there is no state to save but the update counter.
* `Streams.generator` gives NumPy code one *sequential* Philox generator per purpose. Filling
  arrays in one call or in many consumes it alike, so batch splits do not matter; its state is
  part of `Streams.state` and has to be saved *before* the draw it will repeat.
"""

import zlib
from collections.abc import Iterable
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from .errors import UserError

__all__ = ["Streams"]


class Streams:
    """A tree of independent random streams under one seed.

    Parameters
    ----------
    seed : int
        Non-negative; the same seed and path give the same bits on every machine.
    path : tuple of str
        Names of the branches from the root; see `child`.

    Raises
    ------
    UserError
        If `seed` is no non-negative integer.
    """

    def __init__(self, seed: int, path: Iterable[str] = ()) -> None:
        if isinstance(seed, bool) or int(seed) != seed or seed < 0:
            raise UserError(f"seed is {seed!r}; expected an integer of at least 0")
        self.seed = int(seed)
        self.path = tuple(path)
        self._generators: dict[str, np.random.Generator] = {}
        self._children: dict[str, Streams] = {}

    def child(self, name: str) -> "Streams":
        """The independent branch called `name`; every call returns the same object."""
        if name not in self._children:
            self._children[name] = Streams(self.seed, (*self.path, name))
        return self._children[name]

    def _sequence(self, purpose: str) -> np.random.SeedSequence:
        # crc32 is a fixed, documented hash; Python's own hash() changes from process to process
        words = [zlib.crc32(part.encode()) for part in (*self.path, purpose)]
        return np.random.SeedSequence(self.seed, spawn_key=words)

    def key(self, purpose: str) -> NDArray[np.uint64]:
        """Philox key of `purpose`: two uint64 words, a pure function of seed, path and purpose."""
        words: Any = self._sequence(purpose).generate_state(2, np.uint64)  # NumPy declares uint32 as well
        return words

    def generator(self, purpose: str) -> np.random.Generator:
        """The sequential generator of `purpose`; every call returns the same object."""
        if purpose not in self._generators:
            self._generators[purpose] = np.random.Generator(np.random.Philox(self._sequence(purpose)))
        return self._generators[purpose]

    def state(self) -> dict[str, Any]:
        """JSON-able snapshot: seed, path and the position of every sequential generator used, branches included."""
        positions = {}
        for purpose, generator in self._generators.items():
            raw = generator.bit_generator.state
            positions[purpose] = {
                "counter": [int(word) for word in raw["state"]["counter"]],
                "key": [int(word) for word in raw["state"]["key"]],
                "buffer": [int(word) for word in raw["buffer"]],
                "buffer_pos": int(raw["buffer_pos"]),
                "has_uint32": int(raw["has_uint32"]),
                "uinteger": int(raw["uinteger"]),
            }
        children = {name: child.state() for name, child in self._children.items()}
        return {"seed": self.seed, "path": list(self.path), "generators": positions, "children": children}

    @classmethod
    def restore(cls, state: dict[str, Any]) -> Self:
        """Streams at the position that `state` recorded; the inverse of `Streams.state`."""
        streams = cls(state["seed"], state["path"])
        for purpose, saved in state["generators"].items():
            streams.generator(purpose).bit_generator.state = {
                "bit_generator": "Philox",
                "state": {
                    "counter": np.array(saved["counter"], np.uint64),
                    "key": np.array(saved["key"], np.uint64),
                },
                "buffer": np.array(saved["buffer"], np.uint64),
                "buffer_pos": saved["buffer_pos"],
                "has_uint32": saved["has_uint32"],
                "uinteger": saved["uinteger"],
            }
        streams._children = {name: cls.restore(child) for name, child in state["children"].items()}
        return streams

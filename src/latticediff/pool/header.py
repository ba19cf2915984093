"""What a pool says of itself, and the contract of an open one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

import numpy as np

from ..errors import FileError
from ..lattice import MAX_NDIM
from ..types import Description, FloatArray, PathLikeStr, Shape
from ..untrusted import printable

__all__ = ["SCHEMA", "VERSION", "Pool", "PoolHeader", "Rows", "data_digest", "record_type"]

SCHEMA, VERSION = "latticediff-pool", 1


@dataclass(frozen=True)
class PoolHeader:
    """Which draws of which proposal a pool holds: the same header, but for `n`, begins with the same draws."""

    n: int  #: draws
    shape: Shape  #: lattice extents
    action: Description  #: `Action.describe` of the theory
    proposal: Description  #: what `describe` of the proposal told
    model: str  #: name of the model, for people
    model_sha256: str  #: its fingerprint
    proposal_sha256: str  #: that of model and scheme
    is_deterministic: bool  #: False: log_q is the density of field and hidden path together
    evaluations_per_draw: int
    seed: int
    stream: int  #: pools of one seed and other streams are independent

    @classmethod
    def from_fields(cls, told: dict[str, Any], path: PathLikeStr) -> Self:
        """The header that a file tells; raises `FileError` if a part is missing or impossible."""
        kinds: dict[str, type] = {"action": dict, "proposal": dict, "is_deterministic": bool}
        kinds |= dict.fromkeys(("model", "model_sha256", "proposal_sha256"), str)
        for name in (field.name for field in fields(cls)):
            if name not in told:
                raise FileError(f"{path} has no {name} in its header; it is no whole pool")
            value = told[name]
            if name == "shape":
                sound = 1 <= len(value) <= MAX_NDIM and all(type(extent) is int and extent > 0 for extent in value)
            elif name in kinds:
                sound = isinstance(value, kinds[name])
            else:
                sound = type(value) is int and value >= 0
            if not sound:
                raise FileError(f"{path}: {name} is {printable(value, 60)} in its header; the pool is damaged")
        arguments: dict[str, Any] = {**told, "shape": tuple(told["shape"])}
        return cls(**arguments)

    def fields(self) -> Description:
        """The header as a dict of numbers, texts and descriptions."""
        return asdict(self)


class Rows(NamedTuple):
    """Consecutive draws."""

    phi: FloatArray  #: (n, *lattice)
    action: FloatArray  #: (n,)
    log_q: FloatArray  #: (n,)


class Pool(Protocol):
    """An open pool."""

    path: Path
    header: PoolHeader
    data_sha256: str  #: digest of all draws, as the file tells it
    consumed_at: int  #: byte of the file where the number of consumed draws stands
    consumed_as_text: bool  #: in 20 decimal digits; else as a little-endian 64-bit integer

    def rows(self, start: int, stop: int) -> Rows:
        """Draws `start` to `stop`."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


def record_type(shape: Shape) -> np.dtype[Any]:
    """One draw as it is hashed, and stored in binary pools: S, log_q, phi in C order, little-endian float64."""
    return np.dtype([("action", "<f8"), ("log_q", "<f8"), ("phi", "<f8", tuple(shape))])


def as_records(rows: Rows) -> np.ndarray[Any, np.dtype[Any]]:
    """Draws as an array of `record_type`."""
    records = np.empty(len(rows.log_q), record_type(rows.phi.shape[1:]))
    for name, values in rows._asdict().items():
        records[name] = values
    return records


def data_digest(blocks: Iterator[Rows], write: Callable[[Rows], object] = lambda rows: None) -> tuple[str, int]:
    """SHA-256 of draws, and their number; `write` gets every block too."""
    digest, n = hashlib.sha256(), 0
    for rows in blocks:
        digest.update(as_records(rows).tobytes())
        write(rows)
        n += len(rows.log_q)
    return digest.hexdigest(), n

"""Checkpoints of a running chain: two generations, each sealed and checksummed.

A checkpoint is written after the segment it counts (data first, counter last). The newest whole one
wins; if it is torn the older is used, and what was written beyond it is dropped and computed again.
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import FileError
from ..markov import ChainState
from ..types import Description, FloatArray, PathLikeStr
from .files import canonical_json, sealed
from .schema import read_state_arrays, write_json
from .stored import open_h5

__all__ = ["Checkpoint", "load_checkpoints", "save_checkpoint"]


class Checkpoint(NamedTuple):
    """Everything beside the segments that a resumed run needs."""

    run_id: str
    generation: int  #: counts checkpoints of this run
    segments: list[list[int]]  #: [n_cfg, n_updates] of every sealed segment
    digests: dict[str, str]  #: `RunningDigest.result` over base file and segments
    state: ChainState
    rng: Description  #: `Streams.state`


def _arrays(state: ChainState) -> dict[str, FloatArray]:
    """The arrays of `state` that there are, by name."""
    arrays = {"phi": state.phi, "action": state.action, "log_q": state.log_q, "latent": state.latent}
    return {name: np.ascontiguousarray(rows, "<f8") for name, rows in arrays.items() if rows is not None}


def _digest(meta: Description, rng: Description, arrays: dict[str, FloatArray]) -> str:
    """SHA-256 of all that a checkpoint holds, in hex."""
    total = hashlib.sha256(canonical_json([meta, rng]).encode())
    for name in sorted(arrays):
        total.update(name.encode())
        total.update(arrays[name].data.cast("B"))
    return total.hexdigest()


def save_checkpoint(directory: PathLikeStr, checkpoint: Checkpoint) -> None:
    """Write `checkpoint` over the older of the two generations; raises `FileError` if the disk does not take it."""
    meta = checkpoint._asdict()
    state, rng = meta.pop("state"), meta.pop("rng")
    meta["update"] = int(state.update)
    arrays = _arrays(state)
    with sealed(Path(directory) / f"checkpoint-{checkpoint.generation % 2}.h5") as (file, _):
        write_json(file, "meta", meta)
        write_json(file, "rng", rng)
        for name, rows in arrays.items():
            file.create_group("state") if "state" not in file else None
            file["state"][name] = rows
        file.attrs["sha256"] = _digest(meta, rng, arrays)


def _load(path: Path) -> Checkpoint:
    """The checkpoint in a file; raises `FileError` if it is torn or none."""
    with open_h5(path) as file:
        meta, rng = file.json("meta"), file.json("rng")
        arrays = read_state_arrays(file.group("state"))
        if _digest(meta, rng, arrays) != file.attribute_text("sha256"):
            raise FileError(f"{path} is damaged: its checksum does not match")
    try:
        state = ChainState(update=meta.pop("update"), **arrays)
        return Checkpoint(**meta, state=state, rng=rng)
    except (KeyError, TypeError) as exc:
        raise FileError(f"{path} is no checkpoint of this program: {exc}") from exc


def load_checkpoints(directory: PathLikeStr, run_id: str) -> list[Checkpoint]:
    """The whole checkpoints of this run, newest first; torn ones are passed over."""
    found = []
    for path in sorted(Path(directory).glob("checkpoint-?.h5")):
        try:
            found.append(_load(path))
        except FileError:
            continue  # torn: that is what the other generation is for
    return sorted((c for c in found if c.run_id == run_id), key=lambda c: -c.generation)

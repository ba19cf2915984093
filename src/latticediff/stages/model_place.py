"""The folder that a model is made in: what it holds meanwhile, and when it is done."""

from __future__ import annotations

from pathlib import Path

from ..errors import FileError
from ..untrusted import status

__all__ = ["CHECKPOINT", "LOG", "clear_checkpoint", "holds_model"]

CHECKPOINT = "checkpoint.safetensors"
LOG = "log.jsonl"


def holds_model(folder: Path, resume: bool) -> bool:
    """Whether a folder holds a finished model, which a resumed call leaves as it is.

    Parameters
    ----------
    folder : Path
    resume : bool
        Whether something may be there.

    Returns
    -------
    bool

    Raises
    ------
    FileError
        A model or a checkpoint is there, and `resume` is false.
    """
    finished = status(folder / "card.toml") is not None
    if finished and not resume:
        raise FileError(f"{folder} already holds a model and is never overwritten; choose another --out")
    if status(folder / CHECKPOINT) is not None and not resume:
        raise FileError(f"{folder} holds an unfinished training; go on with --resume, or choose another --out")
    return finished


def clear_checkpoint(folder: Path) -> None:
    """Remove the checkpoints of a training that is over."""
    for leftover in folder.glob(f"{CHECKPOINT}*"):
        leftover.unlink()

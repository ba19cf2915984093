"""The folder that a model is made in: what it holds meanwhile, and when it is done."""

from __future__ import annotations

from pathlib import Path

from ..errors import FileError
from ..untrusted import status

__all__ = ["CHECKPOINT", "LAW", "LOG", "clear_checkpoint", "holds_model", "refuse_model_folder"]

CHECKPOINT = "checkpoint.safetensors"
LAW = "fine_law.safetensors"  #: of the fine sites, until the model is there
LOG = "log.jsonl"
WEIGHTS = "weights.safetensors"


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
    if any(status(folder / name) is not None for name in (CHECKPOINT, LAW)) and not resume:
        raise FileError(f"{folder} holds an unfinished training; go on with --resume, or choose another --out")
    return finished


def clear_checkpoint(folder: Path) -> None:
    """Remove the checkpoints of a training that is over, and the law of the fine sites that its model holds now."""
    for name in (CHECKPOINT, LAW):
        for leftover in folder.glob(f"{name}*"):
            leftover.unlink()


def refuse_model_folder(out: Path) -> None:
    """Refuse a folder for results that holds a model, or an unfinished one: it would no longer be told what it is.

    Raises
    ------
    FileError
        It does.
    """
    for name in (WEIGHTS, CHECKPOINT):
        if status(out / name) is not None:
            raise FileError(f"{out} is the folder of a model; choose another --out, a new folder")

"""What kind of model a folder holds, told without its weights; imports nothing heavy."""

from pathlib import Path

from ..types import PathLikeStr

__all__ = ["FIRST_PART", "is_phases"]

FIRST_PART = "part-0"  #: folder of the first model of coexisting phases, `latticediff.model.phases`


def is_phases(folder: PathLikeStr) -> bool:
    """Whether a folder is one that `latticediff mix` wrote; `load_phases` says whether it is whole."""
    return (Path(folder) / FIRST_PART).is_dir()

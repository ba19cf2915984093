"""Names of models on the command line: one that does not exist is refused before torch is imported."""

from __future__ import annotations

from typing import Any

__all__ = ["known_model", "known_models"]


def known_model(name: Any) -> Any:
    """Callback of an option or argument that names a model; gives `name` back.

    The commands would find out themselves, but only after an import of torch, which takes seconds to a minute.

    Parameters
    ----------
    name : str, Path or None
        Model folder, or name of a shipped model; None where none was given.

    Returns
    -------
    str, Path or None

    Raises
    ------
    ModelError
        A bare name of neither; the message lists the shipped models.
    FileError
        A path at which there is nothing, or a file.
    """
    if name is None:
        return None
    from ..errors import FileError
    from ..model.shipped import model_folder

    folder = model_folder(name)
    if not folder.exists():
        raise FileError(f"no model in {name}: there is no such folder; give one that `train` wrote, or see `models`")
    if folder.is_file():
        raise FileError(f"no model in {name}: that is a file; give a model folder, or a name from `latticediff models`")
    return name


def known_models(names: list[Any] | None) -> list[Any] | None:
    """`known_model` for an argument that takes several."""
    for name in names or ():
        known_model(name)
    return names

"""How long a run is to be, from what the command line asks for."""

import json
from pathlib import Path

from ..ensemble import Ensemble, run_directory
from ..errors import FileError, UserError
from ..types import PathLikeStr
from ..untrusted import status

__all__ = ["length_overrides"]


def length_overrides(
    path: PathLikeStr, until: int | None = None, more: int | None = None, start: str | None = None
) -> list[str]:
    """Overrides of a card's keys for a length and a start, as `latticediff.config.load_card` takes them.

    Parameters
    ----------
    path : path-like
        The ensemble file that is to be written or extended.
    until : int, optional
        Updates of each chain in the file, in total.
    more : int, optional
        Updates to be added to the finished file.
    start : str, optional
        ``hmc.start``.

    Returns
    -------
    list of str

    Raises
    ------
    UserError
        Both lengths are given, or one is below 1.
    FileError
        `more` is given and there is no finished file, or an extension of it has begun already: `more` would be added
        twice.
    """
    overrides = [] if start is None else [f"hmc.start={_number(start) or json.dumps(start, ensure_ascii=False)}"]
    if until is not None and more is not None:
        raise UserError("got --until and --more; give one of them")
    for name, number in (("until", until), ("more", more)):
        if number is not None and number < 1:
            raise UserError(f"--{name} {number}; expected at least 1 update")
    if more is not None:
        path = Path(path)
        status(path)  # a name too long, for instance
        if run_directory(path).is_dir():
            raise FileError(f"{run_directory(path)} holds an unfinished run; finish it with --resume or --until first")
        with Ensemble(path) as ensemble:
            until = ensemble.n_updates + more
    return overrides if until is None else [*overrides, f"hmc.n_updates={until}"]


def _number(text: str) -> str:
    """A number as TOML has it, "" if `text` is none."""
    try:
        return repr(float(text))
    except ValueError:
        return ""

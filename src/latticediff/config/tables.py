"""Cards that are tables of their own, of a study or a critical point: read, and what is wrong with one in a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from ..errors import CardError, FileError
from ..registry import nearest
from ..types import PathLikeStr
from ..untrusted import parse_toml, printable, read_text, status
from .overrides import apply_overrides

__all__ = ["card_data", "card_text", "first_of_tables"]


def card_text(path: PathLikeStr, what: str, example: str) -> str:
    """The text of the card at `path`; `what` it is and an `example` of one are for the messages.

    Raises
    ------
    FileError
        The file is missing, or is no UTF-8 text.
    """
    if status(path) is None:
        raise FileError(f"no card {path}; give the path of a TOML file such as {example}")
    return read_text(path, what)


def card_data(text: str, source: str, overrides: Sequence[str]) -> dict[str, Any]:
    """TOML text with overrides applied.

    Raises
    ------
    CardError
        It is no TOML, or an override does not fit.
    """
    try:
        return apply_overrides(parse_toml(text, source), overrides)
    except FileError as exc:
        raise CardError(str(exc)) from None


def first_of_tables(
    exc: ValidationError,
    root: type[BaseModel],
    tables: Mapping[str, type[BaseModel]],
    untold: type | tuple[type, ...] = dict,
) -> str:
    """One line for the first problem; misspelt keys explain what seems missing, so they come first.

    Parameters
    ----------
    exc : pydantic.ValidationError
    root : type
        Model of the card.
    tables : mapping of str to type
        Models of its tables, by name.
    untold : type or tuple of type
        Of values that are too long to be repeated.

    Returns
    -------
    str
    """
    problems = sorted(exc.errors(include_url=False), key=lambda problem: problem["type"] != "extra_forbidden")
    problem = problems[0]
    place = [str(part) if isinstance(part, str) else str(part + 1) for part in problem["loc"]]
    if problem["type"] == "extra_forbidden":
        known = list((tables.get(place[0], root) if len(place) > 1 else root).model_fields)
        where = f"[{' '.join(place[:-1])}]" if len(place) > 1 else "the card"
        return f"{where} has no key {place[-1]!r}{nearest(place[-1], known) or '; it has ' + ', '.join(known)}"
    if problem["type"] == "missing":
        return f"{'.'.join(place)} is missing"
    message, value = problem["msg"].removeprefix("Value error, "), problem["input"]
    message = f"{message[:1].lower()}{message[1:]}"
    told = "" if isinstance(value, untold) else f" = {printable(repr(value), 80)}"
    where = f"{'.'.join(place)}{told}"
    return f"{where}: {message}" if where else message  # else a rule about the whole card

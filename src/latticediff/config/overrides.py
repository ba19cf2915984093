"""Changes to a run-card from outside: ``section.key=value``, or ``section={...}`` for a whole section.

Couplings belong to their convention: the `lam` of one is not that of another. So where an override changes the
convention of the action, the couplings that the card gives for the old one give way, and those of the new one have to
be given too.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ..action.conventions import CONVENTIONS
from ..errors import CardError, FileError
from ..untrusted import parse_toml, printable

__all__ = ["apply_overrides"]

_PARTS = 4  # of a key: no key of a card lies deeper


def apply_overrides(
    data: dict[str, Any], overrides: Iterable[str], say: Callable[[str], object] | None = None
) -> dict[str, Any]:
    """Apply overrides to the nested dict of a card; whether such keys exist is left to the check of the whole card.

    Parameters
    ----------
    data : dict
        From TOML; it is changed.
    overrides : sequence of str
        The value as in TOML; what is no TOML is a string, so that shells need no quotes within quotes. Later ones win.
    say : callable, optional
        Gets one line that says which couplings gave way.

    Returns
    -------
    dict
        `data`.

    Raises
    ------
    CardError
        Not of the form ``key=value``, a key inside of something that is no section, or a new convention without its
        couplings.
    """
    before = data.get("action")
    before = dict(before) if isinstance(before, dict) else {}
    given: set[str] = set()
    for override in overrides:
        path, value = _split(override)
        _put(data, path, value, override)
        if path == ["action"]:  # a whole section: nothing of the old one is left
            before, given = {}, set()
        elif path[0] == "action":
            given.add(path[1])
    _give_way(data, before, given, say)
    return data


def _split(override: str) -> tuple[list[str], Any]:
    """The parts of an override's key, and its value."""
    key, equals, raw = override.partition("=")
    path, raw = [part.strip() for part in key.split(".")], raw.strip()
    value: Any
    if not equals or not all(path) or len(path) > _PARTS:
        raise CardError(
            f"--set got {_quoted(override)}; expected section.key=value, e.g. hmc.n_chains=8, or section={{...}}"
        )
    try:
        value = parse_toml(f"value = {raw}", "")["value"] if "\n" not in raw else raw
    except FileError:
        value = raw
    if len(path) == 1 and not isinstance(value, dict):
        raise CardError(
            f"--set got {_quoted(override)}; a section wants a TOML table, e.g."
            " 'action={convention=\"H\", kappa=0.25, lam=0.02}', a key its section, e.g. hmc.n_chains=8"
        )
    return path, value


def _quoted(override: str) -> str:
    return f"'{printable(override, 200)}'"


def _put(data: dict[str, Any], path: Sequence[str], value: Any, override: str) -> None:
    table = data
    for part in path[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise CardError(f"--set got {_quoted(override)}, but {part!r} is no section of the card")
    table[path[-1]] = value


def _give_way(
    data: dict[str, Any], before: Mapping[str, Any], given: set[str], say: Callable[[str], object] | None
) -> None:
    """Drop the couplings of the convention `before`, unless they were `given` for the one that is there now."""
    action = data.get("action")
    if not isinstance(action, dict):
        return
    new, old = (CONVENTIONS.get(str(table.get("convention"))) for table in (action, before))
    if old is None or new is None or old is new:
        return
    dropped = {key: action.pop(key) for key in old.couplings if key in action and key not in given}
    missing = [key for key in new.couplings if key not in action]
    if missing:
        sets = " ".join(f"--set action.{key}=..." for key in missing)
        raise CardError(
            f"--set leaves convention {old.name} of the card for {new.name}, whose couplings are"
            f" {', '.join(new.couplings)} ({new.formula}); give {', '.join(missing)} too: {sets}"
        )
    if dropped and say is not None:
        keys = ", ".join(f"{key} = {value}" for key, value in dropped.items())
        say(f"convention {new.name} by --set: {printable(keys, 200)} of the card's convention {old.name} gave way")

"""What can be plugged in, found by name: entry-point groups ``latticediff.<group>``.

Built-ins are declared in this package's own metadata, in the same way as anybody else's, and
nothing is imported before it is asked for.
"""

import difflib
import functools
from collections.abc import Iterable
from importlib import metadata
from typing import Any

from .errors import UserError

__all__ = ["GROUPS", "load", "names", "nearest", "require"]

GROUPS = (
    "actions",
    "action_options",
    "proposals",
    "routes",
    "route_options",
    "kernels",
    "observables",
    "readers",
    "layouts",
    "networks",
    "network_options",
    "figures",
)


def nearest(word: object, known: Iterable[object]) -> str:
    """``" (did you mean 'x'?)"`` for the name in `known` that is most like `word`, or ``""`` if none is like it."""
    close = difflib.get_close_matches(str(word), [str(k) for k in known], n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


@functools.cache
def _entry_points(group: str) -> dict[str, list[metadata.EntryPoint]]:
    if group not in GROUPS:
        raise UserError(f"registry group is {group!r}; expected one of {', '.join(GROUPS)}{nearest(group, GROUPS)}")
    points: dict[str, dict[str, metadata.EntryPoint]] = {}
    for point in metadata.entry_points(group=f"latticediff.{group}"):
        points.setdefault(point.name, {})[point.value] = point  # one package found twice on the path is no conflict
    return {name: list(found.values()) for name, found in points.items()}


def names(group: str) -> list[str]:
    """Names registered in `group`, sorted; imports nothing.

    Raises
    ------
    UserError
        If there is no such group.
    """
    return sorted(_entry_points(group))


def require(group: str, name: str) -> None:
    """Check that `name` is registered in `group`, without importing it.

    Raises
    ------
    UserError
        Unknown group or name; the message gives the nearest name and all of them. Or a name that two packages claim.
    """
    points = _entry_points(group)
    if name not in points:
        known = ", ".join(sorted(points)) or "nothing: install the package (pip install -e .)"
        raise UserError(f"no {_one(group)} is called {str(name)[:80]!r}{nearest(name, points)}; registered: {known}")
    if len(points[name]) > 1:
        raise UserError(
            f"{_one(group)} {name!r} is registered by {' and by '.join(_origin(point) for point in points[name])};"
            " rename one, or uninstall its package"
        )


def _one(group: str) -> str:
    return group.removesuffix("s").replace("_", " ")


def _origin(point: metadata.EntryPoint) -> str:
    package = point.dist.name if point.dist is not None else "a package"
    return f"{package} ({point.value})"


def load(group: str, name: str) -> Any:
    """The object registered as `name` in `group`; its module is imported now.

    Parameters
    ----------
    group : str
        One of `GROUPS`.
    name : str
        As declared under ``[project.entry-points."latticediff.<group>"]`` by any installed package.

    Raises
    ------
    UserError
        As `require`, a module that cannot be imported, or something that is neither a class nor a function.
    """
    require(group, name)
    (point,) = _entry_points(group)[name]
    try:
        found = point.load()
    except Exception as exc:  # whatever the module of somebody else does when it is imported
        reason = f"{type(exc).__name__}: {exc}" if not isinstance(exc, ImportError) else exc
        raise UserError(f"{_one(group)} {name!r}, {_origin(point)}, cannot be imported: {reason}") from exc
    if not callable(found):
        raise UserError(
            f"{_one(group)} {name!r}, {_origin(point)}, is a {type(found).__name__}; expected a class or a function"
        )
    return found

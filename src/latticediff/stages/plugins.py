"""Stage plugins: what is installed under every entry-point group, and whether it keeps its contract."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata

from .. import registry
from ..errors import UserError
from ..types import Description
from ..untrusted import printable

__all__ = ["Found", "Plugin", "check_plugins", "list_plugins"]

OURS = "latticediff"


@dataclass(frozen=True)
class Plugin:
    """One entry point; `faults` and `notes` are those that a check found."""

    group: str
    name: str
    package: str
    value: str
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()  #: what could not be tried, and what would let it be


@dataclass(frozen=True)
class Found:
    """Plug-ins, listed or checked."""

    plugins: tuple[Plugin, ...]
    checked: bool

    def to_dict(self) -> Description:
        """JSON-able."""
        rows = []
        for plugin in self.plugins:
            row: Description = {key: getattr(plugin, key) for key in ("group", "name", "package", "value")}
            if self.checked:
                row |= {"faults": list(plugin.faults), "notes": list(plugin.notes)}
            rows.append(row)
        return {"plugins": rows}

    def to_text(self) -> str:
        """One line for each plug-in, and below it one for each fault."""
        lines = []
        for plugin in self.plugins:
            said = "" if not self.checked else "ok      " if not plugin.faults else "FAULTY  "
            lines.append(printable(f"{said}{plugin.group:16} {plugin.name:24} {plugin.package} ({plugin.value})"))
            lines += [printable(f"    fault: {fault}") for fault in plugin.faults]
            lines += [printable(f"    note: {note}") for note in plugin.notes]
        return "\n".join(lines)

    def require_passed(self) -> None:
        """Raise `UserError` if something is faulty."""
        faulty = [f"{plugin.group} {plugin.name!r}" for plugin in self.plugins if plugin.faults]
        if faulty:
            raise UserError(f"{len(faulty)} of {len(self.plugins)} plug-ins break their contract: {', '.join(faulty)}")


def _installed() -> Iterator[Plugin]:
    for group in registry.GROUPS:
        seen = set()
        for point in sorted(metadata.entry_points(group=f"{OURS}.{group}")):
            package = point.dist.name if point.dist is not None else "?"
            if (point.name, point.value) not in seen:  # one package found twice on the path is one
                yield Plugin(group, point.name, package, point.value)
            seen.add((point.name, point.value))


def _unknown_groups() -> Iterator[Plugin]:
    """Entry points under a group that nobody reads: a misspelt group is otherwise silent."""
    for group in metadata.entry_points().groups:
        own = group.removeprefix(f"{OURS}.")
        if group.startswith(f"{OURS}.") and own not in registry.GROUPS:
            for point in metadata.entry_points(group=group):
                package = point.dist.name if point.dist is not None else "?"
                hint = registry.nearest(own, registry.GROUPS) or f"; groups: {', '.join(registry.GROUPS)}"
                yield Plugin(own, point.name, package, point.value, (f"no group is called {own!r}{hint}",))


def list_plugins(word: str = "list", name: str | None = None) -> Found:
    """Everything that is installed, built-ins included; nothing is imported.

    Parameters
    ----------
    word : str
        ``"list"``.
    name : str, optional
        Only those of this name, or of the package of this name.

    Returns
    -------
    Found

    Raises
    ------
    UserError
        Another word, or nothing of that name.
    """
    if word != "list":
        raise UserError(f"expected list or check, got {word!r}{registry.nearest(word, ('list', 'check'))}")
    return Found(tuple(_named(name)), checked=False)


def _named(name: str | None) -> list[Plugin]:
    rows = [*_installed(), *_unknown_groups()]
    if name is None:
        return rows
    wanted = [row for row in rows if name in (row.name, row.package)]
    if not wanted:
        known = sorted({row.name for row in rows} | {row.package for row in rows})
        raise UserError(f"no plug-in and no package of plug-ins is called {name!r}{registry.nearest(name, known)}")
    return wanted


def check_plugins(name: str | None = None) -> Found:
    """Import plug-ins and hold each against the contract of its group.

    Parameters
    ----------
    name : str, optional
        Of plug-ins, or of a package; by default everything that this package does not bring along itself.

    Returns
    -------
    Found

    Raises
    ------
    UserError
        Nothing of that name, or nothing installed beside this package.
    """
    from .plugin_checks import check

    rows = _named(name)
    if name is None and not (rows := [row for row in rows if row.package != OURS]):
        raise UserError("no plug-ins of other packages are installed; name one of ours, see `latticediff plugins list`")
    found = []
    for row in rows:
        faults, notes = (row.faults, ()) if row.faults else check(row.group, row.name)
        found.append(Plugin(row.group, row.name, row.package, row.value, tuple(faults), tuple(notes)))
    return Found(tuple(found), checked=True)

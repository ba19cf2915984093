"""Where a file comes from: program, versions, commit, configuration and parents; nothing about the machine."""

import json
import subprocess
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

__all__ = ["Provenance", "collect", "commit", "version"]

PROGRAM = "latticediff"


@dataclass(frozen=True)
class Provenance:
    """What `/provenance` of a file holds; see docs/file-format.md."""

    program: str = PROGRAM
    version: str = "unknown"
    commit: str = "unknown"
    created: str = ""  #: ISO 8601, UTC
    config_json: str = ""  #: the effective run-card, or ""
    config_toml: str = ""
    parents: list = field(default_factory=list)  #: [{"file": name, "fingerprint": hex}, ...]
    libraries: dict = field(default_factory=dict)  #: name -> version of what computes the numbers
    #: of files made from others, whose chains and updates they hold: see `latticediff.ensemble.lineage`
    lineage: list = field(default_factory=list)


@cache
def version() -> str:
    """Installed version of this package, "unknown" when it runs from a bare source tree."""
    try:
        return installed_version(PROGRAM)
    except PackageNotFoundError:
        return "unknown"


@cache
def commit() -> str:
    """Commit of the source tree, "-dirty" appended when it was changed; "unknown" outside a checkout."""
    here = Path(__file__).resolve().parent
    if not any((parent / ".git").exists() for parent in here.parents[:2]):
        return "unknown"  # an installed copy inside somebody else's repository must not report theirs
    return _state_of(here)


def _state_of(folder: Path) -> str:
    """Commit of the repository that `folder` is in, "-dirty" appended where tracked files differ from it.

    Nothing is written there: ``git describe --dirty`` rewrites the index, so that a commit at the same moment fails,
    and a write cut short by a full disk leaves a lock that stops every later one.
    """
    found = []
    for command in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"]):
        command = ["git", "--no-optional-locks", *command]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return "unknown"
        if done.returncode != 0:
            return "unknown"
        found.append(done.stdout.strip())
    head, changes = found
    return f"{head}-dirty" if changes else head


@cache
def _libraries() -> dict[str, str]:
    found = {}
    for name in ("numpy", "numba", "h5py", "torch"):
        with suppress(PackageNotFoundError):
            found[name] = installed_version(name)  # reads metadata; nothing is imported
    return found


def collect(
    config_json: str = "",
    config_toml: str = "",
    parents: Iterable[Mapping[str, str]] = (),
    lineage: Iterable[Mapping[str, Any]] = (),
) -> Provenance:
    """`Provenance` of a file written now.

    Parameters
    ----------
    config_json, config_toml : str
        The effective configuration, if there is one.
    parents : sequence of dict
        ``{"file": name, "fingerprint": hex}`` of every file this one was made from.
    lineage : sequence of dict
        Whose chains and updates the file holds, where that does not follow from its own random streams.
    """
    created = datetime.now(UTC).isoformat(timespec="seconds")
    if config_json:
        json.loads(config_json)  # a defect of ours, not of the user: better here than in a reader years later
    parents, lineage = ([dict(entry) for entry in entries] for entries in (parents, lineage))
    return Provenance(
        PROGRAM, version(), commit(), created, config_json, config_toml, parents, dict(_libraries()), lineage
    )

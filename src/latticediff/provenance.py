"""Where a file comes from: program, versions, commit, configuration and parents; nothing about the machine."""

import json
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path

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


@cache
def version():
    """Installed version of this package, "unknown" when it runs from a bare source tree."""
    try:
        return installed_version(PROGRAM)
    except PackageNotFoundError:
        return "unknown"


@cache
def commit():
    """Commit of the source tree, "-dirty" appended when it was changed; "unknown" outside a checkout."""
    here = Path(__file__).resolve().parent
    if not any((parent / ".git").exists() for parent in here.parents[:2]):
        return "unknown"  # an installed copy inside somebody else's repository must not report theirs
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() if done.returncode == 0 and done.stdout.strip() else "unknown"


@cache
def _libraries():
    found = {}
    for name in ("numpy", "numba", "h5py", "torch"):
        with suppress(PackageNotFoundError):
            found[name] = installed_version(name)  # reads metadata; nothing is imported
    return found


def collect(config_json="", config_toml="", parents=()):
    """`Provenance` of a file written now.

    Parameters
    ----------
    config_json, config_toml : str
        The effective configuration, if there is one.
    parents : sequence of dict
        ``{"file": name, "fingerprint": hex}`` of every file this one was made from.
    """
    created = datetime.now(UTC).isoformat(timespec="seconds")
    if config_json:
        json.loads(config_json)  # a defect of ours, not of the user: better here than in a reader years later
    return Provenance(
        PROGRAM, version(), commit(), created, config_json, config_toml, [dict(p) for p in parents], dict(_libraries())
    )

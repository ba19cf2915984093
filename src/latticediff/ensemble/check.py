"""Whether a file is what it says it is: checksums, finiteness and the action, all recomputed from the data."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..action import Action
from ..errors import FileError
from ..types import PathLikeStr
from .digest import RunningDigest, combine
from .reader import Ensemble
from .structure import action_tolerance, state_problems
from .tables import Table

__all__ = ["UNSEALED", "VerifyReport", "action_tolerance", "content_digest", "require_whole", "verify"]

#: the note in the report on a file that an older version wrote
UNSEALED = (
    "no digest of the header, the final state and the random streams: made by an older version; `migrate` adds them"
)


class VerifyReport(NamedTuple):
    """What `verify` found."""

    path: str
    n_cfg: int
    n_updates: int
    action_difference: float  #: largest ``|S(phi) - stored S|``
    digest: str  #: content digest, recomputed
    problems: list[str]  #: one line each; empty if all is well
    notes: tuple[str, ...] = ()  #: what could not be checked

    @property
    def ok(self) -> bool:
        """Whether no problem was found."""
        return not self.problems


def _recompute(ensemble: Ensemble, digest: RunningDigest) -> Iterator[Table]:
    """Feed all rows of `ensemble` to `digest`; yields the configurations among them."""
    digest.declare(ensemble.history_names)
    for configurations, history in ensemble.pieces():
        digest.add(configurations, history)
        if configurations:
            yield configurations


def content_digest(path: PathLikeStr) -> str:
    """SHA-256 over the physics of a file, recomputed from the data.

    Header, configurations, history without ``seconds``, random streams and final state enter;
    dates, versions, provenance and the layout of the file do not. Two runs with equal digests are
    equal to the bit.

    Parameters
    ----------
    path : path
        A finished file, or the run directory of an unfinished one.

    Returns
    -------
    str
        In hex.

    Raises
    ------
    FileError
        The file cannot be read as an ensemble at all.
    """
    with Ensemble(path, check=False) as ensemble:
        digest = RunningDigest()
        for _ in _recompute(ensemble, digest):
            pass
        state, streams = ensemble.state(), ensemble.streams()
        return combine(ensemble.header, digest.result(), None if streams is None else streams.state(), state)


def require_whole(ensemble: Ensemble) -> None:
    """Raise `FileError` if the data do not have the stored checksums: damage must not get fresh ones in a new file."""
    digest = RunningDigest()
    for _ in _recompute(ensemble, digest):
        pass
    stored, found = ensemble.checksums(), digest.result()
    damaged = sorted(name for name in stored.keys() | found.keys() if stored.get(name) != found.get(name))
    if damaged:
        raise FileError(f"{ensemble.path} is damaged ({', '.join(damaged)}); `repair` saves what is whole")


def verify(path: PathLikeStr, action: Action | None = None) -> VerifyReport:
    """Recompute the checksums of a file and the action of every configuration.

    Parameters
    ----------
    path : path
        A finished file, or the run directory of an unfinished one.
    action : Action, optional
        For theories that cannot be rebuilt from their description.

    Returns
    -------
    VerifyReport
        Damage inside the file is reported in `problems`; it does not raise.

    Raises
    ------
    FileError
        The file cannot be read as an ensemble at all.
    """
    problems: list[str] = []
    difference, digest = 0.0, RunningDigest()
    with Ensemble(path, action, check=False) as ensemble:
        action = ensemble.action
        row, expected_series = 0, np.arange(ensemble.n_chains)
        for configurations in _recompute(ensemble, digest):
            phi, stored = configurations["phi"], configurations["action"]
            rows = f"configurations {row} to {row + len(phi) - 1}"
            row += len(phi)
            if not np.isfinite(phi).all():
                problems.append(f"{rows}: a field value is not finite")
                continue
            with np.errstate(all="ignore"):  # damaged fields may be as large as numbers go
                computed = action(phi)
                gap = np.abs(computed - stored)
                wrong = ~(gap <= action_tolerance(computed, ensemble.shape))
            difference = max(difference, float(np.max(gap, initial=0)))
            if wrong.any():
                problems.append(f"{rows}: stored action differs from S(phi) by up to {np.max(gap):.3g}")
            updates = configurations["update"].reshape(-1, ensemble.n_chains)
            if not (
                (configurations["series"].reshape(-1, ensemble.n_chains) == expected_series).all()
                and (updates == updates[:, :1]).all()
                and (np.diff(updates[:, 0]) > 0).all()
            ):
                problems.append(f"{rows}: not ordered by update, then by chain")
        stored_sums, computed_sums = ensemble.checksums(), digest.result()
        problems += ensemble.broken_seals()
        for name in sorted(stored_sums.keys() | computed_sums.keys()):
            if stored_sums.get(name) != computed_sums.get(name):
                problems.append(f"{name}: checksum does not match the data")
        state, streams = ensemble.state(), ensemble.streams()
        if state is not None:
            problems += state_problems(ensemble, state)
        total = combine(ensemble.header, computed_sums, None if streams is None else streams.state(), state)
        notes = () if ensemble.is_sealed else (UNSEALED,)
        return VerifyReport(str(ensemble.path), ensemble.n_cfg, ensemble.n_updates, difference, total, problems, notes)

"""Which chains of which run, and which of their updates, a file holds; what two files have in common: `overlaps`.

A run is known by what it draws: seed and branch of its random streams, and its algorithm. Two runs of one seed share
random numbers chain by chain even where their numbers of chains differ, so they are no independent chains.
Files that no run of ours wrote (arrays, conversions, pieces cut by earlier versions) have no such name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from ..errors import FileError
from ..types import Description

if TYPE_CHECKING:
    from .reader import Ensemble

__all__ = ["Stretch", "beside", "clipped", "joined", "lineage"]


@dataclass(frozen=True)
class Stretch:
    """The updates ``first < u <= last`` of consecutive chains of one run."""

    seed: int | None  #: None: not known
    path: tuple[str, ...] | None  #: branch of the random streams; None: not known
    algorithm: str
    chains: tuple[int, int]  #: first, and one past the last, as the run numbered them
    updates: tuple[int, int]  #: first, last, as the run counted them
    at: int = 0  #: number in the file of the first of the chains
    shift: int = 0  #: by how much the run's count of updates is ahead of the file's

    @property
    def n_chains(self) -> int:
        """Number of chains."""
        return self.chains[1] - self.chains[0]

    @property
    def is_known(self) -> bool:
        """Whether it is known which random numbers were drawn."""
        return self.seed is not None and self.path is not None

    def is_of_same_run(self, other: Stretch) -> bool:
        """Whether `other` is known to have drawn the same random numbers, chain by chain."""
        return self.is_known and (self.seed, self.path, self.algorithm) == (other.seed, other.path, other.algorithm)


def lineage(ensemble: Ensemble) -> list[Stretch]:
    """The stretches that an ensemble holds; raises `FileError` if the record of them is malformed."""
    recorded = ensemble.provenance.lineage
    if recorded:
        try:
            return [_read(entry) for entry in recorded]
        except (KeyError, TypeError, ValueError):
            raise FileError(f"{ensemble.path}: /provenance/lineage is no list of stretches of chains") from None
    streams = ensemble.streams()
    seed, path = (None, None) if streams is None else (streams.seed, streams.path)
    if streams is None and len(ensemble.provenance.parents) < 2:  # of several parents, the card is the first one's
        seed = _seed_of_card(ensemble.provenance.config_json)
    chains, updates = (0, ensemble.n_chains), (ensemble.first_update, ensemble.last_update)
    return [Stretch(seed, path, str(ensemble.algorithm.get("name", "")), chains, updates)]


def _read(entry: Mapping[str, Any]) -> Stretch:
    """The inverse of `asdict`; raises `KeyError`, `TypeError` or `ValueError` if `entry` is something else."""
    chains, updates = (_pair(entry[key]) for key in ("chains", "updates"))
    path = None if entry["path"] is None else tuple(str(part) for part in entry["path"])
    seed = None if entry["seed"] is None else int(entry["seed"])
    return Stretch(seed, path, str(entry["algorithm"]), chains, updates, int(entry["at"]), int(entry["shift"]))


def _pair(numbers: Iterable[Any]) -> tuple[int, int]:
    """The two integers in `numbers`; raises `ValueError` if there are more or fewer."""
    first, last = (int(number) for number in numbers)
    return first, last


def _seed_of_card(text: str) -> int | None:
    """The seed in a run-card, or None."""
    try:
        seed = json.loads(text)["run"]["seed"]
    except (KeyError, TypeError, ValueError):
        return None
    return seed if isinstance(seed, int) and not isinstance(seed, bool) else None


def clipped(
    stretches: Iterable[Stretch], updates: tuple[int, int] | None = None, chains: tuple[int, int] | None = None
) -> list[Stretch]:
    """What is left of the stretches of a file in a range of its updates, or in a range of its chains.

    Parameters
    ----------
    stretches : iterable of Stretch
    updates : (int, int), optional
        Keep ``first < u <= last``, as the file counts them.
    chains : (int, int), optional
        Used if `updates` is not given: keep these chains, first and one past the last, and number them from 0.
    """
    found = []
    for stretch in stretches:
        if updates is not None:
            first, last = (update + stretch.shift for update in updates)
            first, last = max(first, stretch.updates[0]), min(last, stretch.updates[1])
            if first < last:
                found.append(replace(stretch, updates=(first, last)))
        else:
            assert chains is not None  # callers give one of the two
            low, high = max(chains[0], stretch.at), min(chains[1], stretch.at + stretch.n_chains)
            if low < high:
                own = stretch.chains[0] - stretch.at
                found.append(replace(stretch, chains=(low + own, high + own), at=low - chains[0]))
    return found


def beside(sources: Sequence[Ensemble]) -> list[Stretch]:
    """The stretches of a file that holds the chains of `sources` side by side, its updates numbered as in the first."""
    found: list[Stretch] = []
    at = 0
    for source in sources:
        shift = source.first_update - sources[0].first_update
        found += [replace(s, at=s.at + at, shift=s.shift + shift) for s in lineage(source)]
        at += source.n_chains
    return found


def joined(stretches: Iterable[Stretch]) -> list[Description]:
    """JSON-able entries by chain, then by update; stretches that follow one another in the same chains become one."""
    found: list[Stretch] = []
    for stretch in sorted(stretches, key=lambda s: (s.at, s.updates)):
        before = found[-1] if found else None
        if (
            before is not None
            and before.updates[1] == stretch.updates[0]
            and stretch == replace(before, updates=stretch.updates)
        ):
            found[-1] = replace(before, updates=(before.updates[0], stretch.updates[1]))
        else:
            found.append(stretch)
    return [asdict(stretch) for stretch in found]

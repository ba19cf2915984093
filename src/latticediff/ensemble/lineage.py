"""Which chains of which run, and which of their updates, a file holds; and whether two files have some in common.

A run is known by what it draws: seed and branch of its random streams, and its algorithm. Two runs of one seed share
random numbers chain by chain even where their numbers of chains differ, so they are no independent chains.
Files that no run of ours wrote (arrays, conversions, pieces cut by earlier versions) have no such name; configurations
that they have in common are found by content.
"""

from __future__ import annotations

import collections
import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FileError
from ..types import Description, FloatArray

if TYPE_CHECKING:
    from .reader import Ensemble
__all__ = [
    "Stretch",
    "beside",
    "clipped",
    "joined",
    "lineage",
    "refuse_other_runs",
    "refuse_repeats",
    "refuse_same_runs",
]


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


def refuse_same_runs(sources: Iterable[Ensemble]) -> None:
    """Refuse to lay two stretches of the same chains side by side, as if they were independent.

    Raises
    ------
    FileError
        Two files hold chains of one run, or of runs of one seed.
    """
    for (a, ours), (b, theirs) in itertools.combinations([(source, lineage(source)) for source in sources], 2):
        for s, t in itertools.product(ours, theirs):
            chains = min(s.chains[1], t.chains[1]) - max(s.chains[0], t.chains[0])
            if chains <= 0 or not s.is_of_same_run(t):
                continue
            low, high = max(s.updates[0], t.updates[0]), min(s.updates[1], t.updates[1])
            what = f"{b.path} and {a.path} share {chains} chains of seed {s.seed}"
            if low < high:
                raise FileError(
                    f"{what}, updates {low} < u <= {high} in both: the same random numbers, not independent"
                    " chains; take one of them, or run another seed"
                )
            raise FileError(
                f"{what}, in different updates: not independent chains; `merge` them along updates if they join"
            )


def refuse_other_runs(ordered: Iterable[Ensemble]) -> None:
    """Refuse to join stretches of different runs into one history.

    Raises
    ------
    FileError
        Seeds, branches of the random streams or numbers of chains differ, as far as they are known.
    """
    for a, b in itertools.pairwise(ordered):
        before = [s for s in lineage(a) if s.updates[1] - s.shift == a.last_update]
        after = [s for s in lineage(b) if s.updates[0] - s.shift == b.first_update]
        for s, t in itertools.product(before, after):
            low, high = max(s.at, t.at), min(s.at + s.n_chains, t.at + t.n_chains)
            if low < high and not _may_go_on(s, t):
                raise FileError(
                    f"{b.path} does not go on with the chains of {a.path}: {_who(t)} after {_who(s)}; what other runs"
                    " drew belongs side by side, along chains"
                )


def _may_go_on(s: Stretch, t: Stretch) -> bool:
    """Whether the second may go on with the chains of the first, as far as is known."""
    if None not in (s.seed, t.seed) and s.seed != t.seed:
        return False
    here = (s.path, s.chains[0] - s.at), (t.path, t.chains[0] - t.at)
    return not (s.is_known and t.is_known) or (here[0] == here[1] and s.updates[1] == t.updates[0])


def _who(stretch: Stretch) -> str:
    """The chains of a stretch in words."""
    path = "" if not stretch.path else f", stream {'/'.join(stretch.path)}"
    return f"chains {stretch.chains[0]} to {stretch.chains[1] - 1} of seed {stretch.seed}{path}"


def _digests(phis: FloatArray) -> NDArray[np.uint64]:
    """A digest of 64 bits for each configuration, shape (n_cfg,).

    Among a million different ones, two have the same digest in 3e-8 of all cases.
    """
    rows = np.ascontiguousarray(phis, "<f8").reshape(len(phis), -1)
    return np.frombuffer(b"".join(hashlib.blake2b(row.data, digest_size=8).digest() for row in rows), np.uint64)


def _by_chain(source: Ensemble) -> NDArray[np.uint64]:
    """The digests of an ensemble, shape (n_chains, n_cfg / n_chains)."""
    parts = [_digests(phis) for phis in source.batches()]
    return np.concatenate(parts).reshape(-1, source.n_chains).T


def refuse_repeats(sources: Sequence[Ensemble], along: str) -> None:
    """Refuse configurations that two files have in common.

    A chain repeats itself where it rejects, also across the cut between two stretches of it, and runs may begin
    from one field and leave it late. Nothing else explains equal fields in two files.

    Parameters
    ----------
    sources : sequence of Ensemble
        In the order of the updates, if they are joined along these.
    along : {"updates", "chains"}

    Raises
    ------
    FileError
        Some configuration would count twice.
    """
    tables = [_by_chain(source) for source in sources]
    found_keys, found_owners = [], []
    for number, table in enumerate(tables):
        for chain, row in enumerate(table):
            found = np.unique(row)
            found_keys.append(found)
            found_owners.append(np.full((len(found), 2), (number, chain)))
    keys, pairs = np.concatenate(found_keys), np.concatenate(found_owners)
    order = np.argsort(keys, kind="stable")
    keys, pairs = keys[order], pairs[order]
    shared = np.isin(keys, keys[1:][(keys[1:] == keys[:-1]) & (pairs[1:, 0] != pairs[:-1, 0])])
    keys, owners = keys[shared], [(int(number), int(chain)) for number, chain in pairs[shared]]
    times_shared, again = collections.Counter(owners), 0
    example: tuple[np.uint64, list[tuple[int, int]]] | None = None
    for key, group in itertools.groupby(zip(keys, owners, strict=True), key=lambda pair: pair[0]):
        holders = [owner for _, owner in group]
        begin = all(times_shared[owner] == 1 and _begins_with(tables[owner[0]][owner[1]], key) for owner in holders)
        if not begin and not (along == "updates" and _repeated_across_cuts(key, holders, sources)):
            again, example = again + 1, example or (key, holders)
    if example is None:
        return
    key, holders = example
    (i, c), (j, d) = holders[0], next(holder for holder in holders if holder[0] != holders[0][0])
    here, there = (_place(sources[n], tables[n][chain], chain, key) for n, chain in ((j, d), (i, c)))
    raise FileError(
        f"{sources[j].path} holds {again} configurations that other files hold too, the first of them as {here},"
        f" in {sources[i].path} {there}; each may count once: merge runs of other seeds, or `cut` the overlap"
    )


def _place(source: Ensemble, row: NDArray[np.uint64], chain: int, key: np.uint64) -> str:
    """Where a configuration lies first in a chain, in words; `row` has the digests of the chain."""
    first = int(np.flatnonzero(row == key)[0]) * source.n_chains
    return f"update {int(source.read('update', first, first + 1)[0])} of chain {chain}"


def _begins_with(row: NDArray[np.uint64], key: np.uint64) -> bool:
    """Whether a chain, of digests `row`, begins at this field, and leaves it."""
    return bool(row[0] == key) and bool((row != key).any())


def _repeated_across_cuts(key: np.uint64, holders: list[tuple[int, int]], sources: Sequence[Ensemble]) -> bool:
    """Whether one chain rejected across the cut between its stretches, perhaps with a flip of all signs between.

    `holders` are the files, by number in `sources`, and chains that have the configuration of digest `key`.
    """
    stretches, chains = sorted(number for number, _ in holders), {chain for _, chain in holders}
    if len(chains) > 1 or stretches != list(range(stretches[0], stretches[-1] + 1)):
        return False
    (chain,) = chains
    for number in stretches[:-1]:
        row = sources[number].n_cfg - sources[number].n_chains + chain
        last = sources[number].phis(row, row + 1)
        if key not in _digests(np.concatenate([last, -last])):
            return False
    return True

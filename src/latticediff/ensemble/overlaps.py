"""What must not be merged: chains of one run as independent ones, stretches of other runs, equal configurations.

Runs are told apart by their `lineage`. Files that no run of ours wrote have none; configurations that they have in
common are found by content.
"""

from __future__ import annotations

import collections
import hashlib
import itertools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import FileError
from ..types import FloatArray
from .lineage import Stretch, lineage

if TYPE_CHECKING:
    from .reader import Ensemble

__all__ = ["refuse_other_runs", "refuse_repeats", "refuse_same_runs"]


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
    twice = keys[1:][(keys[1:] == keys[:-1]) & (pairs[1:, 0] != pairs[:-1, 0])]
    shared = np.isin(keys, twice, kind="sort")  # a table of digests overflows in NumPy 2.0
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

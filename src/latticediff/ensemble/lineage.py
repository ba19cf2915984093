"""Which chains of which run, and which of their updates, a file holds; and whether two files hold the same ones.

A run is known by what it draws: seed and branch of its random streams, and its algorithm. Two runs of one seed share
random numbers chain by chain even where their numbers of chains differ, so they are no independent chains.
Files that no run of ours wrote (arrays, conversions, pieces cut by earlier versions) have no such name; what they hold
twice is found by content.
"""

import collections
import hashlib
import itertools
import json
from dataclasses import asdict, dataclass, replace

import numpy as np

from ..errors import FileError

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
    path: tuple | None  #: branch of the random streams; None: not known
    algorithm: str
    chains: tuple  #: first, and one past the last
    updates: tuple  #: first, last, as the run counted them
    at: int = 0  #: number in the file of the first of the chains
    shift: int = 0  #: what the run's count of updates is ahead of the file's

    @property
    def n_chains(self):
        return self.chains[1] - self.chains[0]

    @property
    def is_known(self):
        return self.seed is not None and self.path is not None

    def is_of_same_run(self, other):
        """Same random numbers, chain by chain."""
        return self.is_known and (self.seed, self.path, self.algorithm) == (other.seed, other.path, other.algorithm)


def lineage(ensemble):
    """Each `Stretch` that an `Ensemble` holds."""
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


def _read(entry):
    pair = (tuple(int(number) for number in entry[key]) for key in ("chains", "updates"))
    path = None if entry["path"] is None else tuple(str(part) for part in entry["path"])
    seed = None if entry["seed"] is None else int(entry["seed"])
    stretch = Stretch(seed, path, str(entry["algorithm"]), *pair, int(entry["at"]), int(entry["shift"]))
    if len(stretch.chains) != 2 or len(stretch.updates) != 2:
        raise ValueError("two numbers each")
    return stretch


def _seed_of_card(text):
    """The seed in a run-card, or None."""
    try:
        seed = json.loads(text)["run"]["seed"]
    except (KeyError, TypeError, ValueError):
        return None
    return seed if isinstance(seed, int) and not isinstance(seed, bool) else None


def clipped(stretches, updates=None, chains=None):
    """What is left of them in a range of the file's updates, or in a range of its chains, renumbered from 0."""
    found = []
    for stretch in stretches:
        if updates is not None:
            first, last = (update + stretch.shift for update in updates)
            first, last = max(first, stretch.updates[0]), min(last, stretch.updates[1])
            if first < last:
                found.append(replace(stretch, updates=(first, last)))
        else:
            low, high = max(chains[0], stretch.at), min(chains[1], stretch.at + stretch.n_chains)
            if low < high:
                own = stretch.chains[0] - stretch.at
                found.append(replace(stretch, chains=(low + own, high + own), at=low - chains[0]))
    return found


def beside(sources):
    """The stretches of a file that holds the chains of `sources` side by side, its updates numbered as in the first."""
    found, at = [], 0
    for source in sources:
        shift = source.first_update - sources[0].first_update
        found += [replace(s, at=s.at + at, shift=s.shift + shift) for s in lineage(source)]
        at += source.n_chains
    return found


def joined(stretches):
    """JSON-able entries by chain, then by update; stretches that follow one another in the same chains become one."""
    found = []
    for stretch in sorted(stretches, key=lambda s: (s.at, s.updates)):
        before = found[-1] if found else None
        follows = before is not None and before.updates[1] == stretch.updates[0]
        if follows and stretch == replace(before, updates=stretch.updates):
            found[-1] = replace(before, updates=(before.updates[0], stretch.updates[1]))
        else:
            found.append(stretch)
    return [asdict(stretch) for stretch in found]


def refuse_same_runs(sources):
    """Refuse to lay two stretches of the same chains side by side, as if they were independent.

    Raises
    ------
    FileError
        They are of one run, or of runs of one seed.
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


def refuse_other_runs(ordered):
    """Refuse to join stretches of different runs into one history.

    Raises
    ------
    FileError
        Seeds, branches of the random streams or chains differ, as far as they are known.
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


def _may_go_on(s, t):
    """As far as is known, the second goes on with the chains of the first."""
    if None not in (s.seed, t.seed) and s.seed != t.seed:
        return False
    here = (s.path, s.chains[0] - s.at), (t.path, t.chains[0] - t.at)
    return not (s.is_known and t.is_known) or (here[0] == here[1] and s.updates[1] == t.updates[0])


def _who(stretch):
    path = "" if not stretch.path else f", stream {'/'.join(stretch.path)}"
    return f"chains {stretch.chains[0]} to {stretch.chains[1] - 1} of seed {stretch.seed}{path}"


def _digests(phis):
    """64 bits for each configuration; of a million, two differ by chance in 3e-8 of all cases."""
    rows = np.ascontiguousarray(phis, "<f8").reshape(len(phis), -1)
    return np.frombuffer(b"".join(hashlib.blake2b(row.data, digest_size=8).digest() for row in rows), np.uint64)


def _by_chain(source):
    parts = [_digests(phis) for phis in source.batches()]
    return np.concatenate(parts).reshape(-1, source.n_chains).T


def refuse_repeats(sources, along):
    """Refuse configurations that one file holds and another again.

    A chain repeats itself where it rejects, also across the cut between two stretches of it, and runs may begin
    from one field and leave it late. Nothing else explains equal fields in two files.

    Raises
    ------
    FileError
        Some configuration would count twice.
    """
    tables = [_by_chain(source) for source in sources]
    keys, owners = [], []
    for number, table in enumerate(tables):
        for chain, row in enumerate(table):
            found = np.unique(row)
            keys.append(found)
            owners.append(np.full((len(found), 2), (number, chain)))
    keys, owners = np.concatenate(keys), np.concatenate(owners)
    order = np.argsort(keys, kind="stable")
    keys, owners = keys[order], owners[order]
    shared = np.isin(keys, keys[1:][(keys[1:] == keys[:-1]) & (owners[1:, 0] != owners[:-1, 0])])
    keys, owners = keys[shared], [tuple(int(i) for i in owner) for owner in owners[shared]]
    times_shared, again, example = collections.Counter(owners), 0, None
    for key, group in itertools.groupby(zip(keys, owners, strict=True), key=lambda pair: pair[0]):
        holders = [owner for _, owner in group]
        begin = all(times_shared[owner] == 1 and _begins_with(tables[owner[0]][owner[1]], key) for owner in holders)
        if not begin and not (along == "updates" and _repeated_across_cuts(key, holders, sources)):
            again, example = again + 1, example or (key, holders)
    if not again:
        return
    key, holders = example
    (i, c), (j, d) = holders[0], next(holder for holder in holders if holder[0] != holders[0][0])
    here, there = (_place(sources[n], tables[n][chain], chain, key) for n, chain in ((j, d), (i, c)))
    raise FileError(
        f"{sources[j].path} holds {again} configurations that other files hold too, the first of them as {here},"
        f" in {sources[i].path} {there}; each may count once: merge runs of other seeds, or `cut` the overlap"
    )


def _place(source, row, chain, key):
    first = int(np.flatnonzero(row == key)[0]) * source.n_chains
    return f"update {int(source.read('update', first, first + 1)[0])} of chain {chain}"


def _begins_with(row, key):
    """The chain begins at this field, and leaves it."""
    return row[0] == key and bool((row != key).any())


def _repeated_across_cuts(key, holders, sources):
    """One chain rejected across the cut between two of its stretches, perhaps with a global flip of sign between."""
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

"""New files from old ones: cut, thin, split, merge. Sources are never changed; parents are recorded.

Conventions: an ensemble holds the updates ``first_update < u <= last_update``; pieces are named by
these numbers, so that ``merge`` of what ``split`` gave has the digest of the whole.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from ..atomic import refuse_existing
from ..errors import FileError, UserError
from ..markov import ChainState
from ..provenance import collect
from ..streams import Streams
from ..types import BoolArray, Description, IntArray, PathLikeStr
from .check import require_whole
from .lineage import Stretch, beside, clipped, joined, lineage, refuse_other_runs, refuse_repeats, refuse_same_runs
from .reader import Ensemble
from .schema import CONFIGURATIONS, Header
from .tables import AnyArray, Columns, Piece
from .writer import write_ensemble

__all__ = ["cut", "merge", "split", "thin"]


def _derive(
    out: PathLikeStr,
    parents: Sequence[Ensemble],
    header: Header,
    *,
    n_cfg: int,
    n_updates: int,
    columns: Columns,
    pieces: Iterable[Piece],
    stretches: Iterable[Stretch],
    end: tuple[ChainState | None, Streams | None] = (None, None),
) -> Ensemble:
    """Write a file made from others; `end` is the (state, streams) that makes it extendable."""
    refuse_existing(out)
    first = parents[0].provenance
    state, streams = end
    named = [parent.parent() for parent in parents]
    write_ensemble(
        out,
        header,
        n_cfg=n_cfg,
        n_updates=n_updates,
        columns=columns,
        pieces=pieces,
        provenance=collect(first.config_json, first.config_toml, named, joined(stretches)),
        state=state,
        rng=None if streams is None else streams.state(),
    )
    return Ensemble(out)


def _selected(source: Ensemble, rows: BoolArray, history_rows: slice) -> Iterator[Piece]:
    """Pieces of `source` restricted to `rows`, a mask of its configurations, and to a slice of its history."""
    names = source.history_names
    if names:
        yield {}, {name: source.history(name, history_rows.start, history_rows.stop) for name in names}
    for start, stop in source.batch_bounds():
        chosen = rows[start:stop]
        if chosen.any():
            yield {name: source.read(name, start, stop)[chosen] for name in CONFIGURATIONS}, {}


def cut(path: PathLikeStr, out: PathLikeStr, start: int = 0, stop: int | None = None) -> Ensemble:
    """Keep the updates ``start < u <= stop``, for instance to drop a thermalisation.

    Parameters
    ----------
    path, out : path
    start, stop : int
        Update numbers, as in ``configurations/update``; default: from the beginning, to the end.

    Returns
    -------
    Ensemble
        The new file. It can be extended if the end was kept.

    Raises
    ------
    UserError
        Nothing would be left.
    FileError
        `out` exists, or `path` cannot be read or is damaged.
    """
    with Ensemble(path) as source:
        require_whole(source)
        return _cut(source, out, start, stop)


def _cut(source: Ensemble, out: PathLikeStr, start: int, stop: int | None) -> Ensemble:
    """`cut` of an open ensemble that is known to be whole."""
    path, first, last = source.path, source.first_update, source.last_update
    start, stop = max(start, first), last if stop is None else min(stop, last)
    update = source.read("update")
    rows = (update > start) & (update <= stop)
    if not rows.any():
        raise UserError(f"cut {start} < u <= {stop} leaves no configuration of {path}, which has {first} < u <= {last}")
    history_rows = slice(start - first, stop - first) if source.history_names else slice(0, 0)
    return _derive(
        out,
        [source],
        replace(source.header, first_update=start),
        n_cfg=int(rows.sum()),
        n_updates=history_rows.stop - history_rows.start,
        columns=source.columns(),
        pieces=_selected(source, rows, history_rows),
        stretches=clipped(lineage(source), updates=(start, stop)),
        end=(source.state(), source.streams()) if stop == last else (None, None),
    )


def thin(path: PathLikeStr, out: PathLikeStr, every: int) -> Ensemble:
    """Keep the configurations whose update number is a multiple of ``every * thin``; the history stays whole.

    Parameters
    ----------
    path, out : path
    every : int
        ``thin`` is that of the file `path`, so about one in `every` of its configurations is kept.

    Returns
    -------
    Ensemble
        The new file; extending it goes on with the new thinning.

    Raises
    ------
    UserError
        `every` is below 1, or nothing would be left.
    FileError
        `out` exists, or `path` cannot be read or is damaged.
    """
    with Ensemble(path) as source:
        require_whole(source)
        step = every * source.thin
        rows = source.read("update") % step == 0 if every >= 1 else np.zeros(0, bool)
        if not rows.any():
            raise UserError(
                f"thin by {every} leaves no configuration of {path}; expected 1 to {source.last_update // source.thin}"
            )
        return _derive(
            out,
            [source],
            replace(source.header, thin=step),
            n_cfg=int(rows.sum()),
            n_updates=source.n_updates,
            columns=source.columns(),
            pieces=_selected(source, rows, slice(0, source.n_updates)),
            stretches=lineage(source),
            end=(source.state(), source.streams()),
        )


def split(path: PathLikeStr, out: PathLikeStr, n: int, along: str = "updates") -> list[Path]:
    """Cut an ensemble into `n` files ``<stem>-0.h5``, ``<stem>-1.h5``, ...

    Parameters
    ----------
    path : path
    out : path
        Pattern: ``b/ens.h5`` gives ``b/ens-0.h5`` and so on.
    n : int
    along : {"updates", "chains"}
        Consecutive stretches of all chains, or all updates of some chains (renumbered from 0).

    Returns
    -------
    list of Path

    Raises
    ------
    UserError
        `n` is below 1 or above the number of stored updates or chains, or `along` is unknown.
    FileError
        An output exists, or `path` is damaged; nothing is written then.
    """
    out = Path(out)
    if along not in ("updates", "chains"):
        raise UserError(f"split along {along!r}; expected 'updates' or 'chains'")
    outs = [out.with_name(f"{out.stem}-{index}{out.suffix}") for index in range(max(n, 0))]
    for piece in outs:
        refuse_existing(piece)
    with Ensemble(path) as source:
        limit = source.n_cfg // source.n_chains if along == "updates" else source.n_chains
        if not 1 <= n <= limit:
            raise UserError(
                f"split into {n} files; {path} has {limit} {'stored updates' if along == 'updates' else 'chains'}"
            )
        require_whole(source)
        if along == "updates":
            stored = source.read("update")[:: source.n_chains]
            last_rows = np.linspace(0, len(stored), n + 1).astype(int)[1:-1] - 1
            edges = [source.first_update, *(int(u) for u in stored[last_rows]), source.last_update]
            for piece, start, stop in zip(outs, edges[:-1], edges[1:], strict=True):
                _cut(source, piece, start, stop)
            return outs
        for piece, chains in zip(outs, np.array_split(np.arange(source.n_chains), n), strict=True):
            _take_chains(source, piece, chains)
        return outs


def _take_chains(source: Ensemble, out: PathLikeStr, chains: IntArray) -> Ensemble:
    """Write the `chains`, consecutive ones, of an open ensemble to a new file, numbered from 0."""

    def pieces() -> Iterator[Piece]:
        columns = source.columns()
        history = {name: source.history(name) for name in columns}
        yield {}, {name: rows[:, chains] if columns[name][2] else rows for name, rows in history.items()}
        for start, stop in source.batch_bounds():
            found = {name: source.read(name, start, stop) for name in CONFIGURATIONS}
            found = {k: v.reshape(-1, source.n_chains, *v.shape[1:])[:, chains] for k, v in found.items()}
            found["series"] = np.broadcast_to(np.arange(len(chains)), found["series"].shape)
            yield {k: v.reshape(-1, *v.shape[2:]) for k, v in found.items()}, {}

    n_cfg = source.n_cfg // source.n_chains * len(chains)
    header = replace(source.header, n_chains=len(chains))
    return _derive(
        out,
        [source],
        header,
        n_cfg=n_cfg,
        n_updates=source.n_updates,
        columns=source.columns(),
        pieces=pieces(),
        stretches=clipped(lineage(source), chains=(int(chains[0]), int(chains[-1]) + 1)),
    )


def merge(paths: Sequence[PathLikeStr], out: PathLikeStr, along: str | None = None) -> Ensemble:
    """One file from several of the same theory and lattice.

    Parameters
    ----------
    paths : sequence of path
    out : path
    along : {None, "updates", "chains"}
        ``"updates"``: consecutive stretches of the same chains, in any order. ``"chains"``: independent
        runs of equal length side by side, chains renumbered in the order of `paths`; update numbers are
        those of the first file, and ``seconds`` add up. Default: "updates" if the stretches join.

    Returns
    -------
    Ensemble
        The new file; extendable only if merged along updates, from the end of the last piece.

    Raises
    ------
    FileError
        The files differ in action, lattice or thinning; there is a gap or an overlap, or along chains they have unequal
        lengths; a file is damaged, or `out` exists. Chains side by side are of one run or one seed, so they are not
        independent. Stretches of one history are of different seeds. Two files hold the same configuration, unless a
        chain repeated it across the cut, or both begin with it.
    UserError
        Fewer than two files, or an unknown `along`.
    """
    if len(paths) < 2 or along not in (None, "updates", "chains"):
        raise UserError(f"merge got {len(paths)} files along {along!r}; expected two or more, 'updates' or 'chains'")
    with ExitStack() as stack:  # a source is closed whatever happens, also while the next one is opened
        return _merge([stack.enter_context(Ensemble(path)) for path in paths], out, along)


def _merge(sources: Sequence[Ensemble], out: PathLikeStr, along: str | None) -> Ensemble:
    """`merge` of open ensembles."""
    head = sources[0]
    for source in sources[1:]:
        for name in ("action", "shape", "thin"):
            if getattr(source.header, name) != getattr(head.header, name):
                have, want = getattr(source.header, name), getattr(head.header, name)
                raise FileError(f"{source.path} has {name} {have}; {head.path} has {want}")
    seen: dict[str, Path] = {}
    for source in sources:
        twin = seen.setdefault(source.checksums()["configurations/phi"], source.path)
        if twin is not source.path:
            raise FileError(f"{source.path} holds the same configurations as {twin}; was the seed the same?")
    ordered = sorted(sources, key=lambda source: source.first_update)
    joins = all(a.last_update == b.first_update and a.n_chains == b.n_chains for a, b in pairwise(ordered))
    if along is None:
        along = "updates" if joins else "chains"
    if along == "updates" and not joins:
        spans = ", ".join(f"{s.path.name}: {s.first_update} < u <= {s.last_update}" for s in ordered)
        raise FileError(f"the files do not join along updates ({spans})")
    (refuse_other_runs if along == "updates" else refuse_same_runs)(ordered if along == "updates" else sources)
    common = set.intersection(*(set(source.columns().items()) for source in sources))
    columns = {name: kind for name, kind in head.columns().items() if (name, kind) in common}
    refuse_existing(out)
    for source in sources:
        require_whole(source)
    refuse_repeats(ordered if along == "updates" else sources, along)
    if along == "updates":
        return _merge_updates(ordered, out, columns)
    return _merge_chains(sources, out, columns)


def _joint_algorithm(sources: Sequence[Ensemble]) -> Description:
    """The algorithm of all `sources`, or a list of their algorithms if they differ."""
    algorithms = [source.algorithm for source in sources]
    if all(algorithm == algorithms[0] for algorithm in algorithms):
        return algorithms[0]
    return {"name": "merged", "algorithms": algorithms}


def _merge_updates(ordered: Sequence[Ensemble], out: PathLikeStr, columns: Columns) -> Ensemble:
    """Write stretches of the same chains, each one beginning where the one before it ends, to one file."""

    def pieces() -> Iterator[Piece]:
        for source in ordered:
            yield {}, {name: source.history(name) for name in columns}
        for source in ordered:
            for configurations, _ in source.pieces():
                if configurations:
                    yield configurations, {}

    tail = ordered[-1]
    return _derive(
        out,
        ordered,
        replace(ordered[0].header, algorithm=_joint_algorithm(ordered)),
        n_cfg=sum(source.n_cfg for source in ordered),
        n_updates=sum(source.n_updates for source in ordered) if columns else 0,
        columns=columns,
        pieces=pieces(),
        stretches=[stretch for source in ordered for stretch in lineage(source)],
        end=(tail.state(), tail.streams()),
    )


def _merge_chains(sources: Sequence[Ensemble], out: PathLikeStr, columns: Columns) -> Ensemble:
    """Write the chains of all `sources` side by side to one file."""
    head = sources[0]
    for source in sources[1:]:
        have = (source.n_cfg // source.n_chains, source.n_updates)
        want = (head.n_cfg // head.n_chains, head.n_updates)
        if have != want:
            lengths = f"{have[0]} stored of {have[1]} updates, {head.path} {want[0]} of {want[1]}"
            raise FileError(f"{source.path} has {lengths}; `cut` them first")
    n_chains = sum(source.n_chains for source in sources)

    def pieces() -> Iterator[Piece]:
        history: dict[str, AnyArray] = {}
        for name, (_, _, per_chain) in columns.items():
            recorded = [source.history(name) for source in sources]
            history[name] = np.concatenate(recorded, axis=1) if per_chain else np.asarray(sum(recorded))
        yield {}, history
        for start, stop in head.batch_bounds():
            rows = [index // head.n_chains for index in (start, stop)]
            found: dict[str, AnyArray] = {}
            for name in ("action", "phi"):
                parts = [s.read(name, rows[0] * s.n_chains, rows[1] * s.n_chains) for s in sources]
                parts = [p.reshape(-1, s.n_chains, *p.shape[1:]) for p, s in zip(parts, sources, strict=True)]
                joined = np.concatenate(parts, axis=1)
                found[name] = joined.reshape(-1, *joined.shape[2:])
            found["update"] = np.repeat(head.read("update", start, stop)[:: head.n_chains], n_chains)
            found["series"] = np.tile(np.arange(n_chains), rows[1] - rows[0])
            yield found, {}

    header = replace(head.header, n_chains=n_chains, algorithm=_joint_algorithm(sources))
    n_cfg = sum(source.n_cfg for source in sources)
    return _derive(
        out,
        sources,
        header,
        n_cfg=n_cfg,
        n_updates=head.n_updates,
        columns=columns,
        pieces=pieces(),
        stretches=beside(sources),
    )

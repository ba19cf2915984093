"""New files from a part of one: cut, thin, split. The source is never changed; it is recorded as a parent.

Conventions: an ensemble holds the updates ``first_update < u <= last_update``; pieces are named by
these numbers, so that ``merge`` of what ``split`` gave has the digest of the whole.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..atomic import refuse_existing
from ..errors import UserError
from ..types import BoolArray, IntArray, PathLikeStr
from .check import require_whole
from .derived_file import derive
from .lineage import clipped, lineage
from .reader import Ensemble
from .schema import CONFIGURATIONS
from .tables import Piece

__all__ = ["cut", "split", "thin"]


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
    return derive(
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
        possible = 1 <= every <= source.last_update  # a larger number need not fit the type of update
        rows = source.read("update") % step == 0 if possible else np.zeros(0, bool)
        if not rows.any():
            raise UserError(
                f"thin by {every} leaves no configuration of {path}; expected 1 to {source.last_update // source.thin}"
            )
        return derive(
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
    return derive(
        out,
        [source],
        header,
        n_cfg=n_cfg,
        n_updates=source.n_updates,
        columns=source.columns(),
        pieces=pieces(),
        stretches=clipped(lineage(source), chains=(int(chains[0]), int(chains[-1]) + 1)),
    )

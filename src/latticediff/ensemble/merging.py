"""One file from several: stretches of the same chains one after the other, or independent chains side by side."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from ..atomic import refuse_existing
from ..errors import FileError, UserError
from ..types import Description, PathLikeStr
from ..untrusted import printable
from .check import require_whole
from .derived_file import derive
from .lineage import beside, lineage
from .overlaps import refuse_other_runs, refuse_repeats, refuse_same_runs
from .reader import Ensemble
from .tables import AnyArray, Columns, Piece

__all__ = ["merge"]


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
                raise FileError(
                    f"{source.path} has {name} {printable(have, 400)}; {head.path} has {printable(want, 400)}"
                )
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
    return derive(
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
    return derive(
        out,
        sources,
        header,
        n_cfg=n_cfg,
        n_updates=head.n_updates,
        columns=columns,
        pieces=pieces(),
        stretches=beside(sources),
    )

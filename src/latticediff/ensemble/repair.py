"""Save what is whole of a torn file, or of a run directory that can no longer be resumed."""

import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..action import Action
from ..atomic import refuse_existing, require_space, scratch
from ..errors import FileError
from ..provenance import collect
from ..types import PathLikeStr
from ..untrusted import regular_file, status
from .check import action_tolerance
from .reader import Ensemble
from .schema import CONFIGURATIONS
from .stored import open_h5
from .tables import Piece
from .writer import write_ensemble

__all__ = ["RepairReport", "repair"]

_LARGEST = 1 << 62  #: bytes; the system cannot make longer files


class RepairReport(NamedTuple):
    """What `repair` saved; the counts are configurations."""

    path: str
    kept: int
    lost: int
    reason: str  #: why configurations or columns were lost; "" if nothing was


@contextmanager
def _padded(path: Path) -> Iterator[tuple[Path, int]]:
    """`path`, or for a truncated HDF5 file a copy filled up with zeros, which HDF5 agrees to open; and its true size.

    Raises
    ------
    FileError
        The beginning of the file is damaged too, or there is no room for the copy.
    """
    size = regular_file(path, "an HDF5 file")
    try:
        open_h5(path).close()
    except FileError as exc:
        stored = re.search(r"stored_eof = (\d+)", str(exc.__cause__))
        if not stored or int(stored[1]) > _LARGEST:
            raise FileError(f"{path} cannot be repaired: the beginning is damaged ({exc})") from exc
        copy = path.with_name(path.name + ".padded.part")
        require_space(copy, size)
        with scratch(copy, path):
            os.truncate(copy, int(stored.group(1)))
            yield copy, size
    else:
        yield path, size


def _rows_in(path: Path, size: int) -> int:
    """Configurations whose bytes lie wholly within the first `size` bytes of a file with our layout."""
    with open_h5(path) as file:
        found = []
        for name in CONFIGURATIONS:
            data = file.data(f"configurations/{name}")
            row, offset = data.dtype.itemsize * math.prod(data.shape[1:]), data.offset
            if offset is None:
                return 0
            found.append(min(len(data), max(0, (size - offset) // row)))
        for name in file.group("history").names():
            data = file.data(f"history/{name}")
            offset = data.offset
            if offset is not None and offset + data.dtype.itemsize * data.size > size:
                return 0  # the history comes before the fields: then these are gone too
        return min(found)


def _require_header(ensemble: Ensemble) -> None:
    """Raise `FileError` if the header is damaged, or what else says how to read rows: no row can be believed then."""
    for part, damaged in ensemble.damage().items():
        if lost := set(damaged) & {"schema", "ensemble", "history", "layout"}:
            raise FileError(
                f"{part} cannot be repaired: what says how to read it is damaged ({', '.join(sorted(lost))})"
            )


def _whole_configurations(ensemble: Ensemble, limit: int) -> tuple[int, str]:
    """Number of leading configurations, in whole updates, that are what was written; and why there are no more.

    The stored action shows which configuration is damaged, the sums of the seal show that one of a block is.
    `limit` is the number of configurations that lie within the file.
    """
    whole, reason = _fitting_configurations(ensemble, limit)
    for name in CONFIGURATIONS if ensemble.is_sealed else ():  # else there is one sum for all rows
        for first, last in ensemble.damaged_rows(f"configurations/{name}"):
            cut_short = last >= limit  # the file ends in the middle of it
            if last < whole and not cut_short:
                reason = f"rows {first} to {last} of /configurations/{name} are not what was written"
                whole = first // ensemble.n_chains * ensemble.n_chains
    return whole, reason


def _fitting_configurations(ensemble: Ensemble, limit: int) -> tuple[int, str]:
    """Number of leading configurations, in whole updates, whose stored action is S(phi); and why there are no more."""
    n_chains, whole = ensemble.n_chains, 0
    for start, stop in ensemble.batch_bounds():
        stop = min(stop, limit)
        if start >= stop:
            break
        with np.errstate(all="ignore"):  # damaged fields may be as large as numbers go
            stored, computed = ensemble.read("action", start, stop), ensemble.action(ensemble.phis(start, stop))
            good = np.abs(stored - computed) <= action_tolerance(computed, ensemble.shape)
        good &= np.isfinite(computed)
        if not good.all():
            return (start + int(np.argmin(good))) // n_chains * n_chains, "a stored action does not match its field"
        whole = stop
    return whole // n_chains * n_chains, "the file ends there" if limit < ensemble.n_cfg else ""


def repair(path: PathLikeStr, out: PathLikeStr, action: Action | None = None) -> RepairReport:
    """Write the leading whole configurations of a damaged ensemble to a new file.

    A configuration is whole if it lies within the file, its stored action is that of its field, and, in a file with a
    seal, nothing around it differs from what was written. The new file keeps complete updates (all chains) and
    their history, but for columns that are damaged; it holds no final state, so it
    can be analysed and merged, not extended. An unfinished run is normally resumed instead: `repair`
    on ``X.run`` is for the case that resuming says the directory is damaged.

    Parameters
    ----------
    path : path
        Damaged file or run directory; never changed.
    out : path
    action : Action, optional
        For theories that cannot be rebuilt from their description.

    Returns
    -------
    RepairReport

    Raises
    ------
    FileError
        Nothing can be saved, `out` exists, or the disk is full.
    """
    path, out = Path(path), Path(out)
    refuse_existing(out)
    if status(path) is not None and path.is_dir():
        return _repair_run(path, out, action)
    with _padded(path) as (copy, size), Ensemble(copy, action, check=False) as ensemble:
        _require_header(ensemble)
        kept, reason = _whole_configurations(ensemble, _rows_in(copy, size))
        return _save([ensemble], [kept], out, path, ensemble.n_cfg - kept, reason)


def _repair_run(run: Path, out: Path, action: Action | None) -> RepairReport:
    """`repair` of a run directory."""
    segments: list[Ensemble] = []
    kept: list[int] = []
    lost, reason = 0, ""
    update: int | None = None
    if run.suffix != ".run":
        raise FileError(f"{run} is a directory, and no run directory; expected an ensemble file, or its FILE.run")
    base = run.with_name(run.stem)
    with ExitStack() as stack:  # every part is closed, also where saving them fails
        for path in ([base] if base.exists() else []) + sorted(run.glob("[0-9]*.h5")):
            try:
                segment = stack.enter_context(Ensemble(path, action, check=False))
                _require_header(segment)
            except FileError as exc:
                reason = str(exc)
                break
            if update is not None and segment.first_update != update:
                reason = f"{path} does not follow the one before it"
                break
            whole, reason = _whole_configurations(segment, segment.n_cfg)
            segments.append(segment)
            kept.append(whole)
            lost += segment.n_cfg - whole
            update = segment.last_update
            if reason:
                break
        return _save(segments, kept, out, run, lost, reason)


def _save(
    sources: Sequence[Ensemble], kept: Sequence[int], out: Path, path: Path, lost: int, reason: str
) -> RepairReport:
    """Write the first `kept` configurations of each of `sources`, which follow one another, to one file."""
    if sum(kept) == 0:
        raise FileError(f"{path} holds no whole configuration; {reason or 'nothing was stored yet'}")
    columns = {
        name: kind
        for name, kind in sources[0].columns().items()
        if not any(source.damaged_rows(f"history/{name}") for source in sources)
    }
    if len(columns) < len(sources[0].columns()):
        left_out = ", ".join(sorted(sources[0].columns().keys() - columns.keys()))
        reason = f"{reason}{'; ' if reason else ''}the history of {left_out} is damaged and left out"
    # the last piece may be cut short: its history ends with the last update that was kept
    ends = [source.n_updates for source in sources]
    if kept[-1] < sources[-1].n_cfg and columns:
        last = sources[-1].read("update", kept[-1] - 1, kept[-1])[0] if kept[-1] else sources[-1].first_update
        ends[-1] = int(last) - sources[-1].first_update

    def pieces() -> Iterator[Piece]:
        for source, end in zip(sources, ends, strict=True):
            yield {}, {name: source.history(name, 0, end) for name in columns}
        for source, whole in zip(sources, kept, strict=True):
            for start, stop in source.batch_bounds():
                if start < whole:
                    yield {name: source.read(name, start, min(stop, whole)) for name in CONFIGURATIONS}, {}

    write_ensemble(
        out,
        replace(sources[0].header, first_update=sources[0].first_update),
        n_cfg=sum(kept),
        n_updates=sum(ends) if columns else 0,
        columns=columns,
        pieces=pieces(),
        provenance=collect(parents=[{"file": path.name, "fingerprint": "damaged"}]),
    )
    return RepairReport(str(out), sum(kept), lost, reason)

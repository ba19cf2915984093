"""Stage compare: the report page for any chains of one theory on one lattice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..atomic import all_at_once, claimed, entries_of
from ..ensemble import Ensemble
from ..errors import FileError, UserError
from ..host import numpy_defaults
from ..job.progress import Progress
from ..provenance import version
from ..report import ChainResult, RunResult, write_report
from .chains import chain_result
from .pictures import histogram_edges, pictures, site_histogram

if TYPE_CHECKING:
    from ..types import FloatArray, PathLikeStr

__all__ = ["compare"]


@numpy_defaults()
def compare(
    files: Sequence[PathLikeStr], out: PathLikeStr, s_tau: float = 1.5, progress: Progress | None = None
) -> dict[str, Path]:
    """Measure every file and write the page.

    Parameters
    ----------
    files : sequence of path-like
        Ensemble files; the first is the reference of all differences.
    out : path-like
        Folder of the report; must be free.
    s_tau : float
        S of the Gamma method's automatic window.
    progress : Progress, optional

    Returns
    -------
    dict of str to Path
        As `latticediff.report.write_report`.

    Raises
    ------
    FileError
        A file is missing or of another action or lattice than the first, or `out` exists.
    UserError
        No file, one file twice, or as `latticediff.stages.measure.measure_ensemble`.
    """
    progress = progress or Progress()
    if not files:
        raise UserError("got no ensemble files to compare; give at least one")
    if entries_of(out):
        raise FileError(f"{out} exists and is never overwritten; choose another --out")
    for number, path in enumerate(files):
        if any(Path(path).resolve() == Path(other).resolve() for other in files[:number]):
            raise UserError(f"got {path} twice, and a file agrees with itself; give files of different chains")
    chains: list[ChainResult] = []
    edges: FloatArray | None = None
    opened: list[Ensemble] = []  # what they say of themselves outlives their closing
    for path, name in zip(files, _names(files), strict=True):
        with Ensemble(path) as ensemble:
            opened.append(ensemble)
            ensemble.expect(opened[0].action, opened[0].shape)
            progress.say(f"measuring {path}")
            edges = histogram_edges(ensemble) if edges is None else edges
            fields: dict[str, Any] = {
                "configurations": pictures(ensemble),
                "site_values": site_histogram(ensemble, edges),
            }
            chains.append(chain_result(name, name, ensemble, s_tau=s_tau, **fields))
    first = opened[0]
    result = RunResult(
        action=first.description,
        shape=first.shape,
        chains=tuple(chains),
        title=f"Comparison of {', '.join(chain.name for chain in chains)}",
        versions={"latticediff": version(), **first.provenance.libraries},
    )
    with claimed(out) as folder, all_at_once(folder, "report.html") as place:
        if entries_of(folder):
            raise FileError(f"{out} was written by another process meanwhile; choose another --out")
        paths = write_report(result, place)
    progress.say(f"wrote {folder / paths['html'].name}")
    return {name: folder / path.name for name, path in paths.items()}


def _names(files: Sequence[PathLikeStr]) -> list[str]:
    """File names without ending; with the folder, or numbered, where these are not unique."""
    paths = [Path(file) for file in files]
    stems = [path.stem for path in paths]
    for names in (stems, [f"{path.absolute().parent.name}/{path.stem}" for path in paths]):
        if len(set(names)) == len(names):
            return names
    return [f"{index}: {stem}" for index, stem in enumerate(stems, 1)]

"""Stage compare: the report page for any chains of one theory on one lattice."""

from pathlib import Path

from ..atomic import all_at_once, claimed, entries_of
from ..ensemble import Ensemble
from ..errors import FileError
from ..host import numpy_defaults
from ..job.progress import Progress
from ..provenance import version
from ..report import RunResult, write_report
from .chains import chain_result

__all__ = ["compare"]


@numpy_defaults()
def compare(files, out, s_tau=1.5, progress=None):
    """Measure every file and write the page.

    Parameters
    ----------
    files : sequence of path-like
        Ensemble files; the first is the reference of all differences.
    out : path-like
        Folder of the report; must be free.
    s_tau : float
    progress : Progress, optional

    Returns
    -------
    dict of str to Path
        As `latticediff.report.write_report`.

    Raises
    ------
    FileError
        A file is missing or of another action or lattice than the first, or `out` exists.
    """
    progress = progress or Progress()
    if entries_of(out):
        raise FileError(f"{out} exists and is never overwritten; choose another --out")
    chains, first = [], None
    for path, name in zip(files, _names(files), strict=True):
        with Ensemble(path) as ensemble:
            if first is None:
                first = ensemble
            ensemble.expect(first.action, first.shape)
            progress.say(f"measuring {path}")
            chains.append(chain_result(name, name, ensemble, s_tau=s_tau))
    result = RunResult(
        action=first.description,
        shape=first.shape,
        chains=chains,
        title=f"Comparison of {', '.join(chain.name for chain in chains)}",
        versions={"latticediff": version(), **first.provenance.libraries},
    )
    with claimed(out) as folder, all_at_once(folder, "report.html") as place:
        if entries_of(folder):
            raise FileError(f"{out} was written by another process meanwhile; choose another --out")
        paths = write_report(result, place)
    progress.say(f"wrote {folder / paths['html'].name}")
    return {name: folder / path.name for name, path in paths.items()}


def _names(files):
    """File names without ending; with the folder, or numbered, where these are not unique."""
    paths = [Path(file) for file in files]
    for name in (lambda path: path.stem, lambda path: f"{path.absolute().parent.name}/{path.stem}"):
        names = [name(path) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [f"{index}: {path.stem}" for index, path in enumerate(paths, 1)]

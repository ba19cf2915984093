"""Write a report folder: ``report.json``, ``report.html``, ``figures/*.png``, ``*.pdf``, ``*.svg``, ``*.csv``."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ..atomic import sealed_bytes
from ..errors import FileError
from ..types import PathLikeStr
from .figures import draw
from .html import page
from .model import RunResult
from .style import FigureRecord
from .tables import report_dict

__all__ = ["write_figures", "write_file", "write_report"]


def write_file(path: Path, data: str | bytes) -> Path:
    """Write a file whole or not at all, so that a reader never meets half of one.

    Parameters
    ----------
    path : Path
        Replaced if it exists.
    data : str or bytes
        Text is written as UTF-8.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    FileError
        The disk refuses.
    """
    data = data if isinstance(data, bytes) else data.encode()
    sealed_bytes(path, data, sync=False)
    return path


def write_figures(records: Iterable[FigureRecord], out: PathLikeStr, done: Callable[[], object] | None = None) -> Path:
    """Write each figure as PNG, PDF and SVG, and the numbers behind it as CSV, into ``figures`` in the folder `out`.

    Parameters
    ----------
    records : iterable of FigureRecord
    out : path-like
        Made if missing.
    done : callable, optional
        Called after each figure.

    Returns
    -------
    Path
        The folder ``figures``.

    Raises
    ------
    FileError
        If a folder cannot be made or written.
    """
    folder = Path(out) / "figures"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"cannot make the folder {folder}: {error.strerror}; choose another --out") from None
    for record in records:
        write_file(folder / f"{record.name}.png", record.png)
        write_file(folder / f"{record.name}.pdf", record.pdf)
        write_file(folder / f"{record.name}.csv", record.csv)
        write_file(folder / f"{record.name}.svg", record.svg)
        if done is not None:
            done()
    return folder


def write_report(
    run: RunResult,
    out: PathLikeStr,
    records: Sequence[FigureRecord] | None = None,
    done: Callable[[], object] | None = None,
) -> dict[str, Path]:
    """Write everything about `run` into the folder `out`, replacing an earlier report there.

    Parameters
    ----------
    run : RunResult
    out : path-like
        Created if missing. Files that are no part of a report are left alone.
    records : sequence of FigureRecord, optional
        By default what `figures.draw` makes of `run`.
    done : callable, optional
        Called after each figure, which take most of the time.

    Returns
    -------
    dict of str to Path
        ``json``, ``html`` and ``figures`` (the folder).

    Raises
    ------
    FileError
        If the folder cannot be made or written.
    """
    out, records = Path(out), draw(run) if records is None else records
    folder = write_figures(records, out, done)
    # allow_nan=False: NaN is no JSON, and no number of a report
    text = json.dumps(report_dict(run), indent=2, ensure_ascii=False, allow_nan=False, default=str) + "\n"
    paths = {"figures": folder, "json": write_file(out / "report.json", text)}
    # last, so that a page implies everything it refers to
    paths["html"] = write_file(out / "report.html", page(run, records))
    return paths

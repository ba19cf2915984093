"""The page of a study, as HTML whose tables sort and as Markdown."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Mapping
from itertools import count
from pathlib import Path
from typing import Any

from ..types import PathLikeStr
from .blocks import Lines, Listing, Section, Table
from .build import write_figures, write_file
from .figures.study import draw_study
from .inline import inline_figure
from .markdown import markdown
from .sheet import sheet, table
from .study_sections import study_sections
from .style import FigureRecord
from .verdict import describe_action

__all__ = ["study_markdown", "study_page", "write_study"]

Document = Mapping[str, Any]

#: a click on the head of a column sorts by it; numbers by their leading value, units of time included
SORT = """
const units = {"µs": 1e-6, "ms": 1e-3, "s": 1, "min": 60, "h": 3600};
const sup = Object.fromEntries([..."⁻⁰¹²³⁴⁵⁶⁷⁸⁹"].map((c, i) => [c, "-0123456789"[i]]));
function key(cell) {
  const text = cell.textContent.replace(/\\u2212/g, "-").replace(/\\u00a0/g, " ").trim();
  const plain = text.replace(/(\\d) (?=\\d{3})/g, "$1");
  const found = plain.match(/^-?\\d+(\\.\\d+)?/);
  if (!found) return text;
  const power = plain.match(/×10([⁻⁰¹²³⁴-⁹]+)/u);
  const exponent = power ? Number([...power[1]].map(c => sup[c]).join("")) : 0;
  const unit = plain.match(/(µs|ms|s|min|h)$/);
  return Number(found[0]) * 10 ** exponent * (unit ? units[unit[1]] : 1);
}
for (const head of document.querySelectorAll("thead th")) {
  head.style.cursor = "pointer";
  head.title = "sort by this column";
  head.addEventListener("click", () => {
    const body = head.closest("table").tBodies[0];
    const at = [...head.parentNode.children].indexOf(head);
    const up = head.getAttribute("aria-sort") !== "ascending";
    for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const rows = [...body.rows].map(row => [key(row.cells[at]), row]);
    rows.sort(([a], [b]) => (typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1));
    if (!up) rows.reverse();
    for (const [, row] of rows) body.append(row);
  });
}
"""


def study_page(document: Document, records: Iterable[FigureRecord]) -> str:
    """The page as a string.

    Parameters
    ----------
    document : dict
        ``study.json``; docs/critical-slowing-down.md lists its fields.
    records : iterable of FigureRecord
        From `latticediff.report.figures.study.draw_study`.
    """
    sections = [(section.heading, _as_html(section)) for section in study_sections(document, records)]
    return sheet(*_titles(document), document["verdict"], sections, script=SORT)


def study_markdown(document: Document, records: Iterable[FigureRecord]) -> str:
    """The same as Markdown; figures are those beside it."""
    return markdown(*_titles(document), document["verdict"], study_sections(document, records))


def _titles(document: Document) -> tuple[str, str]:
    first = document["theories"][0]["action"]
    theory = describe_action({**first, "couplings": _shared(document)})
    subtitle = f"{theory}; {len(document['theories'])} lattices and couplings; {document['created'][:10]}"
    return f"Study {document['name']!r}", subtitle


def _as_html(section: Section) -> str:
    return "\n".join(text for block in section.blocks if (text := _block(block)))


def _block(block: Table | Lines | Listing | FigureRecord) -> str:
    if isinstance(block, Table):
        return table(*block) if block.rows else ""
    if isinstance(block, Lines):
        return "".join(f"<p>{html.escape(line)}</p>" for line in block.lines)
    if isinstance(block, Listing):
        listing = f"<pre>{html.escape(block.text)}</pre>"
        return f"<details><summary>{html.escape(block.title)}</summary>{listing}</details>" if block.title else listing
    return inline_figure(block)


def _shared(document: Document) -> dict[str, float]:
    """The couplings that all theories have in common."""
    tables = [theory["action"].get("couplings", {}) for theory in document["theories"]]
    return {key: value for key, value in tables[0].items() if all(t.get(key) == value for t in tables)}


def write_study(document: Document, out: PathLikeStr, tell: Callable[[float], object] | None = None) -> dict[str, Path]:
    """Write ``study.html``, ``study.md`` and ``figures/NAME.png, .pdf, .svg, .csv``, replacing earlier ones.

    Parameters
    ----------
    document : dict
        ``study.json``.
    out : path-like
        Folder.
    tell : callable, optional
        Called with the share of the figures that are written, after each of them.

    Returns
    -------
    dict of str to Path
        ``html``, ``markdown`` and ``figures`` (the folder).

    Raises
    ------
    FileError
        The folder cannot be written.
    """
    records = draw_study(document)
    drawn = count(1)
    folder = write_figures(records, out, None if tell is None else lambda: tell(next(drawn) / len(records)))
    text = write_file(Path(out) / "study.md", study_markdown(document, records))
    return {
        "figures": folder,
        "markdown": text,
        "html": write_file(Path(out) / "study.html", study_page(document, records)),
    }

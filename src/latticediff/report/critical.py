"""The page of a critical point, from its document ``critical.json`` alone: verdict, tables and figures, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..analysis.reweighting import MAX_PARETO_K
from ..types import PathLikeStr
from .blocks import Lines, Listing, Section
from .build import write_figures, write_file
from .critical_sections import ISING, SAMPLERS, continuum_tables, cost_tables, coupling_tables, exponent_tables
from .figures.critical import draw_critical
from .markdown import markdown
from .numbers import value_error
from .style import FigureRecord

__all__ = ["critical_markdown", "verdict_of", "write_critical"]

Document = Mapping[str, Any]


def verdict_of(document: Document) -> list[str]:
    """A sentence or two for each point, whichever way they fall."""
    lines = []
    for point in document["points"]:
        found = point["samplers"]["learned"]
        limit, exponents = found["kappa_c"], found["exponents"]
        text = f"lam = {point['lam']:g}: kappa_c = {value_error(limit['value'], limit['error'])}"
        if "known" in found:
            known = found["known"]
            text += f", {abs(known['sigma']):.1f} sigma from {value_error(*known['kappa_c'])}"
            text += f" ({known['told']})" if known["told"] else ""
        told = [
            f"{label} = {value_error(exponents[name]['value'], exponents[name]['error'])} (Ising {exact:g})"
            for name, (label, exact) in ISING.items()
        ]
        lines.append(f"{text}; {', '.join(told)} there, from L = {' and '.join(map(str, exponents['extents']))}.")
        lines += _tails(point)
        if len(point["samplers"]) > 1:
            lines.append(_cost_sentence(point))
    if "continuum" in document:
        lines.append(_continuum_sentence(document["continuum"]))
    return lines


def _tails(point: Mapping[str, Any]) -> list[str]:
    """Sizes whose weights are too unequal for their averages and errors to be trusted."""
    worst = {row["L"]: max(row["pareto_k"]) for row in point["costs"] if row["sampler"] == "learned"}
    return [
        f"lam = {point['lam']:g}: Pareto k of the weights at L = {extent} is {k:.2f}, above {MAX_PARETO_K:g}: averages"
        " of these draws and their errors are not to be trusted; train this size longer."
        for extent, k in worst.items()
        if k > MAX_PARETO_K
    ]


def _cost_sentence(point: Mapping[str, Any]) -> str:
    rows = {(row["L"], row["sampler"]): row for row in point["costs"]}
    parts = []
    for sampler in point["samplers"]:
        if sampler == "learned":
            continue
        ratios = []
        for extent in sorted({L for L, _ in rows}):
            learned, other = rows[extent, "learned"], rows[extent, sampler]
            bound = "at most " if other.get("search_ended") else ""
            ratios.append(f"{bound}{other['seconds_for_error'] / learned['seconds']:.2g} at L = {extent}")
        parts.append(f"{SAMPLERS[sampler]} {', '.join(ratios)}")
    error = 100 * point["cost_error"]
    return (
        f"lam = {point['lam']:g}: processor time for the error of the draws, in units of theirs without training"
        f" (each to {error:.0f} %): {'; '.join(parts)}."
    )


def _continuum_sentence(continuum: Mapping[str, Any]) -> str:
    count = len(continuum["g"])
    couplings = f"{count} couplings" + (
        f", {continuum['elsewhere']} of them found elsewhere" * bool(continuum["elsewhere"])
    )
    return (
        f"g to 0: f_c = {value_error(continuum['value'], continuum['error'])} from {couplings};"
        f" {abs(continuum['sigma']):.1f} sigma from {value_error(*continuum['published'])} (arXiv 2512.16536)."
    )


def _sections(document: Document, records: Iterable[FigureRecord]) -> list[Section]:
    return [
        Section("How it was made", [Listing(document["command"]), Lines([_made(document)])]),
        Section("The critical coupling", coupling_tables(document)),
        Section("Exponents", exponent_tables(document)),
        Section("The continuum's coupling", continuum_tables(document)),
        Section("What it costs", cost_tables(document)),
        Section("Figures", list(records)),
    ]


def _made(document: Document) -> str:
    return f"latticediff {document['version']}, commit {document['commit']}, {document['created'][:10]}."


def critical_markdown(document: Document, records: Iterable[FigureRecord] = ()) -> str:
    """The page as Markdown; figures are those beside it."""
    lams = ", ".join(f"{point['lam']:g}" for point in document["points"])
    subtitle = f"phi^4 in two dimensions, convention H, lam = {lams}; {document['created'][:10]}"
    return markdown(
        f"Critical point {document['name']!r}", subtitle, verdict_of(document), _sections(document, records)
    )


def write_critical(document: Document, out: PathLikeStr) -> dict[str, Path]:
    """Write ``critical.md`` and ``figures/NAME.png, .pdf, .svg, .csv``, replacing earlier ones.

    Returns
    -------
    dict of str to Path
        ``markdown`` and ``figures`` (the folder).

    Raises
    ------
    FileError
        The folder cannot be written.
    """
    records = draw_critical(document)
    folder = write_figures(records, out)
    return {"markdown": write_file(Path(out) / "critical.md", critical_markdown(document, records)), "figures": folder}

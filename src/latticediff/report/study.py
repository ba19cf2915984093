"""The page of a study, from its document ``study.json`` alone: verdict, figures, tables that sort."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..types import PathLikeStr
from .build import write_figures, write_file
from .figures.study import draw_study
from .inline import inline_figure
from .numbers import count, seconds, value_error
from .sheet import Cell, sheet, table
from .style import FigureRecord
from .verdict import describe_action

__all__ = ["study_page", "write_study"]

Document = Mapping[str, Any]
DASH = "–"

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


def _cells(document: Document) -> list[Any]:
    order = list(document["samplers"])
    return sorted(document["cells"], key=lambda cell: (cell["theory"], order.index(cell["sampler"])))


def _head(document: Document, cell: Mapping[str, Any]) -> tuple[str, str]:
    return document["theories"][cell["theory"]]["label"], document["samplers"][cell["sampler"]]["label"]


def _pair(pair: Any) -> str:
    return DASH if pair is None else value_error(*pair)


def _taus(document: Document) -> str:
    names = document["observables"]
    rows: list[tuple[Cell, ...]] = []
    for cell in _cells(document):
        taus = [(_pair(cell["tau_int"][key]), "" if cell["window_found"][key] else "bad") for key in names]
        acceptance = f"{100 * cell['acceptance']:.1f} %"
        rows.append((*_head(document, cell), *taus, acceptance, f"{cell['n_chains']} × {cell['n_updates']}"))
    caption = (
        "τ_int = 1/2 + Σ ρ(t) in updates of each sampler, of raw quantities: no symmetry is imposed, and a sampler that"
        " draws the sign of m afresh has a small τ_int of m for that reason alone. Marked: a chain shorter than 50"
        " τ_int, whose value is more of a lower bound. A click on a column's head sorts."
    )
    return table(
        caption,
        ("theory", "sampler", *(f"τ_int of {s}" for s in names.values()), "acceptance", "chains × updates"),
        rows,
    )


def _costs(document: Document) -> str:
    rows: list[tuple[Cell, ...]] = []
    kinds = (("processor_seconds", seconds), ("wall_seconds", seconds), ("evaluations", value_error))
    for cell in _cells(document):
        cost = cell["cost"]
        cells: list[str] = []
        for kind, shown in kinds:
            for key in ("abs_m", "m2", "action") if kind == "processor_seconds" else ("abs_m",):
                pair = cost.get(kind, {}).get(key)
                cells.append(DASH if pair is None else shown(*pair))
        rows.append((*_head(document, cell), *cells, cell["counted"] or DASH))
    caption = (
        "Price of an independent value, 2 τ_int updates of one chain among many, on one thread; all samplers of one"
        " theory were measured in turn. Wall time and evaluations are those of |m|. Evaluations of different kinds are"
        " not of equal price; seconds are what counts. Training is not in it."
    )
    heads = ("processor, |m|", "processor, m²", "processor, S/V", "wall, |m|", "evaluations, |m|", "of what")
    return table(caption, ("theory", "sampler", *heads), rows)


def _ratios(document: Document) -> str:
    rows: list[tuple[Cell, ...]] = []
    for row in document["ratios"]:
        after = row["paid_back_after"]
        paid = "no training" if not row["setup_seconds"] else "never" if after is None else count(after)
        setup = seconds(row["setup_seconds"]) if row["setup_seconds"] else DASH
        rows.append((*_head(document, row), value_error(row["value"], row["error"]), setup, paid))
    label = document["samplers"][document["reference"]]["label"]
    caption = (
        f"Processor time of an independent |m| over that of {label}: below 1 is cheaper. Training is that of the model"
        " and of all models its weights came from, with the generation of their data; it has paid for itself after so"
        " many independent values."
    )
    return table(caption, ("theory", "sampler", f"over {label}", "training and data", "paid back after"), rows)


def _fits(document: Document) -> str:
    of = {"tau_int": "τ_int", "evaluations": "evaluations", "processor_seconds": "processor time"}
    rows: list[tuple[Cell, ...]] = [
        (
            document["samplers"][fit["sampler"]]["label"],
            document["observables"][fit["observable"]],
            of[fit["of"]],
            value_error(fit["z"], fit["error"]),
            (f"{fit['chi2_per_dof']:.1f}", "bad" if fit["chi2_per_dof"] > 3 else ""),
            str(fit["n_points"]),
        )
        for fit in document["fits"]
    ]
    caption = (
        "Fits of a power, L^z, from L = "
        f"{document['card']['study']['fit_from']} on. Where χ² per degree of freedom is above one, the error is larger"
        " by its root; where it is marked, no single power fits. Of independent proposals z is no exponent of a"
        " dynamics: it says how well the networks of all sizes were trained."
    )
    return table(caption, ("sampler", "observable", "of", "z", "χ²/dof", "points"), rows)


def _ess(document: Document) -> str:
    rows: list[tuple[Cell, ...]] = [
        (*_head(document, cell), cell["model"] or DASH, _pair(cell.get("ess_reverse")), _pair(cell.get("ess_forward")))
        for cell in _cells(document)
        if cell.get("training_seconds") is not None
    ]
    told = next((cell["forward_fields"] for cell in _cells(document) if cell.get("forward_fields")), "")
    caption = f"Effective sample size of the proposals, 1 is perfect: reverse over draws, forward over {told}."
    return table(caption, ("theory", "sampler", "model", "reverse", "forward"), rows) if rows else ""


def _averages(document: Document) -> str:
    compared, names = document["comparisons"], ("abs_m", "m2", "action", "shell")
    sigma = {(r["theory"], r["sampler"], r["observable"]): r["sigma"] for r in compared["rows"]}
    limit = compared["threshold"] or 0.0
    rows: list[tuple[Cell, ...]] = []
    for cell in _cells(document):
        shown: list[Cell] = []
        for key in names:
            off = sigma.get((cell["theory"], cell["sampler"], key))
            text = _pair(cell["average"][key]) + ("" if off is None else f", {off:+.1f}σ".replace("-", "−"))
            shown.append((text, "bad" if off is not None and abs(off) > limit else ""))
        rows.append((*_head(document, cell), *shown))
    label = document["samplers"][document["reference"]]["label"]
    caption = (
        f"Averages, and how far from those of {label} in joint standard errors. {compared['n']} comparisons: one beyond"
        f" {limit:.1f}σ happens in {100 * compared['chance']:.0f} % of correct studies."
    )
    return table(caption, ("theory", "sampler", *(f"⟨{document['observables'][key]}⟩" for key in names)), rows)


def _told(document: Document) -> str:
    rows: list[tuple[Cell, ...]] = [(s["label"], (s["told"], "long")) for s in document["samplers"].values()]
    return table("What the samplers are.", ("sampler", ""), rows)


def _notes(*titled: tuple[str, Iterable[str]]) -> str:
    return "".join(f"<p>{html.escape(f'{title}: {line}')}</p>" for title, lines in titled for line in lines)


def _about(document: Document) -> str:
    rows: list[tuple[Cell, ...]] = [
        ("made", document["created"]),
        ("versions", (", ".join(f"{k} {v}" for k, v in document["versions"].items()), "wrap")),
        ("all numbers", "study.json; figures/*.csv; one file for each cell in cells"),
    ]
    command = f"<pre>{html.escape(document['command'])}</pre>"
    files = table(
        "Every row comes from one file, cells/NAME.json; remove it and run the command again, and it is measured anew.",
        ("theory", "sampler", "cell"),
        [(*_head(document, cell), cell["digest"]) for cell in _cells(document)],
    )
    import tomli_w

    card = (
        f"<details><summary>Effective card</summary><pre>{html.escape(tomli_w.dumps(document['card']))}</pre></details>"
    )
    return command + table("Where this page comes from.", ("", ""), rows) + files + card


def study_page(document: Document, records: Iterable[FigureRecord]) -> str:
    """The page as a string.

    Parameters
    ----------
    document : dict
        ``study.json``; docs/critical-slowing-down.md lists its fields.
    records : iterable of FigureRecord
        From `latticediff.report.figures.study.draw_study`.
    """
    figures = {record.name: inline_figure(record) for record in records}

    def some(*names: str) -> str:
        return "\n".join(figures[name] for name in names if name in figures)

    sections = [
        ("Failed", _notes(("Failed", document["failed"]))),
        ("Autocorrelation", some("tau_int") + _taus(document)),
        ("Cost", some("cost") + _costs(document)),
        ("When training pays", some("amortised") + _ratios(document)),
        ("Exponents", _fits(document)),
        ("Proposals", some("ess") + _ess(document)),
        ("Averages", _averages(document) + some("history")),
        ("Samplers", _told(document)),
        ("Notes", _notes(("Left out", document["skipped"]), ("Timing", document["timing_warnings"]))),
        ("About this study", _about(document)),
    ]
    first = document["theories"][0]["action"]
    theory = describe_action({**first, "couplings": _shared(document)})
    subtitle = f"{theory}; {len(document['theories'])} lattices and couplings; {document['created'][:10]}"
    return sheet(f"Study {document['name']!r}", subtitle, document["verdict"], sections, script=SORT)


def _shared(document: Document) -> dict[str, float]:
    """The couplings that all theories have in common."""
    tables = [theory["action"].get("couplings", {}) for theory in document["theories"]]
    return {key: value for key, value in tables[0].items() if all(t.get(key) == value for t in tables)}


def write_study(document: Document, out: PathLikeStr) -> dict[str, Path]:
    """Write ``study.html`` and ``figures/NAME.png, .pdf, .svg, .csv`` into a folder, replacing earlier ones.

    Returns
    -------
    dict of str to Path
        ``html`` and ``figures`` (the folder).

    Raises
    ------
    FileError
        The folder cannot be written.
    """
    records = draw_study(document)
    folder = write_figures(records, out)
    return {"figures": folder, "html": write_file(Path(out) / "study.html", study_page(document, records))}

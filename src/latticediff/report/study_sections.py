"""What the page of a study says, from its document ``study.json`` alone: verdict, figures and tables in order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .blocks import Lines, Listing, Section, Table
from .numbers import count, seconds, value_error
from .sheet import Cell
from .style import FigureRecord

__all__ = ["study_sections"]

Document = Mapping[str, Any]
DASH = "–"


def _cells(document: Document) -> list[Any]:
    order = list(document["samplers"])
    return sorted(document["cells"], key=lambda cell: (cell["theory"], order.index(cell["sampler"])))


def _head(document: Document, cell: Mapping[str, Any]) -> tuple[Cell, Cell]:
    label = document["samplers"][cell["sampler"]]["label"]
    return document["theories"][cell["theory"]]["label"], (label, "wrap")


def _pair(pair: Any) -> str:
    return DASH if pair is None else value_error(*pair)


def _taus(document: Document) -> Table:
    names = document["observables"]
    rows: list[tuple[Cell, ...]] = []
    for cell in _cells(document):
        taus = [(_pair(cell["tau_int"][key]), "" if cell["window_found"][key] else "bad") for key in names]
        share, error = cell["acceptance"], cell.get("acceptance_error")
        acceptance = f"{value_error(100 * share, 100 * error)} %" if error else f"{100 * share:.1f} %"
        rows.append((*_head(document, cell), *taus, acceptance, f"{cell['n_chains']} × {cell['n_updates']}"))
    caption = (
        "τ_int = 1/2 + Σ ρ(t) in updates of each sampler, of raw quantities: no symmetry is imposed, and a sampler that"
        " draws the sign of m afresh has a small τ_int of m for that reason alone. Marked: a chain shorter than 50"
        " τ_int, whose value is more of a lower bound. A click on a column's head sorts."
    )
    return Table(
        caption,
        ("theory", "sampler", *(f"τ_int of {s}" for s in names.values()), "acceptance", "chains × updates"),
        rows,
    )


def _costs(document: Document) -> tuple[Table, Table, Table]:
    names = document["observables"]
    times: list[tuple[Cell, ...]] = []
    gradients: list[tuple[Cell, ...]] = []
    others: list[tuple[Cell, ...]] = []
    for cell in _cells(document):
        cost, head = cell["cost"], _head(document, cell)

        def shown(kind: str, key: str, words: Any, cost: Any = cost) -> str:
            pair = cost.get(kind, {}).get(key)
            return DASH if pair is None else str(words(*pair))

        times.append((*head, *(shown("processor_seconds", key, seconds) for key in names)))
        gradients.append((*head, *(shown("gradient_equivalents", key, value_error) for key in names)))
        counted = shown("evaluations", "abs_m", value_error)
        others.append((*head, shown("wall_seconds", "abs_m", seconds), counted, cell["counted"] or DASH))
    caption = (
        "Processor time of an independent value, 2 τ_int updates of one chain among many, on one thread; all samplers"
        " of one theory were measured in turn. Training is not in it."
    )
    equivalents = (
        "The same in gradient-equivalents: processor time of an independent value in units of one gradient of S by"
        f" {_unit_of(document)}."
    )
    beside = (
        "An independent |m| by other measures: wall time, and evaluations as they are counted, of which those of"
        " different kinds are not of equal price."
    )
    heads = ("theory", "sampler")
    return (
        Table(caption, (*heads, *names.values()), times),
        Table(equivalents, (*heads, *names.values()), gradients),
        Table(beside, (*heads, "wall time", "evaluations", "of what"), others),
    )


def _unit_of(document: Document) -> str:
    """Label of the sampler whose gradients are the unit: its cost in them is what it counts."""
    for cell in _cells(document):
        cost = cell["cost"]
        if cost.get("gradient_equivalents") and cost["gradient_equivalents"] == cost.get("evaluations"):
            return str(document["samplers"][cell["sampler"]]["label"])
    return "HMC"


def _ratios(document: Document) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for row in document["ratios"]:
        after = row["paid_back_after"]
        paid = "no training" if not row["setup_seconds"] else "never" if after is None else count(after)
        # of cells that an earlier version has run it is not known, and is in the training
        ancestors = row.get("ancestor_seconds") or 0.0
        spent = (row["training_seconds"] - ancestors, ancestors, row["data_seconds"])
        setup = [seconds(value) if value else DASH for value in spent]
        rows.append((*_head(document, row), value_error(row["value"], row["error"]), *setup, paid))
    label = document["samplers"][document["reference"]]["label"]
    caption = (
        f"Processor time of an independent |m| over that of {label}: below 1 is cheaper. Training is that of the model,"
        " ancestors that of all models its weights came from, data the generation of theirs; they have paid for"
        " themselves after so many independent values."
    )
    return Table(
        caption, ("theory", "sampler", f"over {label}", "training", "ancestors", "data", "paid back after"), rows
    )


def _fits(document: Document) -> Table:
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
    return Table(caption, ("sampler", "observable", "of", "z", "χ²/dof", "points"), rows)


def _ess(document: Document) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (*_head(document, cell), cell["model"] or DASH, _pair(cell.get("ess_reverse")), _pair(cell.get("ess_forward")))
        for cell in _cells(document)
        if cell.get("training_seconds") is not None
    ]
    told = next((cell["forward_fields"] for cell in _cells(document) if cell.get("forward_fields")), "")
    caption = f"Effective sample size of the proposals, 1 is perfect: reverse over draws, forward over {told}."
    return Table(caption, ("theory", "sampler", "model", "reverse", "forward"), rows)


def _averages(document: Document) -> Table:
    compared, names = document["comparisons"], ("abs_m", "m2", "action", "shell")
    sigma = {(r["theory"], r["sampler"], r["observable"]): r["sigma"] for r in compared["rows"]}
    short = {(r["theory"], r["sampler"], r["observable"]) for r in compared.get("short", ())}
    limit = compared["threshold"] or 0.0
    rows: list[tuple[Cell, ...]] = []
    for cell in _cells(document):
        shown: list[Cell] = []
        for key in names:
            which = cell["theory"], cell["sampler"], key
            off = sigma.get(which)
            text = _pair(cell["average"][key]) + ("" if off is None else f", {off:+.1f}σ".replace("-", "−"))
            text += ", short" if which in short else ""
            shown.append((text, "bad" if off is not None and abs(off) > limit else ""))
        rows.append((*_head(document, cell), *shown))
    label = document["samplers"][document["reference"]]["label"]
    caption = (
        f"Averages, and how far from those of {label} in joint standard errors. {compared['n']} comparisons: one beyond"
        f" {limit:.1f}σ happens in {100 * compared['chance']:.0f} % of correct studies."
        + (" Short: one of the two chains has fewer than 20 τ_int, and its error is not known." if short else "")
    )
    return Table(caption, ("theory", "sampler", *(f"⟨{document['observables'][key]}⟩" for key in names)), rows)


def _told(document: Document) -> Table:
    rows: list[tuple[Cell, ...]] = [(s["label"], (s["told"], "long")) for s in document["samplers"].values()]
    return Table("What the samplers are.", ("sampler", ""), rows)


def _known(document: Document) -> Table:
    known = document.get("known") or {"n": 0, "threshold": None, "chance": 0.0, "rows": ()}
    symbols, limit = {**document["observables"], **document.get("derived", {})}, known["threshold"] or 0.0
    rows: list[tuple[Cell, ...]] = []
    for row in known["rows"]:
        off = f"{row['sigma']:+.1f}".replace("-", "−")
        mark = "bad" if abs(row["sigma"]) > limit else ""
        rows.append(
            (*_head(document, row), symbols[row["observable"]], _pair(row["value"]), _pair(row["known"]), (off, mark))
        )
    caption = (
        f"Values that the card gives as known, and how far every sampler is from them in joint standard errors."
        f" {known['n']} comparisons: one beyond {limit:.1f} happens in {100 * known['chance']:.0f} % of correct"
        " studies with known values that are correct, too."
    )
    return Table(caption, ("theory", "sampler", "of", "here", "known", "σ"), rows)


def _notes(*titled: tuple[str, Iterable[str]]) -> Lines:
    return Lines([f"{title}: {line}" for title, lines in titled for line in lines])


def _about(document: Document) -> tuple[Table | Listing, ...]:
    import tomli_w

    rows: list[tuple[Cell, ...]] = [
        ("made", document["created"]),
        ("versions", (", ".join(f"{k} {v}" for k, v in document["versions"].items()), "wrap")),
        ("all numbers", "study.json; figures/*.csv; one file for each cell in cells"),
    ]
    return (
        Listing(document["command"]),
        Table("Where this page comes from.", ("", ""), rows),
        Table(
            "Every row comes from one file, cells/NAME.json; remove it and run the command again, and it is measured"
            " anew.",
            ("theory", "sampler", "cell"),
            [(*_head(document, cell), cell["digest"]) for cell in _cells(document)],
        ),
        Listing(tomli_w.dumps(document["card"]), "Effective card"),
    )


def study_sections(document: Document, records: Iterable[FigureRecord]) -> list[Section]:
    """The sections in the order of the page.

    Parameters
    ----------
    document : dict
        ``study.json``; docs/critical-slowing-down.md lists its fields.
    records : iterable of FigureRecord
        From `latticediff.report.figures.study.draw_study`.
    """
    figures = {record.name: record for record in records}

    def some(*names: str) -> list[FigureRecord]:
        return [figures[name] for name in names if name in figures]

    return [
        Section("Failed", [_notes(("Failed", document["failed"]))]),
        Section("Autocorrelation", [*some("tau_int"), _taus(document), *some("autocorrelation", "history")]),
        Section("Cost", [*some("cost"), *_costs(document), *some("pilots", "acceptance")]),
        Section("When training pays", [*some("amortised"), _ratios(document)]),
        Section("Exponents", [_fits(document)]),
        Section("Proposals", [*some("ess"), _ess(document), *some("log_weight", "film")]),
        Section("Averages", [_averages(document), _known(document), *some("finite_size", "histogram", "propagator")]),
        Section("Fields", some("configurations")),
        Section("Samplers", [_told(document)]),
        Section("Notes", [_notes(("Left out", document["skipped"]), ("Timing", document["timing_warnings"]))]),
        Section("About this study", _about(document)),
    ]

"""All cells of a study as one document, ``study.json``: rows, fits, ratios, comparisons and the verdict."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from scipy import special

from ..provenance import commit, version
from .costs import costs_of, in_gradients, paid_back_after, ratio_of
from .fits import power_law
from .quantities import DERIVED, OBSERVABLES
from .samplers import GRADIENTS, SAMPLERS
from .verdict import verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..types import Description
    from .card import StudyCard, Theory

__all__ = ["STUDY_VERSION", "compared", "fitted", "gathered", "held_against", "ratios"]

STUDY_VERSION = 1  #: of the document; additions do not change it
COMPARED = ("abs_m", "m2", "action", "shell")  #: averages held against those of the reference
CHANCE = 0.05  #: with which a correct study has a deviation that is called one
MIN_TAUS = 20  #: of a shorter chain no error is known, and nothing is held against anything
KEPT = (
    "acceptance",
    "acceptance_error",
    "n_updates",
    "n_chains",
    "n_dropped",
    "ended_by",
    "tau_int",
    "window_found",
    "window",
    "average",
    "derived",
    "propagator",
    "effective_mass",
    "configuration",
    "log_weights",
    "evaluations_per_update",
    "counted",
    "ess_reverse",
    "ess_forward",
    "forward_fields",
    "training_seconds",
    "data_seconds",
    "ancestor_seconds",
    "search_seconds",
    "chain_seconds",
    "mix",
    "kernel",
    "history",
    "autocorrelation",
    "histogram",
)


def gathered(
    card: StudyCard,
    theories: Sequence[Theory],
    results: Mapping[tuple[int, str], Mapping[str, Any]],
    timings: Mapping[int, Mapping[str, Any]],
    skipped: Sequence[str] = (),
    command: str = "",
    untrained: Sequence[str] = (),
    film: Mapping[str, Any] | None = None,
) -> Description:
    """The document of a study.

    Parameters
    ----------
    card : StudyCard
    theories : sequence of Theory
    results : mapping of (number of the theory, sampler) to dict
        Of cells of kind "chain"; those that failed have ``failed``.
    timings : mapping of number of the theory to dict
        Of cells of kind "timing".
    skipped : sequence of str
        What the card asks for and theories do not have, in one line each.
    command : str
        That made it.
    untrained : sequence of str
        Models that could not be trained, and why.
    film : dict, optional
        Of the cell of kind "film".

    Returns
    -------
    dict
        JSON-able; docs/critical-slowing-down.md lists its fields.
    """
    cells: list[Description] = []
    failed = list(untrained)
    shown: Description = {}
    if film is not None and "films" in film:
        shown = {film["cell"]["settings"]["cells"][name]: found for name, found in film["films"].items()}
    for (number, sampler), result in results.items():
        if "failed" in result:
            failed.append(f"{result['title']}: {result['failed']}")
            continue
        price = timings.get(number, {}).get("seconds_per_update", {}).get(sampler)
        cells.append(
            {
                "theory": number,
                "sampler": sampler,
                "L": theories[number].shape[0],
                "digest": result["digest"],
                "model": result.get("model_name") or None,
                **{key: result[key] for key in KEPT if key in result},
                "seconds_per_update": price,
                "cost": costs_of(result, price),
                **({"film": found} if (found := shown.get(result["digest"])) else {}),
            }
        )
    for number in range(len(theories)):
        here = [cell for cell in cells if cell["theory"] == number]
        for cell, table in zip(here, in_gradients(here, _unit(here, card.study.reference)), strict=True):
            cell["cost"]["gradient_equivalents"] = table
    document: Description = {
        "study_version": STUDY_VERSION,
        "name": card.study.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"latticediff": version(), "commit": commit()},
        "command": command,
        "card": card.to_dict(),
        "reference": card.study.reference,
        "samplers": {
            name: {"label": SAMPLERS[name].label, "told": SAMPLERS[name].told} for name in card.study.samplers
        },
        "observables": dict(OBSERVABLES),
        "derived": dict(DERIVED),
        "theories": [
            {
                "label": t.label,
                "shape": list(t.shape),
                "couplings": t.couplings,
                "action": t.action.describe(),
                "known": t.known,
            }
            for t in theories
        ],
        "cells": cells,
        "fits": fitted([c for c in cells if len(set(theories[c["theory"]].shape)) == 1], card.study.fit_from),
        "ratios": ratios(cells, card.study.reference),
        "comparisons": compared(cells, card.study.reference),
        "known": held_against(cells, [theory.known for theory in theories]),
        "timing_warnings": [w for number in sorted(timings) for w in timings[number].get("warnings", ())],
        "skipped": list(skipped),
        "failed": failed + [f"{t['title']}: {t['failed']}" for t in (*timings.values(), film) if t and "failed" in t],
    }
    document["verdict"] = verdict(document)
    return document


def _unit(cells: Sequence[Mapping[str, Any]], reference: str) -> Mapping[str, Any] | None:
    """The cell whose gradients are the unit of costs: of the reference if it has some, else of the first plain HMC."""
    order = (reference, "hmc", "hmc_unit")
    counted = [cell for cell in cells if cell["sampler"] in order and cell["counted"] == GRADIENTS]
    return min(counted, key=lambda cell: order.index(cell["sampler"]), default=None)


def fitted(cells: Sequence[Mapping[str, Any]], fit_from: int) -> list[Description]:
    """Exponents z of tau_int and of every cost, by sampler and observable, from extent `fit_from` on.

    Cells are those of lattices of equal extents. Several couplings on one lattice are no series in L, and have none.
    """
    found: list[Description] = []
    for sampler in dict.fromkeys(cell["sampler"] for cell in cells):
        mine = [cell for cell in cells if cell["sampler"] == sampler and cell["L"] >= fit_from]
        if len({cell["L"] for cell in mine}) < len(mine):
            continue
        for of in ("tau_int", "evaluations", "processor_seconds"):
            for observable in OBSERVABLES:
                points = []
                for cell in mine:
                    pair = (cell["tau_int"] if of == "tau_int" else cell["cost"].get(of, {})).get(observable)
                    if pair and min(pair) > 0:
                        points.append((cell["L"], *pair))
                fit = power_law(*zip(*points, strict=True)) if len(points) > 2 else None
                if fit is not None:
                    found.append({"sampler": sampler, "observable": observable, "of": of, "fit_from": fit_from, **fit})
    return found


def ratios(cells: Sequence[Mapping[str, Any]], reference: str, observable: str = "abs_m") -> list[Description]:
    """Processor time of an independent value over that of the reference, and when training is paid back."""
    found: list[Description] = []
    for cell in cells:
        theirs = next((c for c in cells if c["theory"] == cell["theory"] and c["sampler"] == reference), None)
        if theirs is None or cell is theirs:
            continue
        pair = [c["cost"].get("processor_seconds", {}).get(observable) for c in (cell, theirs)]
        if None in pair:
            continue
        value, error = ratio_of(pair[0], pair[1])
        training, data = cell.get("training_seconds") or 0.0, cell.get("data_seconds") or 0.0
        setup = training + data
        found.append(
            {
                "theory": cell["theory"],
                "sampler": cell["sampler"],
                "reference": reference,
                "observable": observable,
                "value": value,
                "error": error,
                "setup_seconds": setup,
                "training_seconds": training,
                "data_seconds": data,
                "ancestor_seconds": cell.get("ancestor_seconds"),
                "paid_back_after": paid_back_after(setup, pair[0][0], pair[1][0]),
            }
        )
    return found


def compared(cells: Sequence[Mapping[str, Any]], reference: str) -> Description:
    """Averages of every sampler against those of the reference, in joint standard errors.

    Returns
    -------
    dict
        ``rows``, how many they are (``n``), the ``threshold`` in standard errors that a correct study passes with
        probability `CHANCE` in any of them, ``beyond``, how many are beyond it, and ``short``: what is not compared,
        since a chain is shorter than `MIN_TAUS` of its tau_int.
    """
    rows: list[Description] = []
    short: list[Description] = []
    for cell in cells:
        theirs = next((c for c in cells if c["theory"] == cell["theory"] and c["sampler"] == reference), None)
        if theirs is None or cell is theirs:
            continue
        for key in COMPARED:
            (a, da), (b, db) = cell["average"][key], theirs["average"][key]
            which = {"theory": cell["theory"], "sampler": cell["sampler"], "observable": key}
            if _is_short(cell, key) or _is_short(theirs, key):
                short.append(which)
            elif (joint := math.hypot(da, db)) > 0:
                rows.append({**which, "sigma": (a - b) / joint})
    return _judged(rows, short)


def _is_short(cell: Mapping[str, Any], key: str) -> bool:
    """Whether a chain is too short for its average; a function of averages is as slow as the slowest of them."""
    slow = max(cell["tau_int"][name][0] for name in ([key] if key in OBSERVABLES else ("abs_m", "m2", "shell")))
    return bool(cell["n_updates"] - cell["n_dropped"] < MIN_TAUS * slow)


def held_against(cells: Sequence[Mapping[str, Any]], known: Sequence[Mapping[str, Sequence[float]]]) -> Description:
    """Averages of every sampler against values that the card says are known, in joint standard errors.

    Parameters
    ----------
    cells : sequence of dict
    known : sequence of dict
        For every theory, observable to [value, error].

    Returns
    -------
    dict
        As `compared`.
    """
    rows: list[Description] = []
    short: list[Description] = []
    for cell in cells:
        found = {**cell["average"], **cell.get("derived", {})}
        for key, (b, db) in known[cell["theory"]].items():
            if key not in found:
                continue
            (a, da) = found[key]
            which = {"theory": cell["theory"], "sampler": cell["sampler"], "observable": key}
            if _is_short(cell, key):
                short.append(which)
            else:
                rows.append({**which, "value": [a, da], "known": [b, db], "sigma": (a - b) / math.hypot(da, db)})
    return _judged(rows, short)


def _judged(rows: list[Description], short: list[Description]) -> Description:
    """Rows, and the deviation that so many correct ones exceed with probability `CHANCE`."""
    n = len(rows)
    threshold = float(-special.ndtri(CHANCE / 2 / n)) if n else None
    beyond = sum(abs(row["sigma"]) > threshold for row in rows) if threshold else 0
    return {"n": n, "threshold": threshold, "beyond": beyond, "chance": CHANCE, "rows": rows, "short": short}

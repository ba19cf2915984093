"""What a study says, in three sentences at most; the rules are the same whoever wins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..analysis import format_error

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["verdict"]

POOR = 3.0  #: chi^2 per degree of freedom above which a power law is said not to fit
UNITS = ((1e-6, "µs"), (1e-3, "ms"), (1.0, "s"))


def verdict(document: Mapping[str, Any]) -> list[str]:
    """The sentences: how tau_int grows, what an independent |m| costs where it costs most, and whether averages agree.

    Parameters
    ----------
    document : dict
        As of `latticediff.study.gathered.gathered`, without the verdict.

    Returns
    -------
    list of str
        One to three.
    """
    sentences = [_growth(document), _cost(document), _agreement(document)]
    return [sentence for sentence in sentences if sentence] or [
        "Nothing was measured: every cell failed or is missing."
    ]


def _label(document: Mapping[str, Any], sampler: str) -> str:
    return str(document["samplers"][sampler]["label"])


def _growth(document: Mapping[str, Any]) -> str:
    fits = [fit for fit in document["fits"] if fit["of"] == "processor_seconds" and fit["observable"] == "abs_m"]
    what, sites = "The processor time of an independent |m|", len(document["theories"][0]["shape"])
    beside = f" (of which the number of sites makes {sites})"
    if not fits:
        fits = [fit for fit in document["fits"] if fit["of"] == "tau_int" and fit["observable"] == "abs_m"]
        what, beside = "tau_int of |m|, in updates,", ""
    if not fits:
        return ""
    fits = sorted(fits, key=lambda fit: -fit["z"])
    parts = [f"{format_error(fit['z'], fit['error'])} for {_label(document, fit['sampler'])}" for fit in fits]
    extents = [cell["L"] for cell in document["cells"] if cell["L"] >= fits[0]["fit_from"]]
    text = f"{what} grows like L^z{beside} from L = {min(extents)} to {max(extents)}, z = {_and(parts)}"
    pure = [fit for fit in fits if fit["chi2_per_dof"] <= POOR]
    if len(pure) < len(fits):
        text += f", a pure power of L for {len(pure) or 'none'} of them"
    return text + "."


def _cost(document: Mapping[str, Any]) -> str:
    priced = [cell for cell in document["cells"] if "processor_seconds" in cell["cost"]]
    if not priced:
        return ""
    # the theory where the reference pays most: critical slowing down is felt there
    theirs = [cell for cell in priced if cell["sampler"] == document["reference"]] or priced
    hard = max(theirs, key=lambda cell: cell["cost"]["processor_seconds"]["abs_m"][0])["theory"]
    here = sorted(
        (c for c in priced if c["theory"] == hard), key=lambda c: float(c["cost"]["processor_seconds"]["abs_m"][0])
    )
    learned = next((cell for cell in here if cell.get("training_seconds") is not None), None)
    # the cheapest of all, the cheapest learned one and the reference: the whole list is on the page
    shown = [c for c in here if c is here[0] or c is learned or c["sampler"] == document["reference"]]
    parts = [f"{_seconds(c['cost']['processor_seconds']['abs_m'])} by {_label(document, c['sampler'])}" for c in shown]
    text = f"At {document['theories'][hard]['label']} an independent |m| costs {_and(parts)}"
    if len(here) > 1:
        text += f", the cheapest of {len(here)} being {_label(document, here[0]['sampler'])}"
    if learned is None:
        return text + "."
    ratio = next((r for r in document["ratios"] if r["theory"] == hard and r["sampler"] == learned["sampler"]), None)
    if ratio is None:
        return text + "."
    after = ratio["paid_back_after"]
    spent = f"{ratio['setup_seconds']:,.0f} s of training and data".replace(",", "\u00a0")
    paid = (
        f"paid back against {_label(document, ratio['reference'])} after {_count(after)} independent |m|"
        if after is not None
        else f"never paid back against {_label(document, ratio['reference'])}"
    )
    return f"{text}; the {spent} of the {_label(document, learned['sampler'])} are {paid}."


def _agreement(document: Mapping[str, Any]) -> str:
    compared, failed = document["comparisons"], len(document["failed"])
    told = [f"{failed} cell{'s' if failed > 1 else ''} failed"] if failed else []
    if short := len(compared.get("short", ())):
        told.append(f"{short} average{'s' if short > 1 else ''} of chains that are too short could not be compared")
    broken = ", and ".join(told)
    if not compared["n"]:
        return f"{broken}{'' if short else ', and nothing could be compared'}." if broken else ""
    n, beyond, limit = compared["n"], compared["beyond"], compared["threshold"]
    if beyond:
        worst = max(compared["rows"], key=lambda row: abs(row["sigma"]))
        text = (
            f"{beyond} of {n} averages deviate from those of {_label(document, document['reference'])} by more than"
            f" {limit:.1f} standard errors, the most that chance explains; look at"
            f" {_label(document, worst['sampler'])} first"
        )
    else:
        text = (
            f"All {n} averages agree with those of {_label(document, document['reference'])} within the {limit:.1f}"
            " standard errors that so many comparisons allow"
        )
    return f"{text}{f', and {broken}' if broken else ''}."


def _and(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]


def _seconds(pair: Sequence[float]) -> str:
    scale, unit = next(((s, u) for s, u in UNITS if pair[0] < 1000 * s), UNITS[-1])
    return f"{format_error(pair[0] / scale, pair[1] / scale)} {unit}"


def _count(number: float) -> str:
    """Two significant digits, for people."""
    return f"{float(f'{number:.2g}'):,.0f}".replace(",", "\u00a0")

"""What an error of the coupling costs each sampler of a critical point."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..types import Description
    from .meeting import ByNode

__all__ = ["costs_of", "ratio_error"]


def ratio_error(n_blocks: int) -> float:
    """Relative error of a ratio of two squared bootstrap errors, each of `n_blocks` blocks."""
    return 2 * math.sqrt(2 / (2 * (n_blocks - 1)))


def costs_of(fields: ByNode, tables: Mapping[str, Description], paid: Mapping[int, Description]) -> list[Description]:
    """Processor seconds for the error of the coupling where xi / L has its universal value, size by size.

    Parameters
    ----------
    fields : dict
        As of `at_point`.
    tables : dict of str to dict
        Sampler to what `at_point` gave for it.
    paid : dict of int to dict
        L to the seconds that its model cost, ``training`` and ``data``, and ``untuned``: whether fine-tuning gained
        nothing.

    Returns
    -------
    list of dict
        For each size and sampler ``seconds`` spent, ``error`` of the coupling, and ``seconds_for_error``: what it would
        take for the error that the draws have, from error^2 ~ 1 / seconds. ``search_ended``: by its budget, so that
        cheaper settings may exist.
    """
    rows = []
    for L, nodes in fields.items():
        reference = _error_at(tables["learned"], L)
        for sampler, table in tables.items():
            seconds = sum(found.about["seconds"][sampler] for found in nodes.values())
            told = [found.about["samplers"][sampler] for found in nodes.values()]
            evaluations = sum(row.get("evaluations", math.nan) for row in told)
            error = _error_at(table, L)
            factor = (error / reference) ** 2
            rows.append(
                {
                    "L": L,
                    "sampler": sampler,
                    "seconds": seconds,
                    "error": error,
                    "seconds_for_error": seconds * factor,
                    "evaluations_for_error": evaluations * factor if math.isfinite(evaluations) else None,
                    "seconds_per_evaluation": seconds / evaluations if math.isfinite(evaluations) else None,
                    "search_ended": any(_ended(row.get("kernel")) for row in told),
                    "untuned": sampler == "learned" and paid[L]["untuned"],
                    "training": paid[L]["training"] if sampler == "learned" else 0.0,
                    "data": paid[L]["data"] if sampler == "learned" else 0.0,
                    "tau_int": [[row["thin"] * x for x in row["tau_int"]] for row in told if "tau_int" in row],
                    "ess": [row["ess"] for row in told if "ess" in row],
                    "pareto_k": [row["pareto_k"] for row in told if "pareto_k" in row],
                }
            )
    return rows


def _error_at(table: Description, extent: int) -> float:
    return float(next(row["kappa"][1] for row in table["fixed"] if row["L"] == extent and row["quantity"] == "xi"))


def _ended(kernel: Any) -> bool:
    """Whether a search in the description of a kernel, or of one that it is made of, was ended by its budget."""
    if isinstance(kernel, Mapping):
        return bool(kernel.get("budget_ended")) or any(map(_ended, kernel.values()))
    return isinstance(kernel, list | tuple) and any(map(_ended, kernel))

r"""What an independent value costs, :math:`2 \tau_{int}` updates, and from how many on training is paid back."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..types import Description

__all__ = ["cost_of", "costs_of", "in_gradients", "paid_back_after", "ratio_of"]

Pair = tuple[float, float]


def cost_of(tau: Sequence[float], each: Sequence[float]) -> Pair:
    """``2 tau_int`` times the price of an update, with the errors of both.

    Parameters
    ----------
    tau, each : (value, error)

    Returns
    -------
    (float, float)
    """
    value = 2 * tau[0] * each[0]
    return value, value * math.hypot(tau[1] / tau[0], each[1] / each[0] if each[0] else 0.0)


def ratio_of(ours: Sequence[float], theirs: Sequence[float]) -> Pair:
    """Ratio of two costs, independent of each other, and its error."""
    value = ours[0] / theirs[0]
    return value, value * math.hypot(ours[1] / ours[0], theirs[1] / theirs[0])


def paid_back_after(setup: float, ours: float, theirs: float) -> int | None:
    """Number of independent values from which on a sampler that cost `setup` seconds beforehand is the cheaper one.

    Parameters
    ----------
    setup : float
        Seconds of training and of its data, more than the other sampler had to pay.
    ours, theirs : float
        Seconds of an independent value.

    Returns
    -------
    int or None
        None where it never is.
    """
    gain = theirs - ours
    if not gain > 0:
        return None
    return max(0, math.ceil(setup / gain))


def costs_of(result: Mapping[str, Any], price: Mapping[str, Any] | None) -> Description:
    """Costs of an independent value of every observable of a cell.

    Parameters
    ----------
    result : dict
        Of the cell.
    price : dict or None
        ``processor`` and ``wall``, each (value, error) in seconds per update of one chain.

    Returns
    -------
    dict
        ``processor_seconds``, ``wall_seconds`` and ``evaluations``, each observable to [value, error]; what is not
        known is left out.
    """
    table: Description = {}
    known = {} if price is None else {"processor_seconds": price["processor"], "wall_seconds": price["wall"]}
    if result.get("evaluations_per_update") is not None:
        known["evaluations"] = [result["evaluations_per_update"], 0.0]
    for name, each in known.items():
        table[name] = {key: list(cost_of(tau, each)) for key, tau in result["tau_int"].items()}
    return table


def in_gradients(cells: Sequence[Mapping[str, Any]], unit: Mapping[str, Any] | None) -> list[Description]:
    """Processor time of an independent value in units of one gradient of S, of cells of one theory.

    Parameters
    ----------
    cells : sequence of dict
        With `costs_of` under ``cost``.
    unit : dict or None
        The cell whose gradients are the unit: ``seconds_per_update`` and ``evaluations_per_update``. Its own costs are
        its evaluations, which are counted and have no price.

    Returns
    -------
    list of dict
        For every cell, observable to [value, error]; empty where nothing was timed.
    """
    price = None if unit is None else unit["seconds_per_update"]
    if unit is None or price is None:
        return [{} for _ in cells]
    each = [value / unit["evaluations_per_update"] for value in price["processor"]]
    found: list[Description] = []
    for cell in cells:
        if cell is unit:
            found.append(dict(cell["cost"]["evaluations"]))
        else:
            table = cell["cost"].get("processor_seconds", {})
            found.append({key: list(ratio_of(pair, each)) for key, pair in table.items()})
    return found

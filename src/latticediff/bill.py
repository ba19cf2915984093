"""What a model cost: every training in its line of ancestors, and the data apart, row by row in its card.

A row of ``[[bill]]`` has ``what`` ("score matching", "fine-tuning" or "data"), ``of`` (fingerprint of the model that
came out of it, or of the ensemble), ``shape``, ``seconds`` of wall time where they are known, and ``device``. A model
that starts from the weights of another takes over all rows of that one: a smaller lattice trained first is no gift.
Imports nothing heavy.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .errors import ModelError
from .types import Description, Extents

if TYPE_CHECKING:
    from .ensemble import Ensemble

__all__ = [
    "FINE_TUNING",
    "KEY",
    "SCORE_MATCHING",
    "data_row",
    "data_seconds",
    "extended",
    "finetuning_seconds",
    "inherited_data_seconds",
    "inherited_seconds",
    "row_of_ensemble",
    "rows_of",
    "training_row",
    "training_seconds",
]

KEY = "bill"
DATA = "data"
SCORE_MATCHING, FINE_TUNING = "score matching", "fine-tuning"


def rows_of(card: Mapping[str, Any]) -> list[Description]:
    """The rows of a model's card; if it has none, as many as can be made from its other sections.

    Raises
    ------
    ModelError
        A row is no table, has no text as its ``what``, or has ``seconds`` that are no finite number of at least 0.
    """
    if KEY not in card:
        return _rows_of_sections(card)
    for row in card[KEY]:
        seconds: Any = row.get("seconds", 0.0) if isinstance(row, dict) else None
        number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        if not (number and math.isfinite(seconds) and seconds >= 0 and isinstance(row.get("what"), str)):
            raise ModelError(f"the card's {KEY} has the row {str(row)[:80]!r}; expected what, of and seconds")
    return list(card[KEY])


def _rows_of_sections(card: Mapping[str, Any]) -> list[Description]:
    """Rows for an older card, which knows only the model's own training: earlier ancestors are not in it."""
    training, tuned = card.get("training", {}), card.get("finetune", {})
    ensembles = [card["ensemble"]] if "ensemble" in card else []
    rows = [data_row(about["fingerprint"]) for about in [*ensembles, *card.get("further_ensembles", ())]]
    shape, own = card.get("shape"), card.get("sha256", "")
    if "seconds" in training:
        of = tuned.get("model", "") if tuned else own
        rows.append(training_row(SCORE_MATCHING, of, training["seconds"], shape, training.get("device")))
    if tuned.get("seconds_before"):
        rows.append(training_row(FINE_TUNING, tuned.get("model", ""), tuned["seconds_before"], shape))
    if "seconds" in tuned:
        rows.append(training_row(FINE_TUNING, own, tuned["seconds"], shape, tuned.get("device")))
    return rows


def training_row(
    what: str, of: str, seconds: float, shape: Extents | None = None, device: str | None = None
) -> Description:
    """A row for a training: `what` is "score matching" or "fine-tuning", `of` the fingerprint of the model it made."""
    row = {"what": what, "of": of, "shape": shape and list(shape), "seconds": float(seconds), "device": device}
    return {key: value for key, value in row.items() if value is not None}


def data_row(fingerprint: str, seconds: float | None = None, shape: Extents | None = None) -> Description:
    """A row for the generation of an ensemble; `seconds` is None where the time is not known."""
    row = {"what": DATA, "of": fingerprint, "shape": shape and list(shape), "seconds": seconds}
    return {key: value for key, value in row.items() if value is not None}


def row_of_ensemble(ensemble: Ensemble) -> Description:
    """`data_row` of an open ensemble: the time recorded for its updates, and for its warm-up at the same speed.

    An ensemble that is extended and trained on again is another file, and is counted again from its start.
    """
    seconds = None
    if "seconds" in ensemble.history_names and ensemble.n_updates:
        spent = ensemble.history("seconds")
        try:
            n_warmup = json.loads(ensemble.provenance.config_json or "{}").get("hmc", {}).get("n_warmup", 0)
        except (ValueError, AttributeError):  # of a file that another program wrote
            n_warmup = 0
        seconds = float(spent.sum() + n_warmup * spent.mean())
    return data_row(ensemble.fingerprint(), seconds, ensemble.shape)


def extended(before: Iterable[Description], rows: Iterable[Description]) -> list[Description]:
    """Rows `before` and new `rows`; an ensemble that occurs in both is counted once.

    Parameters
    ----------
    before, rows : iterable of dict

    Returns
    -------
    list of dict
    """
    result = list(before)
    places = {row.get("of"): place for place, row in enumerate(result) if row["what"] == DATA}
    for row in rows:
        place = places.get(row.get("of")) if row["what"] == DATA else None
        if place is None:
            result.append(row)
        elif "seconds" not in result[place]:
            result[place] = row  # the same data, now with their seconds
    return result


def training_seconds(card: Mapping[str, Any]) -> float:
    """Seconds of all score matching and fine-tuning, the model's own and that of all models its weights came from."""
    return float(sum(row.get("seconds", 0.0) for row in rows_of(card) if row["what"] != DATA))


def data_seconds(card: Mapping[str, Any]) -> float | None:
    """Seconds that generating the ensembles took which the model and its ancestors were trained on.

    None if that is not known for one of them, or if no ensemble is known.
    """
    rows = [row for row in rows_of(card) if row["what"] == DATA]
    known = [row["seconds"] for row in rows if "seconds" in row]
    return float(sum(known)) if rows and len(known) == len(rows) else None


def finetuning_seconds(card: Mapping[str, Any]) -> float:
    """Seconds of the last fine-tuning and of those that its first weights came from; 0 if there was none."""
    tuned: Mapping[str, Any] = card.get("finetune", {})
    seconds: float = tuned.get("seconds", 0.0) + tuned.get("seconds_before", 0.0)
    return seconds


def inherited_seconds(card: Mapping[str, Any]) -> float:
    """The part of `training_seconds` that was spent on other models, before the model's own score matching began."""
    return max(0.0, training_seconds(card) - card.get("training", {}).get("seconds", 0.0) - finetuning_seconds(card))


def inherited_data_seconds(card: Mapping[str, Any]) -> float:
    """Seconds that generating the data of those other models took, as far as known.

    Ensembles on which the model itself was trained do not count.
    """
    trained_on = [card.get("ensemble", {}), *card.get("further_ensembles", ())]
    own = {about.get("fingerprint") for about in trained_on}
    return float(sum(r.get("seconds", 0.0) for r in rows_of(card) if r["what"] == DATA and r.get("of") not in own))

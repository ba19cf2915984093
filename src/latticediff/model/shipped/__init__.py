"""Trained models that come with the package, found by name; each was made by the run-card of that name.

``latticediff sample CARD --model phi4-A-L16`` and `latticediff.model.storage.load_model` take such a name
wherever they take a folder. Imports nothing heavy.
"""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...bill import data_seconds, inherited_seconds, training_seconds
from ...digests import CARD_KEY, check_digest
from ...errors import ModelError
from ...registry import nearest
from ...types import PathLikeStr

__all__ = ["cheapest_model", "describe_models", "model_folder", "model_names"]

HERE = Path(__file__).parent
CARD = "card.toml"
FAST = ("-coarse", "-fast")  #: how names of the fast family end, the cheapest first


def model_names() -> list[str]:
    """Names of the shipped models, sorted."""
    return sorted(path.parent.name for path in HERE.glob(f"*/{CARD}"))


def model_folder(name_or_path: PathLikeStr) -> Path:
    """The folder of a model given by path or by the name of a shipped one; a path that exists comes first.

    Raises
    ------
    ModelError
        A bare name that is neither; the message lists the known ones.
    """
    path = Path(name_or_path)
    if path.exists() or len(path.parts) > 1:
        return path  # what is wrong with a path, its reader says
    if (HERE / path / CARD).exists():
        return HERE / path
    known = model_names()
    raise ModelError(
        f"no model folder and no shipped model is called {str(name_or_path)!r}{nearest(name_or_path, known)};"
        f" shipped: {', '.join(known)}"
    )


def describe_models() -> list[dict[str, Any]]:
    """One dict per shipped model: name, family, couplings, shape, sites, ESS of the ODE route, steps, seconds trained.

    `family` is "fast" (few features and steps, or coarse to fine: least time for an independent value) or "accurate"
    (the highest ESS).
    `training_seconds` are those of the model and of all models that its weights came from, `inherited_seconds` the part
    of the latter, `data_seconds` those of generating the data of all of them.
    `coupling_ranges` are the lowest and highest values that the model was trained at; ESS is that at `couplings`.
    """
    rows = []
    for name, card in _cards().items():
        rows.append(
            {
                "name": name,
                "family": "fast" if name.endswith(FAST) else "accurate",
                "convention": card["action"]["convention"],
                "couplings": card["action"]["couplings"],
                "coupling_ranges": _ranges([card, *card.get("members", ())]),
                "shape": card["shape"],
                "sites": card.get("sites", "all"),
                "ess_reverse": card["metrics"]["ess_reverse"],
                "ess_forward": card["metrics"]["ess_forward"],
                "steps": card["metrics"]["steps"],
                "training_seconds": training_seconds(card),
                "inherited_seconds": inherited_seconds(card),
                "data_seconds": data_seconds(card),
                "training_device": card["training"]["device"],
            }
        )
    return rows


def cheapest_model(action: Mapping[str, Any], shape: Sequence[int], all_sites: bool = False) -> str:
    """Name of the shipped model whose ODE proposals cost least for a theory on a lattice: the fast one if there is one.

    Parameters
    ----------
    action : dict
        What `Action.describe` returns.
    shape : sequence of int
    all_sites : bool
        Leave out models of a part of the sites, which cannot be moved in their noise.

    Raises
    ------
    ModelError
        No shipped model is of this theory and lattice; the message names those of this lattice, if any.
    """
    cards = _cards()
    here = [name for name, card in cards.items() if tuple(card["shape"]) == tuple(shape)]
    parts = {name for name in here if cards[name].get("sites", "all") != "all"}
    tuned = [name for name in here if cards[name]["action"] == action and "finetune" in cards[name]]
    tuned = [name for name in tuned if not (all_sites and name in parts)]
    if not tuned:
        where = "x".join(map(str, shape))
        known = f"; on this lattice there are {', '.join(here)} (a line serves all of its range)" if here else ""
        raise ModelError(
            f"no shipped model was made for just this theory, in this convention, on {where}{known}; give one, --model"
        )
    return min(tuned, key=lambda name: (_rank(name), name not in parts, name))


def _rank(name: str) -> int:
    """Place of a name's ending in `FAST`, from the cheapest on."""
    return next((place for place, ending in enumerate(FAST) if name.endswith(ending)), len(FAST))


def _cards() -> dict[str, dict[str, Any]]:
    """The cards of all shipped models by name, each held against its digest."""
    cards = {name: tomllib.loads((HERE / name / CARD).read_text(encoding="utf-8")) for name in model_names()}
    for name, card in cards.items():
        check_digest(card, HERE / name / CARD, "install the package again", CARD_KEY)
    return cards


def _ranges(cards: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    rows = [card["action"]["couplings"] for card in cards]
    return {key: [min(row[key] for row in rows), max(row[key] for row in rows)] for key in rows[0]}

"""Which model is of a theory on a lattice: one that the card names, a shipped one, or one that the study has trained.

Weights are loaded only of models that a card names, to see that they are of the theory.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..bill import data_seconds, inherited_seconds, training_seconds
from ..digests import json_digest
from ..errors import ModelError, UserError
from ..model.shipped import describe_models, model_folder
from ..untrusted import parse_toml, read_text, status

if TYPE_CHECKING:
    from ..types import PathLikeStr, Shape
    from .card import Theory
    from .samplers import Sampler

__all__ = ["ModelUse", "model_folder_of", "model_of"]

CARD = "card.toml"


class ModelUse(NamedTuple):
    """A model, and what was paid for it."""

    name: str  #: folder, or name of a shipped model
    fingerprint: str
    training_seconds: float  #: of the model and all models its weights came from
    data_seconds: float | None  #: of generating their data; None: not known
    ancestor_seconds: float  #: the part of `training_seconds` that was spent on those other models


def model_folder_of(family: str, theory: Theory, out: PathLikeStr) -> Path:
    """Where a study in `out` trains its own model of a family for a theory."""
    label = re.sub(r"[^A-Za-z0-9.]+", "-", theory.label.replace(" = ", ""))
    digest = json_digest({"action": theory.action.describe(), "shape": list(theory.shape)})[:8]
    return Path(out) / "models" / f"{family}-{label}-{digest}"


def model_of(sampler: Sampler, theory: Theory, out: PathLikeStr | None = None) -> ModelUse:
    """The model that a sampler takes for a theory.

    Parameters
    ----------
    sampler : Sampler
        A learned one.
    theory : Theory
        Whose `models` come first.
    out : path-like, optional
        Folder of the study, which may have trained a model of its own.

    Returns
    -------
    ModelUse

    Raises
    ------
    FileError, ModelError
        The named model does not exist, or is damaged.
    UserError
        The named model is of another theory, or no shipped model is of this one, and none was trained; the message says
        what to do.
    """
    named = theory.models.get(sampler.name, theory.models.get(sampler.family or ""))
    if named is None:
        family = sampler.family or ""
        shipped = _shipped(family, theory.action.describe(), theory.shape)
        own = None if out is None else model_folder_of(family, theory, out) / "model"
        if shipped is None and own is not None and status(own / CARD) is not None:
            shipped = str(own)
        if shipped is None:
            raise UserError(
                f"{sampler.name}: no {sampler.family} model comes with the package for {theory.label}; say"
                f' missing = "train" in [study], or name a folder, models = {{ {sampler.family} = "FOLDER" }} in its'
                " [[line]]"
            )
        named = shipped
    path = model_folder(named) / CARD
    if status(path) is None:
        raise ModelError(f"{sampler.name}: no model in {named} for {theory.label}; give a folder that `train` wrote")
    about = parse_toml(read_text(path, "the card of a model"), path)
    if named in theory.models.values():
        _require_fit(sampler, theory, named, about)
    spent = training_seconds(about), data_seconds(about), inherited_seconds(about)
    return ModelUse(named, str(about.get("sha256", "")), *spent)


def _require_fit(sampler: Sampler, theory: Theory, named: str, about: Mapping[str, Any]) -> None:
    """Refuse a named model of another theory or lattice, and one of a part of the sites for moves of a whole noise."""
    if sampler.wants_all_sites and about.get("sites", "all") != "all":
        raise UserError(
            f"{sampler.name} at {theory.label}: {named} is of the {about['sites']} sites alone, whose noise is not that"
            f' of a whole field; name a model of all sites, models = {{ {sampler.name} = "MODEL" }}'
        )
    from ..model.storage import load_model  # torch is wanted from here on

    try:
        load_model(named, action=theory.action, shape=theory.shape)
    except ModelError as exc:
        raise UserError(f"{sampler.name} at {theory.label}: {exc}") from None


def _shipped(family: str, action: dict[str, Any], shape: Shape) -> str | None:
    """Name of the shipped model of a family for a theory: one made for it, or one of a line that it lies on."""
    rows = [row for row in describe_models() if row["family"] == family and tuple(row["shape"]) == tuple(shape)]
    # the accurate family is that of all sites; unfinished ones (score matching alone) are no member of it
    rows = [row for row in rows if family != "accurate" or row["sites"] == "all"]
    exact = [row["name"] for row in rows if _made_for(row["name"], action)]
    if exact:
        return str(min(exact, key=lambda name: (name.endswith("-score"), not name.endswith("-coarse"), len(name))))
    couplings = action.get("couplings", {})
    for row in rows:
        ranges = row["coupling_ranges"]
        if row["convention"] != action.get("convention") or ranges.keys() != couplings.keys():
            continue
        line = any(low < high for low, high in ranges.values())
        if line and all(low <= couplings[key] <= high for key, (low, high) in ranges.items()):
            return str(row["name"])
    return None


def _made_for(name: str, action: dict[str, Any]) -> bool:
    card = tomllib.loads((model_folder(name) / CARD).read_text(encoding="utf-8"))
    return bool(card["action"] == action)

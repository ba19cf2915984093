"""A model on disk: a folder with its weights and its card, written whole or not at all, read with distrust.

``weights.safetensors`` holds network weights, propagator and score power (no pickles), ``card.toml`` theory, network,
noise, training, metrics and the hash of both.
"""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from .. import registry
from ..action import OddSites, Part, action_from_description
from ..atomic import sealed_bytes, sealed_text
from ..diffusion.ladder import NoiseRange
from ..digests import CARD_KEY, check_digest, with_digest
from ..errors import FileError, ModelError
from ..fine import CoarseSites, FineLaw, coarse_shape
from ..gaussian.reference import GaussianReference
from ..host import torch_defaults
from ..types import Description, Extents, PathLikeStr
from ..untrusted import parse_toml, printable, read_text, regular_file, status
from .couplings import Member
from .folding import fold, unfold
from .kinds import FIRST_PART
from .score_model import COUPLINGS, DESCRIBED, FINE, ScoreModel
from .shipped import model_folder

__all__ = ["load_model", "read_card", "save_model"]

WEIGHTS, CARD = "weights.safetensors", "card.toml"
KIND, PHASES = "kind", "phases"  #: key and value in the card of coexisting phases, `latticediff.model.phases`
TABLES = ("action", "network", "noise", "training", "finetune", "metrics", "ensemble", "program")
CARD_KINDS = dict.fromkeys(TABLES, dict) | {
    "shape": list,
    "members": list,
    "bill": list,
    "vacuum": float | int,
    "phase": str,
    "sites": str,
    "sha256": str,
}


@torch_defaults()
def save_model(model: ScoreModel, folder: PathLikeStr) -> Path:
    """Write `model` to a folder, whole or not at all; returns the folder's path.

    Raises
    ------
    FileError
        If a model is there already, or the disk refuses.
    """
    folder = Path(folder)
    if (folder / CARD).exists():
        raise FileError(f"{folder} already holds a model; choose another folder or remove it")
    # a card that was loaded describes the model it came from
    about = {key: value for key, value in model.card.items() if key not in DESCRIBED}
    text = tomli_w.dumps({**model.description(), **about, "sha256": model.fingerprint()})
    card = with_digest(tomllib.loads(text), CARD_KEY)  # of what a reader will find
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sealed_bytes(folder / WEIGHTS, save(_folded(model.tensors(), len(model.shape))))
        # the card goes last: a folder without one is no model
        sealed_text(folder / CARD, tomli_w.dumps(card))
    except OSError as exc:
        raise FileError(f"cannot write model {folder}: {exc.strerror or exc}") from None
    return folder


def _folded(tensors: Mapping[str, Tensor], ndim: int) -> dict[str, Tensor]:
    return {
        name: torch.as_tensor(fold(t.numpy(), ndim)) if name.startswith("power") and t.ndim > ndim else t
        for name, t in tensors.items()
    }


def read_card(folder: PathLikeStr) -> dict[str, Any]:
    """The card of a model folder as a dict; loads no weights."""
    path = model_folder(folder) / CARD
    if status(path) is None:
        raise FileError(f"no model in {folder}: {CARD} is missing; give a folder that `train` wrote")
    card = parse_toml(read_text(path, "the card of a model"), path)
    if card.get(KIND) == PHASES:
        raise ModelError(
            f"{folder} holds a model of several phases, which `latticediff sample` takes; here one of its parts is"
            f" wanted, such as {Path(folder) / FIRST_PART}"
        )
    for key, kind in CARD_KINDS.items():
        if key in card and not isinstance(card[key], kind):
            raise FileError(f"{path}: {key} is {printable(card[key], 60)}; the card was altered or damaged")
    missing = ", ".join({"action", "shape", "network", "noise"} - card.keys())
    if missing:
        raise FileError(f"{path} has no {missing}; it is no card of a model")
    check_digest(card, path, "restore the model or train again", CARD_KEY)
    return card


def _theory(description: Description, sites: str, shape: Extents, tensors: Mapping[str, Tensor]) -> Any:
    """What the network of a card learned; whether it can be expanded around a Gaussian shows later."""
    action = action_from_description(description)
    if sites == "coarse":
        law = FineLaw(OddSites(action), coarse_shape(shape))
        law.load_state_dict({k.removeprefix(FINE): t for k, t in tensors.items() if k.startswith(FINE)})
        return CoarseSites(law, tensors[COUPLINGS].numpy())
    return OddSites(action) if sites == "odd" else action


@torch_defaults()
def load_model(
    folder: PathLikeStr, device: torch.device | str = "cpu", action: Any = None, shape: Extents | None = None
) -> ScoreModel:
    """A frozen model from its folder.

    Parameters
    ----------
    folder : path-like or str
        Model folder, or the name of a shipped model; see `latticediff.model.shipped`.
    device : str or torch.device
    action : Action, optional
        Refuse a model of another theory; of a model of several, the one at these couplings is given.
    shape : tuple of int, optional
        The same for the lattice.

    Raises
    ------
    FileError
        No model there, or a file that cannot be read.
    ModelError
        Weights that do not match their hash or hold NaN, another theory or lattice.
    """
    card = read_card(folder)
    path = model_folder(folder) / WEIGHTS
    if status(path) is None:
        raise FileError(f"{folder} has a card but no {WEIGHTS}; the model is incomplete")
    regular_file(path, "a safetensors file")
    try:
        tensors = load_file(path)
    except Exception as exc:  # safetensors raises its own error type for a torn file
        raise FileError(f"cannot read {path}: {printable(exc, 200)}; the file is torn or no safetensors file") from None
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ModelError(f"{path}: {name} holds values that are not finite; train again")
    try:
        sites = card.get("sites", "all")
        trained_action = _theory(card["action"], sites, card["shape"], tensors)
        options = dict(card["network"])
        make = registry.load("networks", options.pop("name"))
        with torch.random.fork_rng(devices=[]):  # first weights are drawn, only to be replaced
            network = make(ndim=trained_action.ndim, **options)
        network.load_state_dict({k.removeprefix("network."): t for k, t in tensors.items() if k.startswith("network.")})
        vacuum, one_sided = card.get("vacuum", 0.0), card.get("phase") == "single"
        gaussian = GaussianReference(trained_action, tensors["propagator"], device, vacuum=vacuum, one_sided=one_sided)
        noise = NoiseRange(card["noise"]["sigma_min"], card["noise"]["sigma_max"])
        powers = tensors["power_grid"].numpy(), unfold(tensors["power"].numpy(), gaussian.shape)
        members = tuple(
            Member(
                _theory(about["action"], sites, about["shape"], tensors),
                tensors[f"propagator.{number}"].numpy(),
                unfold(tensors[f"power.{number}"].numpy(), tensors[f"propagator.{number}"].shape),
            )
            for number, about in enumerate(card.get("members", ()), 1)
        )
    except (KeyError, RuntimeError, TypeError, AttributeError, IndexError, OverflowError) as exc:
        reason = printable((str(exc).splitlines() or [type(exc).__name__])[0], 200)
        raise ModelError(f"{folder}: card and weights do not belong together ({reason})") from None
    model = ScoreModel(network.to(device), gaussian, noise, *powers, card, members)
    if model.fingerprint() != card.get("sha256"):
        raise ModelError(f"{folder}: weights do not match the hash in the card; the model was altered or damaged")
    # cards of older versions have no digest of their own; what the hash covers must at least be what they say
    described = json.loads(json.dumps(model.description()))
    if differing := [key for key in DESCRIBED if card.get(key) != described.get(key)]:
        raise ModelError(
            f"{folder}: {', '.join(differing)} of the card is not that of the weights; the card was altered"
        )
    if (members or model.gaussian.has_disorder) and (action is not None or shape is not None):
        return model.at(action, shape)
    if action is not None and action.describe() != model.theory.describe():
        raise ModelError(f"{folder} was trained for {model.theory!r}; wanted {action!r}{_remedy(model, action)}")
    if shape is not None and tuple(shape) != model.lattice:
        raise ModelError(f"{folder} was trained on {model.lattice}; wanted {tuple(shape)}{_remedy(model, shape=shape)}")
    return model


def _remedy(model: ScoreModel, action: Any = None, shape: Extents | None = None) -> str:
    """What to do about a model of another theory or lattice."""
    ndim = len(shape) if shape is not None else action.ndim if action is not None else len(model.shape)
    if ndim != len(model.shape):
        return f"; a network of {len(model.shape)} dimensions is of no use in {ndim}, train another one"
    if isinstance(model.action, Part):
        return "; train another one (training.init takes its weights)"
    wanted = "sample with it all the same (--outside, in Python model.at(..., outside=True))"
    return f"; train another one, or {wanted}: chains stay exact"

"""A trained score model: network, Gaussian reference, noise range, and the file that holds them.

A model is a folder with ``weights.safetensors`` (network weights, propagator, score power; no
pickles) and ``card.toml`` (theory, network, noise, training, metrics, hash). A loaded model is
frozen: evaluation mode, no gradients, identified by `ScoreModel.fingerprint`.
"""

import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from .. import registry
from ..action import OddSites, action_from_description
from ..action.checkerboard import half_shape
from ..atomic import sealed_bytes, sealed_text
from ..diffusion.ladder import NoiseRange
from ..digests import CARD_KEY, check_digest, with_digest
from ..errors import FileError, ModelError
from ..gaussian.reference import GaussianReference
from ..host import torch_defaults
from ..types import Description, Extents, FloatArray, PathLikeStr, Shape
from ..untrusted import parse_toml, printable, read_text, regular_file, status
from .couplings import Member, interpolate
from .folding import fold, unfold
from .shipped import model_folder

__all__ = ["CODE_VERSION", "TIME_GRIDS", "ScoreModel", "load_model", "save_model"]

#: Part of every fingerprint; raised whenever the same weights would give other densities.
CODE_VERSION = "1"
WEIGHTS, CARD = "weights.safetensors", "card.toml"
TABLES = ("action", "network", "noise", "training", "finetune", "metrics", "ensemble", "program")
CARD_KINDS = dict.fromkeys(TABLES, dict) | {
    "shape": list,
    "members": list,
    "bill": list,
    "vacuum": float | int,
    "sites": str,
    "sha256": str,
}
TIME_GRIDS = "time_grids"  #: key of a card, see `latticediff.proposal.grid`
DESCRIBED = ("action", "shape", "sites", "network", "noise", "vacuum", "members")  # keys of `ScoreModel.description`


@dataclass
class ScoreModel:
    """Everything a proposal needs.

    Attributes
    ----------
    network : torch.nn.Module
        Frozen; see `latticediff.networks.contract` for the interface.
    gaussian : GaussianReference
    noise : NoiseRange
    power_grid : ndarray, shape (n_levels,), float64
        log sigma at which `power` was measured, ascending.
    power : ndarray, shape (n_levels, *lattice), float64
        ``(G + v) <|s_k|^2> / V``, 1 for a Gaussian theory; sets the covariance of reverse SDE steps.
    card : dict
        TOML-able: training ensemble, seed, steps, metrics, licence.
    members : tuple of latticediff.model.couplings.Member
        Further theories and lattices that the network was trained on; see `at`.
    """

    network: torch.nn.Module
    gaussian: GaussianReference
    noise: NoiseRange
    power_grid: FloatArray
    power: FloatArray
    card: dict[str, Any] = field(default_factory=dict)
    members: tuple[Member, ...] = ()

    def __post_init__(self) -> None:
        self.network.eval()
        self.network.requires_grad_(False)

    @classmethod
    def for_flow(cls, network: torch.nn.Module, gaussian: GaussianReference, noise: NoiseRange) -> "ScoreModel":
        """A model for the ODE alone, which uses no score powers: they are set to 1. Freezes the network."""
        return cls(network, gaussian, noise, np.array(noise.log_range), np.ones((2, *gaussian.shape)))

    @property
    def action(self) -> Any:
        """The theory that the network has learned."""
        return self.gaussian.action

    @property
    def shape(self) -> Shape:
        """Extents of the arrays that the network works on."""
        return self.gaussian.shape

    @property
    def theory(self) -> Any:
        """The theory whose fields are proposed: `action`, or the whole one of which it is a part (`OddSites`)."""
        return _whole(self.action, self.shape)[0]

    @property
    def lattice(self) -> Shape:
        """Extents of the lattice whose fields are proposed."""
        return _whole(self.action, self.shape)[1]

    def restrict(self, phi: FloatArray) -> FloatArray:
        """The sites that the network works on, (..., *shape), of fields (..., *lattice)."""
        return self.action.restrict(phi) if isinstance(self.action, OddSites) else phi

    def theories(self) -> tuple[Member, ...]:
        """A `Member` for every theory and lattice that the network was trained on, the model's own first."""
        return (Member(self.action, self.gaussian.propagator_full.numpy(), self.power), *self.members)

    @torch_defaults()
    def at(self, action: Any = None, shape: Extents | None = None, outside: bool = False) -> "ScoreModel":
        """The same network for another theory or lattice: one it was trained on, or one between them.

        Parameters
        ----------
        action : Action, optional
        shape : tuple of int, optional
            Default: the model's own.
        outside : bool
            Go beyond the trained couplings and extents, with a warning. Chains stay exact; the
            propagator and the network, which only shape the proposal, are guesses there.

        Returns
        -------
        ScoreModel
            Of that theory alone; the model itself if it is of that theory.

        Raises
        ------
        ModelError
            Another dimension, or outside the trained range.
        """
        action, shape = action or self.theory, tuple(shape or self.lattice)
        own, *_ = theories = self.theories()
        if isinstance(self.action, OddSites):
            wanted, lattice = OddSites(action), half_shape(shape)
            if not any(member.is_of(wanted, lattice) for member in theories):
                raise ModelError(
                    f"the model is of the odd sites of {self.theory!r} on {self.lattice}, wanted {action!r} on {shape};"
                    " such a model serves no other couplings or extents,"
                    " train one there (training.init takes its weights)"
                )
            action, shape = wanted, lattice
        found = interpolate(theories, action, shape, outside)
        if found is own and action.describe() == self.action.describe():
            return self
        here = self.gaussian
        gaussian = GaussianReference(action, found.propagator, here.device, here.dtype, here.vacuum)
        # a time grid is that of one theory
        about = {
            **{key: value for key, value in self.card.items() if key != TIME_GRIDS},
            "source": self.fingerprint(),
        }
        return ScoreModel(self.network, gaussian, self.noise, self.power_grid, found.power, about)

    def score_power(self, variances: Iterable[float]) -> list[FloatArray]:
        """``<|s_k|^2> / V`` at the given variances, interpolated in log sigma; float64, momentum grid."""
        G = self.gaussian.propagator_full.numpy()
        powers = []
        for v in variances:
            position = np.interp(0.5 * np.log(v), self.power_grid, np.arange(len(self.power_grid)))
            low = min(int(position), len(self.power_grid) - 2)
            ratio = self.power[low] + (position - low) * (self.power[low + 1] - self.power[low])
            powers.append(ratio / (G + v))
        return powers

    @torch_defaults()
    def tensors(self) -> dict[str, Tensor]:
        """All numbers of the model by name, contiguous, on the CPU."""
        tensors = {f"network.{name}": t.detach().cpu().contiguous() for name, t in self.network.state_dict().items()}
        tensors["propagator"] = self.gaussian.propagator_full.cpu().contiguous()
        tensors["power_grid"] = torch.as_tensor(self.power_grid)
        tensors["power"] = torch.as_tensor(self.power)
        for number, member in enumerate(self.members, 1):
            tensors[f"propagator.{number}"] = torch.as_tensor(member.propagator).contiguous()
            tensors[f"power.{number}"] = torch.as_tensor(member.power).contiguous()
        return tensors

    def description(self) -> Description:
        """All that decides the density beside the numbers, TOML-able: theory, lattice, network, noise range."""
        network: Any = self.network
        description = {
            "action": self.theory.describe(),
            "shape": list(self.lattice),
            "network": network.describe(),
            "noise": {"sigma_min": self.noise.sigma_min, "sigma_max": self.noise.sigma_max},
        }
        if isinstance(self.action, OddSites):
            description["sites"] = "odd"
        if self.gaussian.vacuum:
            description["vacuum"] = self.gaussian.vacuum
        if self.members:
            wholes = [_whole(member.action, member.shape) for member in self.members]
            description["members"] = [{"action": action.describe(), "shape": list(shape)} for action, shape in wholes]
        return description

    @torch_defaults()
    def fingerprint(self) -> str:
        """Hex SHA-256 of the numbers, the description and the code version."""
        digest = hashlib.sha256(CODE_VERSION.encode())
        digest.update(tomli_w.dumps(self.description()).encode())
        for name, tensor in sorted(self.tensors().items()):
            digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
            digest.update(tensor.numpy().tobytes())
        return digest.hexdigest()


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
    for key, kind in CARD_KINDS.items():
        if key in card and not isinstance(card[key], kind):
            raise FileError(f"{path}: {key} is {printable(card[key], 60)}; the card was altered or damaged")
    missing = ", ".join({"action", "shape", "network", "noise"} - card.keys())
    if missing:
        raise FileError(f"{path} has no {missing}; it is no card of a model")
    check_digest(card, path, "restore the model or train again", CARD_KEY)
    return card


def _whole(action: Any, shape: Shape) -> tuple[Any, Shape]:
    """Theory and lattice of whose sites these are a part, or these themselves."""
    return (action.whole, action.whole_shape(shape)) if isinstance(action, OddSites) else (action, shape)


def _theory(description: Description, sites: str) -> Any:
    """What the network of a card learned; whether it can be expanded around a Gaussian shows later."""
    action = action_from_description(description)
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
        trained_action = _theory(card["action"], sites)
        options = dict(card["network"])
        make = registry.load("networks", options.pop("name"))
        with torch.random.fork_rng(devices=[]):  # first weights are drawn, only to be replaced
            network = make(ndim=trained_action.ndim, **options)
        network.load_state_dict({k.removeprefix("network."): t for k, t in tensors.items() if k.startswith("network.")})
        gaussian = GaussianReference(trained_action, tensors["propagator"], device, vacuum=card.get("vacuum", 0.0))
        noise = NoiseRange(card["noise"]["sigma_min"], card["noise"]["sigma_max"])
        powers = tensors["power_grid"].numpy(), unfold(tensors["power"].numpy(), gaussian.shape)
        members = tuple(
            Member(
                _theory(about["action"], sites),
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
    if members and (action is not None or shape is not None):
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
    if isinstance(model.action, OddSites):
        return "; train another one (training.init takes its weights)"
    wanted = "sample with it all the same (--outside, in Python model.at(..., outside=True))"
    return f"; train another one, or {wanted}: chains stay exact"

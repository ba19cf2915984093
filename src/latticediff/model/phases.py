r"""Models of coexisting phases: one score model for each, and the parts of the space of fields that are theirs.

No network has to carry the weight between phases: `latticediff.proposal.mixture` proposes each in proportion to its own
integral of exp(-S), measured by its own draws.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tomli_w

from ..atomic import sealed_text
from ..digests import CARD_KEY, check_digest, with_digest
from ..errors import FileError, ModelError, UserError
from ..types import Description, Extents, FloatArray, IntArray, PathLikeStr, Shape
from ..untrusted import parse_toml, printable, read_text
from .score_model import ScoreModel
from .storage import KIND, PHASES, load_model, save_model

if TYPE_CHECKING:
    import torch

DISTANCE = 1.0  # widths of m between two phases, each counted from its own centre, at least

__all__ = ["ORDER_PARAMETERS", "Parts", "Phases", "load_phases", "natural_parts", "save_phases"]

#: t(phi) of fields (n, *lattice), by name
ORDER_PARAMETERS = {
    "m": lambda phi: phi.reshape(len(phi), -1).mean(axis=1),
    "abs_m": lambda phi: np.abs(phi.reshape(len(phi), -1).mean(axis=1)),
}


class Parts:
    """Parts of the space of fields: intervals of an order parameter.

    Parameters
    ----------
    boundaries : sequence of float
        Ascending; n of them make n + 1 parts, a boundary belongs to the part above it.
    order_parameter : {"m", "abs_m"}
        The mean of a field, or its modulus.

    Raises
    ------
    UserError
        Another order parameter, or boundaries that do not ascend.
    """

    def __init__(self, boundaries: Sequence[float], order_parameter: str = "m") -> None:
        if order_parameter not in ORDER_PARAMETERS:
            raise UserError(f"order_parameter is {order_parameter!r}; expected one of {', '.join(ORDER_PARAMETERS)}")
        self.boundaries = np.asarray(boundaries, np.float64).reshape(-1)
        if not (np.isfinite(self.boundaries).all() and (np.diff(self.boundaries) > 0).all()):
            raise UserError(f"boundaries are {self.boundaries.tolist()}; expected finite numbers that ascend")
        self.order_parameter = order_parameter

    def __len__(self) -> int:
        return len(self.boundaries) + 1

    def of(self, phi: FloatArray) -> IntArray:
        """Number of the part of each field, (n,), of fields (n, *lattice)."""
        return np.searchsorted(self.boundaries, ORDER_PARAMETERS[self.order_parameter](phi), side="right")

    def describe(self) -> Description:
        """JSON-able parameters."""
        return {"order_parameter": self.order_parameter, "boundaries": self.boundaries.tolist()}


class Phases:
    """Score models of coexisting phases, one for each part.

    Parameters
    ----------
    models : sequence of ScoreModel
        In the order of the parts; of one theory on one lattice.
    parts : Parts
    log_z : sequence of (float, float)
        log of the integral of exp(-S) over each part, and its error.

    Raises
    ------
    UserError
        Numbers that differ, or models of several theories or lattices.
    """

    def __init__(self, models: Sequence[ScoreModel], parts: Parts, log_z: Sequence[Sequence[float]]) -> None:
        self.models, self.parts = tuple(models), parts
        if not len(self.models) == len(parts) == len(log_z):
            raise UserError(
                f"{len(self.models)} models and {len(log_z)} log Z for {len(parts)} parts; expected as many"
            )
        check_one_theory(self.models)
        self.log_z = tuple((float(value), float(error)) for value, error in log_z)

    @property
    def theory(self) -> Any:
        """The theory whose fields are proposed."""
        return self.models[0].theory

    @property
    def lattice(self) -> Shape:
        """Extents of the lattice whose fields are proposed."""
        return self.models[0].lattice

    @property
    def probabilities(self) -> FloatArray:
        """Of the parts, in proportion to their Z, (n_parts,)."""
        values = np.array([value for value, _ in self.log_z])
        weights = np.exp(values - values.max())
        return np.maximum(weights, np.finfo(float).tiny) / weights.sum()

    def description(self) -> Description:
        """All that decides the density beside the models, TOML-able."""
        return {**self.parts.describe(), "log_z": [list(pair) for pair in self.log_z]}

    def fingerprint(self) -> str:
        """Hex SHA-256 of the models' fingerprints and the description."""
        told = {**self.description(), "models": [model.fingerprint() for model in self.models]}
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def check_one_theory(models: Sequence[ScoreModel]) -> None:
    """Refuse models of several theories or lattices with a UserError."""
    first = models[0]
    for model in models[1:]:
        if model.theory.describe() != first.theory.describe() or model.lattice != first.lattice:
            raise UserError(
                f"the models are of {first.theory!r} on {first.lattice} and {model.theory!r} on {model.lattice};"
                " phases coexist in one theory on one lattice"
            )


def natural_parts(models: Sequence[ScoreModel]) -> tuple[list[int], Parts]:
    """The order of models by where they are expanded, and boundaries as many widths of m from one as from the next.

    Parameters
    ----------
    models : sequence of ScoreModel

    Returns
    -------
    order : list of int
    parts : Parts
        Of |m| where none is of a single vacuum, else of m.

    Raises
    ------
    UserError
        Two models are expanded around the same field, one of +-m_0 stands beside one of a single vacuum, or the theory
        has a mirror image of a phase that no model is of.
    """
    phases = [model.gaussian.phase for model in models]
    if "single" in phases and "broken" in phases:
        raise UserError(
            "a model of both vacua +-m_0 beside one of a single vacuum: parts of m would cut it; train both"
            ' with phase = "single"'
        )
    centres = np.array([model.gaussian.vacuum for model in models])
    widths = [math.sqrt(float(m.gaussian.propagator_full.flatten()[0]) / m.gaussian.volume) for m in models]
    order = np.argsort(centres).tolist()
    if "single" in phases and models[0].theory.is_symmetric:
        _check_mirrored(models[0].theory, centres, widths)
    boundaries = []
    for low, high in itertools.pairwise(order):
        if centres[high] - centres[low] <= DISTANCE * (widths[low] + widths[high]):
            raise UserError(
                f"two models are expanded around {centres[low]:.4g} and {centres[high]:.4g}, which m has to spread over"
                f" ({widths[low]:.2g} and {widths[high]:.2g} wide): expected one for each phase"
            )
        boundaries.append((centres[low] * widths[high] + centres[high] * widths[low]) / (widths[low] + widths[high]))
    return order, Parts(boundaries, "m" if "single" in phases else "abs_m")


def _check_mirrored(theory: Any, centres: FloatArray, widths: Sequence[float]) -> None:
    """Refuse single vacua of a symmetric theory whose mirror images no model has."""
    for centre, width in zip(centres, widths, strict=True):
        if np.abs(centres + centre).min() > DISTANCE * 2 * width:
            raise UserError(
                f"{theory!r} has a phase around {-centre:.4g} too, the mirror image of {centre:.4g}, and none of the"
                ' models is of it: train with phase = "broken", which has both, or one of each sign'
            )


def save_phases(phases: Phases, folder: PathLikeStr) -> Path:
    """Write a model of coexisting phases to a folder: each model in one of its own, the card last.

    Raises
    ------
    FileError
        If something is there already, or the disk refuses.
    """
    folder = Path(folder)
    if folder.exists():
        raise FileError(f"{folder} is there already and is never overwritten; choose another folder")
    names = [f"part-{number}" for number in range(len(phases.models))]
    for name, model in zip(names, phases.models, strict=True):
        save_model(model, folder / name)
    card = {KIND: PHASES, "parts": names, **phases.description(), "sha256": phases.fingerprint()}
    try:
        sealed_text(folder / "card.toml", tomli_w.dumps(with_digest(card, CARD_KEY)))
    except OSError as exc:
        raise FileError(f"cannot write model {folder}: {exc.strerror or exc}") from None
    return folder


def load_phases(
    folder: PathLikeStr, device: torch.device | str = "cpu", action: Any = None, shape: Extents | None = None
) -> Phases:
    """A model of coexisting phases from its folder; arguments and errors as of `load_model`."""
    path = Path(folder) / "card.toml"
    card = parse_toml(read_text(path, "the card of a model"), path)
    check_digest(card, path, "restore the model or make it again with `latticediff mix`", CARD_KEY)
    try:
        parts = Parts(card["boundaries"], card["order_parameter"])
        models = [load_model(Path(folder) / str(name), device, action, shape) for name in card["parts"]]
        phases = Phases(models, parts, card["log_z"])
    except (KeyError, TypeError, ValueError) as exc:
        raise ModelError(f"{path} is no card of coexisting phases ({printable(exc, 100)})") from None
    if phases.fingerprint() != card.get("sha256"):
        raise ModelError(f"{folder}: its models do not match the hash in the card; one was altered or exchanged")
    return phases

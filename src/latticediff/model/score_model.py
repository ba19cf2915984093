"""A trained score model: network, Gaussian reference, noise range; frozen, and identified by its fingerprint."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tomli_w
import torch
from torch import Tensor

from ..action import OddSites, Part
from ..action.checkerboard import half_shape
from ..action.site_terms import site_terms
from ..diffusion.ladder import NoiseRange
from ..errors import ModelError
from ..fine import CoarseSites
from ..gaussian.reference import GaussianReference
from ..host import torch_defaults
from ..types import Description, Extents, FloatArray, Shape
from .couplings import Member, interpolate

__all__ = ["CODE_VERSION", "COUPLINGS", "DESCRIBED", "FINE", "TIME_GRIDS", "ScoreModel", "whole_of"]

#: Part of every fingerprint; raised whenever the same weights would give other densities.
CODE_VERSION = "1"
FINE, COUPLINGS = "fine.", "couplings"  #: names of the law of fine sites among the tensors
TIME_GRIDS = "time_grids"  #: key of a card, see `latticediff.proposal.grid`
DESCRIBED = (
    "action",
    "shape",
    "sites",
    "network",
    "noise",
    "vacuum",
    "phase",
    "members",
)  # keys of `ScoreModel.description`


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
        """The theory whose fields are proposed: `action`, or the whole one of which it is a `Part`."""
        return whole_of(self.action, self.shape)[0]

    @property
    def lattice(self) -> Shape:
        """Extents of the lattice whose fields are proposed."""
        return whole_of(self.action, self.shape)[1]

    def restrict(self, phi: FloatArray) -> FloatArray:
        """The sites that the network works on, (..., *shape), of fields (..., *lattice)."""
        return self.action.restrict(phi) if isinstance(self.action, Part) else phi

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
        if isinstance(self.action, CoarseSites):
            if action.describe() == self.theory.describe() and shape == self.lattice:
                return self
            raise ModelError(
                f"the model is of the coarse sites of {self.theory!r} on {self.lattice}, wanted {action!r} on {shape};"
                " such a model serves no other couplings or extents, train one there"
            )
        if isinstance(self.action, OddSites):
            wanted, lattice = OddSites(action), half_shape(shape)
            if not any(member.is_of(wanted, lattice) for member in theories):
                raise ModelError(
                    f"the model is of the odd sites of {self.theory!r} on {self.lattice}, wanted {action!r} on {shape};"
                    " such a model serves no other couplings or extents,"
                    " train one there (training.init takes its weights)"
                )
            action, shape = wanted, lattice
        if _differ_by_disorder(own.action, action) and shape == own.shape:
            found = Member(action, own.propagator, own.power)
        else:
            found = interpolate(theories, action, shape, outside)
        if found is own and action.describe() == self.action.describe():
            return self
        here = self.gaussian
        gaussian = GaussianReference(action, found.propagator, here.device, here.dtype, here.vacuum, here.one_sided)
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
        if isinstance(self.action, CoarseSites):
            tensors |= {f"{FINE}{name}": t.contiguous() for name, t in self.action.law.state_dict().items()}
            tensors[COUPLINGS] = torch.as_tensor(self.action.couplings)
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
        if isinstance(self.action, Part):
            description["sites"] = self.action.sites
        if self.gaussian.vacuum:
            description["vacuum"] = self.gaussian.vacuum
        if self.gaussian.one_sided:
            description["phase"] = "single"
        if self.members:
            wholes = [whole_of(member.action, member.shape) for member in self.members]
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


def _differ_by_disorder(own: Any, other: Any) -> bool:
    """Whether these are one theory in two external fields or with two random masses, both served by one network."""
    terms = site_terms(own)
    return terms.are_any and terms.is_like(site_terms(other)) and own.describe() != other.describe()


def whole_of(action: Any, shape: Shape) -> tuple[Any, Shape]:
    """Theory and lattice of whose sites these are a part, or these themselves."""
    return (action.whole, action.whole_shape(shape)) if isinstance(action, Part) else (action, shape)

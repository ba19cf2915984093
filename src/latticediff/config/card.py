"""The run-card as an object: its sections, the theory that they name, and what it is as text and as a digest.

`Card.to_toml` writes the effective card, defaults included; reading it back gives an equal card.
"""

import hashlib
import json
import reprlib
from collections.abc import Container, Mapping, Sequence
from typing import Annotated, Any, Self

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, model_validator

from .. import registry
from ..action import Action
from ..action.contract import action_from_options
from ..action.conventions import CONVENTIONS
from ..contracts import require
from ..errors import CardError, UserError
from ..lattice import MOST_SITES, volume
from ..types import Description, Shape
from . import sections

__all__ = ["Card", "digest_of"]

# values in messages: a number may have 400 digits, a table a thousand keys
short = reprlib.Repr()
short.maxstring = short.maxlong = short.maxother = 80


class Card(BaseModel):
    """A checked run-card; see `sections` for the keys."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    run: sections.RunSection = sections.RunSection()
    action: sections.ActionSection
    lattice: sections.LatticeSection
    hmc: sections.HMCSection = sections.HMCSection()
    gate: sections.GateSection = sections.GateSection()
    network: Annotated[sections.NetworkSection, Field(default_factory=sections.NetworkSection)]
    training: sections.TrainingSection = sections.TrainingSection()
    finetune: sections.FinetuneSection = sections.FinetuneSection()
    sampling: sections.SamplingSection = sections.SamplingSection()
    analysis: sections.AnalysisSection = sections.AnalysisSection()

    @model_validator(mode="after")
    def _fields_can_be_addressed(self) -> Self:
        chains = {"hmc.n_chains": self.hmc.n_chains}
        chains |= {f"sampling.{route}.n_chains": getattr(self.sampling, route).n_chains for route in ("ode", "sde")}
        for key, n_chains in chains.items():
            if n_chains * volume(self.shape) >= MOST_SITES:
                lattice = "x".join(map(str, self.shape))
                raise ValueError(
                    f"{key} = {n_chains} fields of {lattice} sites are more than an array holds; take fewer or smaller"
                )
        return self

    @model_validator(mode="after")
    def _a_baseline_of_trajectories_alone(self) -> Self:
        if self.sampling.hmc.search and self.hmc.cluster is not None:
            raise ValueError("sampling.hmc.search looks at trajectories alone; leave it out with hmc.cluster")
        return self

    @property
    def shape(self) -> Shape:
        """Extents of a field: those of the lattice, behind the number of components where the theory has several."""
        lattice = tuple(self.lattice.shape)
        if "components" not in self.action.options:
            return lattice
        of_options = getattr(registry.load("actions", self.action.name), "array_shape", None)
        return lattice if of_options is None else tuple(of_options(self.action.options, lattice))

    def theory(self) -> Action:
        """The `Action` that the card names, in as many dimensions as the lattice has.

        Raises
        ------
        CardError
            Unknown action, convention or coupling, one that is missing, or couplings whose integral diverges.
        """
        options, lattice = self.action.options, tuple(self.lattice.shape)
        try:
            if self.action.name == "phi4":
                _check_couplings(self.action.convention, options)
            if self.action.convention is not None:
                options["convention"] = self.action.convention
            action = action_from_options(self.action.name, options, len(lattice), lattice)
            require(action, Action, f"action {self.action.name!r}")
            return action
        except UserError as exc:
            example = '; write e.g. convention = "A" with m2 and lam' if "convention is" in str(exc) else ""
            raise CardError(f"[action] {exc}{example}") from None
        except KeyError as exc:
            raise CardError(f"[action] {self.action.name} lacks {exc.args[0]}") from None
        except TypeError as exc:  # from bind: a missing or unknown argument of the user's own action
            raise CardError(f"[action] {self.action.name}: {exc}") from None

    def to_dict(self) -> dict[str, Any]:
        """Every key with its effective value, JSON-able; keys without a value are left out."""
        return self.model_dump(exclude_none=True)

    def to_toml(self) -> str:
        """The effective card as TOML text; `parse_card` of it is an equal card."""
        return tomli_w.dumps(self.to_dict())

    def digest(self) -> str:
        """Hex SHA-256 of the effective card: the identity of a run."""
        return digest_of(self.to_dict())

    def difference(self, other: Mapping[str, Any], parts: Sequence[str] = (), ignore: Container[str] = ()) -> str:
        """The first key in which this card and the dict `other` differ, in words; "" if there is none.

        Parameters
        ----------
        other : dict
            As from `to_dict`.
        parts : sequence of str
            Only keys that are, or lie in, one of these; all by default.
        ignore : sequence of str
            Keys that may differ.
        """
        ours, theirs = _flat(self.to_dict()), _flat(other)
        for key in sorted({*ours, *theirs}):
            wanted = not parts or any(key == part or key.startswith(f"{part}.") for part in parts)
            if wanted and key not in ignore and ours.get(key) != theirs.get(key):
                return f"{key} = {theirs.get(key)!r} there, {ours.get(key)!r} here"
        return ""


def digest_of(effective: Mapping[str, Any]) -> str:
    """Hex SHA-256 of an effective card as a dict, that of an older version included, as its file has it."""
    return hashlib.sha256(json.dumps(effective, sort_keys=True).encode()).hexdigest()


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested dict with dotted keys: ``{"hmc": {"thin": 1}}`` as ``{"hmc.thin": 1}``."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _check_couplings(convention: str | None, options: Description) -> None:
    """Name the nearest coupling before the action itself lists what it wants."""
    if convention not in CONVENTIONS:
        return  # the action says so
    wanted = CONVENTIONS[convention].couplings
    for key in options:
        if key not in wanted:
            hint = registry.nearest(key, [*wanted, "name", "convention"])
            raise UserError(f"has no key {key!r}{hint}; convention {convention} has {', '.join(wanted)}")
    for key in wanted:
        if key not in options:
            raise UserError(f"lacks {key}; convention {convention} has {', '.join(wanted)}")
        if isinstance(options[key], bool) or not isinstance(options[key], int | float):
            raise UserError(f"{key} = {short.repr(options[key])}; expected a number")

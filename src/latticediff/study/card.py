"""The card of a study: which samplers, at which couplings and lattices, how precisely.

::

    [study]
    name = "series-a"
    samplers = ["hmc", "cluster", "fast"]

    [action]                 # what all lattices share
    convention = "A"
    m2 = -4.0

    [[line]]                 # one lattice; its couplings are laid over [action]
    shape = [8, 8]
    couplings = { lam = 6.008 }
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple, Self

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ..action import Action
from ..config import parse_card
from ..config.bounds import Count, CountFromZero, Fraction, Positive, Section
from ..config.sections import ActionSection
from ..config.tables import card_data, card_text, first_of_tables
from ..errors import CardError, UserError
from ..lattice import check_shape, volume
from ..registry import nearest
from ..types import PathLikeStr, Shape
from .quantities import KNOWABLE
from .samplers import SAMPLERS, sampler_named

__all__ = ["LineEntry", "Published", "StudyCard", "StudySection", "Theory", "load_study", "parse_study"]


class StudySection(Section):
    """What is compared, and how precisely."""

    name: Annotated[str, Field(min_length=1)] = "study"
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    samplers: Annotated[list[str], Field(min_length=1)]
    reference: str = "hmc"  #: the sampler that costs and averages are compared with
    precision: Fraction = 0.03  #: relative error of tau_int at which a chain may end
    seconds: Positive = 60.0  #: wall time at which it ends in any case
    n_chains: Count = 64  #: chains side by side, at least
    sites: Count = 2**16  #: of all chains together, at least: small lattices get more chains
    budget: Count = 1_000_000  #: force evaluations of each chain that the search for the cheapest HMC may spend
    fit_from: CountFromZero = 8  #: least L of the fits of z
    #: what becomes of a sampler that a theory does not have; "train" makes models, and skips the others
    missing: Literal["refuse", "skip", "train"] = "refuse"

    @field_validator("samplers")
    @classmethod
    def _known(cls, names: list[str]) -> list[str]:
        for name in names:
            try:
                sampler_named(name)
            except UserError as exc:
                raise ValueError(str(exc)) from None
        if len(set(names)) < len(names):
            raise ValueError("names a sampler twice; take one of them out")
        return names

    @model_validator(mode="after")
    def _reference_is_sampled(self) -> Self:
        if self.reference not in self.samplers:
            raise ValueError(
                f"compares with reference = {self.reference!r}, which is none of samplers; add it there, or name"
                " another one"
            )
        return self


class LineEntry(Section):
    """One lattice and its couplings."""

    shape: list[int]
    couplings: Annotated[dict[str, float], Field(default_factory=dict)]
    models: Annotated[
        dict[str, str], Field(default_factory=dict)
    ]  #: family ("accurate", "fast") or sampler to a folder or a shipped model
    known: Annotated[
        dict[str, list[float]], Field(default_factory=dict)
    ]  #: [value, error] of averages that others have found, which every sampler is held against

    @field_validator("known")
    @classmethod
    def _pairs(cls, known: dict[str, list[float]]) -> dict[str, list[float]]:
        for key, pair in known.items():
            if key not in KNOWABLE:
                raise ValueError(f"has {key!r}{nearest(key, KNOWABLE)}; expected {', '.join(KNOWABLE)}")
            if len(pair) != 2 or not all(map(math.isfinite, pair)) or pair[1] <= 0:
                raise ValueError(f"gives {key} = {pair}; expected [value, error] with an error above 0")
        return known

    @field_validator("shape")
    @classmethod
    def _extents(cls, shape: list[int]) -> list[int]:
        return list(check_shape(shape))

    @field_validator("models")
    @classmethod
    def _families(cls, models: dict[str, str]) -> dict[str, str]:
        return _of_samplers(models)


class Published(Section):
    """An effective sample size that somebody published, shown beside those measured here."""

    L: Count
    ess: Fraction
    told: Annotated[str, Field(min_length=1)]  #: method and source


class Theory(NamedTuple):
    """An action on a lattice, as a line of the card has it."""

    action: Action
    shape: Shape
    section: dict[str, Any]  #: ``[action]`` of a run-card of this theory
    couplings: dict[str, float]  #: those that the line gives
    models: dict[str, str]
    known: dict[str, list[float]]  #: [value, error] of averages that others have found

    @property
    def label(self) -> str:
        """For people: ``8x8, lam = 6.008``."""
        return ", ".join(["x".join(map(str, self.shape)), *(f"{k} = {v:g}" for k, v in self.couplings.items())])


class StudyCard(BaseModel):
    """A checked card of a study."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    study: StudySection
    action: ActionSection
    line: Annotated[list[LineEntry], Field(min_length=1)]
    models: Annotated[
        dict[str, str], Field(default_factory=dict)
    ]  #: as those of a line, for all of them; {L} stands for the first extent
    published: Annotated[list[Published], Field(default_factory=list)]

    @field_validator("models")
    @classmethod
    def _families(cls, models: dict[str, str]) -> dict[str, str]:
        return _of_samplers(models)

    def theories(self) -> tuple[Theory, ...]:
        """The theories in the order of the card.

        Raises
        ------
        CardError
            An unknown action or coupling, one that is missing, or one theory on one lattice twice.
        """
        found: list[Theory] = []
        for number, entry in enumerate(self.line, 1):
            data = {
                "action": {**self.action.model_dump(exclude_none=True), **entry.couplings},
                "lattice": {"shape": entry.shape},
            }
            card = parse_card(tomli_w.dumps(data), source=f"line {number}")
            named = {key: text.replace("{L}", str(entry.shape[0])) for key, text in self.models.items()}
            theory = Theory(
                card.theory(), card.shape, data["action"], dict(entry.couplings), {**named, **entry.models}, entry.known
            )
            if any((theory.action.describe(), theory.shape) == (t.action.describe(), t.shape) for t in found):
                raise CardError(
                    f"line {number} is the theory of an earlier line ({theory.label}); take one of them out"
                )
            found.append(theory)
        return tuple(found)

    def chains_of(self, shape: Shape) -> int:
        """How many chains run side by side on a lattice."""
        return max(self.study.n_chains, self.study.sites // volume(shape))

    def along(self, name: str, values: Sequence[float]) -> StudyCard:
        """The card with every lattice of it at each of these values of a coupling, instead of at its own."""
        shapes: list[LineEntry] = []
        for entry in self.line:
            if all(entry.shape != other.shape for other in shapes):
                shapes.append(entry)
        line = [
            entry.model_copy(update={"couplings": {**entry.couplings, name: value}, "known": {}})
            for entry in shapes
            for value in values
        ]
        return self.model_copy(update={"line": line})

    def to_dict(self) -> dict[str, Any]:
        """Every key with its effective value, JSON-able."""
        return self.model_dump(exclude_none=True)

    def to_toml(self) -> str:
        """The effective card as TOML text; `parse_study` of it is an equal card."""
        return tomli_w.dumps(self.to_dict())


def _of_samplers(models: dict[str, str]) -> dict[str, str]:
    known = [
        *dict.fromkeys(s.family for s in SAMPLERS.values() if s.family),
        *(n for n, s in SAMPLERS.items() if s.family),
    ]
    for key in models:
        if key not in known:
            raise ValueError(f"gives a model for {key!r}{nearest(key, known)}; expected {', '.join(known)}")
    return models


def load_study(path: PathLikeStr, overrides: Sequence[str] = ()) -> StudyCard:
    """Read the card of a study, apply overrides and check it.

    Parameters
    ----------
    path : path-like
        TOML file.
    overrides : sequence of str
        ``"study.seconds=5"``, as in `latticediff.config.load_card`.

    Returns
    -------
    StudyCard

    Raises
    ------
    FileError
        The file is missing, or is no UTF-8 text.
    CardError
        No TOML, an unknown key, or an impossible value.
    """
    return parse_study(card_text(path, "the card of a study", "configs/study-quick.toml"), overrides, str(path))


def parse_study(text: str, overrides: Sequence[str] = (), source: str = "card") -> StudyCard:
    """Read the card of a study from TOML text; otherwise like `load_study`."""
    data = card_data(text, source, overrides)
    if "study" not in data:
        what = "the run-card of a single theory, which `latticediff run` takes" if "lattice" in data else "no such card"
        raise CardError(f"{source}: section [study] is missing, it is {what}; see configs/study-quick.toml")
    try:
        card = StudyCard.model_validate(data)
        for entry in card.line:
            if not all(map(math.isfinite, entry.couplings.values())):
                raise CardError(f"a coupling of {entry.shape} is not finite; expected a number")
        card.theories()
    except ValidationError as exc:
        raise CardError(f"{source}: {first_of_tables(exc, StudyCard, KEYS)}") from None
    except CardError as exc:
        raise CardError(f"{source}: {exc}") from None
    return card


KEYS: dict[str, type[BaseModel]] = {"study": StudySection, "line": LineEntry, "published": Published}

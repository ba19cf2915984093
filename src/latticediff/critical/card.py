"""The card of a critical point: which couplings, which sizes, how each size is trained, how many fields.

::

    [critical]
    name = "phi4"
    nodes = [-0.15, 0.0, 0.1]     # (kappa / kappa_0 - 1) L of the ensembles, kappa_0 the guess of a point

    [[point]]
    lam = 0.022
    kappa = 0.27088                # where to look

    [[size]]
    L = 8
    steps = 18
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ..config.bounds import Count, CountFromZero, Fraction, Positive, Section
from ..config.tables import card_data, card_text, first_of_tables
from ..errors import CardError
from ..types import PathLikeStr

__all__ = [
    "CriticalCard",
    "CriticalSection",
    "ElsewhereSection",
    "PointSection",
    "SizeSection",
    "load_critical",
    "parse_critical",
]

DIGITS = 7  # of kappa, in the names of files too


class CriticalSection(Section):
    """What all points and sizes share."""

    name: Annotated[str, Field(min_length=1)] = "critical"
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    nodes: Annotated[list[float], Field(default=[-0.15, 0.0, 0.1], min_length=1)]
    #: of the couplings of the analysis, in the same units: from -window to window
    window: Fraction = 0.25
    couplings: Annotated[int, Field(ge=4, le=1000)] = 41  #: of the analysis
    beside: Annotated[list[Literal["hmc", "cluster"]], Field(default_factory=lambda: ["hmc"])]
    budget: Count = 400_000  #: force evaluations of each chain that the search for the cheapest HMC may spend
    max_doubling: Positive = 0.01  #: spread of log_q under twice the steps that draws may have
    power: Positive = 1.75  #: omega of the leading correction to scaling
    fit_last: Annotated[int, Field(ge=2, le=100)] = (
        2  #: sizes, or pairs of them, that a limit is fitted to: the largest
    )
    n_blocks: Annotated[int, Field(ge=10, le=10_000)] = 64
    n_replicas: Annotated[int, Field(ge=50, le=100_000)] = 300

    @field_validator("nodes")
    @classmethod
    def _apart(cls, nodes: list[float]) -> list[float]:
        if not all(abs(node) < 1 for node in nodes) or len(set(nodes)) < len(nodes):
            raise ValueError("expected numbers between -1 and 1, each once")
        return sorted(nodes)


class PointSection(Section):
    """One lam, and where its critical kappa may be."""

    lam: Positive
    kappa: Positive
    largest: CountFromZero = 0  #: L of the sizes of this point, at most; 0: all of the card
    known: Annotated[list[float], Field(default_factory=list)]  #: [kappa_c, its error] that others have found
    told: str = ""  #: who
    #: instead of that of all points
    beside: list[Literal["hmc", "cluster"]] | None = None

    @field_validator("known")
    @classmethod
    def _pair(cls, known: list[float]) -> list[float]:
        if known and (len(known) != 2 or not min(known) > 0):
            raise ValueError("expected [kappa_c, error], both above 0")
        return known

    @property
    def label(self) -> str:
        """Of files: ``lam0.022``."""
        return f"lam{self.lam:g}"


class ElsewhereSection(Section):
    """A critical point that was found elsewhere; it is one more coupling of the continuum limit, and nothing is run."""

    lam: Positive
    kappa_c: Annotated[list[float], Field(min_length=2, max_length=2)]  #: value, error
    told: str = ""  #: by whom

    @field_validator("kappa_c")
    @classmethod
    def _positive(cls, kappa_c: list[float]) -> list[float]:
        if not min(kappa_c) > 0:
            raise ValueError("expected [kappa_c, error], both above 0")
        return kappa_c


class SizeSection(Section):
    """One lattice of L x L: its training, and its fields."""

    L: Annotated[int, Field(ge=4, le=4096)]
    draws: Count = 20_000  #: weighed draws at each node
    steps: Count = 24  #: evaluations of the network for a draw
    data: Count = 19_200  #: configurations of each node to train on
    training_steps: Count = 1000
    batch: Count = 128
    learning_rate: Positive = 5e-3
    finetune_steps: CountFromZero = 300
    finetune_batch: Count = 12
    finetune_learning_rate: Positive = 2e-3
    features: Count = 8
    hmc_chains: Count = 64

    @field_validator("L")
    @classmethod
    def _even(cls, extent: int) -> int:
        if extent % 2:
            raise ValueError("odd and even sites alternate around a lattice of even extents alone")
        return extent


class CriticalCard(BaseModel):
    """A checked card of a critical point."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    critical: Annotated[CriticalSection, Field(default_factory=lambda: CriticalSection.model_validate({}))]
    point: Annotated[list[PointSection], Field(min_length=1)]
    size: Annotated[list[SizeSection], Field(min_length=3)]
    elsewhere: Annotated[list[ElsewhereSection], Field(default_factory=list)]

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        extents = [size.L for size in self.size]
        if extents != sorted(set(extents)):
            raise ValueError(f"sizes are L = {extents}; expected each once, the smallest first")
        if any(len(self.sizes(point)) < 3 for point in self.point):
            raise ValueError(
                "a point has fewer than three sizes up to its largest, two crossings; expected three or more"
            )
        for point in self.point:
            for size in self.sizes(point):
                # files of data have six digits of kappa in their names
                if len({f"{kappa:g}" for kappa in self.kappas(point, size)}) < len(self.critical.nodes):
                    raise ValueError(
                        f"nodes are {self.critical.nodes}, too close to tell kappa apart at L = {size.L}; expected"
                        " steps of 0.01 or more"
                    )
        if (few := min(self.size, key=lambda size: size.draws)).draws < self.critical.n_blocks:
            raise ValueError(
                f"L = {few.L} has {few.draws} draws for {self.critical.n_blocks} blocks of the bootstrap (n_blocks);"
                " expected as many or more"
            )
        if len({point.label for point in self.point}) < len(self.point):
            raise ValueError("two points have the same lam; take one of them out")
        return self

    def sizes(self, point: PointSection) -> list[SizeSection]:
        """The sizes of a point, the smallest first."""
        return [size for size in self.size if not point.largest or point.largest >= size.L]

    def beside(self, point: PointSection) -> list[str]:
        """The classical samplers that run beside the draws of a point."""
        return list(self.critical.beside if point.beside is None else point.beside)

    def kappas(self, point: PointSection, size: SizeSection) -> tuple[float, ...]:
        """The couplings of the ensembles, ascending."""
        return tuple(float(f"{point.kappa * (1 + node / size.L):.{DIGITS}g}") for node in self.critical.nodes)

    def window(self, point: PointSection, small: int) -> tuple[float, float]:
        """Least and largest coupling of the analysis of a pair whose smaller extent is `small`."""
        reach = self.critical.window / small
        return point.kappa * (1 - reach), point.kappa * (1 + reach)

    def to_toml(self) -> str:
        """The effective card; `parse_critical` of it is an equal card."""
        return tomli_w.dumps(self.model_dump(exclude_none=True))


def load_critical(path: PathLikeStr, overrides: Sequence[str] = ()) -> CriticalCard:
    """Read the card of a critical point, apply overrides and check it.

    Parameters
    ----------
    path : path-like
        TOML file.
    overrides : sequence of str
        ``"critical.seed=2"``, as in `latticediff.config.load_card`.

    Returns
    -------
    CriticalCard

    Raises
    ------
    FileError
        The file is missing, or is no UTF-8 text.
    CardError
        No TOML, an unknown key, or an impossible value.
    """
    return parse_critical(
        card_text(path, "the card of a critical point", "configs/critical-point.toml"), overrides, str(path)
    )


def parse_critical(text: str, overrides: Sequence[str] = (), source: str = "card") -> CriticalCard:
    """Read the card of a critical point from TOML text; otherwise like `load_critical`."""
    data = card_data(text, source, overrides)
    if "point" not in data:
        raise CardError(f"{source}: no [[point]] with lam and kappa; see configs/critical-point.toml")
    try:
        return CriticalCard.model_validate(data)
    except ValidationError as exc:
        raise CardError(f"{source}: {first_of_tables(exc, CriticalCard, KEYS, (dict, list))}") from None


KEYS: dict[str, type[BaseModel]] = {
    "critical": CriticalSection,
    "point": PointSection,
    "size": SizeSection,
    "elsewhere": ElsewhereSection,
}

"""Sections of a run-card that say which theory on which lattice, and under which seed."""

from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from ..lattice import check_shape
from .bounds import OpenSection, Section

__all__ = ["ActionSection", "LatticeSection", "RunSection"]


class RunSection(Section):
    """Name and seed; every random stream of the run is a branch under the seed."""

    name: Annotated[str, Field(min_length=1)] = "run"
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0


class ActionSection(OpenSection):
    """The theory: an action of the registry, for phi4 with its convention and that convention's couplings.

    The keys of other actions are their own options; see `latticediff.config.actions` for those of this package.
    """

    name: str = "phi4"
    convention: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _phi4_by_default(cls, data: Any) -> Any:
        if not isinstance(data, dict) or data.get("name", "phi4") != "phi4":
            return data
        if "convention" not in data:
            raise ValueError('names no convention; say e.g. convention = "A", with the couplings m2 and lam')
        # couplings are real numbers: -4 and -4.0 are one theory and one card
        return {key: _as_float(value) if type(value) is int else value for key, value in data.items()}


def _as_float(number: int) -> float:
    try:
        return float(number)
    except OverflowError:
        raise ValueError("has a coupling that is too large for a float64 number (above 1.8e308)") from None


class LatticeSection(Section):
    """Extents of the periodic lattice, one to four of them."""

    shape: list[int]

    @field_validator("shape")
    @classmethod
    def _extents(cls, shape: list[int]) -> list[int]:
        return list(check_shape(shape))

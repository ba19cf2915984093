"""Bounds that many keys of a run-card share, and what all of its sections have in common.

Models are strict (``"8"`` is no integer, ``true`` is no number), frozen, and forbid unknown keys;
NaN and infinities are refused.
"""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["LARGEST", "Count", "CountFromZero", "Device", "Fraction", "OpenSection", "Positive", "Section", "Width"]


#: of anything: a bound that no computer reaches, so that products of two stay numbers that NumPy knows
LARGEST = 10**12

Count = Annotated[int, Field(ge=1, le=LARGEST)]
CountFromZero = Annotated[int, Field(ge=0, le=LARGEST)]
Width = Annotated[int, Field(ge=1, le=10**4)]  #: of a network, whose weights go with the square
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Device = Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")]


class Section(BaseModel):
    """What all sections share."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class OpenSection(Section):
    """A section whose further keys belong to the thing that `name` picks from the registry."""

    model_config = ConfigDict(extra="allow")

    name: str

    @property
    def options(self) -> dict[str, Any]:
        """The keys beside the declared ones, as the card gives them."""
        return dict(self.model_extra or {})

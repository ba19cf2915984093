"""Bounds that many keys of a run-card share, and what all of its sections have in common.

Models are strict (``"8"`` is no integer, ``true`` is no number), frozen, and forbid unknown keys;
NaN and infinities are refused.
"""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from .. import registry
from ..errors import UserError

__all__ = [
    "LARGEST",
    "Count",
    "CountFromZero",
    "Device",
    "Fraction",
    "Kernels",
    "OpenSection",
    "Positive",
    "Section",
    "Width",
]


#: of anything: a bound that no computer reaches, so that products of two stay numbers that NumPy knows
LARGEST = 10**12

Count = Annotated[int, Field(ge=1, le=LARGEST)]
CountFromZero = Annotated[int, Field(ge=0, le=LARGEST)]
Width = Annotated[int, Field(ge=1, le=10**4)]  #: of a network, whose weights go with the square
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Device = Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")]


def _installed(kernels: list[str | dict[str, Any]]) -> list[str | dict[str, Any]]:
    for kernel in kernels:
        name = kernel if isinstance(kernel, str) else kernel.get("name")
        if not isinstance(name, str):
            raise ValueError(f"{str(kernel)[:80]} has no name; expected the name of a kernel, or a table with one")
        try:
            registry.require("kernels", name)
        except UserError as exc:
            raise ValueError(str(exc)) from None
    return kernels


#: kernels by their names in the entry-point group ``latticediff.kernels``, or as tables of a name and further keys: the
#: description that the kernel's ``from_description`` takes
Kernels = Annotated[list[str | dict[str, Any]], AfterValidator(_installed)]


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

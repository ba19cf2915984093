"""Options of the deep networks, declared here so that a card is checked without importing torch.

Found through the entry points ``latticediff.network_options``, as those of anybody else's network are: a class
under the network's name, a pydantic model whose fields are the network's keyword arguments.
"""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from .sections import RidgeOptions, Section, Width

__all__ = ["GatedRidgeOptions", "ResidualOptions", "UnetOptions", "VectorRidgeOptions"]


def odd(size: int) -> int:
    """The extent of a kernel, refused if it is even."""
    if size % 2 == 0:
        raise ValueError("expected an odd number, so that the kernel has a centre")
    return size


class DeepOptions(Section):
    """What the deep networks share; see `latticediff.networks.deep`."""

    kernel_size: Width = 3
    hidden: Width = 64
    symmetric: bool = False
    conditioned: bool = False

    @field_validator("kernel_size")
    @classmethod
    def _odd(cls, size: int) -> int:
        return odd(size)


class ResidualOptions(DeepOptions):
    """See `latticediff.networks.deep.residual.ResidualNetwork`."""

    channels: Width = 12
    depth: Width = 2


class UnetOptions(DeepOptions):
    """See `latticediff.networks.deep.unet.UNetwork`."""

    channels: Width = 8
    levels: Annotated[int, Field(ge=1, le=8)] = 2


class GatedRidgeOptions(RidgeOptions):
    """See `latticediff.networks.ridge.gated.GatedRidgeNetwork`, the default of theories with a random mass."""

    channels: Width = 16  #: numbers of the random mass around a site that the features see


class VectorRidgeOptions(Section):
    """See `latticediff.networks.ridge.vector.VectorRidgeNetwork`; the keys are those of ridge."""

    features: Annotated[int, Field(ge=2, le=10**4)] = 24
    kernel_size: Width = 3
    hidden: Width = 64
    ordered: bool = True  #: normal ordering of the features, see `latticediff.networks.ridge.normal_ordering`
    screened: bool = True  #: long waves are driven less by what is local, see `latticediff.networks.ridge.screening`
    inputs: Literal[2, 3] = 3  #: filters of the field that the features see, each a transform of an evaluation
    outputs: Literal[1, 2] = 2  #: filters through which they act, likewise

    @field_validator("kernel_size")
    @classmethod
    def _odd(cls, size: int) -> int:
        return odd(size)

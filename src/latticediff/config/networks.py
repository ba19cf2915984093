"""Options of the deep networks, declared here so that a card is checked without importing torch.

Found through the entry points ``latticediff.network_options``, as those of anybody else's network are: a class
under the network's name, a pydantic model whose fields are the network's keyword arguments.
"""

from typing import Annotated

from pydantic import Field, field_validator

from .sections import Section, Width

__all__ = ["ResidualOptions", "UnetOptions"]


class DeepOptions(Section):
    """What the deep networks share; see `latticediff.networks.deep`."""

    kernel_size: Width = 3
    hidden: Width = 64
    symmetric: bool = False
    conditioned: bool = False

    @field_validator("kernel_size")
    @classmethod
    def _odd(cls, size: int) -> int:
        if size % 2 == 0:
            raise ValueError("expected an odd number, so that the kernel has a centre")
        return size


class ResidualOptions(DeepOptions):
    """See `latticediff.networks.deep.residual.ResidualNetwork`."""

    channels: Width = 12
    depth: Width = 2


class UnetOptions(DeepOptions):
    """See `latticediff.networks.deep.unet.UNetwork`."""

    channels: Width = 8
    levels: Annotated[int, Field(ge=1, le=8)] = 2

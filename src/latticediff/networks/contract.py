"""What a score network must offer, and what it may offer beside that: the contracts that other rooms check.

A network is a ``torch.nn.Module``; the entry-point group ``latticediff.networks`` names its class. It learns the
residual R of the score (docs/theory.md, eq. 5). Its divergence, which the probability-flow ODE needs, comes in
one of two ways: as a closed form (`ClosedFormTrace`) or by passes backwards through the network
(`BackwardTrace`). A network with neither can drive the reverse SDE only. `Compiled` and `Differentiable`
networks have a fast flow on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from torch import Tensor

from ..contracts import Asked

if TYPE_CHECKING:  # a contract loads neither kernels nor references
    from ..action import Phi4
    from ..gaussian.reference import GaussianReference

__all__ = [
    "BackwardTrace",
    "ClosedFormTrace",
    "Compiled",
    "Conditioned",
    "Differentiable",
    "Network",
    "Residual",
    "Score",
]


Score = Callable[[Tensor, Tensor], Tensor]  #: ``score(x, sigma)`` of fields (n, *lattice) at sigma (n,), shape of x


class Residual(Protocol):
    """A residual R(x, sigma) that can be called: a network, or a function that wraps one."""

    def __call__(
        self, gaussian: GaussianReference, x: Tensor, log_sigma: Tensor, trace: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """R (n, *lattice) of fields x at log sigma (n,) or (1,); with `trace` also tr(C dR/dx), (n,) float64."""
        ...


@runtime_checkable
class Network(Residual, Protocol, metaclass=Asked):
    """The residual R(x, sigma) on any lattice of `ndim` dimensions."""

    name: str  #: as registered in the entry-point group ``latticediff.networks``
    ndim: int  #: dimensions of the lattices it works on

    def describe(self) -> dict[str, Any]:
        """Registered name and options, JSON-able, enough to build the network again."""
        ...

    def forward(
        self, gaussian: GaussianReference, x: Tensor, log_sigma: Tensor, trace: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """R (n, *lattice) of fields x at log sigma (n,) or (1,); with `trace` also tr(C dR/dx), (n,) float64."""
        ...


@runtime_checkable
class ClosedFormTrace(Network, Protocol):
    """``forward(..., trace=True)`` returns the exact divergence without a derivative of the network."""

    closed_form_trace: bool  #: True


@runtime_checkable
class BackwardTrace(Network, Protocol):
    """The exact divergence costs backward passes; ``forward(..., trace=method)`` says by which method they are made."""

    def passes(self, gaussian: GaussianReference) -> dict[str, int]:
        """Backward passes that each method costs on the lattice of `gaussian`."""
        ...


@runtime_checkable
class Compiled(ClosedFormTrace, Protocol):
    """One hidden layer of pointwise functions between small kernels, as tables on which the compiled flow works."""

    def on_array(self, gaussian: Any) -> tuple[tuple[int, ...], ...]:
        """Offsets of the kernels' taps on the array of a field."""
        ...

    def taps(self, gaussian: Any) -> Tensor:
        """The place y + offset_t for every tap t and place y of a field, (T, V), int64; components keep apart."""
        ...

    def level_tables(self, gaussian: Any, log_sigma: Any) -> Any:
        """Tables of tensors at noise levels (n,), through which gradients flow to the weights.

        `latticediff._kernels.flow.Levels`; for fields of several components `_kernels.vector_flow.VectorLevels`.
        """
        ...


@runtime_checkable
class Differentiable(Compiled, Protocol):
    """The compiled flow can be differentiated with respect to the tables: fine-tuning on the CPU uses it."""

    differentiable_tables: bool  #: True


@runtime_checkable
class Conditioned(Network, Protocol):
    """A network that may depend on the couplings; before training it is told for which theories it will be trained."""

    def centre_on(self, actions: Sequence[Phi4]) -> None:
        """Count couplings from their mean over `actions`, in units of their standard deviation there."""
        ...

"""The gradient of a step: in pieces that fit the memory, in the precision asked for, summed over processes."""

import contextlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..gaussian.reference import GaussianReference
from ..networks.contract import Residual
from .objective import Batch, Objective
from .ranks import Ranks

__all__ = ["Gradient", "Job"]


class Job(NamedTuple):
    """One task's part in a step.

    Attributes
    ----------
    objective : Objective
    size : int
        Configurations in the global batch.
    draw : callable
        ``draw(start, stop) -> Batch``, rows of the global batch.
    scale : float
        Factor of its mean loss.
    """

    objective: Objective
    size: int
    draw: Callable[[int, int], Batch]
    scale: float


class Gradient:
    """Sums the gradients of a step into the parameters.

    A batch that does not fit into the memory of the GPU is halved until it does, and stays so; the sum
    is the same up to the order of additions.

    Parameters
    ----------
    network : torch.nn.Module
    device : torch.device
    ranks : Ranks
    precision : str
        ``"float32"``, or ``"bfloat16"`` for the network's matrix products on CUDA; targets, sums and
        weights stay float32.
    micro_batch : int, optional
        Largest piece from the start, in configurations.
    say : callable, optional
        Gets one line when a batch is halved.

    Raises
    ------
    UserError
        Reduced precision on a CPU; later, a single configuration that does not fit.
    """

    def __init__(
        self,
        network: nn.Module,
        device: torch.device,
        ranks: Ranks,
        precision: str = "float32",
        micro_batch: int | None = None,
        say: Callable[[str], object] | None = None,
    ) -> None:
        if precision != "float32" and device.type != "cuda":
            raise UserError(f"precision = {precision} needs a CUDA device; on {device.type} take float32")
        self.network, self.device, self.ranks = network, device, ranks
        self.micro_batch, self.say = micro_batch, say or (lambda line: None)
        self.parameters = [p for p in network.parameters() if p.requires_grad]
        self.forward = network if precision == "float32" else in_low_precision(network, device)

    def __call__(self, jobs: Sequence[Job]) -> Tensor:
        """Leave the gradient of ``sum of scale * mean loss`` in the parameters; returns that sum, float64."""
        while True:
            for parameter in self.parameters:
                parameter.grad = None
            with contextlib.suppress(torch.cuda.OutOfMemoryError):
                total = self._accumulate(jobs)
                break
            # here the failed pass and all that it held are gone
            self._halve(jobs)
        return self.ranks.add_gradients(self.parameters, total)

    def _accumulate(self, jobs: Sequence[Job]) -> Tensor:
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for job in jobs:
            start, stop = self.ranks.share(job.size)
            piece = self.micro_batch or job.size
            batch = job.draw(start, stop)
            for low in range(0, stop - start, piece):
                high = min(low + piece, stop - start)
                losses = job.objective(self.forward, batch.rows(low, high))
                loss = losses.mean() if high - low == job.size else losses.sum() / job.size
                (loss if job.scale == 1 else loss * job.scale).backward()
                total += loss.detach() * job.scale
        return total

    def _halve(self, jobs: Sequence[Job]) -> None:
        sizes = [stop - start for start, stop in (self.ranks.share(job.size) for job in jobs)]
        tried = min(self.micro_batch or max(sizes), max(sizes))
        if tried <= 1:
            shapes = " or ".join(str(job.objective.gaussian.shape) for job in jobs)
            raise UserError(
                f"one configuration on {shapes} does not fit into the memory of {self.device};"
                " take fewer features, or training.device = cpu"
            )
        self.micro_batch = (tried + 1) // 2
        torch.cuda.empty_cache()
        self.say(
            f"{tried} configurations do not fit into the memory of {self.device};"
            f" going on in pieces of {self.micro_batch} (training.micro_batch), the result is the same"
        )


def in_low_precision(network: nn.Module, device: torch.device) -> Residual:
    """`network` with its matrix products in bfloat16 and its results in float32."""

    def forward(
        gaussian: GaussianReference, x: Tensor, log_sigma: Tensor, trace: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        with torch.autocast(device.type, torch.bfloat16):
            R, divergence = network(gaussian, x, log_sigma, trace)
        return R.float(), divergence

    return forward

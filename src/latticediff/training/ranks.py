"""Data-parallel training under torchrun: every process takes its slice of the same global batch.

Gradients are summed, so loss and weights do not depend on the number of processes, up to the order of
additions. One process writes; the others only compute.
"""

import contextlib
import importlib
import os
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, distributed

__all__ = ["ALONE", "Ranks", "data_parallel", "local_device"]


class Ranks:
    """The processes of a training.

    Parameters
    ----------
    rank, size : int
        Number of this process, and of all of them.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    @property
    def writes(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def share(self, n: int) -> tuple[int, int]:
        """``(start, stop)`` of this process among `n` configurations; shares differ by at most one."""
        return self.rank * n // self.size, (self.rank + 1) * n // self.size

    def add_gradients(self, parameters: Sequence[Tensor], loss: Tensor) -> Tensor:
        """Sum gradients and `loss` over processes, in place and in one message; returns the loss."""
        if self.size == 1:
            return loss
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([part.flatten() for part in parts] + [loss.reshape(1).to(parts[0].dtype)])
        distributed.all_reduce(flat)
        start = 0
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.grad = flat[start : start + part.numel()].view_as(part).clone()
            start += part.numel()
        return flat[-1]

    def gather(self, values: Tensor) -> Tensor:
        """The (n,) of all processes one after the other, on each of them; every process has to give its own."""
        if self.size == 1:
            return values
        found: list[Tensor] = [values] * self.size
        distributed.all_gather_object(found, values.cpu())
        return torch.cat(found).to(values)

    def any(self, yes: object, device: torch.device) -> bool:
        """Whether `yes` is true in any of the processes; all of them have to ask."""
        if self.size == 1:
            return bool(yes)
        flag = torch.tensor([float(bool(yes))], device=device)
        distributed.all_reduce(flag)
        return bool(flag.item())


ALONE = Ranks()


@contextlib.contextmanager
def data_parallel(device: torch.device) -> Iterator[Ranks]:
    """The `Ranks` of this process: those of torchrun, or a process alone; ends the process group afterwards."""
    size = int(os.environ.get("WORLD_SIZE", "1")) if "TORCHELASTIC_RUN_ID" in os.environ else 1
    if size == 1:
        yield ALONE
        return
    # its functions take the group of the moment of import as a default argument: imported later, as
    # torch.compile does, they would keep the group and its threads alive while the interpreter ends (abort)
    importlib.import_module("torch.distributed.nn.functional")
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Ranks(distributed.get_rank(), size)
    finally:
        distributed.destroy_process_group()


def local_device(device: torch.device) -> torch.device:
    """The GPU of this process under torchrun, where `device` names no particular one."""
    if device.type != "cuda" or device.index is not None or "LOCAL_RANK" not in os.environ:
        return device
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    torch.cuda.set_device(device)
    return device

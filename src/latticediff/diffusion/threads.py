"""One thread for torch: reductions whose order does not depend on the machine's cores."""

import contextlib
from collections.abc import Iterator

import torch

__all__ = ["one_torch_thread"]


@contextlib.contextmanager
def one_torch_thread(device: torch.device) -> Iterator[None]:
    """A context in which torch runs on one CPU thread, if `device` is the CPU; compiled kernels keep all of theirs."""
    threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)

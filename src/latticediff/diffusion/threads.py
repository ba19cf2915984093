"""One thread for torch: reductions whose order does not depend on the machine's cores."""

import contextlib

import torch

__all__ = ["one_torch_thread"]


@contextlib.contextmanager
def one_torch_thread(device):
    """Within this context torch runs on one CPU thread, if `device` is the CPU; compiled kernels keep theirs."""
    threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)

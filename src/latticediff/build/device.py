"""Which device torch works on, and its name in words."""

import os
import platform

import torch

from ..errors import UserError

__all__ = ["describe_device", "pick_device"]


def pick_device(name: str) -> torch.device:
    """The `torch.device` called ``auto`` (CUDA if there is one), ``cpu``, ``cuda`` or ``cuda:1``.

    Raises
    ------
    UserError
        CUDA is asked for by name and is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and not (torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count()):
        raise UserError(
            f"device is {name!r}, but torch sees {torch.cuda.device_count()} CUDA devices; take cpu or auto"
        )
    return device


def describe_device(device: torch.device) -> str:
    """A device in words: ``"NVIDIA H100, and 16 CPU cores (x86_64)"`` or ``"2 CPU cores (x86_64)"``."""
    cores = f"{os.cpu_count()} CPU cores ({platform.machine()})"
    return f"{torch.cuda.get_device_name(device)}, and {cores}" if device.type == "cuda" else cores

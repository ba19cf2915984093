"""NumPy and torch as we assume them, whatever the program around us has set; its settings are given back afterwards.

A host may compute in float64 by default, on another device, without gradients, in low precision, or with NumPy raising
at the first underflow. None of that may reach a density or change a trained weight. Doors of the package take
`numpy_defaults` (no torch needed) or `torch_defaults` as decorators; nothing in between has to think of it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
__all__ = ["numpy_defaults", "torch_defaults"]

_lock = threading.Lock()
_inside = 0  #: threads that are inside `torch_defaults`
_found: tuple[torch.dtype, str] | None = None  #: what the first of them found: default type, precision of products
_thread = threading.local()


@contextlib.contextmanager
def _outermost(door: str) -> Iterator[bool]:
    """Yields whether this thread enters `door` for the first time; further in, the settings of our own code stay."""
    first = not getattr(_thread, door, False)
    setattr(_thread, door, True)
    try:
        yield first
    finally:
        if first:
            setattr(_thread, door, False)


@contextlib.contextmanager
def numpy_defaults() -> Iterator[None]:
    """Context or decorator: NumPy's own handling of floating-point errors, in this thread."""
    with _outermost("numpy") as first:
        if not first:
            yield
            return
        with np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"):
            yield


@contextlib.contextmanager
def torch_defaults() -> Iterator[None]:
    """Context or decorator: float32, CPU, gradients, no autocast and full precision by default; `numpy_defaults` too.

    Settings of the whole process are made by the first thread that enters and given back by the last that leaves.
    """
    with _outermost("torch") as first, contextlib.ExitStack() as stack:
        if first:
            import torch

            stack.enter_context(numpy_defaults())
            stack.enter_context(_process_wide(torch))
            _enter_threads_own(torch, stack)
        yield


def _enter_threads_own(torch: ModuleType, stack: contextlib.ExitStack) -> None:
    """Make the settings that torch keeps for each thread, until `stack` is closed."""
    if torch.is_inference_mode_enabled():
        stack.enter_context(torch.inference_mode(False))
    if not torch.is_grad_enabled():
        stack.enter_context(torch.enable_grad())
    # a tensor tells: get_default_device of torch 2.6 sees no context, and raises after set_default_device(None)
    if torch.empty(0).device.type != "cpu":  # the context slows every call of torch, so only where it is needed
        stack.enter_context(torch.device("cpu"))
    for kind in ("cpu", "cuda"):
        if torch.is_autocast_enabled(kind):
            stack.enter_context(torch.autocast(kind, enabled=False))


@contextlib.contextmanager
def _process_wide(torch: ModuleType) -> Iterator[None]:
    """The settings that torch keeps for the whole process, while any thread is inside."""
    global _inside, _found
    with _lock:
        if _inside == 0:
            _found = torch.get_default_dtype(), torch.get_float32_matmul_precision()
            _set(torch, torch.float32, "highest")
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                assert _found is not None  # the first thread has put it there
                _set(torch, *_found)


def _set(torch: ModuleType, dtype: torch.dtype, precision: str) -> None:
    if torch.get_default_dtype() != dtype:
        torch.set_default_dtype(dtype)
    if torch.get_float32_matmul_precision() != precision:
        torch.set_float32_matmul_precision(precision)

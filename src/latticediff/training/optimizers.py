"""Optimisers by the names that a card gives them."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from .soap import SOAP

__all__ = ["OPTIMIZERS"]


def _adam(parameters: Iterable[Tensor], learning_rate: float) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=learning_rate, betas=(0.9, 0.99), foreach=True)


def _soap(parameters: Iterable[Tensor], learning_rate: float) -> torch.optim.Optimizer:
    return SOAP(parameters, lr=learning_rate)


#: ``(parameters, learning_rate) -> torch.optim.Optimizer``
OPTIMIZERS: dict[str, Callable[[Iterable[Tensor], float], torch.optim.Optimizer]] = {"adam": _adam, "soap": _soap}

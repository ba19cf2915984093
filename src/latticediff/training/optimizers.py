"""Optimisers by the names that a card gives them."""

import torch

from .soap import SOAP

__all__ = ["OPTIMIZERS"]


def _adam(parameters, learning_rate):
    return torch.optim.Adam(parameters, lr=learning_rate, betas=(0.9, 0.99), foreach=True)


def _soap(parameters, learning_rate):
    return SOAP(parameters, lr=learning_rate)


#: ``(parameters, learning_rate) -> torch.optim.Optimizer``
OPTIMIZERS = {"adam": _adam, "soap": _soap}

"""Default values that more than one room states: code, run-card, help and docstring. Imports nothing."""

__all__ = ["SDE_STEPS"]

#: reverse steps of the SDE
SDE_STEPS = 30

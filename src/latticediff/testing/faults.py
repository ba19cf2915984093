"""How a fault is said: a line each, raised together."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from ..asking import named
from ..contracts import missing_parts
from ..errors import UserError
from ..types import FloatArray, Shape

__all__ = ["ContractError", "Faults", "lacking", "raise_faults", "some_fields", "some_shape", "untold"]

Faults = list[str]


class ContractError(UserError, AssertionError):
    """Something does not keep the contract that it is meant for; the message has a line for every fault.

    Attributes
    ----------
    faults : tuple of str
    """

    faults: tuple[str, ...] = ()


def raise_faults(thing: object, what: str, find: Callable[[], Faults]) -> None:
    """Raise `ContractError` with what `find` finds; errors of other kinds keep their traceback.

    Parameters
    ----------
    thing : object
        For the message.
    what : str
        What it is: ``"kernel"``.
    find : callable
        Gives the faults; a `UserError` of it is one more.
    """
    try:
        faults = find()
    except UserError as exc:
        faults = [" ".join(str(exc).split())]
    if faults:
        error = ContractError(
            "\n".join([f"{named(thing, what)} breaks its contract:", *(f"- {line}" for line in faults)])
        )
        error.faults = tuple(faults)
        raise error


def lacking(thing: object, contract: type) -> Faults:
    """A fault if parts of a contract are missing from what has been made."""
    missing = missing_parts(thing, contract)
    where = f"{contract.__module__}.{contract.__qualname__}"
    return [f"has no {', '.join(missing)}; the contract {where} wants it"] if missing else []


def untold(describe: Callable[[], Any]) -> Faults:
    """A fault if a description is no dict with a name that JSON can hold."""
    told = describe()
    if not isinstance(told, dict) or not isinstance(told.get("name"), str):
        return [f"describe() gives {told!r}; expected a dict with a name"]
    try:
        json.dumps(told, allow_nan=False)
    except (TypeError, ValueError) as exc:
        return [f"describe() gives what no file can hold: {exc}; expected numbers, strings, lists and dicts"]
    return []


def some_shape(ndim: int) -> Shape:
    """Extents of a small lattice, unequal in up to two dimensions, so that an exchange of axes shows."""
    return (4, 6)[:ndim] if ndim <= 2 else (4,) * ndim


def some_fields(ndim: int, n: int = 3, shape: Shape | None = None) -> FloatArray:
    """`n` fields of unit Gaussian noise, always the same ones, (n, *lattice) float64."""
    return np.random.default_rng(1).standard_normal((n, *(some_shape(ndim) if shape is None else shape)))

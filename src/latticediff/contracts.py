"""Asking whether a thing keeps a contract, in one line at a door.

Contracts are Protocols, declared in the room that needs them. A plug-in is checked where it enters, so that what is
missing is said by name before anything is computed.
"""

from typing import Any

from .errors import UserError

__all__ = ["missing_parts", "require"]


def missing_parts(thing: Any, contract: type) -> list[str]:
    """Names of the attributes and methods of a Protocol, its bases included, that `thing` does not have; sorted."""
    names: set[str] = set()
    for base in contract.__mro__:
        if getattr(base, "_is_protocol", False):
            members = (*getattr(base, "__annotations__", ()), *vars(base))
            names.update(name for name in members if name == "__call__" or not name.startswith("_"))
    return sorted(name for name in names if not hasattr(thing, name))


def require(thing: Any, contract: type, what: str) -> None:
    """Refuse a thing that lacks a part of a contract.

    Parameters
    ----------
    thing : object
        An instance, or a class whose parts are all class attributes.
    contract : type
        A `typing.Protocol`.
    what : str
        What the thing is, for the message: ``"network 'mine'"``.

    Raises
    ------
    UserError
        Names the thing, the contract and what is missing.
    """
    if missing := missing_parts(thing, contract):
        where = f"{contract.__module__}.{contract.__qualname__}"
        raise UserError(f"{what} has no {', '.join(missing)}; the contract {where} wants it")

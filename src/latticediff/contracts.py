"""Asking whether a thing keeps a contract, in one line at a door.

Contracts are Protocols, declared in the room that needs them. A plug-in is checked where it enters, so that what is
missing is said by name before anything is computed.
"""

import functools
from typing import TYPE_CHECKING, Any, Protocol

from .errors import UserError

if TYPE_CHECKING:
    from abc import ABCMeta as MetaOfProtocol
else:
    MetaOfProtocol = type(Protocol)

__all__ = ["Asked", "missing_parts", "require"]


class Asked(MetaOfProtocol):
    """Metaclass of contracts, for which ``isinstance`` asks a thing for each part, with every Python.

    A Protocol of Python 3.12 and later asks nothing, but looks whether a part is written somewhere: one that a property
    refuses would count, and one that ``__getattr__`` hands out, as a module of torch does its layers, would not.
    """

    def __instancecheck__(cls, instance: Any) -> bool:
        if not getattr(cls, "_is_protocol", False):  # a class that keeps the contract by inheriting it
            return super().__instancecheck__(instance)
        if cls in type(instance).__mro__:
            return True
        if missing_parts(instance, cls):
            return False
        # as with every Protocol, a method that is None is refused
        methods = [name for name in _parts(cls) if callable(getattr(cls, name, None))]
        return all(getattr(instance, name) is not None for name in methods)


@functools.cache
def _parts(contract: type) -> tuple[str, ...]:
    names: set[str] = set()
    for base in contract.__mro__:
        if getattr(base, "_is_protocol", False):
            members = (*getattr(base, "__annotations__", ()), *vars(base))
            names.update(name for name in members if name == "__call__" or not name.startswith("_"))
    return tuple(sorted(names))


def missing_parts(thing: Any, contract: type) -> list[str]:
    """Names of the attributes and methods of a Protocol, its bases included, that `thing` does not have; sorted."""
    return [name for name in _parts(contract) if not hasattr(thing, name)]


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

"""Calls into code of other packages, and what is believed of the answers of their kernels.

Something of this package that fails is a defect of ours and keeps its traceback. Something of another package is named,
with the call and a remedy, in one line.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import isroutine
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from .errors import StopRequested, UserError

if TYPE_CHECKING:
    from .markov import Block, ChainState, Kernel
    from .streams import Streams

__all__ = ["ask_advance", "asked", "is_ours", "named"]

_T = TypeVar("_T")
_OURS = __name__.split(".")[0]
S_TOLERANCE = 1e-6  #: of S that a kernel carries along, relative: sums of changes drift


def _kind(thing: object) -> Any:
    """What a thing is called by: itself where it is a class or a function, else its class."""
    return thing if isinstance(thing, type) or isroutine(thing) else type(thing)


def is_ours(thing: object) -> bool:
    """Whether a class, a function, or the class of an object is of this package."""
    return str(_kind(thing).__module__).split(".")[0] == _OURS


def named(thing: object, what: str) -> str:
    """``"kernel package.module.Class"``."""
    kind = _kind(thing)
    return f"{what} {kind.__module__}.{kind.__qualname__}"


def asked(
    thing: object,
    what: str,
    call: str,
    function: Callable[..., _T],
    *arguments: Any,
    passing: tuple[type[Exception], ...] = (),
) -> _T:
    """``function(*arguments)``, a method of `thing`, or `thing` itself; errors of kinds in `passing` pass as they are.

    Raises
    ------
    UserError
        It raised, and is of another package: names it, the `call` and a remedy.
    """
    try:
        return function(*arguments)
    except (UserError, StopRequested, MemoryError):
        raise
    except passing:
        raise
    except ImportError as exc:
        if is_ours(thing):
            raise
        raise UserError(f"{named(thing, what)}: {call} needs a package that is missing ({exc}); install it") from exc
    except Exception as exc:
        if is_ours(thing):
            raise
        reason = " ".join(f"{type(exc).__name__}: {exc}".split())
        raise UserError(f"{named(thing, what)}: {call} raised {reason}; mend it, or take another {what}") from exc


def ask_advance(
    kernel: Kernel, state: ChainState, rng: Streams, n_updates: int, thin: int = 1
) -> tuple[ChainState, Block]:
    """``kernel.advance(state, rng, n_updates, thin)``; answers of kernels of other packages are checked.

    Parameters
    ----------
    kernel : Kernel
    state : ChainState
    rng : Streams
    n_updates, thin : int

    Returns
    -------
    state : ChainState
    block : Block

    Raises
    ------
    UserError
        A kernel of another package raised, or gave fields of another shape or type or with NaN, a wrong count of
        updates, or an action that is not that of its fields.
    """
    call = f"advance of {n_updates} updates"
    answer: Any = asked(kernel, "kernel", call, kernel.advance, state, rng, n_updates, thin)
    if is_ours(kernel):
        after, block = answer
        return after, block
    if fault := _fault(kernel, state, answer, n_updates, thin):
        raise UserError(f"{named(kernel, 'kernel')}: {call} gave {fault}")
    after, block = answer
    return after, block


def _fault(kernel: Any, before: ChainState, answer: Any, n_updates: int, thin: int) -> str:
    """What is wrong with the answer of a kernel, and what was expected; "" where nothing is."""
    try:
        after, block = answer
        parts = [("state.phi", after.phi), ("state.action", after.action), ("block.phi", block.phi)]
        parts.append(("block.action", block.action))
    except (TypeError, ValueError, AttributeError):
        return f"a {type(answer).__name__}; expected (ChainState, Block)"
    shape = before.phi.shape
    if after.update != before.update + n_updates:
        return f"state.update = {after.update}; expected {before.update + n_updates}"
    n_kept = after.update // thin - before.update // thin
    wanted = (shape, shape[:1], (n_kept, *shape), (n_kept, shape[0]))
    for (name, values), extents in zip(parts, wanted, strict=True):
        if not isinstance(values, np.ndarray) or values.dtype != np.float64:
            return f"{name} as {type(values).__name__} of {getattr(values, 'dtype', '?')}; expected float64 arrays"
        if values.shape != extents:
            return f"{name} of shape {values.shape}; expected {extents}"
        if not np.isfinite(values).all():
            return f"a value in {name} that is not finite; such an update has to be rejected"
    if hasattr(kernel, "action"):
        right = np.asarray(kernel.action(after.phi))
        off = np.abs(after.action - right)
        if not (off <= S_TOLERANCE * (1 + np.abs(right))).all():
            return f"state.action off by {off.max():.3g} from S of state.phi; expected that of its fields"
    if n_kept and after.update % thin == 0:  # the last row is where the chains stand now
        same = np.array_equal(block.phi[-1], after.phi)
        if not (same and np.allclose(block.action[-1], after.action, rtol=S_TOLERANCE, atol=S_TOLERANCE)):
            return "a last row of its block that is not where the chains stand; expected the same fields and actions"
    return ""

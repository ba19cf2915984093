"""Calls into proposals of others, and what is believed of their answers; see `latticediff.asking`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..asking import asked, is_ours, named
from ..errors import UserError
from ..types import FloatArray
from .contract import Draw

if TYPE_CHECKING:
    from .contract import Proposal

__all__ = ["ask_draw", "ask_weigh", "asked_fingerprint", "require_sound_values"]


def _named(proposal: object) -> str:
    return named(proposal, "proposal")


def _numbers(proposal: object, call: str, name: str, values: Any, shape: tuple[int | None, ...]) -> FloatArray:
    """What a call gave as `name`: a float64 array of this shape, None for an extent that is not known."""
    found = getattr(values, "dtype", None)
    if not isinstance(values, np.ndarray) or found != np.float64:
        was = f"{type(values).__name__}{'' if found is None else f' of {found}'}"
        raise UserError(f"{_named(proposal)}: {call} gave {name} as {was}; expected a NumPy array of float64")
    if len(values.shape) != len(shape) or any(w not in (None, s) for s, w in zip(values.shape, shape, strict=True)):
        wanted = ", ".join("any" if extent is None else str(extent) for extent in shape)
        raise UserError(f"{_named(proposal)}: {call} gave {name} of shape {values.shape}; expected ({wanted})")
    return values


def ask_draw(proposal: Proposal, n: int, rng: np.random.Generator) -> Draw:
    """``proposal.draw(n, rng)``, checked.

    Parameters
    ----------
    proposal : Proposal
    n : int
    rng : numpy.random.Generator

    Returns
    -------
    Draw

    Raises
    ------
    UserError
        A proposal of another package raised, gave something else than a field and a number for each of `n`, or
        values that `require_sound_values` refuses.
    """
    call = f"draw({n})"
    answer: Any = asked(proposal, "proposal", call, proposal.draw, n, rng)
    try:
        phi, log_q = answer
    except (TypeError, ValueError):
        raise UserError(
            f"{_named(proposal)}: {call} gave {type(answer).__name__}; expected a Draw (phi, log_q)"
        ) from None
    shape = proposal.lattice_shape
    wanted = (n, *(shape if shape is not None else [None] * (np.ndim(phi) - 1)))
    phi, log_q = _numbers(proposal, call, "phi", phi, wanted), _numbers(proposal, call, "log_q", log_q, (n,))
    draw = Draw(phi, log_q)
    # where chains start, NaN of our own counts as a draw that blew up; of others it is a fault, with their name
    return draw if is_ours(proposal) else require_sound_values(proposal, draw)


def require_sound_values(proposal: Proposal, draw: Draw) -> Draw:
    """A `Draw` as it is, unless a number in it can be no field or no density; kernels find that in the weights.

    Parameters
    ----------
    proposal : Proposal
        For the message.
    draw : Draw

    Returns
    -------
    Draw

    Raises
    ------
    UserError
        A log_q that is NaN or -inf, or a field that is not finite and has a finite log_q.
    """
    phi, log_q = draw
    if np.isnan(log_q).any() or (log_q == -np.inf).any():
        bad = int(np.flatnonzero(np.isnan(log_q) | (log_q == -np.inf))[0])
        raise UserError(
            f"{_named(proposal)}: draw({len(log_q)}) gave log_q = {log_q[bad]} (draw {bad}); expected a finite"
            " number, or +inf for a draw that blew up"
        )
    if not np.isfinite(phi[np.isfinite(log_q)]).all():
        raise UserError(
            f"{_named(proposal)}: draw({len(log_q)}) gave a field that is not finite with a finite"
            " log_q; a draw that blew up has log_q = +inf"
        )
    return draw


def ask_weigh(proposal: Proposal, phi: FloatArray, rng: np.random.Generator) -> FloatArray:
    """``proposal.weigh(phi, rng)``, checked for type and shape; NaN, a field that cannot be weighed, passes.

    Parameters
    ----------
    proposal : Proposal
    phi : ndarray, shape (n, *lattice), float64
    rng : numpy.random.Generator

    Returns
    -------
    ndarray, shape (n,), float64

    Raises
    ------
    UserError
        A proposal of another package raised, or something else than one number for each field.
    """
    call = f"weigh of {len(phi)} fields"
    answer = asked(proposal, "proposal", call, proposal.weigh, phi, rng)
    return _numbers(proposal, call, "log_q", answer, (len(phi),))


def asked_fingerprint(proposal: Proposal, before: str | None) -> str | None:
    """The fingerprint of a proposal of another package, which must not change while a chain runs.

    Parameters
    ----------
    proposal : Proposal
    before : str or None
        What it was; None at the first time.

    Returns
    -------
    str or None
        None for proposals of this package, whose models are frozen.

    Raises
    ------
    UserError
        It is another one than `before`.
    """
    if is_ours(proposal):
        return None
    now = asked(proposal, "proposal", "fingerprint()", proposal.fingerprint)
    if before is not None and now != before:
        raise UserError(
            f"{_named(proposal)}: its fingerprint changed during the chain, from {before[:12]} to {str(now)[:12]}:"
            " a chain whose proposal changes is not exact; freeze it, and begin a new chain"
        )
    return now

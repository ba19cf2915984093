"""Calls into proposals of others, and what is believed of their answers; see `latticediff.asking`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from ..asking import asked, is_ours, named
from ..errors import UserError
from ..types import Description, FloatArray
from .contract import Draw

if TYPE_CHECKING:
    from .contract import LatentProposal, Proposal

__all__ = [
    "ask_draw",
    "ask_invert",
    "ask_transport",
    "ask_weigh",
    "asked_fingerprint",
    "fingerprint_of",
    "require_sound_values",
    "told_by",
]


def _named(proposal: object) -> str:
    return named(proposal, "proposal")


def _numbers(proposal: object, call: str, name: str, values: Any, shape: tuple[int | None, ...]) -> FloatArray:
    """What a call gave as `name`: a float64 array of this shape, None for an extent that is not known."""
    found = getattr(values, "dtype", None)
    if not isinstance(values, np.ndarray) or isinstance(values, np.ma.MaskedArray) or found != np.float64:
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
        Of another package: arrays of its own, whatever memory the proposal fills again at the next call, and 0 for
        fields of draws that blew up.

    Raises
    ------
    UserError
        A proposal of another package raised, gave something else than a field and a number for each of `n`, or
        values that `require_sound_values` refuses.
    """
    call = f"draw({n})"
    return _believed(proposal, call, n, asked(proposal, "proposal", call, proposal.draw, n, rng))


def ask_transport(proposal: LatentProposal, noise: FloatArray) -> Draw:
    """``proposal.transport(noise)``, checked as `ask_draw` does; `noise` is (n, *noise_shape)."""
    call = f"transport of {len(noise)}"
    return _believed(proposal, call, len(noise), asked(proposal, "proposal", call, proposal.transport, noise))


def ask_invert(proposal: LatentProposal, phi: FloatArray, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """``proposal.invert(phi, rng)``, (u, log_q) of fields (n, *lattice), checked as `ask_weigh` does."""
    call = f"invert of {len(phi)} fields"
    given = phi if is_ours(proposal) else phi.copy()
    answer: Any = asked(proposal, "proposal", call, proposal.invert, given, rng)
    if not np.array_equal(given, phi):
        raise _writing(proposal, call)
    u, log_q = _pair(proposal, call, answer, "(u, log_q)")
    u = _numbers(proposal, call, "u", u, (len(phi), *proposal.noise_shape))
    return u, _numbers(proposal, call, "log_q", log_q, (len(phi),))


def _pair(proposal: object, call: str, answer: Any, wanted: str) -> tuple[Any, Any]:
    try:
        first, second = answer
    except (TypeError, ValueError):
        raise UserError(f"{_named(proposal)}: {call} gave {type(answer).__name__}; expected {wanted}") from None
    return first, second


def _writing(proposal: object, call: str) -> UserError:
    return UserError(f"{_named(proposal)}: {call} writes into the fields that it is given; let it work on a copy")


def _believed(proposal: Proposal, call: str, n: int, answer: Any) -> Draw:
    """What `ask_draw` returns of an answer."""
    phi, log_q = _pair(proposal, call, answer, "a Draw (phi, log_q)")
    shape = proposal.lattice_shape
    wanted = (n, *(shape if shape is not None else [None] * (np.ndim(phi) - 1)))
    phi, log_q = _numbers(proposal, call, "phi", phi, wanted), _numbers(proposal, call, "log_q", log_q, (n,))
    # where chains start, NaN of our own counts as a draw that blew up; of others it is a fault, with their name
    if is_ours(proposal):
        return Draw(phi, log_q)
    draw = require_sound_values(proposal, Draw(phi.copy(), log_q.copy()), call)
    draw.phi[draw.log_q == np.inf] = 0.0  # S of what blew up may be NaN, as its field may
    return draw


def require_sound_values(proposal: Proposal, draw: Draw, call: str | None = None) -> Draw:
    """A `Draw` as it is, unless a number in it can be no field or no density; kernels find that in the weights.

    Parameters
    ----------
    proposal : Proposal
        For the message.
    draw : Draw
    call : str, optional
        For the message; by default that of a draw.

    Returns
    -------
    Draw

    Raises
    ------
    UserError
        A log_q that is NaN or -inf, or a field that is not finite and has a finite log_q.
    """
    phi, log_q = draw
    call = call or f"draw({len(log_q)})"
    if np.isnan(log_q).any() or (log_q == -np.inf).any():
        bad = int(np.flatnonzero(np.isnan(log_q) | (log_q == -np.inf))[0])
        raise UserError(
            f"{_named(proposal)}: {call} gave log_q = {log_q[bad]} (draw {bad}); expected a finite"
            " number, or +inf for a draw that blew up"
        )
    if not np.isfinite(phi[np.isfinite(log_q)]).all():
        raise UserError(
            f"{_named(proposal)}: {call} gave a field that is not finite with a finite log_q; a draw that blew up has"
            " log_q = +inf"
        )
    return draw


def ask_weigh(proposal: Proposal, phi: FloatArray, rng: np.random.Generator | None) -> FloatArray:
    """``proposal.weigh(phi, rng)``, checked for type and shape; NaN, a field that cannot be weighed, passes.

    Parameters
    ----------
    proposal : Proposal
    phi : ndarray, shape (n, *lattice), float64
    rng : numpy.random.Generator, optional
        None for a proposal that needs none.

    Returns
    -------
    ndarray, shape (n,), float64

    Raises
    ------
    UserError
        A proposal that draws a hidden path, without a generator; one of another package raised, wrote into the fields,
        or gave something else than one number for each.
    """
    call = f"weigh of {len(phi)} fields"
    if rng is None and not proposal.is_deterministic:
        raise UserError(f"{_named(proposal)}: {call} draws hidden paths; pass rng, a numpy.random.Generator")
    generator: Any = rng
    if is_ours(proposal):
        return _numbers(proposal, call, "log_q", proposal.weigh(phi, generator), (len(phi),))
    given = phi.copy()  # a chain stands at these fields
    answer = asked(proposal, "proposal", call, proposal.weigh, given, rng)
    if not np.array_equal(given, phi):
        raise _writing(proposal, call)
    return _numbers(proposal, call, "log_q", answer, (len(phi),)).copy()


def told_by(proposal: Proposal) -> Description:
    """``proposal.describe()``, {} of one that has no such method.

    Raises
    ------
    UserError
        A proposal of another package raised, or gave what JSON cannot hold.
    """
    if not hasattr(proposal, "describe"):
        return {}
    told: Any = asked(proposal, "proposal", "describe()", proposal.describe)
    if not is_ours(proposal):
        asked(proposal, "proposal", "describe() for a file", json.dumps, told)
        if not isinstance(told, dict):
            raise UserError(f"{_named(proposal)}: describe() gave {type(told).__name__}; expected a dict")
    return dict(told)


def fingerprint_of(proposal: Proposal) -> str:
    """``proposal.fingerprint()``; raises `UserError` where one of another package raised, or gave no text."""
    return proposal.fingerprint() if is_ours(proposal) else str(asked_fingerprint(proposal, None))


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
        It is another one than `before`, or no text.
    """
    if is_ours(proposal):
        return None
    now: Any = asked(proposal, "proposal", "fingerprint()", proposal.fingerprint)
    if not isinstance(now, str):
        raise UserError(f"{_named(proposal)}: fingerprint() gave {type(now).__name__}; expected text")
    if before is not None and now != before:
        raise UserError(
            f"{_named(proposal)}: its fingerprint changed during the chain, from {before[:12]} to {now[:12]}:"
            " a chain whose proposal changes is not exact; freeze it, and begin a new chain"
        )
    return now

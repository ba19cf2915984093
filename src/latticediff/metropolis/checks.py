"""What every kernel of this room refuses, in one line each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from ..asking import named
from ..errors import UserError
from ..hmc.checks import check_fields
from ..types import FloatArray, IntArray

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ..action import Action
    from .contract import Draw, Proposal


__all__ = [
    "checked_log_weight",
    "checked_start",
    "require_contract",
    "require_density",
    "require_dimension",
    "require_weighed",
    "sound_draw",
    "sound_rows",
]


def require_contract(proposal: object, names: Iterable[str], contract: str = "Proposal") -> None:
    """Refuse a proposal that lacks a part of its contract.

    Parameters
    ----------
    proposal : object
    names : iterable of str
        Attributes that it must have.
    contract : str
        The class of `latticediff.metropolis` that the message names.

    Raises
    ------
    UserError
        It lacks one of `names`.
    """
    for name in names:
        if not hasattr(proposal, name):
            raise UserError(f"{type(proposal).__name__} has no {name}; see latticediff.metropolis.{contract}")


def require_dimension(proposal: Proposal, action: Action) -> None:
    """Refuse a proposal whose lattice has another number of axes than the action.

    Parameters
    ----------
    proposal : Proposal
        One without a ``lattice_shape`` takes any lattice, and passes.
    action : latticediff.action.Action

    Raises
    ------
    UserError
        The numbers of axes differ.
    """
    shape = proposal.lattice_shape
    if shape is not None and len(shape) != action.ndim:
        raise UserError(f"the proposal is for lattice {tuple(shape)}; {action!r} wants {action.ndim} axes")


def checked_start(phi: ArrayLike, proposal: Proposal, action: Action) -> FloatArray:
    """Fields where chains begin, checked against the action and against the lattice of the proposal.

    Parameters
    ----------
    phi : array_like, shape (n_chains, *lattice)
    proposal : Proposal
    action : latticediff.action.Action

    Returns
    -------
    ndarray, shape (n_chains, *lattice), float64
        C-contiguous; `phi` itself where it is that already.

    Raises
    ------
    UserError
        Another shape, or a value that is not finite.
    """
    fields, shape = check_fields(phi, action), proposal.lattice_shape
    if shape is not None and fields.shape[1:] != tuple(shape):
        raise UserError(f"phi has shape {fields.shape}; the proposal wants (n_chains, {', '.join(map(str, shape))})")
    return fields


def sound_rows(draw: Draw) -> IntArray:
    """Numbers of the fields of a `Draw` that did not blow up, which are those with a finite ``log_q``.

    Parameters
    ----------
    draw : Draw
        n fields.

    Returns
    -------
    ndarray, shape (n_sound,), int64
        Ascending.

    Raises
    ------
    UserError
        All of them blew up: no chain of this proposal would ever move.
    """
    rows = np.flatnonzero(np.isfinite(draw.log_q))
    if len(rows) == 0 < len(draw.log_q):
        raise UserError(f"all of {len(draw.log_q)} draws of the model blew up; train it further")
    return rows


def sound_draw(draw: Draw) -> Draw:
    """A `Draw` from which chains can start: fields that blew up are replaced by others of the same draw.

    Parameters
    ----------
    draw : Draw
        n fields.

    Returns
    -------
    Draw
        n fields, all of them sound; `draw` itself where nothing blew up.

    Raises
    ------
    UserError
        All of them blew up.
    """
    sound, rows = sound_rows(draw), np.arange(len(draw.log_q))
    if len(sound) == len(rows):
        return draw
    lost = np.setdiff1d(rows, sound)
    rows[lost] = np.resize(sound, len(lost))
    return draw._replace(phi=draw.phi[rows], log_q=draw.log_q[rows])


def checked_log_weight(log_weight: FloatArray, proposal: object) -> FloatArray:
    r"""Log-weights of proposals, unchanged; NaN and +inf are refused.

    -inf is allowed: a proposal that diverged is simply rejected.

    Parameters
    ----------
    log_weight : ndarray, shape (...), float64
        :math:`-S(\phi) - \log q(\phi)`.
    proposal : object
        For the message.

    Returns
    -------
    ndarray, shape (...), float64
        `log_weight`.

    Raises
    ------
    UserError
        A value is NaN or +inf.
    """
    sound = log_weight < np.inf
    if not np.all(sound):
        raise UserError(
            f"{named(proposal, 'proposal')} has log_weight {log_weight[~sound][0]}; expected a number below infinity: a"
            " draw that blew up has log_q = +inf"
        )
    return log_weight


def require_density(log_q: FloatArray) -> FloatArray:
    """Log density of given configurations, unchanged; NaN is refused.

    Parameters
    ----------
    log_q : ndarray, shape (n,), float64

    Returns
    -------
    ndarray, shape (n,), float64
        `log_q`.

    Raises
    ------
    UserError
        Some have no density: an ESS or a log Z of the others would be one of another ensemble.
    """
    if (lost := int(np.isnan(log_q).sum())) > 0:
        raise UserError(
            f"{lost} of {len(log_q)} configurations have no density under the model: no draw leads there, or the"
            " integration is too coarse to find it; take more steps, or train the model further"
        )
    return log_q


def require_weighed(log_q: FloatArray) -> FloatArray:
    """Log density of the fields where chains stand, unchanged; values that are not finite are refused.

    Parameters
    ----------
    log_q : ndarray, shape (n_chains,), float64

    Returns
    -------
    ndarray, shape (n_chains,), float64
        `log_q`.

    Raises
    ------
    UserError
        A value is not finite: that chain could never leave its field, or never return to it.
    """
    if not np.all(np.isfinite(log_q)):
        raise UserError(
            "the proposal cannot weigh the chain's current field (log_q is not finite: no draw leads there, or the"
            " integration is too coarse to find it); start elsewhere, take more steps, or train the model further"
        )
    return log_q

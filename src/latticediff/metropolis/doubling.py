r"""Is log_q a density? A coarse integrator's is not, and neither ESS nor acceptance shows it.

The figure is one, wherever it is asked for: :math:`\epsilon(\phi) = \log q(\phi) - \log q_2(\phi)`, the second with
twice the integration steps, both the log_q that a draw of their scheme has at this field. A constant cancels in every
ratio of weights, since a field has one log_q however it came; what biases a chain is the *spread*, by no more than so
many standard deviations of any observable (`latticediff.analysis.integration_bias`). Only log Z feels the mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ..errors import UserError
from ..host import numpy_defaults
from ..types import FloatArray
from .contract import Integrated

if TYPE_CHECKING:
    from .contract import Proposal


__all__ = ["check_doubling", "doubling_error"]

_NO_RNG: Any = None  # what is integrated is deterministic: `weigh` draws nothing


@numpy_defaults()
def doubling_error(proposal: Proposal, phi: FloatArray, log_q: FloatArray | None = None) -> FloatArray | None:
    """log_q of `phi` minus its log_q with twice the integration steps; None where nothing is integrated.

    Parameters
    ----------
    proposal : Proposal
    phi : ndarray, shape (n, *lattice)
        Draws or given fields.
    log_q : ndarray, shape (n,), optional
        Of `phi`, where it is known already, as it is of draws.

    Returns
    -------
    ndarray, shape (n,), or None
        Signed; not finite where either scheme cannot weigh a field.
    """
    if not isinstance(proposal, Integrated):
        return None
    coarse = proposal.weigh(phi, _NO_RNG) if log_q is None else log_q
    with np.errstate(invalid="ignore"):
        return coarse - proposal.doubled().weigh(phi, _NO_RNG)


@numpy_defaults()
def check_doubling(
    proposal: Proposal, phi: FloatArray, largest: float, log_q: FloatArray | None = None, largest_mean: float = np.inf
) -> float | None:
    """Refuse a proposal whose log_q changes by more than `largest` from field to field when its steps are doubled.

    Parameters
    ----------
    proposal : Proposal
        One without ``doubled`` (a path's density needs no integration) passes.
    phi : ndarray, shape (n, *lattice)
        Fields to weigh: draws of the proposal, or of the ensemble.
    largest : float
        Of the standard deviation of `doubling_error`: no average of a chain is off by more of its own.
    log_q : ndarray, shape (n,), optional
        See `doubling_error`.
    largest_mean : float
        Of the size of its mean, by which log Z is off.

    Returns
    -------
    float or None
        The standard deviation; None where nothing is integrated.

    Raises
    ------
    UserError
        It is larger, or the mean is, or there are fewer than two fields.
    """
    if len(phi) == 0:
        raise UserError("there is no field to weigh; give at least two")
    if not isinstance(proposal, Integrated):
        return None
    if len(phi) < 2:
        raise UserError("there is one field to weigh; a spread needs at least two")
    error = cast(FloatArray, doubling_error(proposal, phi, log_q))  # None only where nothing is integrated
    finite = np.isfinite(error).all()
    for what, found, allowed in (
        ("by {} from field to field (standard deviation)", float(error.std()) if finite else np.inf, largest),
        ("by {} in the mean", float(abs(error.mean())) if finite else np.inf, largest_mean),
    ):
        if not found <= allowed:
            raise UserError(
                "log_q is no density to the accuracy asked for: twice the integration steps change it "
                + what.format(f"{found:.2g}")
                + f", allowed is {allowed:g}; take more steps, or allow more"
            )
    return float(error.std()) if finite else np.inf

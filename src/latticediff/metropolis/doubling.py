"""Is log_q a density? A coarse integrator's is not, and neither ESS nor acceptance shows it."""

import numpy as np

from ..errors import UserError

__all__ = ["check_doubling", "doubling_error"]


def doubling_error(proposal, phi):
    """Absolute change of log_q of `phi`, (n,), under twice the integration steps; None where nothing is integrated.

    A field that either cannot weigh counts as inf.
    """
    if not hasattr(proposal, "doubled"):
        return None
    coarse, fine = proposal.weigh(phi, None), proposal.doubled().weigh(phi, None)
    with np.errstate(invalid="ignore"):
        change = np.abs(fine - coarse)
    return np.where(np.isfinite(change), change, np.inf)


def check_doubling(proposal, phi, largest):
    """Refuse a proposal whose log_q moves by more than `largest` in the median when its steps are doubled.

    Parameters
    ----------
    proposal : Proposal
        One without ``doubled`` (a path's density needs no integration) passes.
    phi : ndarray, shape (n, *lattice)
        Fields to weigh: draws of the proposal, or of the ensemble.
    largest : float
        The bias of a chain is about as large as this change.

    Returns
    -------
    float or None
        The median change.

    Raises
    ------
    UserError
        It is larger, or there is no field.
    """
    if len(phi) == 0:
        raise UserError("there is no field to weigh; give at least one")
    change = doubling_error(proposal, phi)
    if change is None:
        return None
    median = float(np.median(change))
    if not median <= largest:
        raise UserError(
            f"log_q is no density to the accuracy asked for: twice the integration steps change it by {median:.2g} in"
            f" the median, allowed is {largest:g}; take more steps, or allow more"
        )
    return median

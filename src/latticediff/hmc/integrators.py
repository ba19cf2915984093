r"""Symplectic, reversible splitting schemes as lists of kicks and drifts.

A trajectory is ``p += kick_0 F; phi += drift_0 p; p += kick_1 F; ... ; p += kick_n F`` with palindromic
coefficients (reversible), whatever their values (volume preserving). Neighbouring kicks of
consecutive steps are one force evaluation.
"""

import numpy as np

from ..errors import UserError
from ..types import FloatArray

__all__ = ["INTEGRATORS", "ORDERS", "schedule"]

_LAM = 0.1931833275037836
_THETA, _RHO, _LAM4, _MU = 0.08398315262876693, 0.2539785108410595, 0.6822365335719091, -0.03230286765269967
_MID = 0.5 - _THETA - _LAM4

#: name -> (order, kicks of one step, drifts of one step); kicks and drifts each sum to one
INTEGRATORS = {
    "leapfrog": (2, (0.5, 0.5), (1.0,)),
    # minimum-norm second order, two forces a step: Omelyan, Mryglod, Folk, Comput. Phys. Commun. 151 (2003) 272
    "omelyan2": (2, (_LAM, 1 - 2 * _LAM, _LAM), (0.5, 0.5)),
    # fourth order, five forces a step, the same paper; named 4MN5FV in Takaishi, de Forcrand, hep-lat/0505020
    "omelyan4": (4, (_THETA, _LAM4, _MID, _MID, _LAM4, _THETA), (_RHO, _MU, 1 - 2 * (_RHO + _MU), _MU, _RHO)),
}
ORDERS = {name: entry[0] for name, entry in INTEGRATORS.items()}


def schedule(name: str, step_size: float, n_steps: int) -> tuple[FloatArray, FloatArray]:
    """Kicks (n + 1,) and drifts (n,) of a trajectory of `n_steps` steps, float64.

    Parameters
    ----------
    name : str
        Key of `INTEGRATORS`.
    step_size : float
        In molecular-dynamics time.
    n_steps : int

    Returns
    -------
    kicks : ndarray, shape (n + 1,), float64
        Times for which the force acts, the last kick of a step joined to the first of the next.
    drifts : ndarray, shape (n,), float64
        Times for which the field moves.

    Raises
    ------
    UserError
        Unknown integrator.
    """
    if name not in INTEGRATORS:
        raise UserError(f"integrator is {name!r}; expected one of {', '.join(INTEGRATORS)}")
    _, kicks, drifts = INTEGRATORS[name]
    inner = len(drifts)
    all_kicks = np.zeros(n_steps * inner + 1)
    for k in range(n_steps):
        all_kicks[k * inner : k * inner + inner + 1] += kicks
    return step_size * all_kicks, step_size * np.tile(drifts, n_steps)

r"""Gates: what an ensemble must show before a network is trained on it or a result is printed.

Each gate tests an exact statement about equilibrium at `n_sigma` standard errors. For Gaussian errors
a sound ensemble fails one such test with probability 6.3e-5 at the default of four; `Gate.false_alarm` carries the
figure of each gate (tests within a gate added up). The errors are Gamma-method errors, so a gate is
only as good as tau_int: the gate on the chain length belongs with the others.
"""

from collections.abc import Mapping

from numpy.typing import ArrayLike

from ..errors import UserError
from ..host import numpy_defaults
from .chain_gates import agreement_gate, length_gate, moved_gate, sign_gate, thermalisation_gate
from .gate import Gate
from .identity_gates import exp_delta_h_gate, schwinger_dyson_gate

__all__ = ["Gate", "run_gates"]


@numpy_defaults()
def run_gates(
    series: Mapping[str, ArrayLike],
    delta_h: ArrayLike | None = None,
    n_sigma: float = 4.0,
    z2: bool = True,
    n_tau: float = 100.0,
    max_error: float = 0.02,
) -> list[Gate]:
    """Every gate that the data allow, in the order in which to repair what failed.

    Parameters
    ----------
    series : dict of str to ndarray, shape (n_chains, n)
        From `measure_primary`; needs ``m, abs_m, m2, phi2, action, sd``.
    delta_h : ndarray, shape (n_chains, n), optional
        Energy violations of the HMC trajectories, every update; without them their gate is left out.
        Histories are stored (n_updates, n_chains): transpose them.
    n_sigma : float
        Of every statistical test; 4 gives a sound ensemble about 0.4 % to fail anything.
    z2 : bool
        Whether the action is even in phi.
    n_tau : float
        Entries wanted in units of the slowest tau_int.
    max_error : float
        Identities must be known to this error, or they would not see a fault.

    Returns
    -------
    list of Gate
        For instance ``failed = [g.message for g in run_gates(series) if not g.passed]``.

    Raises
    ------
    UserError
        A primary series is missing or not finite.
    """
    missing = [name for name in ("m", "abs_m", "m2", "phi2", "action", "sd") if name not in series]
    if missing:
        raise UserError(f"the gates need the primary series {', '.join(missing)}; measure them first")
    still = moved_gate(series)
    if still is not None:
        return [still]
    gates = [
        thermalisation_gate(series, n_sigma),
        length_gate(series, n_tau=n_tau),
        agreement_gate(series, n_sigma),
        schwinger_dyson_gate(series, n_sigma, max_error),
    ]
    if delta_h is not None:
        gates.append(exp_delta_h_gate(delta_h, n_sigma, max_error))
    if z2:
        gates.append(sign_gate(series, n_sigma))
    return gates

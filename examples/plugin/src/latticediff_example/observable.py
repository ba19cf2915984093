"""Observables: one number for each configuration, and a function of the means of others."""

from latticediff.observables import Observable


def phi6(phis, action=None):
    """Mean of phi^6 over the lattice, (n,)."""
    return (phis.reshape(len(phis), -1) ** 6).mean(axis=1)


def _ratio(at, phi6, phi2):
    return phi6 / phi2**3


#: 15 for a Gaussian; its error follows from both series, correlation included
sextic_ratio = Observable(_ratio, needs=("phi6", "phi2"), derived=True, symbol="⟨φ⁶⟩/⟨φ²⟩³")

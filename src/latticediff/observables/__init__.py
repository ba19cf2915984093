r"""Observables of one configuration, evaluated on batches; the same functions run online and offline.

Rooms: `primary` (scalars, the registry and `measure_primary`), `momentum` (two-point function in
momentum and time-slice form), `derived` (formulas on ensemble means: chi, Binder cumulant, xi,
effective mass) and `running` (means with errors in bounded memory). Statistics live in `analysis`.

A user's own observable is any function ``f(phis, action) -> (n,)`` of a batch
``phis (n, *lattice)``; pass it to `measure_primary` or install it under the entry-point group
``latticediff.observables``, from where ``latticediff measure`` takes it too.
"""

from .derived import binder, chi, chi_abs, effective_mass, fourth_cumulant, renormalised_coupling, xi_second_moment
from .momentum import momentum_susceptibility, structure_factor, time_slices, timeslice_correlator
from .primary import BUILT_IN, installed_names, measure_array, measure_primary, observable, observable_names
from .running import RunningMean

__all__ = [
    "BUILT_IN",
    "RunningMean",
    "binder",
    "chi",
    "chi_abs",
    "effective_mass",
    "fourth_cumulant",
    "installed_names",
    "measure_array",
    "measure_primary",
    "momentum_susceptibility",
    "observable",
    "observable_names",
    "renormalised_coupling",
    "structure_factor",
    "time_slices",
    "timeslice_correlator",
    "xi_second_moment",
]

r"""Observables of one configuration, evaluated on batches; the same functions run online and offline.

Rooms: `contract` (what an observable is), `table` (all of them, by name), `primary` (functions of a field), `momentum`
(two-point function in momentum and time-slice form), `derived` (formulas on ensemble means: chi, Binder cumulant, xi,
effective mass), `measuring` (series from fields) and `running` (means with errors in bounded memory). Statistics
live in `analysis`.

A user's own observable is any function ``f(phis, action) -> (n,)`` of a batch ``phis (n, *lattice)``, or an
`Observable` with a symbol, of fields, of other observables or of their means; pass it to `measure_primary` or install
it under the entry-point group ``latticediff.observables``, from where ``latticediff measure`` takes it too.
"""

from .contract import Observable
from .derived import binder, chi, chi_abs, effective_mass, fourth_cumulant, renormalised_coupling, xi_second_moment
from .measuring import measure_array, measure_primary
from .momentum import momentum_susceptibility, structure_factor, time_slices, timeslice_correlator
from .running import RunningMean
from .table import OBSERVABLES, installed_names, observable, observable_names

__all__ = [
    "OBSERVABLES",
    "Observable",
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

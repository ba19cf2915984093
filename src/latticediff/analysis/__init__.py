r"""Statistics of Markov chains: errors, autocorrelation times, weights and gates.

Rooms: `chains` and `log_weights` (what is let in), `result` (a number with its error), `fluctuations` (autocorrelation
function), `gamma` (Gamma method, derived quantities), `estimates` (tables, comparisons), `spectrum` (correlators,
effective masses), `ess`, `tails` and `weights` (of log-weights: ESS, Pareto shape, all of it), `free_energy` (log Z),
`reweighting` (averages at other couplings), `finite_size` and `crossings` (many sizes along a coupling),
`beside` (a chain and the weights of its proposals), `integration_bias` (of a density),
`convergence` (thermalisation, R-hat, tau_exp, chain length),
`resampling` (blocked jackknife and bootstrap), `gates` (what an ensemble must pass before anything is
trained on it: `chain_gates` and `identity_gates`, each a `gate`).

Series are arrays ``(n_chains, n)`` or ``(n,)`` in Monte Carlo order. tau_int = 1/2 + sum rho: 0.5 is
independent.
"""

from .beside import Beside, beside
from .convergence import (
    TauExp,
    Thermalization,
    find_thermalization,
    further_updates,
    r_hat,
    short_chain_notice,
    tau_exp,
    warn_if_short,
)
from .ess import ess_forward, ess_reverse
from .estimates import REPORTED, Difference, compare, compare_tables, observables_table, tau_table
from .fluctuations import autocorrelation, autocorrelation_error
from .free_energy import FreeEnergy, free_energy, log_z_bridge, log_z_forward, log_z_reverse
from .gamma import derived, mean, tau_int
from .gates import Gate, run_gates
from .integration_bias import IntegrationBias, field_series, integration_bias
from .resampling import block_scan, bootstrap, jackknife
from .result import Estimate, TauInt, format_error
from .reweighting import Reach, reach, reweighted, reweighted_table
from .spectrum import correlator_table, effective_masses
from .tails import largest_above_mean, pareto_k
from .weights import WeightReport, expected_acceptance, gaussian_acceptance, weight_report

__all__ = [
    "REPORTED",
    "Beside",
    "Difference",
    "Estimate",
    "FreeEnergy",
    "Gate",
    "IntegrationBias",
    "Reach",
    "TauExp",
    "TauInt",
    "Thermalization",
    "WeightReport",
    "autocorrelation",
    "autocorrelation_error",
    "beside",
    "block_scan",
    "bootstrap",
    "compare",
    "compare_tables",
    "correlator_table",
    "derived",
    "effective_masses",
    "ess_forward",
    "ess_reverse",
    "expected_acceptance",
    "field_series",
    "find_thermalization",
    "format_error",
    "free_energy",
    "further_updates",
    "gaussian_acceptance",
    "integration_bias",
    "jackknife",
    "largest_above_mean",
    "log_z_bridge",
    "log_z_forward",
    "log_z_reverse",
    "mean",
    "observables_table",
    "pareto_k",
    "r_hat",
    "reach",
    "reweighted",
    "reweighted_table",
    "run_gates",
    "short_chain_notice",
    "tau_exp",
    "tau_int",
    "tau_table",
    "warn_if_short",
    "weight_report",
]

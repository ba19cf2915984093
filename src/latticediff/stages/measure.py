"""Stage measure: observables and autocorrelation times of one ensemble file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from ..analysis import REPORTED, Beside, Estimate, beside, observables_table, short_chain_notice, tau_table
from ..analysis.estimates import definitions
from ..analysis.gamma import TauInt
from ..build.configurations import require_finite
from ..ensemble import Ensemble
from ..errors import UserError
from ..host import numpy_defaults
from ..metropolis.proposed import COLUMNS, proposed_series
from ..observables import OBSERVABLES, installed_names, measure_primary, observable
from ..observables.table import TIMED
from .measurement import Measurement
from .spectrum import measure_spectrum

if TYPE_CHECKING:
    from ..types import FloatArray, PathLikeStr

__all__ = ["Measurement", "acceptance", "field_batches", "measure", "measure_ensemble", "read_series", "read_weighted"]


def read_weighted(ensemble: Ensemble, series: Mapping[str, FloatArray], s_tau: float = 1.5) -> Beside | None:
    """Averages of a chain of independent proposals by the weights of these, beside those of the chain.

    Parameters
    ----------
    ensemble : latticediff.ensemble.Ensemble
    series : dict of str to ndarray, shape (n_chains, n), float64
        What `read_series` gives.
    s_tau : float
        S of the automatic window.

    Returns
    -------
    Beside or None
        None where the history lacks what that needs, or no proposal has a weight.
    """
    if not {"log_weight", *COLUMNS} <= set(ensemble.history_names):
        return None
    log_weight = ensemble.history("log_weight").T
    if not np.isfinite(log_weight).any():
        return None  # no draw has a weight
    proposed = proposed_series(ensemble.history)
    return beside(series, proposed, log_weight, ensemble.action, ensemble.shape, ensemble.thin, s_tau=s_tau)


def field_batches(ensemble: Ensemble) -> Iterator[FloatArray]:
    """The fields of a file, batch by batch, checked to be finite.

    Parameters
    ----------
    ensemble : latticediff.ensemble.Ensemble
        Open.

    Yields
    ------
    ndarray, shape (n, n_chains, *lattice), float64

    Raises
    ------
    FileError
        A field that is not finite.
    """
    for phis in ensemble.batches():
        yield require_finite(phis, ensemble.path).reshape(-1, ensemble.n_chains, *ensemble.shape)


def read_series(ensemble: Ensemble, names: Iterable[str] | None = None) -> dict[str, FloatArray]:
    """Primary series of an open `Ensemble`, computed batch by batch, so that files may be larger than memory.

    Parameters
    ----------
    ensemble : latticediff.ensemble.Ensemble
    names : iterable of str, optional
        As of `latticediff.observables.measure_primary`.

    Returns
    -------
    dict of str to ndarray, shape (n_chains, n), float64

    Raises
    ------
    FileError
        A field that is not finite.
    """
    return measure_primary(field_batches(ensemble), ensemble.action, names)


def acceptance(ensemble: Ensemble) -> float | None:
    """Fraction of the updates of the whole history that were accepted.

    Parameters
    ----------
    ensemble : latticediff.ensemble.Ensemble
        Open.

    Returns
    -------
    float or None
        None where the algorithm recorded no decisions, or no update was done.
    """
    if "accepted" not in ensemble.history_names or ensemble.n_updates == 0:
        return None
    return float(np.mean(ensemble.history("accepted")))


@numpy_defaults()
def measure(
    path: PathLikeStr,
    s_tau: float = 1.5,
    names: Iterable[str] | None = None,
    correlator: bool = False,
    axis: int | None = None,
) -> Measurement:
    """Measure the ensemble file `path`, or the finished part of a run that goes on, by `measure_ensemble`.

    Parameters
    ----------
    path : path-like
    s_tau, names, correlator, axis
        See `measure_ensemble`.

    Returns
    -------
    Measurement

    Raises
    ------
    FileError
        The file is missing, torn or no ensemble.
    UserError
        As `measure_ensemble`.
    """
    with Ensemble(path) as ensemble:
        return measure_ensemble(ensemble, s_tau, names, correlator, axis)


@numpy_defaults()
def measure_ensemble(
    ensemble: Ensemble,
    s_tau: float = 1.5,
    names: Iterable[str] | None = None,
    correlator: bool = False,
    axis: int | None = None,
    installed: bool = True,
) -> Measurement:
    """Observables with errors and tau_int by the Gamma method.

    Parameters
    ----------
    ensemble : latticediff.ensemble.Ensemble
    s_tau : float
        S of the automatic window.
    names : iterable of str, optional
        Observables wanted: names that `latticediff.analysis.observables_table` knows, primary ones, or installed ones.
        Default: the seven of the report and all that other packages install.
    correlator : bool
        Correlator and effective masses too.
    axis : int, optional
        The axis that is time for them; the first of the longest by default.
    installed : bool
        Measure what other packages install; False imports nothing of theirs.

    Returns
    -------
    Measurement
        tau_int of ``m, abs_m, m2, action`` and of installed observables, or of the names wanted.

    Raises
    ------
    UserError
        `s_tau` not above 0, fewer than two configurations per chain, a chain that never moved, or an unknown name.
    FileError
        A field that is not finite.
    """
    if not s_tau > 0:
        raise UserError(f"s_tau is {s_tau}; expected a number above 0, usually 1 to 2")
    action, shape, thin, n_chains = ensemble.action, ensemble.shape, ensemble.thin, ensemble.n_chains
    others = installed_names() if installed else []
    wanted = (*REPORTED, *others) if names is None else tuple(dict.fromkeys(names))
    # built-in ones always: nearly everything derives from them; of the installed only what was asked for
    needed = _series_for([name for name in others if name in wanted])
    series = read_series(ensemble, needed)
    if names is not None:
        definitions(wanted, series, action, shape)  # an unknown name is refused before anything is worked out
    observables: dict[str, Estimate] = {}
    silent: dict[str, str] = {}
    for name in wanted:
        try:
            observables |= observables_table(series, action, shape, [name], s_tau)
        except UserError as exc:
            if name not in others or name not in series or not _is_constant(series[name]):
                raise  # a chain that does not move; of another package's observable, that may be how it is
            observables[name], silent[name] = Estimate(float(series[name].mean()), math.nan, n=ensemble.n_cfg), str(exc)
    if names is None:
        timed = [*TIMED, *(name for name in others if name in series and name not in silent)]
        tau = tau_table(series, timed, s_tau)
        times = {name: (found.value * thin, found.error * thin) for name, found in tau.items()}
        notices = [short_chain_notice(found, n_chains, name=name) for name, found in tau.items()]
    else:
        times = {
            name: (found.tau_int * thin, found.tau_int_error * thin)
            for name, found in observables.items()
            if math.isfinite(found.tau_int)
        }
        notices = [_notice_of(name, found, n_chains) for name, found in observables.items()]
    return Measurement(
        source=ensemble.path.name,
        action=action,
        shape=shape,
        n=ensemble.n_cfg,
        n_chains=n_chains,
        n_updates=ensemble.n_updates or ensemble.n_cfg // n_chains * thin,
        thin=thin,
        acceptance=acceptance(ensemble),
        series=series,
        observables=observables,
        tau_int=times,
        weighted=read_weighted(ensemble, series, s_tau),
        notices=tuple(f"{line}; an entry is {thin} updates" for line in notices if line) + tuple(silent.values()),
        spectrum=measure_spectrum(field_batches(ensemble), action, shape, thin, axis, s_tau) if correlator else None,
    )


def _series_for(installed: Iterable[str]) -> list[str]:
    """Names of the primary series that a measurement takes: all built-in ones, and what installed ones need."""
    names = [name for name, entry in OBSERVABLES.items() if not entry.derived]
    for name in installed:
        entry = observable(name)
        names += entry.needs if entry.derived else (name,)
    return list(dict.fromkeys(names))


def _is_constant(series: FloatArray) -> bool:
    return bool((np.diff(series, axis=1) == 0).all())


def _notice_of(name: str, estimate: Estimate, n_chains: int) -> str:
    """The `short_chain_notice` of an `Estimate`; "" if there is nothing to say."""
    if estimate.window_found or not math.isfinite(estimate.tau_int):
        return ""
    empty = np.zeros(0)
    tau = TauInt(estimate.tau_int, estimate.tau_int_error, estimate.window, estimate.n, empty, estimate.window_found)
    return short_chain_notice(tau, n_chains, name=name)

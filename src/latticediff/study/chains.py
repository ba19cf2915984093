"""Running the chain of a cell until its tau_int is known, and what is kept of it."""

from __future__ import annotations

import math
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ..analysis import derived, ess_forward, ess_reverse, mean, tau_int
from ..cluster import Cluster
from ..composite import Sequence
from ..errors import UserError
from ..hmc import tune
from ..lattice import volume
from ..metropolis.asking import ask_weigh
from ..observables.derived import binder, chi, chi_abs, xi_second_moment
from ..streams import Streams
from .fields import FieldSums
from .kernels import Built, action_of, begin, build, start_fields
from .quantities import OBSERVABLES
from .samplers import SAMPLERS, lacking

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..types import Description, FloatArray
    from .cell import Cell

    Tell = Callable[[str, float], object]

__all__ = ["observed", "run_chain"]

BLOCK_BYTES = 64e6
FIRST, FIRST_ALL = 60, 25_600  #: updates of each chain, and of all together, before the first look at tau_int
LEARNED_BLOCK = 16  #: updates of learned chains between looks at the clock
LEAST_TAUS = 40  #: updates of each chain, in tau_int of its slowest observable, before it is believed
SHOWN, BINS = 400, 41  #: updates of the history, and bins of the histogram of m, that the result keeps
N_FORWARD, FORWARD_EVERY, FORWARD_WARM = 2048, 20, 300  #: fields of the target for the forward ESS


def observed(phi: FloatArray, action: FloatArray) -> FloatArray:
    """The observables of fields, as they are: no symmetry is imposed.

    Parameters
    ----------
    phi : ndarray, shape (n, n_chains, *lattice), float64
    action : ndarray, shape (n, n_chains), float64

    Returns
    -------
    ndarray, shape (5, n, n_chains), float64
        In the order of `OBSERVABLES`: m, |m|, m^2, S / V, and |phi_k|^2 / V averaged over the least momentum of each
        axis.
    """
    axes = tuple(range(2, phi.ndim))
    sites = volume(phi.shape[2:])
    m = phi.mean(axis=axes)
    shells = []
    for axis in axes:
        others = tuple(other for other in axes if other != axis)
        line = phi.sum(axis=others)
        wave = np.exp(2j * np.pi * np.arange(line.shape[-1]) / line.shape[-1])
        shells.append(np.abs(line @ wave) ** 2 / sites)
    shell: Any = sum(shells)
    return np.stack([m, np.abs(m), m * m, action / sites, shell / len(axes)])


def run_chain(cell: Cell, series: list[FloatArray] | None = None, tell: Tell | None = None) -> Description:
    """Tune and run the chain of a cell; the first tenth is dropped as thermalisation.

    Parameters
    ----------
    cell : Cell
        Its settings are ``precision``, the relative error of tau_int at which the chain ends, ``seconds``, after which
        it ends in any case, and ``budget`` of a search.
    series : list, optional
        Gets the series that the numbers are of, (5, n_chains, n_updates).
    tell : callable, optional
        Called now and then with the phase of the cell, as `latticediff.study.expected.expected_of` names it, and the
        share of it that is done; changes nothing.

    Returns
    -------
    dict
        JSON-able: see docs/critical-slowing-down.md.

    Raises
    ------
    UserError
        As `latticediff.study.kernels.build`; or a chain that never moved.
    """
    streams = Streams(cell.seed).child("study").child(cell.digest)
    tell = tell or _silent
    built = build(cell, streams, partial(tell, "search"))
    decisive = list(OBSERVABLES).index(SAMPLERS[cell.sampler].decisive)
    fields = FieldSums()
    values, info, spent, ended = _until_known(cell, built, streams.child("chain"), decisive, fields, tell)
    if series is not None:
        series.append(values)
    taus = {key: tau_int(value, name=key) for key, value in zip(OBSERVABLES, values, strict=True)}
    averages = {key: mean(value, name=key) for key, value in zip(OBSERVABLES, values, strict=True)}
    row: Description = {
        "kind": "chain",
        "sampler": cell.sampler,
        "n_updates": info["n_updates"],
        "n_chains": cell.n_chains,
        "n_dropped": info["n_updates"] - values.shape[2],
        "ended_by": ended,
        "chain_seconds": spent,
        "acceptance": info["acceptance"],
        "acceptance_error": info["acceptance_error"],
        "evaluations_per_update": built.evaluations,
        "counted": SAMPLERS[cell.sampler].counted,
        "tau_int": {key: tau.pair() for key, tau in taus.items()},
        "window_found": {key: bool(tau.window_found) for key, tau in taus.items()},
        "window": {key: int(tau.window) for key, tau in taus.items()},
        "average": {key: [found.value, found.error] for key, found in averages.items()},
        "derived": _derived(cell, values),
        "history": [float(f"{m:.5g}") for m in values[0, 0, :SHOWN]],
        "autocorrelation": [float(f"{r:.4g}") for r in taus["abs_m"].rho[:SHOWN]],
        "histogram": _histogram(values[0]),
        **fields.told(info["n_updates"] - values.shape[2]),
        "kernel": built.kernel.describe(),
        **built.beside,
    }
    if built.is_learned:
        tell("weights", 0.0)
        training, data, ancestors = cell.paid
        row |= {"training_seconds": training, "data_seconds": data, "ancestor_seconds": ancestors}
        row |= _ess(cell, built, info, streams)
    return row


def _silent(phase: str, share: float) -> None:
    pass


def _histogram(values: FloatArray) -> Description:
    low, high = float(values.min()), float(values.max())
    counts, _ = np.histogram(values, BINS, (low, high))
    return {"low": low, "high": high, "counts": counts.tolist()}


def _derived(cell: Cell, values: FloatArray) -> Description:
    """Susceptibilities, Binder cumulant and, on lattices of equal extents, correlation length, as [value, error]."""
    _, abs_m, m2, _, shell = values
    sites, extent = volume(cell.shape), cell.shape[0]
    found = {
        "chi": derived(lambda a: chi(a, sites), [m2]),
        "chi_abs": derived(lambda a, b: chi_abs(a, b, sites), [m2, abs_m]),
        "binder": derived(binder, [m2, m2 * m2]),
    }
    if len(set(cell.shape)) == 1 and extent > 1:
        found["xi"] = derived(lambda a, g: xi_second_moment(a, g, sites, extent), [m2, shell])
    pairs = {key: [each.value, each.error] for key, each in found.items()}
    return {key: pair for key, pair in pairs.items() if all(map(math.isfinite, pair))}


def _until_known(
    cell: Cell, built: Built, streams: Streams, decisive: int, fields: FieldSums, tell: Tell
) -> tuple[FloatArray, dict[str, Any], float, str]:
    """Series (5, n_chains, n_updates) without the first tenth, what else the updates said, seconds, and what ended.

    `fields` gets all fields.
    """
    kernel, settings = built.kernel, cell.settings
    tell("start", 0.0)
    state = begin(cell, built, streams)
    block = max(1, int(BLOCK_BYTES / state.phi.nbytes))
    done, wanted, began = 0, max(FIRST, FIRST_ALL // cell.n_chains), time.perf_counter()
    block = min(block, LEARNED_BLOCK if built.is_learned else max(1, wanted // 10))
    pieces: list[FloatArray] = []
    accepted: Any = 0.0  # of every chain
    weights: list[FloatArray] = []
    needed = wanted if built.is_learned else math.inf  # independent proposals are known at the first look, mostly
    while True:
        while done < wanted:
            n = min(block, wanted - done)
            state, found = kernel.advance(state, streams, n)
            pieces.append(observed(found.phi, found.action))
            fields.add(found.phi)
            accepted = accepted + np.reshape(found.info["accepted"], (-1, cell.n_chains)).mean(axis=0) * n
            if "log_weight" in found.info:
                weights.append(np.asarray(found.info["log_weight"], np.float64).ravel())
            done += n
            passed = (time.perf_counter() - began) / settings["seconds"]
            tell("chain", min(1.0, max(done / needed, passed)))
            if passed > 1.2:
                break
        spent = time.perf_counter() - began
        values = np.concatenate(pieces, axis=1)
        values = np.ascontiguousarray(values[:, values.shape[1] // 10 :].transpose(0, 2, 1))
        if np.ptp(values[decisive]) == 0:
            raise UserError("the chain never moved, nothing was accepted; give it other couplings, or another model")
        tau = tau_int(values[decisive])
        slowest = max(tau_int(value).value for value in values if np.ptp(value) > 0)
        known = tau.error < settings["precision"] * tau.value and values.shape[2] > LEAST_TAUS * slowest
        if known or spent > settings["seconds"]:
            told = {"n_updates": done, **_acceptance(accepted / done), "log_weight": weights}
            return values, told, spent, "precision" if known else "seconds"
        # the error falls like 1 / sqrt(n), and what is left of the time says how far one may look ahead
        ratio = (tau.error / (settings["precision"] * tau.value)) ** 2
        needed = max(ratio * done, LEAST_TAUS * slowest / 0.9)
        ahead = min(2.0, max(1.1, 1.1 * ratio), settings["seconds"] / spent)
        wanted = max(done + 1, int(max(ahead, 1.05) * done))


def _acceptance(chains: FloatArray) -> dict[str, float | None]:
    """Mean of the chains, and its error from their spread: they are independent."""
    error = float(chains.std(ddof=1) / math.sqrt(chains.size)) if chains.size > 1 else None
    return {"acceptance": float(chains.mean()), "acceptance_error": error}


def _ess(cell: Cell, built: Built, info: dict[str, Any], streams: Streams) -> Description:
    """Effective sample sizes of the proposals, over what they draw and over fields of the target."""
    found: Description = {"ess_reverse": None, "ess_forward": None}
    if info["log_weight"]:
        weights = np.concatenate(info["log_weight"])
        reverse = ess_reverse(weights)
        found["ess_reverse"] = [reverse.value, reverse.error]
        finite = weights[np.isfinite(weights)]
        found["log_weights"] = {"drawn": _histogram(finite - finite.mean())}
    phis, told = _target_fields(cell, streams.child("target"))
    log_q = ask_weigh(built.proposing.proposal, phis.reshape(-1, *cell.shape), streams.generator("weigh"))
    log_weight = -action_of(cell)(phis.reshape(-1, *cell.shape)) - log_q
    log_weight = log_weight.reshape(phis.shape[:2]).T  # (n_chains, n): chains are what may be correlated
    if np.isnan(log_weight).any():
        return {**found, "forward_fields": f"{told}; some could not be weighed"}
    forward = ess_forward(log_weight)
    found.setdefault("log_weights", {})["given"] = _histogram(log_weight - log_weight.mean())
    return {**found, "ess_forward": [forward.value, forward.error], "forward_fields": told}


def _target_fields(cell: Cell, streams: Streams) -> tuple[FloatArray, str]:
    """Fields of the target, (n, n_chains, *lattice), from classical chains, and which these are."""
    action, n_chains = action_of(cell), min(64, cell.n_chains)
    start = start_fields(cell)[:n_chains]
    hmc = tune(action, start, streams.child("tune"), 0.85, 1.0, jitter=0.1)
    clusters = not lacking(SAMPLERS["cluster"], action)
    kernel: Any = Sequence([hmc, Cluster(action)]) if clusters else hmc
    state, _ = kernel.advance(kernel.start(start), streams, FORWARD_WARM, FORWARD_WARM)
    n = -(-N_FORWARD // n_chains)
    _, block = kernel.advance(state, streams, FORWARD_EVERY * n, FORWARD_EVERY)
    told = f"{n * n_chains} fields of {n_chains} chains of HMC{' and clusters' if clusters else ''}"
    return block.phi, told

r"""Trajectory length, integrator and step size of least cost per independent value of an observable.

The cost of a kernel is :math:`2 \tau_{int} (n_F + c)`: :math:`n_F` force evaluations an update, and c = `OVERHEAD` for
what a trajectory needs beside them (momenta, energies, the accept step). It stands for seconds but holds none: a
search that looked at a clock would find other settings on a busy machine, and the same card and seed would no longer
give the same bits. ``latticediff tune-hmc`` prints the seconds beside it.

A noisy :math:`\tau_{int}` must not elect a lucky winner. (1) A ladder of lengths, a factor of sqrt(2) apart from a
quarter period of the free field, is climbed with short pilots until the cost has risen twice beyond its errors; (2)
half rungs, masses of Fourier acceleration a factor of two apart (`mass` = "search"), each with lengths of its own, and
other acceptances are tried around the best; (3) those within three errors of the best run on until their
errors reach `precision`; (4) of what is then level within one error the shortest trajectory is taken, and (5) its
:math:`\tau_{int}` is measured once more with fresh random numbers: that one is recorded as confirmed. The integrator
changes :math:`\tau_{int}` through the acceptance only, so at each length the one that meets the target acceptance with
the fewest evaluations is taken. An anticorrelated series counts as an independent one, so half a period of a mode is no
bargain, and lengths are jittered, so no mode has a period of exactly one trajectory.
"""

import math
from collections.abc import Callable
from typing import cast

from numpy.typing import ArrayLike

from ..action import Action
from ..errors import UserError
from ..markov import ChainState
from ..streams import Streams
from ..types import FloatArray
from .integrators import INTEGRATORS
from .kernel import HMC
from .ladders import COARSE, climb, climb_masses, race
from .pilots import OVERHEAD, Measure, Pilot, Trials, measure_named, overhead

__all__ = ["BUDGET", "OVERHEAD", "SEARCH", "Pilot", "search", "typical_evaluations"]

SEARCH = "search"  #: in place of a number or a name: let the search find it
ACCEPTANCES = (0.65, 0.75, 0.85, 0.93)
FIRST_MASS = 1.0  #: where a search for the mass begins: what local fluctuations ask for, at any correlation length
BUDGET = 1_000_000  #: see `search`
TYPICAL, TYPICAL_MASS = 10e6, 25e6  #: force evaluations of all chains that a search takes, without and with masses


def typical_evaluations(budget: int | None, n_chains: int, has_mass: bool = False) -> float:
    """Force evaluations that a chain typically spends on a search, within a factor of two or so.

    Many chains know tau_int sooner; a budget, and half of it again for the confirmation, is the most.
    """
    return min(1.5 * (budget or BUDGET), (TYPICAL_MASS if has_mass else TYPICAL) / n_chains)


def search(
    action: Action,
    phi: ArrayLike,
    streams: Streams,
    target_acceptance: float | str = SEARCH,
    trajectory_length: float | str = SEARCH,
    integrator: str = SEARCH,
    jitter: float = 0.1,
    mass: float | str | None = None,
    observable: str | Measure = "abs_m",
    precision: float = 0.05,
    budget: int = BUDGET,
    updates_per_round: int | None = None,
    tell: Callable[[int], object] | None = None,
) -> tuple[HMC, ChainState]:
    """The frozen kernel of least cost, and the state in which the search ended; `tune` and `warm_up` call it.

    Parameters
    ----------
    action : LocalAction
    phi : array_like, shape (n_chains, *lattice)
        Hot or cold or thermalised: the first pilot thermalises.
    streams : Streams
        Draws come from its branch ``"search"``; no clock is read, so the same streams finds the same kernel.
    target_acceptance, trajectory_length, integrator
        Each a value to keep or "search".
    jitter : float
        See `HMC`; above 0 where the length is searched.
    mass : float or str, optional
        See `HMC`; a value to keep, or "search".
    observable : str or callable
        Name of an observable that is not derived, or a function of fields (n, n_chains, *lattice) and actions
        (n, n_chains) that returns (n, n_chains).
    precision : float
        Relative error of tau_int up to which choices are told apart.
    budget : int
        Most force evaluations that a chain spends on the search; where it ends the best choice so far is taken. The
        confirmation may take half as many again.
    updates_per_round : int, optional
        See `warm_up`; by default so many that each round has some 300 trajectories.
    tell : callable, optional
        Called now and then with the force evaluations that a chain has spent; changes nothing.

    Returns
    -------
    HMC
        ``tuning["search"]`` holds the choice, every pilot with its error, the confirmed tau_int and what it all cost.
    ChainState
        At update 0.

    Raises
    ------
    UserError
        Unknown observable or integrator, a length searched without jitter, a budget that is too small to begin, or
        fields from which nothing is ever accepted.
    """
    measure = observable if callable(observable) else measure_named(observable, action)
    if trajectory_length == SEARCH and not 0 < jitter < 1:
        raise UserError(
            f"jitter is {jitter!r}; a trajectory length that is searched wants some, e.g. 0.1: without, a mode whose"
            " period is one trajectory never moves"
        )
    if not 0 < precision < 1:
        raise UserError(f"precision is {precision!r}; expected a number between 0 and 1")
    integrators = tuple(INTEGRATORS) if integrator == SEARCH else (integrator,)
    acceptances = ACCEPTANCES if target_acceptance == SEARCH else (cast(float, target_acceptance),)
    first = acceptances[len(acceptances) // 2]
    fields = cast(FloatArray, phi)  # checked where the first pilot starts
    first_mass = FIRST_MASS if mass == SEARCH else cast("float | None", mass)
    run = Trials(action, fields, streams, measure, integrators, jitter, first_mass, budget, updates_per_round, tell)
    length = run.unit if trajectory_length == SEARCH else cast(float, trajectory_length)
    pilot = cast(Pilot, run.pilot(length, first))  # the first one raises where nothing is accepted
    run.refine(pilot, 2 * COARSE)
    pilot.series.clear()  # thermalisation
    pilot.n_updates, pilot.tau, pilot.error = 0, math.inf, math.inf
    run.refine(pilot, COARSE)
    if not math.isfinite(pilot.tau):
        raise UserError(
            f"a budget of {budget} force evaluations a chain is too small for this search: no tau_int is known after"
            f" {run.spent}; raise it, or give trajectory_length"
        )
    if trajectory_length == SEARCH:
        climb(run, first)
    if mass == SEARCH:
        climb_masses(run, first, trajectory_length == SEARCH)
    best = race(run, max(precision, math.sqrt(COARSE * precision)))
    run.mass = best.kernel.mass
    for other in acceptances:
        if other != best.target and run.spent < run.budget:
            near = run.pilot(best.kernel.trajectory_length, other, (best.kernel.integrator,))
            if near is not None and near.kernel.n_leapfrog != best.kernel.n_leapfrog:
                run.refine(near, COARSE)
    best = race(run, precision)
    return _confirmed(run, best, precision, observable)


def _confirmed(run: Trials, best: Pilot, precision: float, observable: str | Measure) -> tuple[HMC, ChainState]:
    """Measure the winner again with fresh random numbers, and freeze its kernel with the record of the search."""
    ended = run.budget - run.spent < best.kernel.force_evaluations_per_update
    run.budget = max(run.spent, run.budget) + run.budget // 2  # what elected it has not eaten up what confirms it
    pilots = [pilot.row() for pilot in run.pilots]
    again = Pilot(best.kernel, best.target, best.state._replace(update=0), 0)
    run.refine(again, precision)
    tuning = {
        "target_acceptance": best.target,
        "search": {
            "observable": observable if isinstance(observable, str) else getattr(observable, "__name__", "function"),
            "cost": "2 tau_int (force evaluations per update + overhead)",
            "overhead": overhead(best.kernel.mass),
            "precision": precision,
            "confirmed": again.row(),
            "pilots": pilots,
            "force_evaluations_per_chain": int(run.spent),
            "budget_ended": ended,
        },
    }
    kernel = best.kernel
    settings = (kernel.step_size, kernel.n_leapfrog, kernel.integrator, kernel.jitter, kernel.mass)
    frozen = HMC(kernel.action, *settings, tuning=tuning)
    return frozen, again.state._replace(update=0)

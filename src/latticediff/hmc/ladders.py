"""The order in which a search tries settings, and how it decides between pilots that are known up to errors."""

import math
from collections.abc import Iterable

from .pilots import Pilot, Trials

__all__ = ["COARSE", "climb", "climb_masses", "dearer", "race"]

COARSE = 0.15  # relative error of tau_int in the ladders
RUNGS = 14  # of the ladder of lengths, upwards: 128 quarter periods at most
MASS_RUNGS = 8  # of the ladder of masses, in either direction: a factor of two each


def climb(run: Trials, target: float) -> None:
    """Try the ladder of lengths from the first pilot on, then the half rungs around its best."""
    known: dict[float, Pilot] = {0: run.pilots[0]}

    def walk(rungs: Iterable[float]) -> None:
        worse = 0
        for rung in rungs:
            if run.spent >= run.budget or worse == 2:
                return
            pilot = run.pilot(run.unit * 2 ** (rung / 2), target)
            if pilot is None:
                return
            known[rung] = pilot
            run.refine(pilot, COARSE)
            best = min(known.values(), key=lambda p: p.cost[0])
            worse = worse + 1 if dearer(pilot, best) else 0

    walk(range(1, RUNGS))
    best = min(known, key=lambda rung: known[rung].cost[0])
    if best <= 1:
        walk(range(-1, -4, -1))
        best = min(known, key=lambda rung: known[rung].cost[0])
    walk([best - 0.5, best + 0.5])


def climb_masses(run: Trials, target: float, with_lengths: bool) -> None:
    """Try the ladder of masses up and down from the one of the run, each at the best length of the one before.

    With `with_lengths` longer and shorter trajectories are tried too, as long as they cost less.
    """
    first, start = _best(run), run.mass
    assert start is not None  # a search for masses begins with one
    for factor in (2.0, 0.5):
        near = first
        for rung in range(1, MASS_RUNGS + 1):
            run.mass = start * factor**rung
            found = _at_mass(run, target, near.kernel.trajectory_length, with_lengths)
            if found is None or dearer(found, _best(run)):
                break
            near = found
    run.mass = _best(run).kernel.mass


def _at_mass(run: Trials, target: float, length: float, with_lengths: bool) -> Pilot | None:
    """The best pilot at the run's mass, near a length; None where the budget has ended or nothing is accepted."""
    best = _tried(run, target, length)
    if best is None or not with_lengths:
        return best
    for factor in (2**0.5, 2**-0.5):
        for rung in range(1, RUNGS):
            pilot = _tried(run, target, length * factor**rung)
            if pilot is None or not pilot.cost[0] < best.cost[0]:
                break
            best = pilot
    return best


def _tried(run: Trials, target: float, length: float) -> Pilot | None:
    if run.spent >= run.budget:
        return None
    pilot = run.pilot(length, target)
    if pilot is not None:
        run.refine(pilot, COARSE)
    return pilot


def _best(run: Trials) -> Pilot:
    return min(run.pilots, key=lambda pilot: pilot.cost[0])


def dearer(pilot: Pilot, best: Pilot, n_errors: float = 1.5) -> bool:
    """Whether a pilot costs a tenth more than the best, beyond errors."""
    (cost, error), (least, its) = pilot.cost, best.cost
    return not cost < 1.1 * least + n_errors * math.hypot(error, its)


def race(run: Trials, precision: float) -> Pilot:
    """Run all pilots that may still be the best until errors tell; of those level with the best, the shortest."""
    for step in (COARSE, math.sqrt(COARSE * precision), precision):
        best = min(run.pilots, key=lambda p: p.cost[0])
        for pilot in run.pilots:
            (cost, error), (least, its) = pilot.cost, best.cost
            if math.isfinite(cost) and cost - least < 3 * math.hypot(error, its) and step < COARSE:
                run.refine(pilot, step)
    best = min(run.pilots, key=lambda p: p.cost[0])
    level = [p for p in run.pilots if p.cost[0] - best.cost[0] < math.hypot(p.cost[1], best.cost[1])]
    return min(level, key=lambda p: (p.kernel.force_evaluations_per_update, p.cost[0]))

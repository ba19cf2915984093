"""From a score model to the scheme and time grid of its ODE: as stored in the model's card, or calibrated now.

A calibration is a deterministic function of the model, the scheme and the number of steps: fields drawn from a fixed
seed, a reference on a fine grid, and a grid rounded so that it can be written down. Training stores the grid of
its card with the model; for other numbers of steps it is calibrated when a proposal asks for it, once in a process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..diffusion.runge_kutta import Method, scheme
from ..diffusion.time_grid import TimeGrid, fit_grid
from ..model.score_model import TIME_GRIDS
from ..types import FloatArray
from .fields import parts

if TYPE_CHECKING:
    from ..model.score_model import ScoreModel


__all__ = ["calibrated_grid", "calibration_fields", "own_scheme", "stored_grid", "with_grid"]

Passage = Callable[[FloatArray], tuple[FloatArray, FloatArray]]  #: from fields (n, *lattice) to ``(fields, log_q)``
Passages = Callable[[TimeGrid, Method], tuple[Passage, Passage]]  #: ``(down, up)`` along a grid with a method

SITES = 2**13  #: field values of a calibration
MOST = 96  #: fields of it
FINE = 64  #: Runge-Kutta steps of the reference
SEED = 19_830_905
KEPT = 16  #: calibrated grids kept in memory
PLAIN: dict[str, Any] = {"steps": 16, "method": "rk4", "grid": "uniform"}  #: of a model that says nothing


def own_scheme(
    model: ScoreModel, steps: int | None = None, method: str | None = None, grid: str | None = None
) -> dict[str, Any]:
    """The integrator of a model's ODE where no card chooses one.

    It is that of the last time grid in the model's card; else the one with which the ESS in that card was measured;
    else 16 Runge-Kutta steps. Steps and grid belong to a method: where `method` is given and is not the model's own,
    the defaults for the others are the plain ones, 16 and "uniform".

    Parameters
    ----------
    model : latticediff.model.score_model.ScoreModel
    steps : int, optional
    method, grid : str, optional
        Whatever is given is taken as it is.

    Returns
    -------
    dict
        ``steps``, ``method`` and ``grid``: arguments of `OdeProposal`.
    """
    own, metrics = dict(PLAIN), model.card.get("metrics", {})
    if grids := model.card.get(TIME_GRIDS):
        own |= {"steps": grids[-1]["steps"], "method": grids[-1]["method"], "grid": "optimised"}
    elif metrics.get("proposal") == "ode":
        own |= {key: metrics[key] for key in own if key in metrics}
    if method not in (None, own["method"]):
        own = dict(PLAIN)
    given = {"steps": steps, "method": method, "grid": grid}
    return own | {key: value for key, value in given.items() if value is not None}


def stored_grid(model: ScoreModel, steps: int, method: str) -> TimeGrid | None:
    """The `TimeGrid` that a model's card holds for this scheme and number of steps, or None.

    Parameters
    ----------
    model : latticediff.model.score_model.ScoreModel
    steps : int
    method : str
        Name of the scheme.

    Returns
    -------
    TimeGrid or None
    """
    for entry in model.card.get(TIME_GRIDS, ()):
        if entry["method"] == method and entry["steps"] == steps:
            return TimeGrid.from_inner(model.noise, entry)
    return None


def with_grid(card: dict[str, Any], steps: int, method: str, grid: TimeGrid) -> dict[str, Any]:
    """A copy of a model's card with this `TimeGrid` in it; one of the same method and number of steps is replaced.

    Parameters
    ----------
    card : dict
    steps : int
    method : str
        Name of the scheme.
    grid : TimeGrid

    Returns
    -------
    dict
    """
    others = [e for e in card.get(TIME_GRIDS, ()) if (e["method"], e["steps"]) != (method, steps)]
    return {**card, TIME_GRIDS: [*others, {"method": method, "steps": steps, **grid.inner()}]}


def calibrated_grid(model: ScoreModel, steps: int, method: str, passages: Passages, batch: int = 256) -> TimeGrid:
    """Fit a `TimeGrid` to a model, down and up, or take one fitted before from memory.

    Parameters
    ----------
    model : latticediff.model.score_model.ScoreModel
    steps : int
    method : str
    passages : callable
        ``passages(grid, method) -> (down, up)``, functions from fields to ``(fields, log_q)`` as NumPy arrays.
    batch : int
        Fields integrated at once.

    Returns
    -------
    TimeGrid
        Uniform where the model's draws are not finite often enough to fit anything.
    """
    key = model.fingerprint(), steps, method, str(model.gaussian.device)
    if key not in _grids:
        while len(_grids) >= KEPT:
            _grids.pop(next(iter(_grids)))
        # a network that blows up somewhere is dealt with below
        with np.errstate(all="ignore"):
            _grids[key] = _calibrate(model, steps, method, passages, batch)
    return _grids[key]


def calibration_fields(volume: int, steps: int) -> int:
    """Fields of a calibration: more than a grid of so many steps has parameters."""
    return max(min(SITES // volume, MOST), 2 * steps + 16)


def _calibrate(model: ScoreModel, steps: int, method: str, passages: Passages, batch: int) -> TimeGrid:
    uniform, volume = TimeGrid.uniform(model.noise, steps), int(np.prod(model.shape))
    n = calibration_fields(volume, steps)
    noise = np.random.default_rng(SEED).standard_normal((n, *model.shape))
    down, up = passages(TimeGrid.uniform(model.noise, FINE), scheme("rk4"))
    phi, log_q = _in_parts(down, noise, batch)
    log_weight = -model.action(phi) - log_q
    _, weighed = _in_parts(up, phi, batch)
    sound = np.isfinite(log_weight) & np.isfinite(weighed)
    if sound.sum() <= steps:
        return uniform
    noise, phi, log_weight, weighed = noise[sound], phi[sound], log_weight[sound], weighed[sound]

    def drawn(grid: FloatArray) -> FloatArray:
        fields, log_q = _in_parts(passages(TimeGrid(grid, grid), scheme(method))[0], noise, batch)
        return -model.action(fields) - log_q - log_weight

    def given(grid: FloatArray) -> FloatArray:
        return _in_parts(passages(TimeGrid(grid, grid), scheme(method))[1], phi, batch)[1] - weighed

    return TimeGrid(fit_grid(uniform.down, drawn), fit_grid(uniform.up, given))


def _in_parts(passage: Passage, fields: FloatArray, batch: int) -> tuple[FloatArray, FloatArray]:
    ends, log_q = np.empty(fields.shape), np.empty(len(fields))
    for part in parts(len(fields), batch):
        ends[part], log_q[part] = passage(fields[part])
    return ends, log_q


_grids: dict[tuple[str, int, str, str], TimeGrid] = {}

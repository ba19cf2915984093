r"""Stochastic refinement: annealed importance sampling on the noise that a proposal is made from.

A proposal is a map from standard normal noise y to a field with log-weight :math:`\ell(y) = -S - \log q`.
Between the noise and the exact target stand the densities

.. math:: \pi_\beta(y) \propto N(y; 0, 1)\, e^{\beta\,\ell(y)}, \qquad \beta_j = j / K,

which cost one passage of the network to evaluate and no gradient. A draw starts from noise, and for
j = 1 .. K - 1 makes one Metropolis move that leaves :math:`\pi_{\beta_j}` invariant,

.. math:: y' = \sqrt{1 - \epsilon^2}\, y + \epsilon\, \xi, \qquad
          P = \min\big(1, e^{\beta_j [\ell(y') - \ell(y)]}\big)

(preconditioned Crank-Nicolson: Cotter, Roberts, Stuart, White, 1202.0709, section 4.2; epsilon = 1 is a fresh
draw). Its log-weight is the work of Jarzynski (cond-mat/9610209), annealed importance sampling of Neal
(physics/9803008, eq. 11),

.. math:: \log w = \sum_{j=1}^{K} (\beta_j - \beta_{j-1})\, \ell(y_{j-1}), \qquad E[w] = Z .

Moves are reversible, so the path of a given field is drawn backwards by the same moves. K passages turn
the variance s^2 of a Gaussian log_weight into a little more than s^2 / K while fresh draws are accepted, s < 1.7, which
pooling K plain draws does as well; beyond that moves must shrink and forget in a number of moves proportional to
s^2, and an ESS of order one takes K of order s^4 where pooled tries take :math:`e^{s^2}`. Measured in
``docs/densities.md``.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import real_array
from ..errors import UserError
from ..fine import CoarseSites
from ..host import torch_defaults
from ..metropolis import Draw
from ..metropolis.asking import ask_invert, ask_transport
from ..metropolis.contract import LatentProposal, evaluations_to_weigh
from ..types import Description, FloatArray, Shape
from .fields import parts

if TYPE_CHECKING:
    from ..action import Action
    from ..metropolis.contract import LatentProposal
    from ..model.score_model import ScoreModel


__all__ = ["RefinedProposal", "tuned_step"]

STEPS = (1.0, 0.7, 0.5, 0.35, 0.25)  #: candidates of `tuned_step`

#: of n paths: noise y, the fields it leads to (None: not kept), and their log weights
State = tuple[FloatArray, FloatArray | None, FloatArray]


class Refinable(LatentProposal, Protocol):
    """What is asked of a proposal to refine."""

    batch: int
    model: ScoreModel

    def describe(self) -> Description:
        """JSON-able parameters."""


class RefinedProposal:
    """K rungs of annealing above another proposal; `log_q` is that of field and path together.

    Parameters
    ----------
    inner : OdeProposal or SdeProposal
        Anything with ``noise_shape``, ``transport(noise) -> Draw`` and ``invert(phi, rng) -> (noise, log_q)``.
    rungs : int
        K; 1 is the inner proposal itself.
    step : float
        epsilon of the moves, in (0, 1]; see `tuned_step`.
    action : Action, optional
        The target; that of the inner proposal's model if not given.

    Raises
    ------
    UserError
        No rung, a step outside (0, 1], an inner proposal that does not show its noise, or one of coarse sites.
    """

    is_deterministic = False

    @torch_defaults()
    def __init__(self, inner: Refinable, rungs: int = 4, step: float = 1.0, action: Action | None = None) -> None:
        for name in ("transport", "invert", "noise_shape"):
            if not hasattr(inner, name):
                raise UserError(f"{type(inner).__name__} has no {name}; only a map from noise can be refined")
        if isinstance(rungs, bool) or int(rungs) != rungs or rungs < 1:
            raise UserError(f"rungs is {rungs!r}; expected an integer of at least 1")
        if not 0 < step <= 1:
            raise UserError(f"step is {step!r}; expected a number above 0, at most 1 (a fresh draw)")
        if action is None and isinstance(inner.model.action, CoarseSites):
            raise UserError(
                "the theory of coarse sites has no exact action, to which rungs could anneal; take rungs = 1, or a"
                " model of the odd sites"
            )
        self.inner, self.rungs, self.step = inner, int(rungs), float(step)
        self.action = inner.model.action if action is None else action
        self.lattice_shape = cast(Shape, inner.lattice_shape)  # a map from noise is for one lattice
        self.evaluations_per_draw = self.rungs * inner.evaluations_per_draw
        # the field's own noise, and a backward path from there
        self.evaluations_per_weigh = evaluations_to_weigh(inner) + (self.rungs - 1) * inner.evaluations_per_draw

    def describe(self) -> Description:
        """JSON-able parameters."""
        return {"name": "refined", "rungs": self.rungs, "step": self.step, "inner": self.inner.describe()}

    def fingerprint(self) -> str:
        """Hex SHA-256 of the inner proposal, the ladder and the target."""
        told = {**self.describe(), "action": self.action.describe()}
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    @torch_defaults()
    def draw(self, n: int, rng: np.random.Generator) -> Draw:
        """`Draw` of `n` proposals; a path that begins with a draw that blew up has ``log_q = +inf``."""
        phi, log_q = np.empty((n, *self.lattice_shape)), np.empty(n)
        for part in parts(n, self.inner.batch):
            noise, log_u = self._moves(part.stop - part.start, self.rungs, rng)
            fields, log_weight = self._transport(noise[:, 0])
            state: State = (noise[:, 0], fields, log_weight)
            work = log_weight / self.rungs
            for j in range(1, self.rungs):
                state = self._move(state, noise[:, j], log_u[:, j - 1], j / self.rungs)
                work = work + state[2] / self.rungs
            fields = cast(FloatArray, state[1])  # kept from the beginning
            phi[part], log_q[part] = fields, -self.action(fields) - work
        return Draw(phi, log_q)

    @torch_defaults()
    def weigh(self, phi: ArrayLike, rng: np.random.Generator) -> FloatArray:
        """log_q of given fields with a backward path drawn from `rng`, (n,) float64."""
        fields: FloatArray = real_array(phi, "phi")
        last, log_q_inner = ask_invert(self.inner, fields, rng)
        action = np.asarray(self.action(fields))
        log_q = np.empty(len(last))
        for part in parts(len(last), self.inner.batch):
            noise, log_u = self._moves(part.stop - part.start, self.rungs - 1, rng)
            log_weight = -action[part] - log_q_inner[part]
            state: State = (last[part], None, log_weight)
            work = log_weight / self.rungs
            for j in range(self.rungs - 1, 0, -1):
                state = self._move(state, noise[:, j - 1], log_u[:, j - 1], j / self.rungs)
                work = work + state[2] / self.rungs
            log_q[part] = -action[part] - work
        return log_q

    def _moves(self, n: int, n_fields: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Noise (n, n_fields, ...) and log-uniforms (n, rungs - 1), consumed path by path: cuts do not matter."""
        noise, uniform = np.empty((n, n_fields, *self.inner.noise_shape)), np.empty((n, self.rungs - 1))
        for i in range(n):
            noise[i] = rng.standard_normal(noise.shape[1:])
            uniform[i] = rng.random(self.rungs - 1)
        return noise, np.log1p(-uniform)

    def _transport(self, noise: FloatArray) -> tuple[FloatArray, FloatArray]:
        draw = ask_transport(self.inner, noise)
        return draw.phi, -np.asarray(self.action(draw.phi)) - draw.log_q

    def _move(self, state: State, noise: FloatArray, log_u: FloatArray, beta: float) -> State:
        """One reversible move of every path at inverse temperature `beta`."""
        y, phi, log_weight = state
        proposed = np.sqrt(1 - self.step**2) * y + self.step * noise
        fields, log_weight_new = self._transport(proposed)
        # a proposal that blew up is rejected; a path that began with one (weight zero for good) may leave it
        with np.errstate(invalid="ignore"):
            accept = (log_u < beta * (log_weight_new - log_weight)) & (log_weight_new > -np.inf)
        where = accept.reshape(-1, *[1] * (y.ndim - 1))
        y = np.where(where, proposed, y)
        if phi is not None:
            phi = np.where(accept.reshape(-1, *[1] * (phi.ndim - 1)), fields, phi)
        return y, phi, np.where(accept, log_weight_new, log_weight)


@torch_defaults()
def tuned_step(
    inner: Refinable,
    rng: np.random.Generator,
    n: int = 128,
    action: Action | None = None,
    steps: Sequence[float] = STEPS,
) -> float:
    r"""Step of the moves whose accepted jumps of log_weight are largest, near the target.

    With r the correlation of log_weight before and after a move of pure noise, and s its standard deviation,
    Gaussian log-weights are accepted with probability :math:`\mathrm{erfc}(s \sqrt{1 - r} / 2)` at beta = 1 and
    jump by :math:`2 (1 - r)\,s^2` in the mean square; the product is largest at an acceptance of 0.23, and for s below
    1.7 at fresh draws. Neither r nor s needs an exponential of log_weight, so few pilot draws do. Freeze the step
    before anything that counts.

    Parameters
    ----------
    inner, action
        As `RefinedProposal`.
    rng : numpy.random.Generator
    n : int
        Pilot draws; the cost is ``n * (1 + len(steps))`` passages.
    steps : sequence of float
        Candidates.

    Returns
    -------
    float

    Raises
    ------
    UserError
        Fewer than three pilot draws are usable.
    """
    probe = RefinedProposal(inner, 2, 1.0, action)
    y, xi = (rng.standard_normal((n, *inner.noise_shape)) for _ in range(2))
    _, log_weight = probe._transport(y)
    usable = np.isfinite(log_weight)
    if usable.sum() < 3:
        raise UserError(f"{usable.sum()} of {n} pilot draws have a weight: train the model further before refining it")
    s = log_weight[usable].std()
    if s == 0:
        return float(max(steps))
    jumps = []
    for step in steps:
        _, moved = probe._transport(np.sqrt(1 - step**2) * y + step * xi)
        both = usable & np.isfinite(moved)
        # half the mean square jump in place of 1 - r: less noise where r is near one
        lost = min(1.0, 0.5 * float(np.mean((moved[both] - log_weight[both]) ** 2)) / s**2) if both.any() else 0.0
        # on independent noise r is zero, not what n draws make of it
        lost = 1.0 if step == 1 else lost
        jumps.append(lost * math.erfc(0.5 * s * math.sqrt(lost)))
    return float(steps[int(np.argmax(jumps))])

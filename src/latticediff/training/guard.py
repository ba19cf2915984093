r"""A guard over training through an integrator: is a gain on its grid confirmed on a finer one?

The flow on a coarse grid is no density. The mean of :math:`S + \log q` over its draws bounds the free energy
:math:`-\log Z` from above only in the limit of small steps, so an optimiser that sees the coarse grid alone
can push the estimate through the floor. F(n) being that mean with n steps, both from the same fresh noise,
training stops where

* F(n) < F(2 n) by more than `n_sigma` errors of F, and F(2 n) has risen above its lowest value so far or the gap
  exceeds the spread of log_weight: the coarse grid flatters the model,
* or -log ESS with 2 n steps, reverse or forward, has significantly grown to more than `TOLERANCE` times its
  first value, or the largest forward log_weight by more than `TAIL`: the model got worse where it counts.

Held-out configurations are weighed by one integration with 2 n steps (`OdeProposal.estimate`): what that leaves is as
small as the integration error of the fine grid, and one look is to be compared with others of its kind.
"""

import copy
import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from ..analysis import Estimate, ess_forward, ess_reverse, largest_above_mean
from ..diffusion.ladder import NoiseRange
from ..gaussian.reference import GaussianReference
from ..model.score_model import ScoreModel
from ..proposal import OdeProposal
from .data import by_chain, evenly
from .rows import StreamedRows

__all__ = ["Check", "Guard"]

TOLERANCE = 1.5
TAIL = 1.0
START_GAP = 0.25  # of the spread of log_weight: a grid to start with leaves room for the spread to shrink


@dataclass(frozen=True)
class Check:
    """What one look at a network showed; all but `free_energy` was measured with twice the integration steps."""

    step: int
    free_energy: float  #: <S + log_q> of draws on the coarse grid
    free_energy_fine: float
    error: float  #: of either
    var_reverse: float  #: of log_weight, per site
    var_forward: float
    ess_reverse: tuple[float, float]  #: value, error
    ess_forward: tuple[float, float]
    largest_forward: float  #: log_weight above its mean
    diverged: int  #: draws of weight zero
    task: int = 0  #: number of the theory, where there are several

    @property
    def flattery(self) -> float:
        """By how many standard errors the free energy on the coarse grid is below that on the fine one."""
        return (self.free_energy_fine - self.free_energy) / self.error if self.error > 0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


class Guard:
    """Looks at a network now and then, and says when to stop.

    Parameters
    ----------
    gaussian : GaussianReference
    noise : NoiseRange
    held_out : tensor, shape (n, *lattice)
        Configurations of the ensemble that nothing is trained on.
    steps : int
        Of the coarse grid, which is the one trained on.
    n : int
        Draws, and at most as many held-out configurations.
    n_sigma : float
    seed : int
    method : str
        Runge-Kutta scheme.
    n_chains : int
        Chains that take turns in `held_out`.
    """

    def __init__(
        self,
        gaussian: GaussianReference,
        noise: NoiseRange,
        held_out: Tensor | StreamedRows,
        steps: int,
        n: int = 512,
        n_sigma: float = 4.0,
        seed: int = 0,
        method: str = "rk4",
        n_chains: int = 1,
    ) -> None:
        self.gaussian, self.noise, self.steps, self.method = gaussian, noise, steps, method
        self.n, self.n_sigma, self.seed = n, n_sigma, seed
        # every k-th, so that all of the Monte Carlo time is covered
        self.held_out, self._n_rows, self._n_chains = evenly(held_out, n), len(held_out), n_chains
        self.first: Check | None = None
        self.lowest: Check | None = None

    def look(self, network: nn.Module, step: int) -> Check:
        """`Check` of a network; draws depend on seed and step alone."""
        model = ScoreModel.for_flow(copy.deepcopy(network), self.gaussian, self.noise)
        coarse = OdeProposal(model, self.steps, self.method)
        fine, action = coarse.doubled(), model.action
        draw, draw_fine = (p.draw(self.n, np.random.default_rng([self.seed, step])) for p in (coarse, fine))
        F, F_fine = (action(d.phi) + d.log_q for d in (draw, draw_fine))
        both = np.isfinite(F) & np.isfinite(F_fine)
        enough = both.sum() > 1  # else nothing can be said but that
        forward = -action(self.held_out) - fine.estimate(self.held_out)
        reached = bool(np.isfinite(forward).all())
        reverse = ess_reverse(-F_fine) if enough else Estimate(0.0, 0.0)
        seen = ess_forward(by_chain(forward, self._n_rows, self._n_chains)) if reached else Estimate(0.0, 0.0)
        volume = self.gaussian.volume
        return Check(
            step=step,
            free_energy=float(F[both].mean()) if enough else math.inf,
            free_energy_fine=float(F_fine[both].mean()) if enough else math.inf,
            error=float(F_fine[both].std() / math.sqrt(both.sum())) if enough else math.inf,
            var_reverse=float(F_fine[both].var() / volume) if enough else math.inf,
            var_forward=float(forward.var() / volume) if reached else math.inf,
            ess_reverse=(reverse.value, reverse.error),
            ess_forward=(seen.value, seen.error),
            largest_forward=largest_above_mean(forward) if reached else math.inf,
            diverged=int(self.n - np.isfinite(F_fine).sum()),
        )

    def verdict(self, check: Check) -> str:
        """Why this network must not be kept, in words; ``""`` if it may.

        The first check is the one with which later ones are compared.
        """
        if not math.isfinite(check.error):
            return f"{check.diverged} of {self.n} draws diverge"
        if check.flattery > self.n_sigma and self._unconfirmed(check):
            return (
                f"{self.steps} integration steps put the free energy {check.flattery:.1f} errors below that of"
                f" {2 * self.steps} steps ({check.free_energy:.4f} for {check.free_energy_fine:.4f}):"
                " the integration error is being trained, not the model"
            )
        if self.lowest is None or check.free_energy_fine < self.lowest.free_energy_fine:
            self.lowest = check
        if self.first is None:
            self.first = check
            return ""
        for name in ("reverse", "forward"):
            (before, error_before), (now, error) = getattr(self.first, f"ess_{name}"), getattr(check, f"ess_{name}")
            allowed = before**TOLERANCE - self.n_sigma * math.hypot(error_before, error)
            if not now >= allowed:
                return f"{name} ESS fell from {before:.4f} to {now:.4f} with {2 * self.steps} integration steps"
        if not check.largest_forward <= self.first.largest_forward + TAIL:
            return (
                f"the largest forward log_weight rose from {self.first.largest_forward:.2f} to"
                f" {check.largest_forward:.2f} above the mean: configurations that the model hardly ever draws"
            )
        return ""

    def _unconfirmed(self, check: Check) -> bool:
        """Whether the coarse grid shows a gain in free energy that the fine grid does not confirm.

        A constant error of the coarse grid is harmless: it cancels in every ratio of weights. It is held against a
        network if it has grown since the first check by more than the spread of log_weight, which falls below the
        constant on large lattices, or if the free energy on the fine grid has risen.
        """
        gap, spread = check.free_energy_fine - check.free_energy, check.error * math.sqrt(self.n)
        if self.lowest is None:
            return gap > START_GAP * spread
        assert self.first is not None  # there is a lowest check, so there was a first one
        if gap - max(0.0, self.first.free_energy_fine - self.first.free_energy) > spread:
            return True
        rise = check.free_energy_fine - self.lowest.free_energy_fine
        return rise > self.n_sigma * math.hypot(check.error, self.lowest.error)

"""Pilot chains of a search: what one choice of settings costs for an independent value, and the budget of all."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike

from ..action import Action
from ..action.links import coupling_scale, only_nearest
from ..errors import UserError
from ..markov import ChainState
from ..observables import measure_primary
from ..observables import observable as primary
from ..streams import Streams
from ..types import FloatArray
from .integrators import INTEGRATORS
from .kernel import HMC

__all__ = ["OVERHEAD", "Measure", "Pilot", "Trials", "measure_named", "overhead"]

Measure = Callable[[FloatArray, FloatArray], ArrayLike]  #: of fields (n, n_chains, *lattice) and actions (n, n_chains)

#: Force evaluations that take as long as the rest of a trajectory; 5 to 9 from 8x8 to 64x64 on one AVX-512 core.
OVERHEAD = 6.0
#: The same with Fourier masses, whose evaluations are dearer: 2 to 4.
FOURIER_OVERHEAD = 3.0
LEAST_TAUS = 10  # length of every chain of a pilot
BLOCK_BYTES = 1 << 25


def overhead(mass: float | None) -> float:
    """What a trajectory takes beside its force evaluations, in evaluations; see `OVERHEAD`."""
    return OVERHEAD if mass is None else FOURIER_OVERHEAD


@dataclass(eq=False)
class Pilot:
    """Chains at one choice of length, integrator and step size, and what they have shown so far."""

    kernel: HMC
    target: float
    state: ChainState
    number: int
    series: list[FloatArray] = field(default_factory=list)
    tau: float = math.inf
    error: float = math.inf
    n_updates: int = 0

    @property
    def evaluations(self) -> float:
        """Cost of an update: its force evaluations and its overhead, in units of one evaluation."""
        return self.kernel.force_evaluations_per_update + overhead(self.kernel.mass)

    @property
    def cost(self) -> tuple[float, float]:
        """``2 tau_int (n_F + c)`` and its error."""
        return 2 * self.tau * self.evaluations, 2 * self.error * self.evaluations

    def row(self) -> dict[str, Any]:
        """The choice and what it has shown, JSON-able."""
        finite = [value if math.isfinite(value) else None for value in (self.tau, self.error, *self.cost)]
        return {
            "trajectory_length": self.kernel.trajectory_length,
            "integrator": self.kernel.integrator,
            "n_leapfrog": self.kernel.n_leapfrog,
            "target_acceptance": self.target,
            **({} if self.kernel.mass is None else {"mass": self.kernel.mass}),
            "tau_int": finite[:2],
            "cost": finite[2:],
            "n_updates": self.n_updates,
        }


class Trials:
    """What the pilots of one search share: streams, chains in equilibrium, and the budget."""

    def __init__(
        self,
        action: Action,
        phi: FloatArray,
        streams: Streams,
        observable: Measure,
        integrators: tuple[str, ...],
        jitter: float,
        mass: float | None,
        budget: int,
        updates_per_round: int | None,
        tell: Callable[[int], object] | None = None,
    ) -> None:
        self.action, self.streams, self.integrators = action, streams.child("search"), integrators
        self.measure = observable
        self.tell = tell or (lambda spent: None)
        self.jitter, self.mass = jitter, mass  # the mass of the pilots to come
        # an acceptance to 2 % takes some hundred trajectories, of whatever number of chains
        self.updates_per_round = updates_per_round or max(2, 320 // max(1, len(phi)))
        self.budget, self.spent, self.begun, self.phi = budget, 0, 0, phi
        self.pilots: list[Pilot] = []
        # one harmonic oscillator of the theory at lam = 0: V'' is gone beside c at the critical point
        scale = action.hopping if only_nearest(action) else coupling_scale(action)
        self.unit = math.pi / (2 * math.sqrt(scale)) if scale > 0 else 1.0

    @property
    def options(self) -> dict[str, Any]:
        """What `HMC` is given besides step, length and integrator."""
        return {"jitter": self.jitter, "mass": self.mass}

    def pilot(self, length: float, target: float, integrators: tuple[str, ...] | None = None) -> Pilot | None:
        """A new pilot at a length and acceptance, with the integrator of fewest evaluations; None: none is accepted."""
        from .tuning import warm_up

        found: list[tuple[int, int, HMC, ChainState]] = []
        self.begun += 1
        for name in integrators or self.integrators:
            branch = self.streams.child(f"step-{self.begun}-{name}")
            try:
                kernel, state = warm_up(
                    self.action, self.phi, branch, target, length, name,
                    n_rounds=6, updates_per_round=self.updates_per_round, **self.options,
                )  # fmt: skip
            except UserError:
                if self.begun == 1 and name == self.integrators[-1] and not found:
                    raise  # from these fields nothing works
                continue
            rounds = cast("dict[str, Any]", kernel.tuning)["n_steps_and_acceptance"]  # `warm_up` records them
            inner = len(INTEGRATORS[name][2])
            self.spent += self.updates_per_round * sum(n * inner + 1 for n, _ in rounds)
            self.tell(self.spent)
            found.append((kernel.force_evaluations_per_update, len(found), kernel, state))
        if not found:
            return None
        _, _, kernel, state = min(found, key=lambda entry: entry[:2])
        self.phi = state.phi
        plain = HMC(self.action, kernel.step_size, kernel.n_leapfrog, kernel.integrator, **self.options)
        return Pilot(plain, target, state, self.begun)

    def run(self, pilot: Pilot, n_updates: int) -> int:
        """More updates of a pilot, as many as the budget allows; returns how many."""
        each = pilot.kernel.force_evaluations_per_update
        n_updates = int(max(0, min(n_updates, (self.budget - self.spent) // each)))
        left, length = n_updates, max(1, int(BLOCK_BYTES / pilot.state.phi.nbytes))
        while left > 0:
            n = min(left, length)
            pilot.state, block = pilot.kernel.advance(pilot.state, self.streams.child(f"pilot-{pilot.number}"), n)
            pilot.series.append(np.asarray(self.measure(block.phi, block.action), np.float64))
            left -= n
            self.tell(int(self.spent + each * (n_updates - left)))
        if n_updates > 0:
            self.spent += each * n_updates
            pilot.n_updates += n_updates
            self.phi = pilot.state.phi
        return n_updates

    def refine(self, pilot: Pilot, precision: float) -> None:
        """Run on until tau_int is known to `precision` or the budget ends; a pilot with a tau_int is a candidate."""
        n_chains, wanted = len(pilot.state.phi), max(40, 1600 // len(pilot.state.phi))
        while True:
            ran = self.run(pilot, wanted - pilot.n_updates)
            _estimate(pilot)
            known = pilot.error < precision * pilot.tau and pilot.n_updates > LEAST_TAUS * pilot.tau
            if math.isfinite(pilot.tau) and pilot not in self.pilots:
                self.pilots.append(pilot)
            if known or (ran == 0 and wanted > pilot.n_updates):
                return
            # the relative error falls like 1 / sqrt(n), and is a guess itself: a factor of two at most
            ratio = (pilot.error / (precision * pilot.tau)) ** 2 if math.isfinite(pilot.tau) else 2.0
            least = LEAST_TAUS * pilot.tau if math.isfinite(pilot.tau) else 0
            wanted = int(min(2 * pilot.n_updates, max(1.1 * ratio * pilot.n_updates, least, pilot.n_updates + 16))) + 1
            wanted = max(wanted, pilot.n_updates + 2, 2 * LEAST_TAUS // n_chains)


def measure_named(name: str, action: Action) -> Measure:
    if primary(name).derived:
        raise UserError(f"observable {name!r} is derived from means; its chain has no tau_int: name one that is not")
    if name == "action":
        return lambda phi, values: values  # known already
    return lambda phi, values: measure_primary(phi, action, [name])[name].T


def _estimate(pilot: Pilot) -> None:
    from ..analysis import tau_int  # a later room; the search alone wants it

    if pilot.n_updates < 8:
        return
    values = np.concatenate(pilot.series).T
    try:
        found = tau_int(values, name="observable of the search")
    except UserError:  # nothing moved
        return
    pilot.tau, pilot.error = found.value, found.error

r"""Step size for a target acceptance, found during warm-up and then frozen.

For a trajectory of fixed length the violation ``delta_h`` is nearly Gaussian with mean s^2/2 and
standard deviation s, so that the acceptance is :math:`\mathrm{erfc}(s / 2\sqrt 2)` (Gupta, Irbäck,
Karsch, Petersson, Phys. Lett. B 242 (1990) 437), and s grows like step_size^order. Inverting that
gives the next step size from a measured acceptance. A kernel that went on adapting would not
leave exp(-S) invariant: `tune` returns a frozen one, and the updates of the search are warm-up.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import erfcinv

from ..action import Action
from ..errors import UserError
from ..host import numpy_defaults
from ..markov import ChainState
from ..streams import Streams
from .integrators import ORDERS
from .kernel import HMC
from .search import SEARCH, search

__all__ = ["tune", "warm_up"]

_MAX_STEPS = 4096


def _spread(acceptance: float) -> float:
    """s with ``erfc(s / 2 sqrt 2) = acceptance``."""
    return 2 * math.sqrt(2) * float(erfcinv(acceptance))


@numpy_defaults()
def warm_up(
    action: Action,
    phi: ArrayLike,
    streams: Streams,
    target_acceptance: float = 0.85,
    trajectory_length: float = 1.0,
    integrator: str = "leapfrog",
    jitter: float = 0.0,
    n_rounds: int = 10,
    updates_per_round: int = 20,
    **options: Any,
) -> tuple[HMC, ChainState]:
    """The kernel of `tune`, and the state in which the search left the chains. Parameters as there.

    Where target, length, integrator or mass is "search", `latticediff.hmc.search.search` looks for it and takes the
    options.

    Returns
    -------
    kernel : HMC
    state : ChainState
        At update 0: what came before is warm-up and does not count.

    Raises
    ------
    UserError
        As `tune`; or fewer than two rounds, or than one update in each.
    """
    if SEARCH in (target_acceptance, trajectory_length, integrator, options.get("mass")):
        return search(action, phi, streams, target_acceptance, trajectory_length, integrator, jitter, **options)
    if not 0 < target_acceptance < 1:
        raise UserError(f"target_acceptance is {target_acceptance!r}; expected a number between 0 and 1")
    if not (math.isfinite(trajectory_length) and trajectory_length > 0):
        raise UserError(f"trajectory_length is {trajectory_length!r}; expected a positive number")
    if n_rounds < 2 or updates_per_round < 1:
        raise UserError(
            f"n_rounds is {n_rounds!r} and updates_per_round {updates_per_round!r}; expected at least 2 and 1"
        )

    def kernel(n_steps: int, tuning: dict[str, Any] | None = None) -> HMC:
        return HMC(action, trajectory_length / n_steps, n_steps, integrator, jitter, tuning=tuning, **options)

    order = ORDERS.get(integrator, 2)
    wanted = _spread(target_acceptance)
    branch = streams.child("tune")
    n_steps = max(1, math.ceil(trajectory_length / 0.1))
    current = kernel(n_steps)
    state = current.start(phi)
    history, usable = [], []
    for r in range(n_rounds):
        current = kernel(n_steps)
        state, block = current.advance(state, branch.child(f"round-{r}"), updates_per_round)
        state = state._replace(update=0)
        # min(1, exp(-delta_h)) is the acceptance with the coin toss averaged out
        acceptance = float(np.exp(-np.maximum(block.info["delta_h"], 0.0)).mean())
        history.append([n_steps, acceptance])
        if acceptance < 0.02:
            if n_steps >= _MAX_STEPS:
                raise UserError(
                    f"HMC rejects everything at step size {trajectory_length / n_steps:g}; start from smaller fields"
                    " or shorten the trajectory"
                )
            n_steps = min(2 * n_steps, _MAX_STEPS)
            continue
        # per-step constant of s = constant * step_size^order, from the later half (the chain is still warming up)
        usable.append(_spread(min(acceptance, 1 - 1e-4)) * n_steps**order)
        constant = float(np.mean(usable[len(usable) // 2 :]))
        n_steps = min(max(1, math.ceil((constant / wanted) ** (1 / order))), 2 * n_steps, _MAX_STEPS)
    if not usable:
        raise UserError(f"HMC accepted nothing in {n_rounds} rounds of tuning; start from smaller fields")
    tuning = {
        "target_acceptance": target_acceptance,
        "n_rounds": n_rounds,
        "updates_per_round": updates_per_round,
        "n_steps_and_acceptance": history,
    }
    return kernel(n_steps, tuning), state


@numpy_defaults()
def tune(
    action: Action,
    phi: ArrayLike,
    streams: Streams,
    target_acceptance: float = 0.85,
    trajectory_length: float = 1.0,
    **options: Any,
) -> HMC:
    """HMC with the largest step size that meets a target acceptance, at a fixed trajectory length or at the cheapest.

    ``tune(action, phi, streams, "search", "search", integrator="search", jitter=0.1)`` looks for all three settings,
    those of the fewest force evaluations per independent ``|m|``: `latticediff.hmc.search`. With ``mass="search"`` it
    looks for the mass of Fourier acceleration too.

    Parameters
    ----------
    action : LocalAction
    phi : array_like, shape (n_chains, *lattice)
        Where the search starts; hot, cold or thermalised.
    streams : Streams
        Draws come from its branch ``"tune"``.
    target_acceptance : float
        Between 0 and 1, or "search"; 0.8 to 0.9 costs least for second-order schemes.
    trajectory_length : float
        In units of molecular-dynamics time, or "search".
    integrator, jitter, mass, n_rounds, updates_per_round
        See `HMC`; rounds of the search for a step size and updates in each. `integrator` and `mass` may be "search".
    observable, precision, budget
        Of a search, see `latticediff.hmc.search.search`.

    Returns
    -------
    HMC
        Frozen; ``describe()["tuning"]`` records the search.

    Raises
    ------
    UserError
        A target outside (0, 1), a length that is not positive, or fields from which nothing is ever accepted.
    """
    return warm_up(action, phi, streams, target_acceptance, trajectory_length, **options)[0]

r"""HMC among the fine fields of one coarse field: the exact conditional, :math:`e^{-S(\phi)}\,\delta(B\phi - \Phi)`.

Momenta and forces are projected on the fields that the blocking does not see, by

.. math:: P = 1 - B^T (B B^T)^{-1} B,

so leapfrog steps stay on the plane :math:`B\phi = \Phi`, preserve its volume and are reversible: the accept step with
the whole :math:`\Delta H` makes the kernel exact there. Details thermalise before the long waves, which the coarse
field has brought along, are let go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ..errors import UserError
from ..markov import Block, ChainState
from .conditional import ConditionalGaussian
from .kernel import Blocking

if TYPE_CHECKING:
    from ..action import Action
    from ..streams import Streams
    from ..types import Description, FloatArray, Shape

__all__ = ["HeldHMC"]

ROUNDS, UPDATES = 8, 10  #: of the search for a step size


class HeldHMC:
    """Hybrid Monte Carlo at fixed block spins, a kernel as `latticediff.markov.Kernel`.

    Parameters
    ----------
    action : Action
    blocking : Blocking
    shape : tuple of int
        The fine lattice.
    step_size : float
    n_leapfrog : int

    Raises
    ------
    UserError
        Numbers that are not positive, or a lattice that the blocking does not divide.
    """

    def __init__(
        self, action: Action, blocking: Blocking, shape: Shape, step_size: float, n_leapfrog: int = 10
    ) -> None:
        if not (np.isfinite(step_size) and step_size > 0 and n_leapfrog >= 1):
            raise UserError(f"step_size = {step_size}, n_leapfrog = {n_leapfrog}; expected positive numbers")
        self.action, self.blocking, self.shape = action, blocking, tuple(shape)
        self.step_size, self.n_leapfrog = float(step_size), int(n_leapfrog)
        self.force_evaluations_per_update = n_leapfrog + 1
        # with white noise for a propagator, the mean given a coarse field is B^T (B B^T)^-1 of it
        self._white = ConditionalGaussian(np.ones(self.shape), blocking)

    @classmethod
    def tuned(cls, action: Action, blocking: Blocking, phi: FloatArray, rng: Streams) -> Self:
        """Trajectories of length 1, in steps that are accepted in 70 to 95 % of the updates of `phi`; then frozen.

        Raises
        ------
        UserError
            No step size is accepted.
        """
        n = 10
        for round_ in range(ROUNDS):
            kernel = cls(action, blocking, phi.shape[1:], 1 / n, n)
            state, block = kernel.advance(kernel.start(phi), rng.child(f"round-{round_}"), UPDATES, UPDATES)
            accepted = float(block.info["accepted"].mean())
            phi = state.phi
            if 0.7 <= accepted <= 0.95:
                return kernel
            n = max(1, round(n * (1.5 if accepted < 0.7 else 0.75)))
        if accepted < 0.1:
            raise UserError(f"{action!r}: no step size is accepted at fixed coarse fields ({1 / n:g}: {accepted:.2f})")
        return kernel

    def start(self, phi: FloatArray) -> ChainState:
        """`ChainState` at update 0 from fields (n_chains, *lattice), whose block spins are kept."""
        return ChainState(np.array(phi, np.float64), np.asarray(self.action(phi)), 0)

    def advance(self, state: ChainState, rng: Streams, n_updates: int, thin: int = 1) -> tuple[ChainState, Block]:
        """See `latticediff.markov.Kernel`; info holds ``accepted`` and ``delta_h``."""
        momenta, coins = rng.generator("momenta"), rng.generator("accept")
        phi, S = state.phi, np.asarray(state.action, np.float64)
        kept, actions = [], []
        info: dict[str, list[Any]] = {"accepted": [], "delta_h": []}
        for update in range(state.update + 1, state.update + n_updates + 1):
            p = self.projected(momenta.standard_normal(phi.shape))
            new, q = self._trajectory(phi, p)
            with np.errstate(over="ignore", invalid="ignore"):
                S_new = np.asarray(self.action(new))
                delta_h = S_new - S + 0.5 * ((q**2).reshape(len(q), -1).sum(1) - (p**2).reshape(len(p), -1).sum(1))
            # a trajectory that diverged has no finite H: the comparison is false
            accepted = np.log(coins.random(len(phi))) < -np.nan_to_num(delta_h, nan=np.inf)
            phi = np.where(accepted.reshape(-1, *[1] * len(self.shape)), new, phi)
            S = np.where(accepted, S_new, S)
            info["accepted"].append(accepted)
            info["delta_h"].append(delta_h)
            if update % thin == 0:
                kept.append(phi)
                actions.append(S)
        fields = np.array(kept).reshape(-1, *phi.shape)
        block = Block(fields, np.array(actions).reshape(-1, len(phi)), {k: np.array(v) for k, v in info.items()})
        return state._replace(phi=phi, action=S, update=state.update + n_updates), block

    def projected(self, fields: FloatArray) -> FloatArray:
        """Fields (n, *lattice) without the part that the blocking sees."""
        return fields - self._white.response(self.blocking(fields))

    def _trajectory(self, phi: FloatArray, p: FloatArray) -> tuple[FloatArray, FloatArray]:
        with np.errstate(over="ignore", invalid="ignore"):
            p = p + 0.5 * self.step_size * self.projected(self.action.force(phi))
            for step in range(1, self.n_leapfrog + 1):
                phi = phi + self.step_size * p
                if not np.isfinite(phi).all():  # its H is not finite either
                    return np.where(np.isfinite(phi), phi, 1e150), p
                last = step == self.n_leapfrog
                p = p + (0.5 if last else 1.0) * self.step_size * self.projected(self.action.force(phi))
        return phi, p

    def describe(self) -> Description:
        """JSON-able parameters."""
        told = {"step_size": self.step_size, "n_leapfrog": self.n_leapfrog, "blocking": self.blocking.describe()}
        return {"name": "held_hmc", **told}

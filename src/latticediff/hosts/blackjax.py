"""Proposals inside BlackJAX: its independent Metropolis kernel, jitted and vmapped, with our draws by a callback.

A position is a field with its S and log_q, so nothing is weighed, and JAX only compares. There is no gradient of
log_q: kernels that want one (HMC, NUTS, MALA) move fields and cannot use a proposal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import UserError

try:
    import blackjax

    from .jax_draws import Position, drawing
except ImportError as exc:
    raise UserError(f"latticediff.hosts.blackjax needs BlackJAX ({exc}); pip install 'latticediff[blackjax]'") from None

if TYPE_CHECKING:
    from .proposal import HostProposal

__all__ = ["Position", "irmh"]


def irmh(proposal: HostProposal) -> tuple[Any, Any]:
    """``(algorithm, draw)``: ``blackjax.irmh`` for the proposal's own theory, and ``draw(key) -> Position`` to start.

    Under ``vmap`` all chains are drawn in one batch: the kernel of n chains costs what n draws cost at once.

    Parameters
    ----------
    proposal : HostProposal
        Any route: the density is that of the draw, which the position carries.

    Returns
    -------
    algorithm : blackjax.SamplingAlgorithm
    draw : callable

    Raises
    ------
    UserError
        JAX computes in single precision, where a log density of a large lattice has no digits to compare.
    """
    draw = drawing(proposal)
    algorithm = blackjax.irmh(lambda position: -position.action, draw, lambda before, after: after.position.log_q)
    return algorithm, draw

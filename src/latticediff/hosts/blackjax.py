"""Proposals inside BlackJAX: its independent Metropolis kernel, jitted and vmapped, with our draws by a callback.

A position is a field with its S and log_q, so nothing is weighed, and JAX only compares. There is no gradient of
log_q: kernels that want one (HMC, NUTS, MALA) move fields and cannot use a proposal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import UserError

try:
    import blackjax
    import jax
except ImportError as exc:
    raise UserError(f"latticediff.hosts.blackjax needs BlackJAX ({exc}); pip install 'latticediff[blackjax]'") from None

if TYPE_CHECKING:
    from .proposal import HostProposal

__all__ = ["Position", "irmh"]


class Position(NamedTuple):
    """Where a chain stands; arrays of JAX, float64, with the axes of ``vmap`` in front."""

    phi: Any  #: (*lattice)
    action: Any  #: ()
    log_q: Any  #: ()


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
    if not jax.config.read("jax_enable_x64"):
        raise UserError("JAX computes in float32; set jax.config.update('jax_enable_x64', True) before the first array")
    shape = proposal.shape
    one = Position(*(jax.ShapeDtypeStruct(extents, np.float64) for extents in (shape, (), ())))

    def host(key: Any) -> Position:
        words = np.asarray(key)
        lead = words.shape[:-1]
        n = int(np.prod(lead))
        draw = proposal.draw(n, np.random.default_rng(words.ravel().tolist()))
        action = np.asarray(proposal.action(draw.phi))
        return Position(draw.phi.reshape(*lead, *shape), action.reshape(lead), draw.log_q.reshape(lead))

    def draw(key: Any) -> Position:
        words = jax.random.key_data(key)
        position: Position = jax.pure_callback(host, one, words, vmap_method="expand_dims")
        return position

    algorithm = blackjax.irmh(lambda position: -position.action, draw, lambda before, after: after.position.log_q)
    return algorithm, draw

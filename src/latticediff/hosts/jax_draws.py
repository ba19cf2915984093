"""Draws of a proposal as functions of JAX, by a callback: what adapters of packages built on JAX share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import UserError

if TYPE_CHECKING:
    from .proposal import HostProposal

__all__ = ["Position", "drawing"]


class Position(NamedTuple):
    """Where a chain stands; arrays of JAX, float64, with the axes of ``vmap`` in front."""

    phi: Any  #: (*lattice)
    action: Any  #: ()
    log_q: Any  #: ()


def drawing(proposal: HostProposal) -> Callable[[Any], Position]:
    """``draw(key) -> Position``, a function of the key, which may be jitted; under ``vmap`` all are drawn in one batch.

    Parameters
    ----------
    proposal : HostProposal

    Raises
    ------
    UserError
        JAX computes in single precision, where a log density of a large lattice has no digits to compare.
    """
    import jax  # wanted by the hosts that call this, not by the package

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
        typed = jax.numpy.issubdtype(key.dtype, jax.dtypes.prng_key)
        words = jax.random.key_data(key) if typed else key
        position: Position = jax.pure_callback(host, one, words, vmap_method="expand_dims")
        return position

    return draw

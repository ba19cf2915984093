"""Proposals inside flowMC: a kernel for its group steps, with our draws by a callback.

flowMC's own global proposal is a flow that it trains; its interface of kernels asks for less: positions after n steps,
their log probabilities, what was accepted. So a density from outside can serve, and flowMC's loops, buffers and local
kernels stay what they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..errors import UserError

try:
    import equinox
    import jax
    from flowMC.resource.kernel.base import ProposalBase
    from flowMC.resource.logPDF import LogPDF

    from .jax_draws import drawing
except ImportError as exc:
    raise UserError(f"latticediff.hosts.flowmc needs flowMC ({exc}); pip install 'latticediff[flowmc]'") from None

if TYPE_CHECKING:
    from .proposal import HostProposal

__all__ = ["Independence", "log_prob"]


def log_prob(proposal: HostProposal) -> Any:
    """``-S`` of flattened fields as a ``LogPDF`` of flowMC, by a callback; without a gradient."""
    one = jax.ShapeDtypeStruct((), np.float64)

    def host(position: Any) -> Any:
        fields = np.asarray(position, np.float64)
        return -np.asarray(proposal.action(fields.reshape(-1, *proposal.shape))).reshape(fields.shape[:-1])

    def minus_action(position: Any, data: Any) -> Any:
        return jax.pure_callback(host, one, position, vmap_method="expand_dims")

    return LogPDF(minus_action, n_dims=int(np.prod(proposal.shape)))


class Independence(ProposalBase):  # type: ignore[misc]  # flowMC's classes are untyped here
    r"""Independent Metropolis for ``flowMC.strategy.take_steps.TakeGroupSteps``.

    A candidate is taken with probability :math:`\min(1, p(x') q(x) / (p(x) q(x')))`, p the ``logpdf`` of the sampler,
    so another theory than the model's is sampled exactly, too. The candidates of all steps and chains are drawn in one
    batch; the field with which a group begins is weighed, since flowMC hands over positions alone.

    Parameters
    ----------
    proposal : HostProposal
        Of a deterministic density (``ode``): a path proposal would have to carry its path.

    Raises
    ------
    UserError
        A path proposal, or JAX computes in single precision, where a log density of a large lattice has no digits to
        compare.
    """

    draw: Callable[[Any], Any] = equinox.field(static=True)
    weigh: Callable[[Any], Any] = equinox.field(static=True)

    #: that of flowMC's own kernels: what a checkpoint does not hold
    unsaved: ClassVar[str] = "a proposal of latticediff is made anew from its model"

    def __init__(self, proposal: HostProposal) -> None:
        if not proposal.is_deterministic:
            raise UserError(
                "flowMC's positions are fields, without the path that a density of route sde is of; use ode"
            )
        self.draw = drawing(proposal)
        one = jax.ShapeDtypeStruct((), np.float64)

        def host(position: Any) -> Any:
            fields = np.asarray(position, np.float64)
            log_q = proposal.weigh(fields.reshape(-1, *proposal.shape)).log_q
            if not np.isfinite(log_q).all():
                raise UserError("a chain stands at a field that no draw leads to; start from draws of the proposal")
            return log_q.reshape(fields.shape[:-1])

        def weigh(position: Any) -> Any:
            return jax.pure_callback(host, one, position, vmap_method="expand_dims")

        self.weigh = weigh

    def kernel(self, rng_key: Any, position: Any, log_prob: Any, logpdf: Any, data: Any) -> tuple[Any, Any, Any]:
        """``(positions, log_probs, accepted)`` after each of ``data["n_steps"]`` updates of one chain."""
        n, numpy = data["n_steps"], jax.numpy
        draws_key, coins_key = jax.random.split(rng_key)
        drawn = jax.vmap(self.draw)(jax.random.split(draws_key, n))
        candidates = drawn.phi.reshape(n, -1)
        log_p = jax.vmap(logpdf, in_axes=(0, None))(candidates, data)
        # a draw that blew up has log_q = +inf, hence weight zero, whatever S its field has
        log_w = numpy.where(numpy.isfinite(drawn.log_q), log_p - drawn.log_q, -numpy.inf)
        coins = numpy.log(jax.random.uniform(coins_key, (n,), dtype=log_w.dtype))

        def step(now: Any, new: Any) -> tuple[Any, Any]:
            *offered, coin = new
            accepted = coin < new[2] - now[2]
            now = tuple(numpy.where(accepted, a, b) for a, b in zip(offered, now, strict=True))
            return now, (now[0], now[1], accepted)

        start = position, log_prob, log_prob - self.weigh(position)
        _, found = jax.lax.scan(step, start, (candidates, log_p, log_w, coins))
        return found

    def print_parameters(self) -> None:
        """Nothing to print: the proposal has no parameters of flowMC's."""

    def save_resource(self, path: str) -> None:
        """Refused: the model is saved where it was trained."""
        raise UserError(self.unsaved)

    def load_resource(self, path: str) -> Any:
        """Refused: see `save_resource`."""
        raise UserError(self.unsaved)

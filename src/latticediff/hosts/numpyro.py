"""Proposals inside numpyro: a kernel for its ``MCMC``, with our draws by a callback.

numpyro's own kernels move fields along gradients of a potential, which a proposal does not have; this one compares
weights, and its chains, warm-up, thinning and diagnostics are numpyro's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import UserError

try:
    import jax
    from numpyro.infer.mcmc import MCMCKernel

    from .jax_draws import drawing
except ImportError as exc:
    raise UserError(f"latticediff.hosts.numpyro needs numpyro ({exc}); pip install 'latticediff[numpyro]'") from None

if TYPE_CHECKING:
    from .proposal import HostProposal

__all__ = ["Independence", "State"]


class State(NamedTuple):
    """Where a chain stands; arrays of JAX, with the axis of vectorised chains in front."""

    phi: Any  #: (*lattice), float64
    action: Any  #: (), float64
    log_q: Any  #: (), float64
    accepted: Any  #: (), bool, of the last update
    rng_key: Any


class Independence(MCMCKernel):  # type: ignore[misc]  # numpyro has no annotations
    r"""Independent Metropolis of the proposal's own theory: ``MCMC(Independence(proposal), num_warmup=0, ...)``.

    A candidate phi' is taken with probability :math:`\min(1, w'/w)`, :math:`\log w = -S - \log q`. Samples are the
    fields; ``extra_fields=("accepted", "action")`` gives what else a chain has. With
    ``chain_method="vectorized"`` all chains are drawn in one batch, which is what a proposal is fast at.

    Parameters
    ----------
    proposal : HostProposal
        Any route: the density is that of the draw, which the state carries.

    Raises
    ------
    UserError
        JAX computes in single precision, where a log density of a large lattice has no digits to compare.
    """

    sample_field = "phi"

    def __init__(self, proposal: HostProposal) -> None:
        self._draw = drawing(proposal)

    @property
    def default_fields(self) -> tuple[str, ...]:
        """What is kept of a state whether asked for or not."""
        return ("phi",)

    def get_diagnostics_str(self, state: State) -> str:
        """For numpyro's progress bar."""
        return f"accepted {float(state.accepted.mean()):.2f}"

    def init(
        self, rng_key: Any, num_warmup: int, init_params: Any = None, model_args: Any = (), model_kwargs: Any = None
    ) -> State:
        """A draw of the proposal for each key; `init_params` are refused, for their density is not known.

        Raises
        ------
        UserError
            `init_params` are given.
        """
        if init_params is not None:
            raise UserError("init_params were given; chains of proposals begin with a draw, so leave them out")
        return self._begin(rng_key) if _is_one(rng_key) else jax.vmap(self._begin)(rng_key)

    def sample(self, state: State, model_args: Any, model_kwargs: Any) -> State:
        """One update of every chain."""
        return self._step(state) if _is_one(state.rng_key) else jax.vmap(self._step)(state)

    def _begin(self, key: Any) -> State:
        rest, own = jax.random.split(key)
        return State(*self._draw(own), jax.numpy.array(True), rest)

    def _step(self, state: State) -> State:
        rest, fresh, coin = jax.random.split(state.rng_key, 3)
        new = self._draw(fresh)
        gain = state.action + state.log_q - new.action - new.log_q
        # a draw that blew up has log_q = +inf, hence weight zero: the comparison is false
        accepted = jax.numpy.log(jax.random.uniform(coin, dtype=state.action.dtype)) < gain
        phi, action, log_q = (jax.numpy.where(accepted, a, b) for a, b in zip(new, state[:3], strict=True))
        return State(phi, action, log_q, accepted, rest)


def _is_one(key: Any) -> bool:
    """Whether this is the key of one chain: of the typed or of the older kind."""
    typed = jax.numpy.issubdtype(key.dtype, jax.dtypes.prng_key)
    return bool(key.ndim == (0 if typed else 1))

"""A proposal as a host program uses it: draw, weigh, or let a kernel of ours do both."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..arrays import real_array
from ..errors import UserError
from ..metropolis import Draw, IndependenceMetropolis, MultipleTry
from ..metropolis.asking import ask_draw, ask_weigh, fingerprint_of, require_sound_values, told_by
from ..randomness import Rng, as_generator
from ..types import Description, FloatArray, Shape
from .compiling import saying_when_compiling
from .pickling import ByBytes

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ..action import Action
    from ..metropolis.contract import Proposal

__all__ = ["HostProposal", "Weights"]


class Weights(NamedTuple):
    """Densities of given fields."""

    log_q: FloatArray  #: (n,), log density under the proposal
    log_weight: FloatArray  #: (n,), ``-S - log_q``: what an accept step compares


class HostProposal(ByBytes):
    """Draws and densities of a `Proposal` for one theory, in few words.

    The numbers are functions of fields and random numbers alone: not of the batch in which they are asked for, the
    number of threads, the process, or what the host has set in torch and NumPy. Objects can be pickled, and used by
    several threads at a time.

    Parameters
    ----------
    proposal : Proposal
    action : Action
        The theory that is proposed for.
    what : str
        Model and route, for messages.

    Attributes
    ----------
    contract : Proposal
        What stands behind: to be given to kernels of this package, which hand it their own streams.
    """

    def __init__(self, proposal: Proposal, action: Action, what: str) -> None:
        self.contract, self.action, self.what = proposal, action, what
        self._used = {"draw": False, "weigh": False}  # whether the code of a call is compiled in this process

    def __repr__(self) -> str:
        return f"HostProposal({self.what}: {self.action!r} on {self.shape})"

    def _kept(self) -> dict[str, Any]:
        # another process has to load the compiled code again
        return {**super()._kept(), "_used": dict.fromkeys(self._used, False)}

    @property
    def shape(self) -> Shape:
        """Extents of the lattice."""
        shape = self.contract.lattice_shape
        if shape is None:
            raise UserError(f"{self.what} serves any lattice and has no shape of its own")
        return tuple(shape)

    @property
    def is_deterministic(self) -> bool:
        """Whether `weigh` is a function of the field alone; if not, it draws a hidden path and wants `rng`."""
        return self.contract.is_deterministic

    def draw(self, n: int, rng: Rng = None) -> Draw:
        """`n` independent fields and their log densities.

        Parameters
        ----------
        n : int
            Draws of n = 1, 10 and 10^4 give the same fields one after the other from one generator.
        rng : numpy.random.Generator, int or None
            See `latticediff.randomness`. An int gives the same fields at every call.

        Returns
        -------
        phi : ndarray, shape (n, *lattice), float64
        log_q : ndarray, shape (n,), float64
            ``+inf`` where a draw blew up (its weight is zero, and an accept step rejects it).

        Raises
        ------
        UserError
            `n` or `rng` is not of these kinds, or the proposal breaks its contract.
        """
        if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 0:
            raise UserError(f"n is {n!r}; expected a number of draws, at least 0")
        generator = as_generator(rng, "draw")
        with self._first_use("draw"):
            draw = ask_draw(self.contract, int(n), generator)
        return require_sound_values(self.contract, draw)

    def weigh(self, phi: ArrayLike, rng: Rng = None) -> Weights:
        """Log densities of given fields, the same as those of draws.

        Parameters
        ----------
        phi : array_like, shape (n, *lattice)
        rng : numpy.random.Generator, int or None
            Used by path proposals only (``sde``): log_q is then that of field and hidden path together.

        Returns
        -------
        log_q, log_weight : ndarray, shape (n,), float64
            NaN where no draw leads to the field.

        Raises
        ------
        UserError
            Fields of another shape, or with values that are not finite, or a proposal that breaks its contract.
        """
        fields = real_array(phi, "phi", finite=True, order="C")
        if fields.shape[1:] != self.shape or fields.ndim != len(self.shape) + 1:
            raise UserError(f"phi has shape {fields.shape}; expected (n, {', '.join(map(str, self.shape))})")
        # a deterministic proposal looks at no random number: none is asked of the host, and none is said
        generator = np.random.default_rng(0) if self.is_deterministic else as_generator(rng, "weigh")
        with self._first_use("weigh"):
            log_q = ask_weigh(self.contract, fields, generator)
        return Weights(log_q, -np.asarray(self.action(fields)) - log_q)

    def kernel(self, tries: int = 1) -> IndependenceMetropolis:
        """The exact kernel of independent proposals, `IndependenceMetropolis`, or `MultipleTry` of several `tries`."""
        if tries == 1:
            return IndependenceMetropolis(self.contract, self.action)
        return MultipleTry(self.contract, self.action, tries)

    def describe(self) -> Description:
        """JSON-able parameters of what stands behind."""
        return told_by(self.contract)

    def fingerprint(self) -> str:
        """Hash of all that decides the density."""
        return fingerprint_of(self.contract)

    def _first_use(self, call: str) -> contextlib.AbstractContextManager[None]:
        if self._used[call]:
            return contextlib.nullcontext()
        self._used[call] = True
        return saying_when_compiling(f"{self.what}, first {call}")

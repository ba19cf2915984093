r"""Hybrid Monte Carlo (Duane, Kennedy, Pendleton, Roweth, Phys. Lett. B 195 (1987) 216).

Momenta from a unit Gaussian, a trajectory of ``H = p^2/2 + S(phi)`` by a reversible and volume
preserving integrator, accepted with probability min(1, exp(-delta_h)).
"""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from ..action import ON, Action
from ..action.consistency import check_compiled
from ..action.links import links_of, only_nearest
from ..action.site_terms import site_terms
from ..errors import UserError
from ..host import numpy_defaults
from ..lattice import volume
from ..markov import Block, ChainState
from ..streams import Streams
from ..types import Description, FloatArray, Shape
from . import components, fourier
from .checks import check_actions, check_counts, check_fields
from .integrators import INTEGRATORS, schedule

__all__ = ["HMC"]

_EXACT = "harmonic"  #: in a description, with masses: drifts are the exact motion of the harmonic part


def _positive(name: str, number: float) -> float:
    if not (np.isfinite(number) and number > 0):
        raise UserError(f"{name} is {number!r}; expected a positive number")
    return float(number)


class HMC:
    r"""HMC kernel with fixed trajectory length ``n_leapfrog * step_size``.

    Parameters
    ----------
    action : LocalAction
        Supplies S, hopping coefficient or links, and Numba-callable potential.
    step_size : float
        Integrator step in molecular-dynamics time.
    n_leapfrog : int
        Integrator steps per trajectory.
    integrator : str
        Key of `integrators.INTEGRATORS`.
    jitter : float
        Relative half-width, in [0, 1), of the uniform distribution of the step size. Drawn once per
        update for all chains, from its own stream, so reversibility is untouched.
    mass : float, optional
        Square of the effective mass m_eff of Fourier acceleration: kinetic energy
        ``1/2 sum_k |p_k|^2 / (V (p_hat^2 + mass))``, drifts by the exact motion of the harmonic part, see `fourier`.
        Not given: unit masses, drifts along p.
    tuning : dict, optional
        How the parameters were found; kept in `describe`.

    Raises
    ------
    UserError
        A parameter that is not positive, unknown integrator, jitter outside [0, 1), an action that its compiled
        form does not agree with (see `latticediff.action.consistency`), or links that `mass` cannot go with.

    Notes
    -----
    A trajectory that diverges is a counted rejection with ``delta_h = inf``. A chain's bits are a
    function of (streams, chain number, update), not of threads, batch or block cuts.
    """

    def __init__(
        self,
        action: Action,
        step_size: float,
        n_leapfrog: int,
        integrator: str = "leapfrog",
        jitter: float = 0.0,
        mass: float | None = None,
        tuning: dict[str, Any] | None = None,
    ) -> None:
        if isinstance(n_leapfrog, bool) or int(n_leapfrog) != n_leapfrog or n_leapfrog < 1:
            raise UserError(f"n_leapfrog is {n_leapfrog!r}; expected an integer of at least 1")
        if not 0 <= jitter < 1:
            raise UserError(f"jitter is {jitter!r}; expected a number from 0 to below 1")
        check_compiled(action, by_site=mass is None)
        if mass is not None:
            fourier.check_links(action)
        self.action = action
        self.step_size = _positive("step_size", step_size)
        self.n_leapfrog = int(n_leapfrog)
        self.integrator = integrator
        self.jitter = float(jitter)
        self.mass = None if mass is None else _positive("mass", mass)
        self.tuning = tuning
        self._kicks, self._drifts = schedule(integrator, self.step_size, self.n_leapfrog)
        self._plans: dict[Shape, tuple[Any, tuple[Any, ...]]] = {}

    @property
    def trajectory_length(self) -> float:
        """``n_leapfrog * step_size``, molecular-dynamics time."""
        return self.n_leapfrog * self.step_size

    @property
    def force_evaluations_per_update(self) -> int:
        """Evaluations of -dS/dphi on the whole lattice per update and chain."""
        return self._kicks.size

    @numpy_defaults()
    def start(self, phi: ArrayLike) -> ChainState:
        """`ChainState` at update 0.

        Parameters
        ----------
        phi : array_like, shape (n_chains, *lattice)
            Copied.

        Raises
        ------
        UserError
            Wrong number of axes, no chain, or a value that is not finite.
        """
        phi = check_fields(phi, self.action).copy()
        return ChainState(phi, np.asarray(self.action(phi)), 0)

    def _plan(self, shape: Shape) -> tuple[Any, tuple[Any, ...]]:
        """Compiled functions and the leading geometry arguments for one lattice."""
        if shape not in self._plans:
            from .._kernels import hmc as kernels
            from .._kernels import layout, linked, sourced
            from .._kernels.compile import callable_potential

            if self.mass is not None:
                self._plans[shape] = fourier.plan(self.action, shape, self.mass)
                return self._plans[shape]
            if isinstance(self.action, ON):
                self._plans[shape] = components.plan(self.action, shape)
                return self._plans[shape]
            value, derivative, params = callable_potential(self.action)
            lanes = layout.lanes_for(shape)
            couplings: Any = self.action.hopping
            table, size = layout.row_table(shape, lanes), layout.buffer_size(shape, lanes)
            n_links = 0
            if not only_nearest(self.action):
                table, size, couplings = linked.geometry(shape, lanes, links_of(self.action))
                n_links = len(couplings)
            rows_of: Any = table
            terms = site_terms(self.action)
            if terms.are_any:
                both = [np.zeros(shape) if numbers is None else numbers for numbers in (terms.field, terms.mass)]
                rows_of = table, *(sourced.buffer(numbers, size, lanes, n_links > 0) for numbers in both)
            compiled = kernels.build(value, derivative, len(shape), lanes, n_links, rows_of is not table)
            rows, row = np.uint64(volume(shape[:-1])), np.uint64(shape[-1] * lanes)
            geometry = rows_of, rows, row, np.uint64(size), params, couplings
            self._plans[shape] = compiled, geometry
        return self._plans[shape]

    def _chains_per_group(self, shape: Shape) -> int:
        from .._kernels import layout, vectors

        if isinstance(self.action, ON):
            shape = shape[1:]
        return layout.lanes_for(shape) if self.mass is None else vectors.LANES

    @numpy_defaults()
    def advance(self, state: ChainState, rng: Streams, n_updates: int, thin: int = 1) -> tuple[ChainState, Block]:
        """Run `n_updates` trajectories of every chain; see `markov.Kernel`.

        Returns
        -------
        state : ChainState
        block : Block
            ``info`` has ``accepted`` (bool) and ``delta_h`` (float64), each (n_updates, n_chains).

        Raises
        ------
        UserError
            Fields that do not fit the action, negative `n_updates`, `thin` below 1.
        """
        from .._kernels.threads import over_groups

        check_counts(n_updates, thin)
        fields = check_fields(state.phi, self.action)
        n_chains, *shape = fields.shape
        compiled, geometry = self._plan(tuple(shape))
        phi = fields.reshape(n_chains, -1).copy()
        action = check_actions(state.action, n_chains)
        n_kept = (state.update + n_updates) // thin - state.update // thin
        kept_phi = np.empty((n_kept, n_chains, phi.shape[1]))
        kept_action = np.empty((n_kept, n_chains))
        accepted = np.empty((n_updates, n_chains), np.bool_)
        delta_h = np.empty((n_updates, n_chains))
        keys = np.array([rng.key(purpose)[0] for purpose in ("momenta", "accept", "jitter")])
        n_groups = -(-n_chains // self._chains_per_group(tuple(shape)))
        over_groups(
            compiled.advance, n_groups, phi.size * n_updates * self._kicks.size,
            phi, action, np.uint64(state.update), np.uint64(thin), *geometry, self._kicks, self._drifts, self.jitter,
            keys, kept_phi, kept_action, accepted, delta_h,
        )  # fmt: skip
        block = Block(
            kept_phi.reshape(n_kept, n_chains, *shape), kept_action, {"accepted": accepted, "delta_h": delta_h}
        )
        return ChainState(phi.reshape(fields.shape), action, state.update + n_updates), block

    @numpy_defaults()
    def integrate(self, phi: ArrayLike, momentum: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
        """The deterministic trajectory by itself: for tests of reversibility and order.

        Parameters
        ----------
        phi, momentum : ndarray, shape (n_chains, *lattice), float64

        Returns
        -------
        phi, momentum : ndarray
            At the end of the trajectory.
        hamiltonian : ndarray, shape (n_chains,)
            Kinetic energy + S there.
        """
        fields = check_fields(phi, self.action)
        momenta = check_fields(momentum, self.action)
        if momenta.shape != fields.shape:
            raise UserError(f"momentum has shape {momenta.shape}; expected that of phi, {fields.shape}")
        n_chains, *shape = fields.shape
        compiled, geometry = self._plan(tuple(shape))
        end, back = fields.reshape(n_chains, -1).copy(), momenta.reshape(n_chains, -1).copy()
        energies = np.empty((n_chains, 2))
        compiled.integrate(end, back, *geometry, self._kicks, self._drifts, energies)
        return end.reshape(fields.shape), back.reshape(fields.shape), energies.sum(axis=1)

    def reversibility_error(self, phi: FloatArray, momentum: FloatArray) -> float:
        """Largest ``|phi - phi'|`` after a trajectory and its reverse: rounding errors, if the integrator is stable."""
        end, back, _ = self.integrate(phi, momentum)
        again, _, _ = self.integrate(end, -back)
        return float(np.abs(again - phi).max())

    @classmethod
    def from_description(cls, action: Action, description: Description) -> Self:
        """The kernel whose `describe` gave this description.

        Raises
        ------
        UserError
            Fourier masses with drifts that are not the exact ones of `fourier`.
        """
        keys = ("step_size", "n_leapfrog", "integrator", "jitter", "tuning")
        mass = description["mass"]
        if mass != "unit" and mass.get("drift") != _EXACT:
            raise UserError(
                "the description is of Fourier-accelerated HMC with drifts along p, which this version does not have;"
                " its chains cannot go on: generate them anew"
            )
        mass = None if mass == "unit" else mass["p_hat_squared_plus"]
        return cls(action, **{key: description[key] for key in keys}, mass=mass)

    def describe(self) -> Description:
        """JSON-able parameters."""
        return {
            "name": "hmc",
            "integrator": self.integrator,
            "order": INTEGRATORS[self.integrator][0],
            "step_size": self.step_size,
            "n_leapfrog": self.n_leapfrog,
            "trajectory_length": self.trajectory_length,
            "jitter": self.jitter,
            "mass": "unit" if self.mass is None else {"p_hat_squared_plus": self.mass, "drift": _EXACT},
            "tuning": self.tuning,
        }

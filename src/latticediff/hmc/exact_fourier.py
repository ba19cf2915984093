r"""Exact Fourier acceleration: HMC whose harmonic part is integrated exactly, in compiled code.

Masses :math:`M(k) = c\,(\hat p^2 + m^2)` as in `fourier`, and the action split as

.. math:: S = \tfrac12 \sum_k M(k)\,|\phi_k|^2 / V + \sum_x U(\phi_x), \qquad
          U(\phi) = V(\phi) - \tfrac12 c\,(2 d + m^2)\,\phi^2 .

Momenta and the first part make every mode turn with frequency one: a drift is a rotation by the step, whatever its
size, and only the local U is integrated by kicks (exact Fourier acceleration, 2404.09723). A free field with its own
mass is moved without error; a trajectory of pi/2 forgets it.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from ..action import Action
from ..arrays import real_array
from ..errors import UserError
from ..fourier import basis_from_momenta, real_fourier
from ..host import numpy_defaults
from ..lattice import p_hat_squared
from ..markov import Block, ChainState
from ..streams import Streams
from ..types import Description, FloatArray, Shape
from .checks import check_counts, check_fields
from .kernel import HMC
from .tuning import warm_up

__all__ = ["FourierHMC", "tune_fourier"]

LENGTHS = (0.5 * math.pi, math.pi)  # of `tune_fourier`
ACCEPTANCES = (0.7, 0.9)


class FourierHMC(HMC):
    """HMC with exact Fourier acceleration; see the module's formulas.

    Parameters
    ----------
    action : LocalAction
        With hopping above zero.
    step_size : float
        Angle of a step; `n_leapfrog` of them make a trajectory.
    n_leapfrog : int
    integrator : str
        Key of `integrators.INTEGRATORS`: where its drifts were, modes turn.
    jitter : float
        As `HMC`.
    mass : float
        m^2.
    tuning : dict, optional
        How the parameters were found; kept in `describe`.

    Raises
    ------
    UserError
        As `HMC`; no mass, or hopping that is not positive.
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
        if mass is None:
            raise UserError("mass is not given; exact Fourier acceleration wants m_eff^2 > 0, such as 1 / xi^2")
        if not action.hopping > 0:
            raise UserError(f"{action!r} has hopping {action.hopping:g}; exact Fourier acceleration wants it above 0")
        super().__init__(action, step_size, n_leapfrog, integrator, jitter, mass, tuning)
        self._tables: dict[Shape, tuple[Any, ...]] = {}

    def _compiled(self, shape: Shape) -> tuple[Any, Any, tuple[Any, ...]]:
        """Entry points of the kernel, and what they take of a lattice."""
        from .._kernels.compile import callable_potential
        from .._kernels.fourier import build

        assert self.mass is not None  # as the constructor saw to
        value, derivative, params = callable_potential(self.action)
        if shape not in self._tables:
            extents = np.array(shape, np.int64)
            bases = np.zeros((len(shape), max(shape), max(shape)))
            for axis, extent in enumerate(shape):
                bases[axis, :extent, :extent] = real_fourier(extent)
            weight = self.action.hopping * (p_hat_squared(shape) + self.mass)
            root = np.sqrt(basis_from_momenta(weight, shape)).ravel()
            shift = self.action.hopping * (2 * len(shape) + self.mass)
            transposes = np.ascontiguousarray(bases.transpose(0, 2, 1))
            self._tables[shape] = root, bases, transposes, extents, params, shift
        return *build(value, derivative), self._tables[shape]

    @numpy_defaults()
    def advance(self, state: ChainState, rng: Streams, n_updates: int, thin: int = 1) -> tuple[ChainState, Block]:
        """Run `n_updates` trajectories of every chain; as `HMC.advance`."""
        from .._kernels.dressing import LANES
        from .._kernels.threads import over_groups

        check_counts(n_updates, thin)
        fields = check_fields(state.phi, self.action)
        n_chains, *shape = fields.shape
        run, _, tables = self._compiled(tuple(shape))
        phi, action = fields.reshape(n_chains, -1).copy(), real_array(state.action, "action").copy()
        n_kept = (state.update + n_updates) // thin - state.update // thin
        kept_phi, kept_action = np.empty((n_kept, n_chains, phi.shape[1])), np.empty((n_kept, n_chains))
        accepted, delta_h = np.empty((n_updates, n_chains), np.bool_), np.empty((n_updates, n_chains))
        keys = np.array([rng.key(purpose)[0] for purpose in ("momenta", "accept", "jitter")])
        over_groups(
            run, -(-n_chains // LANES), 4 * sum(shape) * phi.size * n_updates * self._kicks.size,
            phi, action, np.uint64(state.update), np.uint64(thin), *tables, self._kicks, self._drifts, self.jitter,
            keys, kept_phi, kept_action, accepted, delta_h,
        )  # fmt: skip
        block = Block(
            kept_phi.reshape(n_kept, n_chains, *shape), kept_action, {"accepted": accepted, "delta_h": delta_h}
        )
        return ChainState(phi.reshape(fields.shape), action, state.update + n_updates), block

    @numpy_defaults()
    def integrate(self, phi: ArrayLike, momentum: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
        """One trajectory; `momentum` is w, the scaled momenta ``M^(-1/2) p`` in the real Fourier basis.

        Returns
        -------
        phi, momentum : ndarray, shape (n_chains, *lattice)
        hamiltonian : ndarray, shape (n_chains,)
        """
        fields, momenta = check_fields(phi, self.action), check_fields(momentum, self.action)
        n_chains, *shape = fields.shape
        _, run, tables = self._compiled(tuple(shape))
        end, back = fields.reshape(n_chains, -1).copy(), momenta.reshape(n_chains, -1).copy()
        energies = np.empty((n_chains, 2))
        run(end, back, *tables, self._kicks, self._drifts, energies)
        return end.reshape(fields.shape), back.reshape(fields.shape), energies.sum(axis=1)

    @classmethod
    def from_description(cls, action: Action, description: Description) -> Self:
        """The kernel whose `describe` gave this description."""
        keys = ("step_size", "n_leapfrog", "integrator", "jitter", "mass", "tuning")
        return cls(action, **{key: description[key] for key in keys})

    def describe(self) -> Description:
        """JSON-able parameters."""
        return {**super().describe(), "name": "fourier_hmc", "mass": self.mass}


@numpy_defaults()
def tune_fourier(
    action: Action,
    phi: ArrayLike,
    streams: Streams,
    masses: Sequence[float],
    lengths: Sequence[float] = LENGTHS,
    acceptances: Sequence[float] = ACCEPTANCES,
    integrators: Sequence[str] = ("leapfrog", "omelyan2"),
    n_updates: int = 400,
) -> FourierHMC:
    """The `FourierHMC` of least kicks for an independent |m|: all combinations, the best quarter again for longer.

    Parameters
    ----------
    action : LocalAction
    phi : array_like, shape (n_chains, *lattice)
        Where the search starts.
    streams : Streams
    masses, lengths, acceptances, integrators : sequence
        What to combine; a trajectory has the step size of the target acceptance.
    n_updates : int
        Of each combination in the first round; four times as many in the second.

    Returns
    -------
    FourierHMC
        Frozen; its `tuning` has all that was tried.

    Raises
    ------
    UserError
        As `warm_up`.
    """
    tried: list[Any] = []
    for number, mass in enumerate(masses):
        for length in lengths:
            for target in acceptances:
                for integrator in integrators:
                    branch = streams.child(f"mass-{number}-{length:.3f}-{target:g}-{integrator}")
                    kernel, state = warm_up(
                        action,
                        phi,
                        branch,
                        target,
                        length,
                        integrator,
                        0.1,
                        make=functools.partial(FourierHMC, mass=mass),
                    )
                    tried.append([_price(kernel, state, branch, n_updates), kernel, state, branch])
    tried.sort(key=lambda row: row[0])
    best = tried[: max(1, len(tried) // 4)]
    for row in best:
        row[0] = _price(row[1], row[2], row[3].child("again"), 4 * n_updates)
    best.sort(key=lambda row: row[0])
    rows = [{**kernel.describe(), "tuning": None, "kicks_per_abs_m": cost} for cost, kernel, *_ in tried]
    found: FourierHMC = best[0][1]
    options = {key: getattr(found, key) for key in ("step_size", "n_leapfrog", "integrator", "jitter", "mass")}
    return FourierHMC(action, **options, tuning={"tried": rows})


def _price(kernel: HMC, state: ChainState, streams: Streams, n_updates: int) -> float:
    """Kicks for an independent |m|."""
    from ..analysis import tau_int  # a later room; the search alone wants it

    state, _ = kernel.advance(state, streams.child("burn"), n_updates // 4, n_updates // 4 or 1)
    _, block = kernel.advance(state._replace(update=0), streams.child("price"), n_updates)
    try:
        tau = tau_int(np.abs(block.phi.mean(axis=tuple(range(2, block.phi.ndim)))).T)
    except UserError:  # nothing moved
        return math.inf
    return 2 * tau.value * kernel.force_evaluations_per_update

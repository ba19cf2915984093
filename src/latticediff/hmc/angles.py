r"""Fourier-accelerated HMC that counts its time in angles: the kernel ``fourier_hmc``.

The motion is that of `HMC` with a mass, see `fourier`. There a drift of time t turns every mode by :math:`\sqrt c\, t`,
c the hopping coefficient (for any links `latticediff.action.links.coupling_scale`); here steps are that angle,
so that a quarter period is :math:`\pi / 2` in every theory.
"""

import math
from typing import Any, Self

from ..action import Action
from ..action.links import coupling_scale, only_nearest
from ..errors import UserError
from ..types import Description
from .kernel import HMC

__all__ = ["FourierHMC"]


class FourierHMC(HMC):
    """`HMC` with exact Fourier acceleration whose steps are angles.

    Parameters
    ----------
    action : LocalAction
        With hopping above zero, or with links.
    step_size : float
        Angle of a step; `n_leapfrog` of them make a trajectory.
    n_leapfrog : int
    integrator : str
        Key of `integrators.INTEGRATORS`.
    jitter : float
        As `HMC`.
    mass : float
        m_eff^2, positive.
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
        scale = action.hopping if only_nearest(action) else coupling_scale(action)
        if not scale > 0:
            raise UserError(f"{action!r} has hopping {scale:g}; exact Fourier acceleration wants it above 0")
        super().__init__(action, step_size, n_leapfrog, integrator, jitter, mass, tuning)
        omega = math.sqrt(scale)
        self._kicks, self._drifts = self._kicks / omega, self._drifts / omega

    @classmethod
    def from_description(cls, action: Action, description: Description) -> Self:
        """The kernel whose `describe` gave this description."""
        keys = ("step_size", "n_leapfrog", "integrator", "jitter", "mass", "tuning")
        return cls(action, **{key: description[key] for key in keys})

    def describe(self) -> Description:
        """JSON-able parameters; step and trajectory length are angles."""
        return {**super().describe(), "name": "fourier_hmc", "mass": self.mass}

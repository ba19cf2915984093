"""`PhasesModel`: what `load` gives for the folder of a model of coexisting phases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..proposal.mixture import MixtureProposal
from ..types import Extents
from .loaded import Loaded
from .model import Model
from .proposal import HostProposal

if TYPE_CHECKING:
    from ..action import Action
    from ..model.phases import Phases

__all__ = ["PhasesModel"]


class PhasesModel(Loaded):
    """A model of coexisting phases: theory, lattice and proposals, used as a `Model` is.

    Parameters
    ----------
    phases : Phases
    name : str
        For messages.

    Attributes
    ----------
    phases : Phases
        What stands behind: a score model for each part, the parts, and their log Z.
    """

    def __init__(self, phases: Phases, name: str) -> None:
        self.phases, self.name = phases, name

    def __repr__(self) -> str:
        return f"PhasesModel({self.name!r}: {len(self.phases.models)} phases of {self.action!r} on {self.shape})"

    @property
    def behind(self) -> Phases:
        """`phases`."""
        return self.phases

    def at(self, action: Action | None = None, shape: Extents | None = None, outside: bool = False) -> PhasesModel:
        """Itself at its own theory and lattice; others are refused, for the proportions of the phases change."""
        other = action is not None and action.describe() != self.action.describe()
        if other or (shape is not None and tuple(shape) != self.shape):
            raise UserError(
                f"{self.name} is of coexisting phases of {self.action!r} on {self.shape}, which change their"
                " proportions with couplings and lattice: make one for this theory (`latticediff mix`)"
            )
        return self

    def proposal(self, route: str = "ode", batch: int | None = None, **options: Any) -> HostProposal:
        """The proposal of whole fields: each phase by its own model, in proportion to the Z that `mix` measured.

        Parameters
        ----------
        route, batch, **options
            As of `Model.proposal`, for all models alike, but for annealing. A draw that leaves its part has
            ``log_q = +inf``.

        Returns
        -------
        HostProposal

        Raises
        ------
        UserError
            Unknown route or option, an impossible value, or `rungs`.
        """
        if options.get("rungs", 1) != 1:
            raise UserError(f"rungs anneal one model, and {self.name} is of coexisting phases; leave rungs out")
        models = [Model(model, f"{self.name}, part {number}") for number, model in enumerate(self.phases.models)]
        mixed = MixtureProposal(
            [model.proposal(route, batch, **options).contract for model in models],
            self.phases.parts,
            self.phases.probabilities,
        )
        return HostProposal(mixed, self.action, f"{self.name}, route {route}")

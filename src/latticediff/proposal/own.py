"""The proposal of a model: whole fields, in the scheme that the model brings along."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import UserError
from .grid import own_scheme
from .ode import OdeProposal
from .sde import SdeProposal
from .whole import whole_proposal

if TYPE_CHECKING:
    from ..metropolis.contract import Proposal
    from ..model.score_model import ScoreModel

__all__ = ["own_proposal", "proposal_for"]

SITES = 2**16  # of a batch: what Python does for each is shared


def own_proposal(model: ScoreModel, route: str = "ode", batch: int | None = None, **options: Any) -> Any:
    """The proposal of what a model's network has learned, `ScoreModel.action`; arguments as of `proposal_for`."""
    batch = max(256, SITES // model.gaussian.volume) if batch is None else batch
    if route == "ode":
        scheme = {key: options.pop(key, None) for key in ("steps", "method", "grid")}
        return OdeProposal(model, batch=batch, **own_scheme(model, **scheme), **options)
    if route == "sde":
        return SdeProposal(model, batch=batch, **options)
    raise UserError(f"route is {route!r}; expected ode or sde")


def proposal_for(model: ScoreModel, route: str = "ode", batch: int | None = None, **options: Any) -> Proposal:
    """The proposal of a model for fields of its whole lattice, `ScoreModel.lattice`, and its `ScoreModel.theory`.

    Parameters
    ----------
    model : ScoreModel
    route : {"ode", "sde"}
    batch : int, optional
        Fields computed at once, by default some hundred, more of small ones; memory depends on it, results do not.
    **options
        Of `OdeProposal`, whose steps, method and grid are by default the model's own
        (`latticediff.proposal.grid.own_scheme`), or of `SdeProposal`.

    Returns
    -------
    OdeProposal or SdeProposal
        With the even sites beside it (`WholeProposal`) if the model is of odd sites.

    Raises
    ------
    UserError
        Another route.
    """
    return whole_proposal(own_proposal(model, route, batch, **options), model.action)

"""`Model`: a trained model as a host program uses it."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..host import torch_defaults
from ..proposal import OdeProposal, RefinedProposal, SdeProposal
from ..proposal.own import own_proposal
from ..proposal.whole import whole_proposal
from ..types import Extents
from .loaded import Loaded
from .proposal import HostProposal

if TYPE_CHECKING:
    from ..action import Action
    from ..metropolis.contract import Proposal
    from ..model.score_model import ScoreModel

__all__ = ["Model"]

REFINED = ("rungs", "rung_step")


class Model(Loaded):
    """A trained model: its theory, its lattice, and its proposals in the scheme that it was made for.

    Parameters
    ----------
    score_model : ScoreModel
    name : str
        For messages.

    Attributes
    ----------
    score_model : ScoreModel
        What stands behind.
    """

    def __init__(self, score_model: ScoreModel, name: str) -> None:
        self.score_model, self.name = score_model, name

    def __repr__(self) -> str:
        return f"Model({self.name!r}: {self.action!r} on {self.shape})"

    @property
    def behind(self) -> ScoreModel:
        """`score_model`."""
        return self.score_model

    def at(self, action: Action | None = None, shape: Extents | None = None, outside: bool = False) -> Model:
        """The same network at other couplings or extents; see `latticediff.model.score_model.ScoreModel.at`."""
        return Model(self.score_model.at(action, shape, outside), self.name)

    @torch_defaults()
    def proposal(self, route: str = "ode", batch: int | None = None, **options: Any) -> HostProposal:
        """The proposal of whole fields: with even sites beside it where the model is of odd ones.

        Parameters
        ----------
        route : str
            ``ode`` (deterministic density), ``sde`` (density of field and path), or what another package installs:
            a route (``latticediff.routes``), or a function of model and options (``latticediff.proposals``).
        batch : int, optional
            Fields computed at once; memory depends on it, results do not.
        **options
            ``ode``: ``steps, method, grid`` (default: the model's own), ``trace, compiled``, and ``rungs, rung_step``
            (annealing); ``sde``: ``steps, ladder, kernel, process, compiled``; an installed route: the keys of its
            section.

        Returns
        -------
        HostProposal

        Raises
        ------
        UserError
            Unknown route or option, or an impossible value.
        """
        what = f"{self.name}, route {route}"
        if route not in ("ode", "sde"):
            return HostProposal(self._installed(route, batch, options), self.action, what)
        kind: type = OdeProposal if route == "ode" else SdeProposal
        known = [*inspect.signature(kind).parameters, *REFINED]
        if unknown := [key for key in options if key not in known or key == "model"]:
            listed = ", ".join(key for key in known if key not in ("model", "batch"))
            raise UserError(f"route {route} has no option {unknown[0]!r}; it takes {listed}")
        annealing = {key: options.pop(key) for key in REFINED if key in options}
        proposal: Any = own_proposal(self.score_model, route, batch, **options)
        if annealing.get("rungs", 1) > 1:
            proposal = RefinedProposal(proposal, **annealing)
        return HostProposal(whole_proposal(proposal, self.score_model.action), self.action, what)

    def _installed(self, route: str, batch: int | None, options: dict[str, Any]) -> Proposal:
        """The proposal of a route of another package, with the options of its section."""
        from pydantic import ValidationError

        from .. import registry
        from ..asking import asked
        from ..build.learned import route_named
        from ..contracts import require
        from ..metropolis.contract import Proposal

        if route not in registry.names("routes") and route in registry.names("proposals"):
            return self._named(route, options)
        made = route_named(route)
        try:
            section = registry.load("route_options", route)(**options)
        except ValidationError as exc:
            first = exc.errors()[0]
            raise UserError(f"route {route}, option {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        fields = 256 if batch is None else batch
        proposal = asked(made, "route", "proposal", made.proposal, self.score_model, section, fields)
        require(proposal, Proposal, f"the proposal of route {route!r}")
        whole: Proposal = whole_proposal(proposal, self.score_model.action)
        return whole

    def _named(self, name: str, options: dict[str, Any]) -> Proposal:
        """A proposal of the group ``latticediff.proposals``, made of the model and of options."""
        from .. import registry
        from ..asking import asked
        from ..contracts import require
        from ..metropolis.contract import Proposal

        try:
            make = registry.load("proposals", name)
            call = functools.partial(make, self.score_model, **options)
            proposal = asked(make, "proposal", f"{name!r} of a model", call, passing=(TypeError,))
        except TypeError as exc:
            raise UserError(
                f"proposal {name!r} cannot be made of a model and {options or 'no options'}: {exc}"
            ) from None
        require(proposal, Proposal, f"proposal {name!r}")
        whole: Proposal = whole_proposal(proposal, self.score_model.action)
        return whole

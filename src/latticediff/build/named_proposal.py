"""A proposal of the group ``latticediff.proposals`` as a route: a function of model and options, named in a card."""

from __future__ import annotations

import functools
from typing import Any

from .. import registry
from ..asking import asked
from ..errors import UserError
from ..metropolis.contract import Proposal

__all__ = ["NamedProposal"]


class NamedProposal:
    """The route of a proposal that another package installs without a route of its own.

    Parameters
    ----------
    name : str
        In the entry-point group ``latticediff.proposals``: ``f(model, **options)`` of a `ScoreModel`.
        Its attribute ``weights``, by default ``"flow"``, says which weights of a run it wants.
    """

    def __init__(self, name: str) -> None:
        self.name, self._make = name, registry.load("proposals", name)
        self.label, self.weights = name, str(getattr(self._make, "weights", "flow"))

    def proposal(self, model: Any, options: Any, batch: int) -> Proposal:
        """The proposal with the keys of ``[sampling.NAME]`` that are not those of every section.

        Raises
        ------
        UserError
            It cannot be made of a model and these options.
        """
        given = dict(options.model_extra or {})
        try:
            call = functools.partial(self._make, model, **given)
            made: Proposal = asked(self._make, "proposal", f"{self.name!r} of a model", call, passing=(TypeError,))
        except TypeError as exc:
            told = f"options {', '.join(given)}" if given else "no options"
            raise UserError(f"proposal {self.name!r} cannot be made of a model and {told}: {exc}") from None
        return made

"""The theory and the proposal that a density is put to use for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from ..build.learned import refuse_coarse
from ..config.sections import SamplingSection
from ..errors import UserError
from ..proposal import RefinedProposal
from ..proposal.own import own_proposal
from ..proposal.whole import whole_proposal
from ..streams import Streams

if TYPE_CHECKING:
    from ..action import Action
    from ..metropolis.contract import Proposal
    from ..model.score_model import ScoreModel

__all__ = ["MAX_DOUBLING", "N_DOUBLING", "refined", "refuse_coarse_inner", "target_action"]

N_DOUBLING = 300  # configurations whose density is computed with twice the steps too
MAX_DOUBLING = cast(float, SamplingSection().max_doubling)  # the default is a number


def target_action(action: Action, couplings: Sequence[str]) -> Action:
    """The same action with some of its couplings changed.

    Parameters
    ----------
    action : Action
    couplings : sequence of str
        ``["lam=6.1"]``, in the convention of `action` where it has one. With none, `action` itself is returned.

    Returns
    -------
    Action

    Raises
    ------
    UserError
        The action names no couplings, a text does not assign a number, or the action lacks the coupling.
    """
    if not couplings:
        return action
    named: Any = getattr(action, "couplings", None)
    own: Any = action
    if not named or not (hasattr(action, "options") and hasattr(action, "from_options")):
        raise UserError(
            f"{action!r} has no named couplings to change; expected a phi^4 action, or one with couplings, options and"
            " from_options"
        )
    changed: dict[str, Any] = dict(named)
    for text in couplings:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or name not in changed:
            raise UserError(f"--to got {text!r}; expected one of {', '.join(changed)} with a value, as in lam=6.1")
        try:
            changed[name] = float(value)
        except ValueError:
            raise UserError(f"coupling {name} is {value!r}; expected a number") from None
    return own.from_options({**own.options(), **changed}, action.ndim)


def refined(
    model: ScoreModel,
    route: str = "ode",
    steps: int | None = None,
    method: str | None = None,
    grid: str | None = None,
    *,
    rungs: int = 1,
    step: float = 1.0,
    action: Action | None = None,
    batch: int = 256,
) -> Any:
    """The proposal of a route for whole fields, with `rungs` of annealing above it if there is more than one.

    Parameters
    ----------
    model : ScoreModel
    route : {"ode", "sde"}
    steps, method, grid : optional
        Integrator of the ODE, by default the model's own: `latticediff.proposal.grid.own_scheme`. The SDE has
        `steps` alone, `latticediff.defaults.SDE_STEPS` by default.
    rungs, step, action
        See `latticediff.proposal.RefinedProposal`.
    batch : int
        Most fields computed at once.

    Returns
    -------
    OdeProposal, SdeProposal, RefinedProposal or WholeProposal

    Raises
    ------
    UserError
        Another route, or an integrator for the SDE.
    """
    given = {"steps": steps, "method": method, "grid": grid}
    options = {key: value for key, value in given.items() if value is not None}
    if route == "sde" and (method or grid):
        raise UserError(f"route sde got {method or grid!r}; method and grid are those of the ODE, leave them out")
    inner = own_proposal(model, route, batch, **options)
    own = action if model.theory is model.action else None  # odd sites are annealed to their own theory
    return whole_proposal(inner if rungs == 1 else RefinedProposal(inner, rungs, step, own), model.action)


def refuse_coarse_inner(proposal: Proposal, largest: float, streams: Streams, largest_mean: float = math.inf) -> None:
    """Refuse a proposal whose log_q depends too much on the integrator's steps; see `build.learned.refuse_coarse`.

    Parameters
    ----------
    proposal : Proposal
        Of an annealed one, that below the annealing is tested.
    largest : float
        Largest spread of log_q under doubled steps.
    streams : Streams
        Branch ``doubling`` is used.
    largest_mean : float
        Largest mean change of log_q.

    Raises
    ------
    UserError
        It is above one of the bounds; the message names the command-line options that help.
    """
    inner: Any = getattr(proposal, "inner", proposal)  # ODE or SDE, which have steps
    remedy = f"--steps {2 * inner.steps}, or --max-doubling"
    refuse_coarse(inner, largest, streams.child("doubling"), remedy, largest_mean)

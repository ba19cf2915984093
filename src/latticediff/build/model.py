"""The model of a stage: one of the card's theory and lattice, or another one with a warning of the ESS to expect."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from ..analysis import ess_reverse
from ..analysis.gamma import format_error
from ..errors import UserError
from ..metropolis.asking import ask_draw
from ..model.kinds import is_phases
from ..model.phases import Phases, load_phases
from ..model.score_model import ScoreModel
from ..model.storage import load_model
from ..streams import Streams
from .device import pick_device
from .learned import build_proposal

if TYPE_CHECKING:
    from ..config import Card
    from ..job.progress import Progress
    from ..types import PathLikeStr

__all__ = ["model_for"]

N_OUTSIDE = 300  # draws that tell the ESS to expect of a model outside of what it was trained on


def model_for(
    card: Card, folder: PathLikeStr, route: str, outside: bool = False, progress: Progress | None = None
) -> ScoreModel | Phases:
    """Load a model for a card.

    Parameters
    ----------
    card : latticediff.config.Card
    folder : path-like
        Model folder, or name of a shipped model.
    route : str
        ``ode`` or ``sde``: whose ESS the warning states.
    outside : bool
        Take a model of other couplings or another size, too. What is done with it stays exact; `progress` gets a
        warning with the ESS to expect.
    progress : Progress, optional

    Returns
    -------
    ScoreModel, or the Phases of a folder that `latticediff mix` wrote

    Raises
    ------
    FileError, ModelError
        There is no model, or it is damaged or of another dimension; unless `outside`, also one of another theory or
        lattice.
    """
    device = pick_device(card.sampling.device)
    theory: Any = card.theory()  # the model refuses any but its own
    if is_phases(folder):
        if outside:
            raise UserError(
                f"{folder} is of coexisting phases, which change their proportions with the couplings:"
                " make one for this theory (`latticediff mix`)"
            )
        return load_phases(folder, device, theory, card.shape)
    if not outside:
        return load_model(folder, device, theory, card.shape)
    model = load_model(folder, device)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        moved = model.at(theory, card.shape, outside=True)
    if caught and progress is not None:
        progress.warn(f"{caught[0].message}; expected ESS {_expected_ess(card, moved, route)}")
    return moved


def _expected_ess(card: Card, model: ScoreModel, route: str) -> str:
    """ESS of a few draws with its error, as text."""
    streams = Streams(card.run.seed).child(f"outside-{route}")
    draw = ask_draw(build_proposal(card, model, route), N_OUTSIDE, streams.generator("draw"))
    try:
        ess = ess_reverse(-np.asarray(model.theory(draw.phi)) - draw.log_q)
    except UserError:  # no draw has a weight
        return "nan"
    return format_error(ess.value, ess.error)

"""The model of a stage: of the card's theory and lattice, or taken there with a word on the ESS to expect."""

import warnings

import numpy as np

from ..analysis import ess_reverse
from ..analysis.gamma import format_error
from ..errors import UserError
from ..model.score_model import load_model
from ..streams import Streams
from .device import pick_device
from .learned import build_proposal

__all__ = ["model_for"]

N_OUTSIDE = 300  # draws that tell the ESS to expect of a model outside of what it was trained on


def model_for(card, folder, route, outside=False, progress=None):
    """Load a model for a card.

    Parameters
    ----------
    card : latticediff.config.Card
    folder : path-like
        Model folder, or name of a shipped model.
    route : str
        ``ode`` or ``sde``, of the ESS that is told.
    outside : bool
        Take a model of other couplings or another size too. What is done with it stays exact; `progress` gets a warning
        with the ESS to expect.
    progress : Progress, optional

    Returns
    -------
    ScoreModel

    Raises
    ------
    FileError, ModelError
        No model, a damaged one, one of another dimension; of another theory or lattice unless `outside`.
    """
    device = pick_device(card.sampling.device)
    if not outside:
        return load_model(folder, device, card.theory(), card.shape)
    model = load_model(folder, device)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        moved = model.at(card.theory(), card.shape, outside=True)
    if caught and progress is not None:
        progress.say(f"warning: {caught[0].message}; expected ESS {_expected_ess(card, moved, route)}")
    return moved


def _expected_ess(card, model, route):
    streams = Streams(card.run.seed).child(f"outside-{route}")
    draw = build_proposal(card, model, route).draw(N_OUTSIDE, streams.generator("draw"))
    try:
        ess = ess_reverse(-np.asarray(model.action(draw.phi)) - draw.log_q)
    except UserError:  # no draw has a weight
        return "nan"
    return format_error(ess.value, ess.error)

"""The way of every learned sampler from noise to field, at the theory where the reference is slowest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..lattice import planes
from ..streams import Streams
from .fields import shortened
from .samplers import SAMPLERS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..proposal.film import Frames
    from ..types import Description
    from .cell import Cell

__all__ = ["films"]

WINDOW = 32  #: sites along each direction of what is kept, at most: six frames of every sampler


def films(chains: Mapping[str, Cell]) -> Description:
    """One film of every model and route among the chains of a theory; all begin with noise of the same seed.

    Parameters
    ----------
    chains : mapping of str to Cell
        Learned samplers and their cells, in order. One that draws as an earlier one does has no film of its own.

    Returns
    -------
    dict
        Sampler to ``sigma``, a list that descends to 0, and ``fields``, (n, a, b) in lists, None for sites that are
        drawn later. None for a model whose draw blows up.
    """
    # torch is wanted from here on
    from ..model.storage import load_model
    from ..proposal.film import flow_frames, path_frames
    from .kernels import action_of

    found: Description = {}
    seen = set()
    for name, cell in chains.items():
        draw = path_frames if SAMPLERS[name].is_stochastic else flow_frames
        if (cell.model, draw) in seen:
            continue
        seen.add((cell.model, draw))
        model = load_model(cell.model_name, action=action_of(cell), shape=cell.shape)
        frames = draw(model, Streams(cell.seed).child("study").generator("film"))
        found[name] = None if frames is None else _told(frames)
    return found


def _told(frames: Frames) -> Description:
    shown = np.array([shortened(plane) for plane in planes(frames.fields, WINDOW)]).astype(object)
    shown[np.isnan(shown.astype(float))] = None  # which is JSON, and NaN is not
    return {"sigma": [float(f"{sigma:.3g}") for sigma in frames.sigma], "fields": shown.tolist()}

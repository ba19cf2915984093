"""What the report shows of fields: configurations, site values, and one draw on its way from noise to field."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..build.configurations import require_finite
from ..lattice import planes, volume
from ..report.fields import Film, Histogram
from ..streams import Streams

if TYPE_CHECKING:
    from ..config import Card
    from ..ensemble import Ensemble
    from ..model.score_model import ScoreModel
    from ..types import FloatArray

__all__ = ["denoised", "histogram_edges", "pictures", "site_histogram"]

N_SHOWN = 4  # configurations of a chain
VALUES = 2**21  # site values of a histogram, at most
BINS = 60


def pictures(ensemble: Ensemble) -> FloatArray:
    """Planes (n, a, b) of some configurations of an open `Ensemble`, far apart in its run and from different chains."""
    n = min(N_SHOWN, len(ensemble))
    rows = len(ensemble) // ensemble.n_chains
    if rows < n:
        return planes(ensemble.take(np.arange(n)))
    update, chain = (np.arange(n) + 1) * rows // n - 1, np.arange(n) % ensemble.n_chains
    return planes(ensemble.take(update * ensemble.n_chains + chain))


def _some(ensemble: Ensemble) -> FloatArray:
    """Fields (rows, n_chains, V) of evenly spaced updates, with at most `VALUES` values but for one update."""
    sites, rows = volume(ensemble.shape), len(ensemble) // ensemble.n_chains
    wanted = min(rows, max(1, VALUES // (sites * ensemble.n_chains)))
    chosen = np.unique(np.linspace(0, rows - 1, wanted).round().astype(np.int64))
    numbers = (chosen[:, None] * ensemble.n_chains + np.arange(ensemble.n_chains)).ravel()
    phis = require_finite(ensemble.take(numbers), ensemble.path)
    return phis.reshape(len(chosen), ensemble.n_chains, sites)


def histogram_edges(ensemble: Ensemble) -> FloatArray:
    """Edges of bins, symmetric about 0, that hold all but one site value in 10^4 of an open `Ensemble`."""
    reach = float(np.quantile(np.abs(_some(ensemble)), 1 - 1e-4)) or 1.0
    return np.linspace(-reach, reach, BINS + 1)


def site_histogram(ensemble: Ensemble, edges: FloatArray) -> Histogram | None:
    """`Histogram` of the site values of an open `Ensemble`; None where fewer than two chains give no error."""
    phis = _some(ensemble)
    if ensemble.n_chains < 2:
        return None
    width = edges[1] - edges[0]
    shares = np.array([np.histogram(phis[:, c], edges)[0] for c in range(ensemble.n_chains)])
    density = shares / (phis[:, 0].size * width)
    return Histogram(edges, density.mean(0), density.std(0, ddof=1) / np.sqrt(ensemble.n_chains))


def denoised(card: Card, model: ScoreModel, label: str) -> Film | None:
    """One draw of a model at falling noise by the probability flow, from the card's seed.

    Parameters
    ----------
    card : latticediff.config.Card
    model : ScoreModel
    label : str
        Of the sampler.

    Returns
    -------
    Film or None
        Of a model of a part of the sites the others are NaN until they are drawn. None of a model whose draw blows up.
    """
    from ..proposal.film import flow_frames

    frames = flow_frames(model, Streams(card.run.seed).child("pictures").generator("film"))
    return None if frames is None else Film(label, frames.sigma, planes(frames.fields))

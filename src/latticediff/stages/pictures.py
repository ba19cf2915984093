"""What the report shows of fields: configurations, site values, and one draw on its way from noise to field."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..build.configurations import require_finite
from ..fine import CoarseSites
from ..host import torch_defaults
from ..lattice import volume
from ..report.fields import Film, Histogram, planes
from ..streams import Streams

if TYPE_CHECKING:
    from ..config import Card
    from ..ensemble import Ensemble
    from ..model.score_model import ScoreModel
    from ..types import FloatArray

__all__ = ["denoised", "histogram_edges", "pictures", "site_histogram"]

N_SHOWN = 4  # configurations of a chain
N_LEVELS = 6  # of a film, the field itself included
STEPS = 8  # of Runge-Kutta, from level to level
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


@torch_defaults()
def denoised(card: Card, model: ScoreModel, label: str) -> Film | None:
    """One draw of a model at falling noise, by Runge-Kutta, from the card's seed.

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
    import torch

    from ..diffusion.flow import ProbabilityFlow
    from ..diffusion.runge_kutta import integrate, scheme
    from ..diffusion.threads import one_torch_thread

    gaussian: Any = model.gaussian
    rng = Streams(card.run.seed).child("pictures").generator("film")
    noise = torch.as_tensor(rng.standard_normal((1, *model.shape))).to(gaussian.device, gaussian.dtype)
    low, high = model.noise.log_range
    # nothing is seen to change where the noise is a tenth of the fluctuations of a site
    visible = max(low, min(high, 0.5 * np.log(0.01 * float(gaussian.g_mean))))
    levels = np.append(np.linspace(high, visible, N_LEVELS - 1), low)
    network: Any = model.network
    flow = ProbabilityFlow(network, gaussian, levels, scheme("rk4"))
    fields, above = [], levels[0]
    with torch.no_grad(), one_torch_thread(gaussian.device):
        sign, y = flow.vacua.enter(noise)
        for level in levels:
            steps = np.linspace(above, level, STEPS + 1) if level < above else levels[:1]
            y, _ = integrate(lambda y, t: flow.slope(y, t, trace=False), y, steps, flow.method)
            x = flow.vacua.fields(sign, gaussian.colour(y, math.exp(2 * level)))
            fields.append(x[0].double().cpu().numpy())
            above = level
    if not np.isfinite(fields).all():
        return None
    return Film(label, np.append(np.exp(levels[:-1]), 0.0), planes(_whole(model, np.array(fields), rng)))


def _whole(model: ScoreModel, fields: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Fields of the whole lattice: of a part of the sites the last gets the others, those before have NaN there."""
    if model.theory is model.action:
        return fields
    from ..action.checkerboard import join

    theory: Any = model.action
    if isinstance(theory, CoarseSites):
        geometry, key = theory.law.geometry, rng.integers(0, 2**63, size=1, dtype=np.uint64)
        rows = np.full((len(fields), 2 * geometry.n), np.nan)
        rows[:, : geometry.n] = fields.reshape(len(fields), -1)
        rows[-1:] = theory.compiled.draw_by_key(rows[-1:, : geometry.n], key)[0]
        fields, theory = geometry.odd(rows), theory.exact
    keys = rng.integers(0, 2**63, size=1, dtype=np.uint64)
    even = np.full(fields.shape, np.nan)
    even[-1:] = theory.draw_even(fields[-1:], keys)
    return join(fields, even)

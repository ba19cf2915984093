"""One draw of a model on its way from noise to field, at a few noise levels, for people to look at."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..fine import CoarseSites
from ..host import torch_defaults
from .own import own_proposal
from .sde import SdeProposal

if TYPE_CHECKING:
    from ..model.score_model import ScoreModel
    from ..types import FloatArray

__all__ = ["Frames", "flow_frames", "path_frames"]

N_LEVELS = 6  # the field itself included
STEPS = 8  # of Runge-Kutta, from level to level
VISIBLE = 0.1  # of the fluctuations of a site: nothing is seen to change below such noise


class Frames(NamedTuple):
    """A draw at falling noise.

    Of a model of a part of the sites the others are NaN until they are drawn.
    """

    sigma: FloatArray  #: (n,), descending; 0 for the field itself
    fields: FloatArray  #: (n, *lattice), x_sigma of the whole lattice


def _levels(model: ScoreModel) -> FloatArray:
    """log sigma of all frames but the field's, descending."""
    low, high = model.noise.log_range
    gaussian: Any = model.gaussian
    visible = max(low, min(high, 0.5 * np.log(VISIBLE**2 * float(gaussian.g_mean))))
    return np.linspace(high, visible, N_LEVELS - 1)


@torch_defaults()
def flow_frames(model: ScoreModel, rng: np.random.Generator) -> Frames | None:
    """A draw by the probability flow, integrated by Runge-Kutta; None of a model whose draw blows up.

    Parameters
    ----------
    model : ScoreModel
    rng : numpy.random.Generator
        Gives the noise, (1, *lattice) standard normal, and what the sites want that are drawn at the end.
    """
    import torch

    from ..diffusion.flow import ProbabilityFlow
    from ..diffusion.runge_kutta import integrate, scheme
    from ..diffusion.threads import one_torch_thread

    gaussian: Any = model.gaussian
    noise = torch.as_tensor(rng.standard_normal((1, *model.shape))).to(gaussian.device, gaussian.dtype)
    levels = np.append(_levels(model), model.noise.log_range[0])
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
    return _frames(model, np.append(np.exp(levels[:-1]), 0.0), np.array(fields), rng)


def path_frames(model: ScoreModel, rng: np.random.Generator) -> Frames | None:
    """A draw by the reverse SDE, the levels of its ladder nearest to those of `flow_frames`; otherwise like it."""
    proposal: SdeProposal = own_proposal(model, "sde", batch=1)
    sigma, fields = proposal.path(rng.standard_normal((1, *proposal.noise_shape)))
    log_sigma = np.log(sigma[:-1])
    nearest = {int(np.argmin(np.abs(log_sigma - level))) for level in _levels(model)}
    chosen = [*sorted(nearest), len(sigma) - 1]
    return _frames(model, sigma[chosen], fields[chosen, 0], rng)


def _frames(model: ScoreModel, sigma: FloatArray, fields: FloatArray, rng: np.random.Generator) -> Frames | None:
    return Frames(sigma, _whole(model, fields, rng)) if np.isfinite(fields).all() else None


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

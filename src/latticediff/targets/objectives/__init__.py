r"""What can be minimised to learn a score, each objective once, over any score callable (torch).

A score callable is ``score(x, sigma) -> s`` with x of shape (n, *lattice), sigma of shape (n,) and s
like x. Noise is :math:`x = \phi + \sigma z`. Rooms: `losses` (Fisher divergence; explicit, implicit,
denoising, target), `traces` (the divergence of a score, four ways), `levels` (which noise levels, with
what weight), `empirical` (the exact score of a noised data set or Gaussian mixture), `fields` (a lattice
model or the free field as a score callable). `targets.matching` and `targets.control_variates` hold the
preconditioned form that the trainer uses; `docs/score-matching.md` tells the story.
"""

from .empirical import EmpiricalScore
from .fields import ModelScore, free_score
from .levels import LEVELS, WEIGHTINGS, draw_levels, ladder_weights
from .losses import OBJECTIVES, denoising, explicit, fisher_divergence, implicit, objective, target
from .traces import TRACES, closed_form, coloured_probes, full_jacobian, hutchinson

__all__ = [
    "LEVELS",
    "OBJECTIVES",
    "TRACES",
    "WEIGHTINGS",
    "EmpiricalScore",
    "ModelScore",
    "closed_form",
    "coloured_probes",
    "denoising",
    "draw_levels",
    "explicit",
    "fisher_divergence",
    "free_score",
    "full_jacobian",
    "hutchinson",
    "implicit",
    "ladder_weights",
    "objective",
    "target",
]

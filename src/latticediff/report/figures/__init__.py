"""Figures: each a function of a `RunResult` that returns a `FigureRecord`, or None where there is nothing to draw.

Those of other packages are found through the entry-point group ``latticediff.figures`` and drawn after ours.
"""

from ... import registry
from ...asking import asked
from ..model import RunResult
from ..style import FigureRecord, styled
from .chains import autocorrelation, distribution, history, log_weights
from .costs import amortised, cost, training
from .fields import configurations, film, site_values
from .physics import correlator, effective_mass, observables, propagator

__all__ = ["FIGURES", "draw"]

#: in the order of the page
FIGURES = (
    configurations,
    film,
    observables,
    history,
    autocorrelation,
    distribution,
    site_values,
    log_weights,
    propagator,
    correlator,
    effective_mass,
    cost,
    amortised,
    training,
)


def draw(run: RunResult) -> list[FigureRecord]:
    """All figures for which the run has data, as a list of `FigureRecord`."""
    with styled():
        installed = [registry.load("figures", name) for name in registry.names("figures")]
        records = [asked(figure, "figure", "call", figure, run) for figure in (*FIGURES, *installed)]
    return [record for record in records if record is not None]

"""What the page of a run costs, and the prices of its samplers that are measured in turns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .contract import Cost, timed

if TYPE_CHECKING:
    from ...config import Card

__all__ = ["report_costs"]

FIGURE, CHAIN = 1.5, 2.0  # a figure of the page, and what is measured of a chain for it, in figures of the probe


def report_costs(card: Card, n_routes: int) -> dict[str, Cost]:
    """Of the page, nearly all of it drawing, and of the processor time of all samplers where models are compared."""
    from ...report.figures import FIGURES
    from ...report.style import FigureRecord, new_figure, styled
    from ..prices import ROUND_SECONDS, ROUNDS

    def one() -> None:
        with styled():
            figure, axes = new_figure(4.2, nrows=2)
            for ax in axes:
                ax.plot(range(20), label="a chain")
            axes[0].legend()
        record = FigureRecord("probe", "", "", "", figure, (), [])
        assert record.png
        assert record.pdf
        assert record.svg

    n = 1 + n_routes + len(card.sampling.beside or ())
    costs = {"report": Cost(timed(one) * (FIGURE * len(FIGURES) + CHAIN * n), 1 << 27, 1 << 23)}
    if card.sampling.beside:
        costs = {"prices": Cost(ROUNDS * ROUND_SECONDS * n, 1 << 26, 1 << 10), **costs}
    return costs

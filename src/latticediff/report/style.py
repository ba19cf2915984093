"""One look for every figure: colour-blind safe, readable at phone width and in print."""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import PlaceHolderLayoutEngine
from matplotlib.ticker import LogLocator, NullLocator

from .model import RunResult
from .tables import csv_text

__all__ = [
    "TAU",
    "WIDTH",
    "FigureRecord",
    "Spot",
    "chain_styles",
    "is_crowded",
    "legend",
    "log_axis",
    "new_figure",
    "plain_numbers",
    "sigma_axis",
    "styled",
]

#: the symbol in figures
TAU = r"$\tau_{\mathrm{int}}$"

#: inches; with 10 pt type a figure still reads when a phone shrinks it to 360 px
WIDTH = 5.8

#: Okabe and Ito, "Color Universal Design" (2008), without the yellow that paper swallows
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 2)))

RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.5,
    "errorbar.capsize": 2,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "pdf.fonttype": 3,  # TrueType subsets would take half the time of the whole report
    "axes.unicode_minus": True,
}


@contextmanager
def styled() -> Iterator[None]:
    """A context with the style of the reports; the caller's matplotlib settings come back afterwards."""
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **RC, "backend": matplotlib.rcParams["backend"]}):
        yield


def chain_styles(run: RunResult) -> dict[str, tuple[Any, ...]]:
    """Colour, marker and dashes of every chain, the same in every figure; chains never differ in colour alone.

    Parameters
    ----------
    run : RunResult

    Returns
    -------
    dict of str to tuple
        Name of the chain -> (colour, marker, dashes).
    """
    n = len(COLOURS)
    # from the second round on, colours meet other markers and dashes
    turned = [(i + i // n) % n for i in range(len(run.chains))]
    return {
        chain.name: (COLOURS[i % n], MARKERS[k], DASHES[k])
        for i, (chain, k) in enumerate(zip(run.chains, turned, strict=True))
    }


def new_figure(height: float, **subplots: Any) -> tuple[Figure, Any]:
    """A figure and its axes, which pyplot does not know of: there is nothing to close, and no display is wanted.

    Parameters
    ----------
    height : float
        Inches.
    **subplots
        Arguments of ``Figure.subplots``.

    Returns
    -------
    figure : Figure
    axes : Axes or ndarray of Axes
    """
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots(**subplots)


def is_crowded(labels: Sequence[str]) -> bool:
    """Whether labels are too many or too long for a legend inside the axes."""
    return len(labels) > 4 or max(map(len, labels), default=0) > 34


def legend(figure: Figure, ax: Axes, loc: str = "upper right", outside: bool = False) -> None:
    """Put a legend into the axes, or below the figure if it would cover too much there; the figure grows by as much.

    Parameters
    ----------
    figure : Figure
    ax : Axes
        Whose handles and labels are shown.
    loc : str
        Where in the axes.
    outside : bool
        Below the figure in any case.
    """
    handles: Any
    handles, labels = ax.get_legend_handles_labels()
    if not (outside or is_crowded(labels)):
        place: Any = loc
        ax.legend(handles, labels, loc=place)
        return
    longest = max(map(len, labels))
    columns = min(len(labels), 1 if longest > 34 else 2 if longest > 20 else 3 if longest > 12 else 4)
    figure.set_figheight(figure.get_figheight() + 0.19 * -(-len(labels) // columns))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def sigma_axis(ax: Axes) -> None:
    """Dress axes for differences in units of sigma: bands at one and three, symmetric limits that always show three."""
    low, high = ax.dataLim.intervaly
    top = max(3.5, 1.1 * max(abs(low), abs(high))) if np.isfinite([low, high]).all() else 3.5
    ax.axhspan(-3, 3, color="#eeeeee", lw=0, zorder=0)
    ax.axhspan(-1, 1, color="#dddddd", lw=0, zorder=0)
    ax.axhline(0, color="black", lw=0.8)
    ax.set(ylim=(-top, top), ylabel="difference (σ)")
    ax.grid(False)


def log_axis(ax: Axes) -> None:
    """Make the ordinate logarithmic; where it spans less than two decades its labels are plain numbers."""
    ax.set_yscale("log")
    plain_numbers(ax.yaxis)


def plain_numbers(axis: Any) -> None:
    """Label a logarithmic axis of matplotlib with plain numbers where it spans less than two decades."""
    low, high = axis.get_view_interval()
    if high < 100 * low:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_minor_locator(NullLocator())


class Spot(NamedTuple):
    """A place of a figure that says something under the pointer, where a figure is shown inside of a page."""

    ax: Axes
    point: tuple[float, float] | None  #: in the units of the axes; None: the whole panel
    words: str


@dataclass(frozen=True)
class FigureRecord:
    """A figure, the numbers behind it and the words around it."""

    name: str  #: file stem
    title: str
    caption: str  #: what one sees, with conventions; plain text
    alt: str  #: for those who do not see it
    figure: Figure
    header: tuple[str, ...]  #: columns of the CSV
    rows: list[Any]
    hover: Mapping[str, str] = field(default_factory=dict)  #: gid of an artist -> what it says under the pointer
    spots: Sequence[Spot] = ()  #: the same for places along lines and for whole panels

    @cached_property
    def png(self) -> bytes:
        """PNG bytes at 200 dots per inch."""
        return self._render("png")

    @cached_property
    def pdf(self) -> bytes:
        """PDF bytes, fonts embedded."""
        return self._render("pdf")

    @cached_property
    def svg(self) -> bytes:
        """SVG bytes, letters as shapes: no font is wanted where it is shown."""
        return self._render("svg")

    @property
    def csv(self) -> str:
        """The numbers behind the figure, as CSV."""
        return csv_text(self.header, self.rows)

    def _render(self, kind: str) -> bytes:
        out = io.BytesIO()
        # no dates inside: the same numbers give the same bytes
        dated = {"pdf": "CreationDate", "svg": "Date"}
        metadata = {dated.get(kind, "Software"): None}
        with styled(), matplotlib.rc_context({"svg.hashsalt": self.name}):
            engine = self.figure.get_layout_engine()
            if engine is not None and not isinstance(engine, PlaceHolderLayoutEngine):
                # the layout is most of a drawing's time; once is enough for all kinds
                engine.execute(self.figure)
                self.figure.set_layout_engine("none")
            self.figure.set_dpi(200)
            # `savefig` would draw everything once more before, for a layout that is made already
            {"png": _as_png, "pdf": _as_pdf, "svg": _as_svg}[kind](self.figure, out, metadata)
        return out.getvalue()


def _as_png(figure: Figure, out: io.BytesIO, metadata: Mapping[str, None]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure).print_png(out, metadata=dict(metadata))


def _as_pdf(figure: Figure, out: io.BytesIO, metadata: Mapping[str, None]) -> None:
    from matplotlib.backends.backend_pdf import FigureCanvasPdf

    FigureCanvasPdf(figure).print_pdf(out, metadata=dict(metadata))


def _as_svg(figure: Figure, out: io.BytesIO, metadata: Mapping[str, None]) -> None:
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    FigureCanvasSVG(figure).print_svg(out, metadata=dict(metadata))

"""A figure inside of the page, as SVG: sharp on paper, and values show where the pointer rests."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from .sheet import text
from .style import FigureRecord

__all__ = ["inline_figure"]

REACH = 3.5  #: points of the picture around a spot within which the pointer finds it


def inline_figure(record: FigureRecord) -> str:
    """A figure as HTML, its SVG in the page itself; what has words in `FigureRecord.hover` or `.spots` shows them.

    Names inside of the picture get that of the figure in front, since a page has several.
    """
    drawn = record.svg.decode()
    drawn = drawn[drawn.index("<svg") :]
    drawn = re.sub(r"<metadata>.*?</metadata>\s*|<style.*?</style>\s*|<!--.*?-->\s*", "", drawn, flags=re.DOTALL)
    for mark in (' id="', "url(#", 'href="#'):
        drawn = drawn.replace(mark, f"{mark}{record.name}-")
    for name, words in record.hover.items():
        place = f'<g id="{record.name}-{name}">'
        drawn = drawn.replace(place, f"{place}<title>{html.escape(words)}</title>")
    drawn = "".join([drawn[: drawn.rindex("</svg>")], *_spots(record), "</svg>"])
    style = (
        "width:100%;height:auto;background:#fff;border:1px solid var(--line);box-sizing:border-box;"
        "stroke-linejoin:round;stroke-linecap:butt"
    )
    drawn = re.sub(
        r'<svg [^>]*?viewBox="([^"]*)"[^>]*>',
        lambda found: (
            f'<svg xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="{found[1]}" role="img"'
            f' aria-label="{html.escape(record.alt)}" style="{style}">'
        ),
        drawn,
        count=1,
    )
    return (
        f'<figure id="{record.name}"><h3>{text(record.title)}</h3>\n{drawn}\n'
        f"<figcaption>{text(record.caption)}</figcaption></figure>"
    )


def _spots(record: FigureRecord) -> Iterator[str]:
    """Transparent discs over the spots of a figure, and rectangles over whole panels, each with its words.

    They lie over the drawn picture, so that the files of the figure do not change with what the page says.
    """
    if not record.spots:
        return
    record.svg  # noqa: B018 - drawing places the axes
    width, height = 72 * record.figure.get_size_inches()
    to_share = record.figure.transFigure.inverted()

    def placed(x: float, y: float) -> tuple[float, float]:
        across, up = to_share.transform((x, y))
        return float(across * width), float((1 - up) * height)

    yield '<g fill="transparent">'
    for ax, point, words in record.spots:
        (left, bottom), (right, top) = placed(ax.bbox.x0, ax.bbox.y0), placed(ax.bbox.x1, ax.bbox.y1)
        title = f"<title>{html.escape(words)}</title>"
        if point is None:
            box = f'x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{bottom - top:.1f}"'
            yield f"<rect {box}>{title}</rect>"
            continue
        x, y = placed(*ax.transData.transform(point))
        if left - 1 <= x <= right + 1 and top - 1 <= y <= bottom + 1:  # not what lies beyond the axes
            yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{REACH}">{title}</circle>'
    yield "</g>\n"

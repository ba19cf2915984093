"""A figure inside of the page, as SVG: sharp on paper, and values show where the pointer rests."""

from __future__ import annotations

import html
import re

from .sheet import text
from .style import FigureRecord

__all__ = ["inline_figure"]


def inline_figure(record: FigureRecord) -> str:
    """A figure as HTML, its SVG in the page itself; points that have words in `FigureRecord.hover` show them.

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

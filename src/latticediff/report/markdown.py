"""A page as Markdown, for a repository or a logbook: the same sections as in HTML, figures beside it as files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .blocks import Lines, Listing, Section, Table, plain
from .style import FigureRecord

__all__ = ["markdown"]

DASH = "–"
SPECIAL = str.maketrans({c: "\\" + c for c in "\\`*_[]<>|#"})


def markdown(title: str, subtitle: str, verdict: Sequence[str], sections: Iterable[Section]) -> str:
    """The page as text of GitHub's Markdown.

    Parameters
    ----------
    title, subtitle : str
    verdict : sequence of str
        Each a paragraph.
    sections : iterable of Section
        Figures are taken from ``figures/NAME.png`` beside the file.
    """
    parts = [f"# {_escaped(title)}", _escaped(subtitle), *(f"**{_escaped(sentence)}**" for sentence in verdict)]
    for section in sections:
        blocks = [text for block in section.blocks if (text := _block(block))]
        if blocks:
            parts += [f"## {_escaped(section.heading)}", *blocks]
    return "\n\n".join(parts) + "\n"


def _escaped(words: str) -> str:
    return " ".join(words.split()).translate(SPECIAL)


def _block(block: Table | Lines | Listing | FigureRecord) -> str:
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Lines):
        return "\n\n".join(map(_escaped, block.lines))
    if isinstance(block, Listing):
        indented = "\n".join(f"    {line}" for line in block.text.splitlines())
        return f"{_escaped(block.title)}:\n\n{indented}" if block.title else indented
    return (
        f"### {_escaped(block.title)}\n\n![{_escaped(block.alt)}](figures/{block.name}.png)\n\n"
        f"{_escaped(block.caption)} [CSV](figures/{block.name}.csv), [PDF](figures/{block.name}.pdf)"
    )


def _table(block: Table) -> str:
    rows = [[plain(cell) for cell in row] for row in block.rows]
    rows = [row for row in rows if any(cell != DASH for cell in row[1:])]
    if not rows:
        return ""
    lines = [_row(map(plain, block.header)), _row("---" for _ in block.header), *map(_row, rows)]
    return f"{_escaped(block.caption)}\n\n" + "\n".join(lines)


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell if cell == "---" else _escaped(cell) for cell in cells) + " |"

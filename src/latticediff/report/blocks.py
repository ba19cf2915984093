"""What a page is made of, before it is written in any language: sections of tables, figures, lines and listings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .sheet import Cell
    from .style import FigureRecord

__all__ = ["Lines", "Listing", "Section", "Table", "plain"]


class Table(NamedTuple):
    """Rows under a head; a row that says nothing after its first cell is left out."""

    caption: str
    header: Sequence[Cell]
    rows: Sequence[Sequence[Cell]]


class Lines(NamedTuple):
    """Sentences, each a paragraph."""

    lines: Sequence[str]


class Listing(NamedTuple):
    """A command or a file, as it is; with a title it is folded away."""

    text: str
    title: str = ""


class Section(NamedTuple):
    """A heading and what stands below it; without any block that says something it is left out."""

    heading: str
    blocks: Sequence[Table | Lines | Listing | FigureRecord]


def plain(cell: Cell) -> str:
    """The text of a cell."""
    return cell[0] if isinstance(cell, tuple) else cell

"""Pages without pictures: a figure is made, with its numbers and words, and a blank is written in the place of it.

To draw the figures of a page takes seconds. Tests of what a page says, or of a command that ends with one, need not
wait for that; that figures can be drawn, and of what, is tested in test_report, test_study_page, test_pictures and
wherever a page is made for the first time.
"""

import contextlib
import functools

import pytest

from latticediff.report.style import FigureRecord, new_figure, styled

__all__ = ["blank_figures"]

DRAWN = FigureRecord._render


@functools.cache
def blank(kind):
    """The bytes of a figure that is empty."""
    with styled():
        return DRAWN(FigureRecord("blank", "", "", "", new_figure(1)[0], (), []), kind)


@contextlib.contextmanager
def blank_figures():
    """While it lasts, no figure is drawn."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FigureRecord, "_render", lambda record, kind: blank(kind))
        yield

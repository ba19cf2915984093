"""Progress of long work: what a pipe gets, and when."""

import pytest

from latticediff.job import progress
from latticediff.job.pace import Ahead


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets, in a list of one number."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_time_left_leaves_out_what_compiles(clock, capsys):
    shown = progress.make_progress()
    with shown.task("training", 1000) as task:
        clock[0] = 50.0  # of which nearly all is compilation
        task.advance(10)
        clock[0] = 61.0
        task.advance(110)
    assert capsys.readouterr().err == "training: 120 of 1000, about 88 s left\n"


def test_the_first_piece_of_work_promises_nothing(clock, capsys):
    with progress.make_progress().task("training", 1000) as task:
        clock[0] = 70.0
        task.advance(10)
    assert capsys.readouterr().err == "training: 10 of 1000\n"


def test_a_pipe_gets_a_line_within_a_unit_that_takes_long(clock, capsys):
    with progress.make_progress().task("cells", 4) as task:
        task.advance(1, ahead=Ahead(600.0, 0.2, ""))
        clock[0] = 61.0
        task.advance(0, ahead=Ahead(539.0, 0.3, "hmc at 64x64: search 40 %"))
    assert capsys.readouterr().err == "cells: 1 of 4 (30%), hmc at 64x64: search 40 %, about 539 s left\n"


def test_a_bar_moves_within_a_unit(monkeypatch, capsys):
    """A bar of the time that has passed, where units differ by orders of magnitude."""
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_BARS", 0.0)
    with progress.Progress(progress._BarTask).task("cells", 4) as task:
        task.advance(1, ahead=Ahead(600.0, 0.2, "hmc at 8x8: chain"))
        task.advance(0, ahead=Ahead(540.0, 0.375, "hmc at 64x64: search 40 %"))
    shown = capsys.readouterr().err
    assert "cells 1 of 4:  20%|" in shown and "cells 1 of 4:  38%|" in shown
    assert "about 9 min left, hmc at 64x64: search 40 %" in shown


def test_quiet_progress_warns_and_the_default_of_functions_does_not(capsys):
    progress.make_progress(quiet=True).say("measuring")
    progress.make_progress(quiet=True).warn("few data")
    progress.Progress().warn("few data")
    assert capsys.readouterr().err == "warning: few data\n"

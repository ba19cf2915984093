"""Progress of long work: what a pipe gets, and when."""

import pytest

from latticediff.job import progress


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


def test_quiet_progress_warns_and_the_default_of_functions_does_not(capsys):
    progress.make_progress(quiet=True).say("measuring")
    progress.make_progress(quiet=True).warn("few data")
    progress.Progress().warn("few data")
    assert capsys.readouterr().err == "warning: few data\n"

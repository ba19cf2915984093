"""A second process compiles what a run will need; it starts where something is to be compiled, and ends with it."""

import subprocess
import sys

import numba
import pytest

from latticediff.config import parse_card
from latticediff.job.progress import Progress
from latticediff.stages import compile_ahead
from latticediff.stages.compile_ahead import compiling_ahead, use_once

CARD = """
[action]
convention = "A"
m2 = -4.0
lam = 6.5
[lattice]
shape = [4, 4]
[network]
features = 2
hidden = 4
[training]
target = "mixed"
steps = 2
[finetune]
steps = 2
integration_steps = 2
"""


@pytest.fixture
def started(monkeypatch):
    """Commands of the processes that are started, each of which only waits, and the processes themselves."""
    commands, processes, real = [], [], subprocess.Popen

    def begin(command, **options):
        commands.append(command)
        processes.append(real([sys.executable, "-c", "import time; time.sleep(600)"], **options))
        return processes[-1]

    monkeypatch.setattr(compile_ahead.subprocess, "Popen", begin)
    monkeypatch.setattr(compile_ahead, "_cores", lambda: 2)
    return commands, processes


def fresh():
    """A function of this package that is not compiled yet."""

    def twice(x):
        return 2 * x

    twice.__module__ = "latticediff.sample"
    return numba.njit(twice)


def test_one_process_for_all_that_is_compiled_and_none_stays(started, capsys):
    commands, processes = started
    with pytest.raises(ZeroDivisionError), compiling_ahead(parse_card(CARD), Progress(quiet=False)):
        assert not processes
        fresh()(1), fresh()(1)
        assert len(processes) == 1 and processes[0].poll() is None
        raise ZeroDivisionError
    assert processes[0].poll() is not None
    assert commands[0][-1] == "latticediff.stages.compile_ahead"
    assert capsys.readouterr().err.count("compiling") == 1


def test_nothing_is_started_where_all_is_compiled(started):
    function = fresh()
    function(1)
    with compiling_ahead(parse_card(CARD), Progress()):
        function(1)
    assert not started[1]


def test_one_core_compiles_alone(started, monkeypatch):
    monkeypatch.setattr(compile_ahead, "_cores", lambda: 1)
    with compiling_ahead(parse_card(CARD), Progress()):
        fresh()(1)
    assert not started[1]


@pytest.mark.parametrize("sites", ["all", "odd"])
def test_what_a_card_needs_is_used(sites, monkeypatch):
    """Both routes, a step of fine-tuning and one of training."""
    used, routes = [], []
    from latticediff.build import learned
    from latticediff.training import Trainer
    from latticediff.training.finetune import FineTuner

    build = learned.build_proposal
    monkeypatch.setattr(learned, "build_proposal", lambda *args: (routes.append(args[2]), build(*args))[1])
    for owner in (Trainer, FineTuner):
        real = owner.advance
        monkeypatch.setattr(owner, "advance", lambda self, real=real, owner=owner: (used.append(owner), real(self))[1])
    use_once(parse_card(CARD, [f"training.sites={sites}"]))
    assert routes == ["ode", "sde"] and used == [FineTuner, Trainer]

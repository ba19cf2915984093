"""Signals and deadlines ask; the block finishes, the state is saved, the resumed run has the same bits."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from ensemble_toys import make

from latticediff.ensemble import Ensemble
from latticediff.errors import StopRequested, UserError
from latticediff.signals import Stop, parse_duration


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGUSR1"])
def test_a_signal_is_a_reason_with_its_exit_code(name):
    number = getattr(signal, name)
    before = signal.getsignal(number)
    with Stop() as stop:
        assert stop() is None
        os.kill(os.getpid(), number)
        time.sleep(0.01)
        reason = stop()
        assert name in reason and reason.exit_code == 128 + number
    assert signal.getsignal(number) is before


def test_the_second_interrupt_aborts():
    with pytest.raises(KeyboardInterrupt), Stop() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        assert stop()
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)


def test_the_deadline_leaves_room_for_another_block():
    stop = Stop(max_walltime=1000)
    assert stop() is None
    stop._last_call -= 700  # a block of 700 s: the next would end too late
    assert stop() == "the time limit is near" and stop().exit_code == 75


def test_threads_have_a_deadline_but_no_handlers():
    before, found = signal.getsignal(signal.SIGTERM), []

    def body():
        with Stop(max_walltime=1e-9) as stop:
            found.append((signal.getsignal(signal.SIGTERM), stop()))

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert found == [(before, "the time limit is near")]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), (90, 90), ("1:30:00", 5400), ("5:00", 300), ("2-00:00:00", 172800), ("1h30m", 5400), ("2.5s", 2.5)],
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "soon", "-5", "1h-3m", "1:2:3:4"])
def test_bad_durations(text):
    with pytest.raises(UserError, match="duration is"):
        parse_duration(text)


def test_deadline_then_resume_equals_one_run(tmp_path):
    whole = make(tmp_path / "whole.h5", n_updates=40).fingerprint()
    with pytest.raises(StopRequested, match="time limit is near: 7 of 40 updates") as caught:
        make(tmp_path / "a.h5", n_updates=40, stop=Stop(max_walltime=1e-9))
    assert caught.value.exit_code == 75
    assert make(tmp_path / "a.h5", n_updates=40, resume=True).fingerprint() == whole


CHILD = """
import sys
from ensemble_toys import make
from latticediff.errors import StopRequested
from latticediff.signals import Stop
try:
    with Stop() as stop:
        make(sys.argv[1], n_updates=200_000, block=20, stop=stop, progress=lambda *done: print("block", flush=True))
except StopRequested as exc:
    print(exc)
    sys.exit(exc.exit_code)
"""


def test_a_terminated_process_saves_and_says_how_to_go_on(tmp_path):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path])}
    command = [sys.executable, "-c", CHILD, str(tmp_path / "a.h5")]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as child:
        child.stdout.readline()  # the first block is done
        child.send_signal(signal.SIGTERM)
        last = child.stdout.read().splitlines()[-1]
    assert child.returncode == 128 + signal.SIGTERM
    assert last.startswith("stopped by SIGTERM: ") and last.endswith("(Python: resume=True)")
    done = Ensemble(tmp_path / "a.h5").n_updates
    assert f" {done} of 200000 updates" in last
    resumed = make(tmp_path / "a.h5", n_updates=done + 5, block=20, resume=True)
    assert resumed.fingerprint() == make(tmp_path / "b.h5", n_updates=done + 5).fingerprint()

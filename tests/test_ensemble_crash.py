"""Kill a run anywhere: the resumed file has the bits of an uninterrupted one."""

import multiprocessing
import os
import random
import signal
import time

import pytest
from ensemble_toys import make

from latticediff.ensemble import Ensemble, run_directory, verify

FORK = multiprocessing.get_context("fork")
OPTIONS = {"n_updates": 24, "thin": 3, "block": 5, "checkpoint_seconds": 0, "resume": True}
#: every call through which a run changes the directory it lives in
STEPS = ("fsync", "replace", "rename", "mkdir", "unlink", "rmdir")


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """A step that waits for the disk ends at once: what a process has written outlives it, and no power fails here."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def die_at(step, path, options):
    """In a child: end the process, without a word to anybody, just before the `step`-th change of the disk."""
    left = [step]

    def dying(call):
        def called(*args, **kwargs):
            left[0] -= 1
            if left[0] < 0:
                os._exit(9)
            return call(*args, **kwargs)

        return called

    for name in STEPS:
        setattr(os, name, dying(getattr(os, name)))
    make(path, **options)
    os._exit(0)


def in_child(target, *args):
    child = FORK.Process(target=target, args=args)
    child.start()
    return child


def crashes(path, options):
    """Fork runs that die at step 0, 1, 2, ... of their session; yields after each death, until one is through."""
    for step in range(1000):
        child = in_child(die_at, step, path, options)
        child.join()
        if child.exitcode == 0:
            return
        assert child.exitcode == 9
        yield step


def test_death_at_every_step_on_disk_changes_nothing(tmp_path):
    """Each session dies one step later than the one before, and goes on from what that one left."""
    whole = make(tmp_path / "whole.h5", **OPTIONS).fingerprint()
    path = tmp_path / "a.h5"
    deaths = sum(1 for _ in crashes(path, OPTIONS))
    assert deaths >= 10
    assert Ensemble(path).fingerprint() == whole and verify(path).ok
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.h5", "whole.h5"]


def test_death_at_every_step_of_a_fresh_run_changes_nothing(tmp_path):
    options = {**OPTIONS, "n_updates": 6, "block": 3}
    whole = make(tmp_path / "whole.h5", **options).fingerprint()
    for step in range(1000):
        path = tmp_path / f"{step}.h5"
        child = in_child(die_at, step, path, options)
        child.join()
        if child.exitcode == 0:
            break
        assert make(path, **options).fingerprint() == whole
        assert not run_directory(path).exists()
    assert step > 30  # two segments, three checkpoints, the final file, the removal


def test_death_at_every_step_of_an_extension_changes_nothing(tmp_path):
    whole = make(tmp_path / "whole.h5", **OPTIONS).fingerprint()
    path = tmp_path / "a.h5"
    make(path, **{**OPTIONS, "n_updates": 11})
    for _ in crashes(path, OPTIONS):
        assert Ensemble(path).n_updates in (11, 24)  # never half a file
    assert Ensemble(path).fingerprint() == whole and verify(path).ok


def test_kill_9_at_random_moments_changes_nothing(tmp_path):
    """The short form of benchmarks/kill_resume.py, which kills HMC a hundred times."""
    options = {"n_updates": 200, "thin": 3, "block": 20, "checkpoint_seconds": 0, "resume": True}
    whole = make(tmp_path / "whole.h5", **options).fingerprint()
    path, rng, kills = tmp_path / "a.h5", random.Random(11), 0
    while kills < 12:
        child = FORK.Process(target=make, args=(path,), kwargs=options)
        child.start()
        time.sleep(rng.uniform(0.02, 0.2))
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        kills += child.exitcode == -signal.SIGKILL
        path.unlink() if child.exitcode == 0 else None
    assert make(path, **options).fingerprint() == whole and verify(path).ok

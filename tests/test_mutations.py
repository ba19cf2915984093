"""No reader takes a damaged file for a sound one: the short form of benchmarks/mutations.py."""

import importlib.util
import sys
from collections import Counter
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"
LIGHT = (
    "measure",
    "verify",
    "verify, model",
    "info",
    "cut",
    "thin",
    "merge",
    "export",
    "extend",
    "resume a chain",
    "weigh",
)


@pytest.fixture(scope="module")
def mutations():
    spec = importlib.util.spec_from_file_location("mutations", FOLDER / "mutations.py")
    module = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    spec.loader.exec_module(module)
    sys.path[:] = before
    return module


def test_damage_is_refused_or_harmless(mutations, tmp_path, monkeypatch):
    (tmp_path / "sound").mkdir()
    monkeypatch.chdir(tmp_path)
    mutations.build(tmp_path / "sound", LIGHT)
    trials, counts, bad = mutations.Trials(tmp_path / "sound", tmp_path, mutations.Worker()), Counter(), []
    for reader, n in mutations.shares(60, LIGHT).items():
        for number in range(n):
            outcome, what, words = trials.trial(reader, number)
            counts[outcome] += 1
            if outcome in ("silent", "traceback"):
                bad.append(f"{outcome}: {reader}: {what}: {words}")
    trials.worker.close()
    assert not bad, "\n".join(bad)
    assert sum(counts.values()) >= 55 and counts["detected"] > 2 * counts["harmless"], counts


def test_the_benchmark_sees_what_is_silent(mutations, tmp_path, monkeypatch):
    """Another number without a word, a traceback, a hang and a crash are told from a refusal."""
    command = {
        "other": ("print('2')", "silent"),
        "same": ("print('1')", "harmless"),
        "refusal": ("import sys; print('error: no', file=sys.stderr); sys.exit(2)", "detected"),
        "chatty": ("import sys; print('error: no\\nmore', file=sys.stderr); sys.exit(2)", "traceback"),
        "defect": ("1 / 0", "traceback"),
        "crash": ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "traceback"),
        "hang": ("import time; time.sleep(60)", "traceback"),
    }
    sound = tmp_path / "sound"
    sound.mkdir()
    (sound / "data").write_text("1")
    worker = mutations.Worker(seconds=10.0)
    monkeypatch.setattr(mutations, "READERS", {name: (("data",), ("run", name), 1) for name in command})
    for name, (code, outcome) in command.items():
        trials = mutations.Trials(sound, tmp_path, worker)
        runs = iter(["print('1')", "print('1')", code])
        monkeypatch.setattr(worker, "run", lambda folder, _, runs=runs: execute(folder, next(runs)))
        assert trials.trial(name, 1)[0] == outcome, name


def execute(folder, code):
    import subprocess

    with open(folder / "stdout", "w") as out, open(folder / "stderr", "w") as err:
        try:
            return subprocess.run([sys.executable, "-c", code], stdout=out, stderr=err, timeout=2).returncode
        except subprocess.TimeoutExpired:
            return None

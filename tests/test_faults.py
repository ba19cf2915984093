"""Commands that are killed, or write to bad disks: the short forms of benchmarks/kill_commands.py and bad_disks.py."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from warm import ALONE

FOLDER = Path(__file__).parent.parent / "benchmarks"
ENVIRONMENT = {**os.environ, **ALONE}


def rows(script, *options):
    """What a benchmark prints, row by row; it has to find nothing wrong."""
    line = [sys.executable, str(FOLDER / script), *options, "--json"]
    done = subprocess.run(line, env=ENVIRONMENT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return [json.loads(row) for row in done.stdout.splitlines()]


def test_the_comparison_sees_what_is_other_missing_or_new():
    spec = importlib.util.spec_from_file_location("kill_commands", FOLDER / "kill_commands.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    whole = {"a.h5": "is there", "a.h5:phi": "1", "a.h5:@seconds": "2", "a.h5:@created": "3"}
    again = {**whole, "a.h5:@seconds": "4"}
    for other, wrong in (
        ({**whole, "a.h5:@seconds": "5", "a.h5:@created": "6"}, []),  # seconds, and a date
        ({**whole, "a.h5:phi": "7"}, ["a.h5:phi"]),
        ({"a.h5": "is there"}, ["a.h5:phi"]),
        ({**whole, "a.part": "is there"}, ["a.part should not be there"]),
    ):
        assert module.differences(whole, again, other) == (wrong, 2)


def test_a_killed_training_leaves_what_a_whole_one_leaves():
    (row,) = rows("kill_commands.py", "--kills", "4", "--only", "train")
    assert row["kills"] == 4 and row["equal"] == row["finished"] >= 1 and row["wrong"] == []
    assert row["compared"] > 40  # weights, card and log of two whole runs agree


def can_mount(tmp_path):
    line = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)]
    if (
        os.name != "posix"
        or os.geteuid()
        or not shutil.which("mount")
        or subprocess.run(line, capture_output=True).returncode
    ):
        return False
    subprocess.run(["umount", str(tmp_path)], check=True)
    return True


def test_bad_disks_are_told_in_one_line(tmp_path):
    if not can_mount(tmp_path):
        pytest.skip("no disk in memory can be mounted here: that needs root on Linux")
    found = {row["disk"]: row for row in rows("bad_disks.py", "--trials", "4", "--only", "thin")}
    assert found["full"]["refused"] == found["read-only"]["refused"] == 1
    assert all(not {"traceback", "silent", "stuck"} & row.keys() for row in found.values())

"""Files that are whole or absent: nothing is followed, nothing of others is deleted, one line says why."""

import errno
import fcntl
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from ensemble_toys import ACTION, make

from latticediff.atomic import scratch, sealed_bytes, sealed_text, whole
from latticediff.ensemble import Ensemble, export_npy, export_npz, save_ensemble
from latticediff.ensemble.files import sealed
from latticediff.errors import FileError
from latticediff.job.log import JsonLog
from latticediff.report.build import write_file


def fields(n=4):
    return np.random.default_rng(1).normal(size=(n, 4, 6))


def write_checkpoint(path):
    import torch

    from latticediff.training.checkpoint import write_checkpoint

    write_checkpoint(path, {"a": torch.zeros(3)}, {"step": 1})


WRITERS = {
    "ensemble": lambda path: save_ensemble(path, fields(), action=ACTION),
    "chain": make,
    "hdf5": lambda path: sealed(path).__enter__(),
    "text": lambda path: sealed_text(path, "ours"),
    "report": lambda path: write_file(path, "ours"),
    "checkpoint": write_checkpoint,
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_link_under_the_temporary_name_is_not_followed(tmp_path, writer):
    target, path = tmp_path / "precious", tmp_path / "x.h5"
    target.write_text("precious")
    (tmp_path / "x.h5.part").symlink_to(target)
    WRITERS[writer](path)
    assert target.read_text() == "precious" and not path.is_symlink()


@pytest.mark.parametrize("export", [export_npy, export_npz])
def test_exports_follow_no_link_either(tmp_path, export):
    source = make(tmp_path / "a.h5").path
    target, out = tmp_path / "precious", tmp_path / "out"
    target.write_text("precious")
    (tmp_path / "out.part").symlink_to(target)
    export(source, out)
    assert target.read_text() == "precious" and out.stat().st_size > 1000


def test_a_copy_to_work_on_follows_no_link(tmp_path):
    target, source = tmp_path / "precious", tmp_path / "source"
    target.write_text("precious")
    source.write_text("other")
    (tmp_path / "copy").symlink_to(target)
    with scratch(tmp_path / "copy", source) as copy:
        assert copy.read_text() == "other"
    assert target.read_text() == "precious" and not os.path.lexists(tmp_path / "copy")


def test_a_log_that_is_a_link_is_refused(tmp_path):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "log.jsonl").symlink_to(tmp_path / "precious")
    with pytest.raises(FileError, match="symbolic link"):
        JsonLog(tmp_path / "log.jsonl")("event")
    assert (tmp_path / "precious").read_text() == "precious"


def test_the_leftover_of_a_killed_process_gives_way(tmp_path):
    (tmp_path / "x.part").write_bytes(b"half of some")
    sealed_bytes(tmp_path / "x", b"all")
    assert (tmp_path / "x").read_bytes() == b"all" and not (tmp_path / "x.part").exists()


def test_a_pipe_or_a_folder_under_the_temporary_name(tmp_path):
    os.mkfifo(tmp_path / "x.part")
    sealed_bytes(tmp_path / "x", b"all")
    assert (tmp_path / "x").read_bytes() == b"all"
    (tmp_path / "y.part").mkdir()
    with pytest.raises(FileError, match=r"y\.part is a directory"):
        sealed_bytes(tmp_path / "y", b"all")


def test_two_writers_of_one_file_are_told_so(tmp_path):
    with whole(tmp_path / "x") as file:
        file.write(b"first")
        with pytest.raises(FileError, match="being written by another process"):
            sealed_bytes(tmp_path / "x", b"second")
    assert (tmp_path / "x").read_bytes() == b"first"


def test_a_block_that_fails_leaves_the_old_file(tmp_path):
    sealed_bytes(tmp_path / "x", b"old")
    with pytest.raises(ZeroDivisionError), whole(tmp_path / "x") as file:
        file.write(b"new")
        1 / 0  # noqa: B018
    assert (tmp_path / "x").read_bytes() == b"old" and os.listdir(tmp_path) == ["x"]


def test_a_full_disk_is_noticed_to_the_last_byte(tmp_path):
    """The last, short write of a large piece is where a lost error would leave a torn file under the right name."""
    script = """
import resource, sys
import numpy as np
from latticediff.atomic import whole
from latticediff.errors import FileError
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    with whole(sys.argv[1]) as file:
        np.savez(file, a=np.arange(10000.0))
except FileError as exc:
    print(exc)
"""
    path = tmp_path / "x.npz"
    for limit in (4096, 80_000, 80_200):
        done = subprocess.run([sys.executable, "-c", script, path, str(limit)], capture_output=True, text=True)
        assert "file too large" in done.stdout and not os.listdir(tmp_path), done.stderr
    assert subprocess.run([sys.executable, "-c", script, path, "90000"]).returncode == 0 and path.exists()


@pytest.mark.parametrize("kind", ["run", "notes", "link", "file"])
@pytest.mark.parametrize("suffix", [".run.new", ".run.old"])
def test_what_is_not_a_leftover_of_ours_is_never_deleted(tmp_path, suffix, kind):
    path, other = tmp_path / "a.h5", tmp_path / f"a.h5{suffix}"
    if kind == "run":  # somebody's copy of a run that goes on, kept for later
        other.mkdir()
        for name in ("run.json", "checkpoint-0.h5", "checkpoint-1.h5", "000000.h5", "lock"):
            (other / name).write_text("precious")
    elif kind == "notes":
        other.mkdir()
        (other / "notes.txt").write_text("precious")
    elif kind == "link":
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / "run.json").write_text("precious")
        other.symlink_to(tmp_path / "elsewhere")
    else:
        other.write_text("precious")
    before = sorted(str(p) for p in tmp_path.rglob("*"))
    with pytest.raises(FileError, match="in the way"):
        make(path)
    assert sorted(str(p) for p in tmp_path.rglob("*")) == before


def test_leftovers_of_ours_give_way(tmp_path):
    path = tmp_path / "a.h5"
    for suffix, names in ((".run.new", ("run.json.part",)), (".run.old", ("retired", "000000.h5"))):
        (tmp_path / f"a.h5{suffix}").mkdir()
        for name in names:
            (tmp_path / f"a.h5{suffix}" / name).write_text(json.dumps({}))
    make(path)
    assert os.listdir(tmp_path) == ["a.h5"] and Ensemble(path).n_cfg == 36


def test_a_name_too_long_is_one_line(tmp_path):
    for write in (lambda p: save_ensemble(p, fields(), action=ACTION), make, lambda p: sealed_text(p, "x")):
        with pytest.raises(FileError, match="File name too long"):
            write(tmp_path / ("n" * 300 + ".h5"))


@pytest.mark.parametrize("known", [True, False, None])
def test_a_system_that_can_empty_the_memory_of_the_disk_is_asked_to(tmp_path, monkeypatch, known):
    """F_FULLFSYNC of macOS, known to the file system, unknown to it, or to the system: never nothing at all."""
    asked, system = [], fcntl.fcntl

    def ask(descriptor, command, *argument):
        if command != -7:
            return system(descriptor, command, *argument)
        asked.append("full")
        if not known:
            raise OSError(errno.ENOTSUP, "not supported")
        return 0

    monkeypatch.setattr(fcntl, "fcntl", ask)
    monkeypatch.setattr(os, "fsync", lambda descriptor: asked.append("plain"))
    if known is None:
        monkeypatch.delattr(fcntl, "F_FULLFSYNC", raising=False)
    else:
        monkeypatch.setattr(fcntl, "F_FULLFSYNC", -7, raising=False)
    sealed_text(tmp_path / "a", "ours")  # the file, then its folder
    assert asked == {True: ["full"], False: ["full", "plain"], None: ["plain"]}[known] * 2
    assert (tmp_path / "a").read_text() == "ours"

"""Doors: two writers, full disks, what is not text, and input that nobody should write; one line each, nothing half."""

import errno
import gc
import importlib.util
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from latticediff.atomic import all_at_once, claimed, entries_of, require_space
from latticediff.atomic import files as atomic_files
from latticediff.cli import main
from latticediff.config import parse_card
from latticediff.ensemble import Ensemble, repair
from latticediff.errors import FileError, UserError
from latticediff.job.log import JsonLog, read_log
from latticediff.stages.compare import compare
from latticediff.stages.generate import generate
from latticediff.stages.run import do_stage
from latticediff.stages.train import CHECKPOINT, train

_spec = importlib.util.spec_from_file_location(
    "fuzz_cards", Path(__file__).parent.parent / "benchmarks" / "fuzz_cards.py"
)
fuzz_cards = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fuzz_cards)


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory):
    path = tmp_path_factory.mktemp("refusals") / "ens.h5"
    generate(parse_card(fuzz_cards.TINY), path)
    return path


@pytest.fixture
def no_collection():
    """What others left behind is not finalised where a deeply nested card has used up the stack."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_nothing_that_is_typed_ends_in_a_traceback_or_passes_in_silence(tmp_path, no_collection):
    counts, found = fuzz_cards.fuzz(210, 5, tmp_path)
    assert not found, found[0]
    # the inputs are neither all sound nor all hopeless
    for counted in counts.values():
        assert counted["accepted"] >= 5 and counted["refused"] >= 5


def test_fuzzer_sees_what_it_is_to_see(tmp_path, monkeypatch):
    sound = fuzz_cards.TINY.encode()
    assert fuzz_cards.judge_card(sound) == ("accepted", "")
    assert fuzz_cards.judge_card(sound.replace(b"lam = 6.0", b"lam = 'six'"))[0] == "refused"
    with monkeypatch.context() as patch:  # a key that is dropped, one that is changed, and an error that is ours
        patch.setattr("latticediff.config.reading.apply_overrides", lambda data, *_: data["hmc"].pop("thin") and data)
        assert fuzz_cards.judge_card(sound)[0] == "silent"
        patch.setattr("latticediff.config.reading.apply_overrides", lambda data, *_: 1 / 0)
        assert fuzz_cards.judge_card(sound)[0] == "traceback"
        patch.setattr("latticediff.cli.installation.say", lambda *_: None)
        assert fuzz_cards.judge_command(["models", "--json"], tmp_path)[0] in ("silent", "accepted")


@pytest.fixture
def other_writer(tmp_path):
    """A folder in which another process is at work, and that process."""
    folder = tmp_path / "out"
    text = f"from latticediff.atomic import claimed\nwith claimed({str(folder)!r}): print('in', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"in\n"
        yield folder, process
        process.kill()


def test_two_writers_of_one_folder(other_writer, ensemble):
    folder, process = other_writer
    card = parse_card(fuzz_cards.TINY)
    for work in (lambda: train(card, ensemble, folder), lambda: compare([ensemble], folder)):
        with pytest.raises(FileError, match="another process is writing into"):
            work()
        assert list(folder.iterdir()) == []
    # the lock of a process that was killed blocks nobody
    process.send_signal(signal.SIGKILL)
    process.wait()
    with claimed(folder):
        pass
    assert folder.is_dir()  # it was there before


def test_folder_that_was_made_for_nothing_is_removed(tmp_path):
    with pytest.raises(ValueError, match="boom"), claimed(tmp_path / "a"):
        raise ValueError("boom")
    assert not (tmp_path / "a").exists()
    with claimed(tmp_path / "b") as folder:
        (folder / "kept").touch()
    assert (tmp_path / "b" / "kept").exists()
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(FileError, match="a file is in the way"), claimed(path):
            pass


def test_model_finished_by_another_process_meanwhile_is_left_alone(tmp_path, ensemble, monkeypatch):
    card = parse_card(fuzz_cards.TINY)
    first = train(card, ensemble, tmp_path / "model")
    answers = iter([False, True])  # asked before the lock, and once it is held
    monkeypatch.setattr("latticediff.stages.train.holds_model", lambda *_: next(answers))
    assert train(card, ensemble, tmp_path / "model", resume=True).fingerprint() == first.fingerprint()


def test_report_on_a_full_disk_leaves_nothing(tmp_path, ensemble, monkeypatch):
    written, whole = [], atomic_files.whole

    def fills_up(path, *args, **kwargs):
        written.append(path)
        if len(written) > 4:
            raise FileError(f"cannot write {path}: no space left on the disk")
        return whole(path, *args, **kwargs)

    monkeypatch.setattr(atomic_files, "whole", fills_up)
    with pytest.raises(FileError, match="no space left"):
        compare([ensemble], tmp_path / "page")
    assert len(written) > 4 and not (tmp_path / "page").exists()
    monkeypatch.setattr(atomic_files, "whole", whole)
    paths = compare([ensemble], tmp_path / "page")
    assert all(path.exists() and path.parent == tmp_path / "page" for path in paths.values())
    assert sorted(os.listdir(tmp_path / "page")) == ["figures", "report.html", "report.json"]
    with pytest.raises(FileError, match="never overwritten"):
        compare([ensemble], tmp_path / "page")


def test_no_files_are_nothing_to_compare(tmp_path):
    with pytest.raises(UserError, match="no ensemble files to compare"):
        compare([], tmp_path / "page")
    assert not (tmp_path / "page").exists()


def test_folder_is_replaced_at_once(tmp_path):
    for content in ("old", "new"):
        with all_at_once(tmp_path, "last") as place:
            for name in ("figures/a", "last", "zzz"):
                (place / name).parent.mkdir(exist_ok=True)
                (place / name).write_text(content)
            if content == "new":
                assert (tmp_path / "last").read_text() == "old"
        assert {(tmp_path / name).read_text() for name in ("figures/a", "last", "zzz")} == {content}
    # what a killed process left does not count, and gives way
    (tmp_path / "killed" / ".part").mkdir(parents=True)
    (tmp_path / "killed" / ".part" / "junk").touch()
    assert entries_of(tmp_path / "killed") == []
    with all_at_once(tmp_path / "killed", "x") as place:
        (place / "x").touch()
    assert os.listdir(tmp_path / "killed") == ["x"]


@pytest.mark.parametrize(("free", "needs"), [(1_400_000, 600_000), (30, 0), (1_048_575, 0)])
def test_figures_of_a_full_disk_say_why(tmp_path, monkeypatch, free, needs):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=free))
    with pytest.raises(FileError) as caught:
        require_space(tmp_path / "x", needs)
    _, wanted, has = re.split(r"it needs | and ", str(caught.value).split(" are free")[0])
    assert wanted != has and not wanted.startswith("0.0")
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=needs + (1 << 20)))
    require_space(tmp_path / "x", needs)


def test_first_error_of_a_stage_is_the_one_that_is_told():
    class Full:
        def is_finished(self, _):
            return False

        def record(self, *_):
            raise FileError("the disk is full too")

    with pytest.raises(ZeroDivisionError):
        do_stage(Full(), JsonLog(), None, "train", lambda: 1 / 0)
    with pytest.raises(FileError, match="full too"):
        do_stage(Full(), JsonLog(), None, "train", lambda: None)


def test_log_on_a_full_disk_is_one_line_and_ends(tmp_path):
    log = JsonLog(tmp_path / "log.jsonl")
    log("begin", stage="a")
    real = log._file

    class Full:
        def write(self, text):
            real.write(text[:10])
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self):
            real.close()

    log._file = Full()
    with pytest.raises(FileError, match=r"log.jsonl: no space left on the disk"):
        log("begin", stage="b")
    log("begin", stage="c")  # nothing follows half a row
    assert [row["stage"] for row in read_log(tmp_path / "log.jsonl")] == ["a"]


def command(*arguments, **options):
    """Exit code and standard error of a command in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "latticediff", *arguments], stderr=subprocess.PIPE, text=True, check=False, **options
    )
    return done.returncode, done.stderr.splitlines()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_output_that_cannot_be_written_is_one_line():
    with open("/dev/full", "w") as full:
        code, lines = command("models", stdout=full)
    assert code == 2 and len(lines) == 1 and "cannot write the output: no space left" in lines[0]


def test_terminal_without_greek_and_a_name_that_is_no_text():
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    code, lines = command("info", b"\xff\xce\xb1.h5", env=environment, stdout=subprocess.PIPE)
    assert code == 2 and len(lines) == 1 and "does not exist" in lines[0]


@pytest.mark.parametrize(
    "error",
    [MemoryError("Unable to allocate 8 TiB"), RuntimeError("DefaultCPUAllocator: can't allocate memory: 8 TiB")],
)
def test_too_little_memory_is_one_line(error, monkeypatch, capsys):
    def refuse():
        raise error

    monkeypatch.setattr("latticediff.model.shipped.describe_models", refuse)
    with pytest.raises(SystemExit) as caught:
        main(["models"])
    err = capsys.readouterr().err
    assert caught.value.code == 2 and err.count("\n") == 1 and "not enough memory" in err and "8 TiB" in err


def test_defect_keeps_its_traceback(monkeypatch):
    for defect in (RuntimeError("a bug"), OSError("a bug"), KeyError("a bug"), ValueError("a bug")):

        def fail(defect=defect):
            raise defect

        monkeypatch.setattr("latticediff.model.shipped.describe_models", fail)
        with pytest.raises(type(defect), match="a bug"):
            main(["models"])


def test_names_too_long_are_one_line(tmp_path, ensemble):
    card, long = parse_card(fuzz_cards.TINY), tmp_path / ("x" * 300)
    for work in (
        lambda: train(card, ensemble, long),
        lambda: compare([ensemble], long),
        lambda: compare([long], tmp_path / "page"),
        lambda: generate(card, long),
        lambda: Ensemble(long),
    ):
        with pytest.raises(FileError, match="too long") as caught:
            work()
        assert "\n" not in str(caught.value)


def test_torn_checkpoint_of_a_training(tmp_path, ensemble):
    card = parse_card(fuzz_cards.TINY)
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / CHECKPOINT).write_bytes(b"\x08\x00\x00")
    with pytest.raises(FileError, match="no checkpoint is whole"):
        train(card, ensemble, folder, resume=True)


@pytest.mark.parametrize("name", ["/", ".", "..", "folder", ".run"])
def test_directory_that_is_no_run_is_not_repaired(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path(".run").mkdir()
    with pytest.raises(FileError, match="no run directory"):
        repair(name, tmp_path / "new.h5")

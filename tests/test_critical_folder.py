"""The folder of a critical point: whose it is, what another card may change in it, and what is told early."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from latticediff.cli import main
from latticediff.report.critical import verdict_of
from latticediff.stages.finetune import NothingGained

CARD = """
[critical]
nodes = [-0.1, 0.0]
window = 0.9
beside = []
max_doubling = 0.1
n_replicas = 50
couplings = 21

[[point]]
lam = 0.5
kappa = 0.34

[[elsewhere]]
lam = 0.022
kappa_c = [0.2708, 0.0001]
told = "an example"

[[elsewhere]]
lam = 0.049
kappa_c = [0.2854, 0.0001]
"""
SIZE = """
[[size]]
L = {}
draws = 20000
steps = 24
data = 3200
training_steps = 150
batch = 64
finetune_steps = 0
"""
WHOLE = CARD + "".join(map(SIZE.format, (4, 6, 8)))


def called(words):
    """Exit code of the command in this process."""
    with pytest.raises(SystemExit) as caught:
        main(words)
        raise SystemExit(0)
    return caught.value.code or 0


def run(card, out, *options):
    path = out.parent / "card.toml"
    path.write_text(card)
    return called(["critical", str(path), "--out", str(out), "-q", *options])


pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    out = tmp_path_factory.mktemp("critical") / "done"
    assert run(WHOLE, out) == 0
    return out


@pytest.fixture
def again(done, tmp_path):
    """The finished folder at another place."""
    return shutil.copytree(done, tmp_path / "moved")


def columns(out):
    """Everything that was measured, by file and sampler and column."""
    found = {}
    for path in sorted((out / "fields").glob("*.npz")):
        with np.load(path) as held:
            found |= {(path.name, key): held[key] for key in held.files if key != "told"}
    return found


def test_a_folder_goes_on_where_it_was_moved_to(again, done):
    before = {path: path.stat().st_mtime_ns for path in again.rglob("*.npz")}
    assert run(WHOLE, again) == 0
    assert {path: path.stat().st_mtime_ns for path in again.rglob("*.npz")} == before
    assert (
        json.loads((again / "critical.json").read_text())["points"]
        == json.loads((done / "critical.json").read_text())["points"]
    )


def test_the_card_of_another_command_is_not_lost(done, tmp_path, capsys):
    model = shutil.copytree(done / "models" / "lam0.5-L4" / "score", tmp_path / "model")
    before = (model / "card.toml").read_bytes()
    assert run(WHOLE, model) == 2
    assert "no folder of a critical point" in capsys.readouterr().err
    assert (model / "card.toml").read_bytes() == before


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("max_doubling = 0.1", "max_doubling = 1e-9", "max_doubling is 1e-09"),
        ("[-0.1, 0.0]", "[-0.2, 0.0]", "nodes want data-0.323.h5"),
        ("L = 4\n", "L = 4\nfeatures = 4\n", "begun by another card"),
        (SIZE.format(4), "", "it began with lam0.5-L4/score"),
    ],
)
def test_what_was_trained_is_refused_where_the_card_has_changed(again, capsys, old, new, words):
    larger = SIZE.format(10) if not new else ""
    assert run(WHOLE.replace(old, new, 1) + larger, again) == 2
    assert words in capsys.readouterr().err


def test_fine_tuning_that_gains_nothing_is_not_tried_twice(again, monkeypatch):
    tried = []

    def in_vain(card, start, *rest, **options):
        tried.append(str(start))
        raise NothingGained("fine-tuning gained nothing: an example")

    monkeypatch.setattr("latticediff.stages.finetune.finetune", in_vain)
    for path in (again / "models").glob("*/card.toml"):
        path.unlink()  # as if begun by the card that fine-tunes
    card = WHOLE.replace("finetune_steps = 0", "finetune_steps = 5")
    assert run(card, again) == 0 and run(card, again) == 0
    assert len(tried) == 3
    assert (again / "critical.md").read_text().count("fine-tuning gained nothing") == 3


def test_a_larger_budget_searches_again(again, capsys):
    beside = WHOLE.replace("beside = []", 'beside = ["hmc"]\nbudget = 3000')
    assert run(beside, again) == 0
    assert "ended by its budget" in capsys.readouterr().err
    page = (again / "critical.md").read_text()
    assert "| searched HMC, search ended by its budget |" in page and "searched HMC at most" in page
    first = json.loads((again / "models" / "lam0.5-L4" / "hmc.json").read_text())
    assert run(beside.replace("3000", "200000"), again) == 0
    second = json.loads((again / "models" / "lam0.5-L4" / "hmc.json").read_text())
    assert (first["asked"]["budget"], second["asked"]["budget"]) == (3000, 200000)
    assert second["kernel"] != first["kernel"]
    page = (again / "critical.md").read_text()
    assert "ended by its budget" not in page and "at most" not in page


def test_a_guess_that_is_far_off_is_told_after_the_first_size(tmp_path, capsys):
    card = WHOLE.replace("window = 0.9", "window = 0.1")
    assert run(card.replace("kappa = 0.34\n", "kappa = 0.31\n"), tmp_path / "low") == 2
    assert "a larger kappa of the point" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "low" / "models").iterdir()] == ["lam0.5-L4"]
    assert run(card.replace("kappa = 0.34\n", "kappa = 0.42\n"), tmp_path / "high") == 2
    assert "a smaller kappa of the point" in capsys.readouterr().err


def test_a_page_without_chains_beside_and_with_points_of_others(done):
    page = (done / "critical.md").read_text()
    assert "processor time for the error" not in page and "Classical samplers" not in page
    document = json.loads((done / "critical.json").read_text())
    assert document["continuum"]["g"][1:] == [row["g"] for row in document["elsewhere"]]
    assert "from 3 couplings, 2 of them found elsewhere" in page and "| 0.022 | an example | 0.3 |" in page
    assert (done / "figures" / "continuum.png").stat().st_size > 1000
    assert "Pareto k" not in " ".join(verdict_of(document))
    document["points"][0]["costs"][1]["pareto_k"] = [0.3, 0.81]
    assert "L = 6 is 0.81, above 0.7" in " ".join(verdict_of(document))


@pytest.mark.slow
def test_killed_at_any_time_it_comes_to_the_same_fields(done, tmp_path):
    """kill -9, eight times at most: data, training and draws are bit for bit those of an uninterrupted run."""
    out, path = tmp_path / "killed", tmp_path / "card.toml"
    path.write_text(WHOLE)
    words = [sys.executable, "-m", "latticediff", "critical", str(path), "--out", str(out), "-q"]
    for number in range(8):
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            process.wait(6 + 2 * number)
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    assert run(WHOLE, out) == 0
    ours, theirs = columns(out), columns(done)
    assert ours.keys() == theirs.keys() and len(ours) == 24
    for key, values in ours.items():
        assert np.array_equal(values, theirs[key]), key

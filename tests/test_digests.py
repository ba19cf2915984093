"""What stands beside the ensembles: cards of models, checkpoints of trainings, markers and log of a run folder."""

import json
import shutil
import tomllib

import pytest
import tomli_w
import torch
from safetensors.torch import load_file

from latticediff.config import load_card
from latticediff.digests import CARD_KEY, check_digest, with_digest
from latticediff.errors import FileError, ModelError
from latticediff.job.folder import RunFolder, read_marker
from latticediff.job.log import JsonLog, read_log
from latticediff.model.shipped import describe_models, model_folder, model_names
from latticediff.model.storage import load_model, save_model
from latticediff.training.checkpoint import read_checkpoint, write_checkpoint

CARD = """
[run]
name = "toy"
seed = 5
[action]
convention = "A"
m2 = -4.0
lam = 6.008
[lattice]
shape = [8, 8]
"""


@pytest.fixture
def model(tmp_path):
    shutil.copytree(model_folder("phi4-A-L8"), tmp_path / "model")
    return tmp_path / "model"


def edited(folder, change):
    card = tomllib.loads((folder / "card.toml").read_text())
    change(card)
    (folder / "card.toml").write_text(tomli_w.dumps(card))


def set_in(*keys, value):
    def change(card):
        *path, last = keys
        for key in path:
            card = card[key]
        card[last] = value

    return change


EDITS = {
    "time grid": set_in("time_grids", 0, "down", 3, value=0.5),
    "steps of the grid": set_in("time_grids", 0, "steps", value=16),
    "no grid": lambda card: card.pop("time_grids"),
    "shape": set_in("shape", value=[16, 4]),
    "metrics": set_in("metrics", "steps", value=8),
    "bill": set_in("training", "seconds", value=1.0),
    "fingerprint": set_in("ensemble", "fingerprint", value="0" * 64),
}


@pytest.mark.parametrize("change", EDITS.values(), ids=EDITS)
def test_a_changed_card_is_refused(model, change):
    edited(model, change)
    with pytest.raises(FileError, match="changed by hand"):
        load_model(model)


def test_cards_of_older_versions_are_read_and_their_shape_is_compared(model):
    edited(model, lambda card: card.pop(CARD_KEY))
    assert load_model(model).shape == (8, 8)
    edited(model, set_in("shape", value=[16, 4]))
    with pytest.raises(ModelError, match="shape of the card is not that of the weights"):
        load_model(model)


def test_a_saved_card_has_its_digest_and_only_new_ones_count(model, tmp_path):
    loaded = load_model(model)
    loaded.card = {**loaded.card, "metrics": {"steps": 8, "proposal": "ode"}}
    save_model(loaded, tmp_path / "again")
    again = load_model(tmp_path / "again")
    assert again.card["metrics"]["steps"] == 8 and again.card[CARD_KEY] != loaded.card[CARD_KEY]
    assert again.fingerprint() == loaded.fingerprint()


def test_every_shipped_card_has_its_digest():
    """After a figure of a card was measured afresh: python benchmarks/seal_cards.py."""
    for name in model_names():
        card = tomllib.loads((model_folder(name) / "card.toml").read_text())
        check_digest(card, name, "run benchmarks/seal_cards.py", CARD_KEY)
        assert CARD_KEY in card, name
    assert len(describe_models()) == len(model_names())


def flip(path, offset, bit=0):
    data = bytearray(path.read_bytes())
    data[offset] ^= 1 << bit
    path.write_bytes(bytes(data))


def two_generations(path):
    for step in (1, 2):
        tensors = {
            "weight": torch.full((3, 5), 0.5 * step),
            "step": torch.tensor(step),
            "half": torch.ones(2).bfloat16(),
        }
        write_checkpoint(path, tensors, {"step": step, "learning_rate": 0.25})
    return path


def test_a_flipped_bit_of_a_checkpoint_leads_to_the_generation_before(tmp_path):
    path = two_generations(tmp_path / "c.safetensors")
    tensors, meta = read_checkpoint(path)
    assert meta["step"] == 2 and tensors["weight"][0, 0] == 1.0 and tensors["half"].dtype == torch.bfloat16
    size = path.stat().st_size
    header = path.read_bytes()
    for offset in (size - 5, size - 60, header.index(b"0.25"), header.index(b'"weight"') + 2, header.index(b"BF16")):
        flip(path, offset)
        assert read_checkpoint(path)[1]["step"] == 1
        flip(path, offset)
    flip(path, size - 5)
    flip(path.with_name(path.name + ".previous"), size - 5)
    with pytest.raises(FileError, match="no checkpoint is whole"):
        read_checkpoint(path)
    assert read_checkpoint(tmp_path / "none") is None


def test_checkpoints_of_older_versions_are_read(tmp_path):
    from safetensors.torch import save_file

    path = two_generations(tmp_path / "c.safetensors")
    old = tmp_path / "old.safetensors"
    save_file(load_file(path), old, metadata={"latticediff": json.dumps({"step": 7})})
    assert read_checkpoint(old)[1] == {"step": 7}


def test_a_row_of_the_log_that_was_changed_is_refused(tmp_path):
    path = tmp_path / "log.jsonl"
    log = JsonLog(path)
    log("thermalised", seconds=1.25, updates=100, name="grün")
    log("training", step=3, loss=0.5)
    assert [row["seconds"] for row in read_log(path, "thermalised")] == [1.25]
    assert "crc32" not in read_log(path)[0]
    sound = path.read_bytes()
    for offset in range(len(sound)):
        path.write_bytes(sound[:offset] + bytes([sound[offset] ^ 1]) + sound[offset + 1 :])
        try:
            rows = read_log(path)
        except FileError as exc:
            assert "damaged" in str(exc)
        else:  # the name of the sum was hit, or the last end of line, which then counts as torn
            assert all(rows[0][key] == value for key, value in (("seconds", 1.25), ("updates", 100)))
            assert (len(rows) == 2 and rows[1]["loss"] == 0.5) or offset == len(sound) - 1
    first, second, _ = sound.split(b"\n")
    for lines in ((second,), (second, first), (first, first, second)):
        path.write_bytes(b"\n".join([*lines, b""]))
        with pytest.raises(FileError, match="damaged"):
            read_log(path)
    path.write_bytes(b'{"time": "x", "event": "old", "seconds": 2.0}\n{"ti\n' + sound)  # of an older version
    assert [row["event"] for row in read_log(path)] == ["old", "thermalised", "training"]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "toy.toml").write_text(CARD)
    with RunFolder(tmp_path / "run", load_card(tmp_path / "toy.toml")) as folder:
        (folder.path / "weights_ode.npz").write_bytes(b"weights")
        folder.record("weigh_ode", 2.5, True, [folder.weights("ode")])
    return folder


def test_markers_of_stages_are_compared(folder):
    path = folder.path / "stages" / "weigh_ode.json"
    assert folder.is_finished("weigh_ode") and folder.marker("weigh_ode")["seconds"] == 2.5
    path.write_text(path.read_text().replace("2.5", "2.6"))
    with pytest.raises(FileError, match=r"changed by hand.*remove it"):
        folder.marker("weigh_ode")
    path.write_text('{"stage": "weigh_ode", "finished": true, "seconds": 2.5}')  # of an older version
    assert read_marker(path)["finished"]
    folder.require_output("weigh_ode")


def test_outputs_of_finished_stages_are_compared(folder):
    folder.require_output("weigh_ode")
    folder.require_output("never begun")
    folder.weights("ode").write_bytes(b"others")
    with pytest.raises(FileError, match="not what stage weigh_ode wrote"):
        folder.require_output("weigh_ode")
    folder.weights("ode").unlink()
    with pytest.raises(FileError, match="is gone"):
        folder.require_output("weigh_ode")


def test_the_identity_of_a_run_is_compared(folder):
    from latticediff.stages.info import info

    assert "weigh_ode" in info(folder.path)
    identity = folder.path / "run.json"
    sound = identity.read_text()
    identity.write_text(sound.replace('"version": "', '"version": "9'))
    with pytest.raises(FileError):
        RunFolder(folder.path, folder.card, resume=True)
    identity.write_text(sound)
    card = folder.path / "card.toml"
    card.write_text(card.read_text().replace("6.008", "6.018"))
    with pytest.raises(FileError, match="not the card of this run"):
        info(folder.path)


def test_a_digest_does_not_depend_on_the_order_of_keys():
    document = with_digest({"b": 1.5, "a": [1, {"x": None}]})
    assert check_digest(dict(reversed(document.items())), "toy") == {"b": 1.5, "a": [1, {"x": None}]}
    assert check_digest({"a": 1}, "old") == {"a": 1}
    with pytest.raises(FileError, match="toy is damaged"):
        check_digest({**document, "b": 1.5000001}, "toy")

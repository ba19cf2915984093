"""The bill of a model: its own trainings and those of every model that its weights came from; data apart."""

import tomllib
from pathlib import Path

import pytest
from test_finetune_pipeline import CARD

from latticediff import bill
from latticediff.build.learned import route_named
from latticediff.config import load_card
from latticediff.ensemble import Ensemble
from latticediff.errors import ModelError
from latticediff.model.shipped import describe_models, model_names
from latticediff.model.storage import load_model, read_card
from latticediff.stages.finetune import finetune
from latticediff.stages.generate import generate
from latticediff.stages.report import _inherited
from latticediff.stages.train import train

CONFIGS = Path(__file__).parents[1] / "configs"
SMALL = ["hmc.n_chains=8", "hmc.n_warmup=20", "hmc.n_updates=80", "hmc.thin=4", "gate.enforce=false"]
SMALL += ["network.features=2", "network.hidden=4", "training.batch=16", "training.warmup=1"]


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    """Three models: of the small lattice, of a wider one begun with its weights, and that one fine-tuned."""
    path = tmp_path_factory.mktemp("bill")
    (path / "card.toml").write_text(CARD)

    def card(*overrides):
        return load_card(path / "card.toml", [*SMALL, *overrides])

    wide = "lattice.shape=[4, 6]"
    generate(card(), path / "small.h5").close()
    generate(card(wide), path / "wide.h5").close()
    train(card("training.steps=2"), path / "small.h5", path / "small", gate=False)
    begun = card(wide, "training.steps=2", f'training.init="{path / "small"}"')
    train(begun, path / "wide.h5", path / "wide", gate=False)
    tuned = card(wide, "finetune.steps=2", "finetune.warmup=1")
    finetune(tuned, path / "wide", path / "wide.h5", path / "tuned", gate=False)
    return path


def test_a_model_bears_the_bills_of_its_ancestors(line):
    small, wide, tuned = (read_card(line / name) for name in ("small", "wide", "tuned"))
    first, second = small["training"]["seconds"], wide["training"]["seconds"]
    third = tuned["finetune"]["seconds"]
    assert min(first, second, third) > 0
    assert bill.training_seconds(small) == pytest.approx(first) and bill.inherited_seconds(small) == 0
    assert bill.training_seconds(wide) == pytest.approx(first + second)
    assert bill.training_seconds(tuned) == pytest.approx(first + second + third)
    assert bill.inherited_seconds(tuned) == pytest.approx(first)
    assert [row["of"] for row in tuned["bill"] if row["what"] != "data"] == [
        load_model(line / name).fingerprint() for name in ("small", "wide", "tuned")
    ]


def test_data_are_named_apart_and_once(line):
    """Seconds of the updates as the file has them, and the warm-up at that rate."""
    wanted = {}
    for name in ("small", "wide"):
        with Ensemble(line / f"{name}.h5") as ensemble:
            wanted[ensemble.fingerprint()] = ensemble.history("seconds").sum() * (1 + 20 / 80)
    tuned = read_card(line / "tuned")
    found = {row["of"]: row["seconds"] for row in tuned["bill"] if row["what"] == "data"}
    assert found == pytest.approx(wanted)
    assert bill.data_seconds(tuned) == pytest.approx(sum(wanted.values()))
    assert bill.inherited_data_seconds(tuned) == pytest.approx(
        found[read_card(line / "small")["ensemble"]["fingerprint"]]
    )
    unknown = [{key: value for key, value in row.items() if key != "seconds"} for row in tuned["bill"]]
    assert bill.data_seconds({"bill": unknown}) is None


def test_a_report_counts_what_came_before(line):
    class Run:
        score, model = line / "wide", line / "tuned"

    small = read_card(line / "small")
    for route in ("ode", "sde"):
        assert _inherited(Run, route_named(route)) == pytest.approx(
            {"ancestors": small["training"]["seconds"], "ancestor_data": bill.data_seconds(small)}
        )


def test_the_bill_of_a_shipped_model_is_that_of_its_line():
    """Followed by hand from card to card: the first weights of each are what `training.init` of its run-card names.

    Where a run that it names left no model in the package (cards of smaller lattices with other options), there has to
    be a row for each smaller lattice. A model of the package itself brings its fine-tunings, too.
    """
    cards = {name: read_card(name) for name in model_names()}
    runs = {path.stem: tomllib.loads(path.read_text()) for path in CONFIGS.glob("*.toml")}
    runs["phi4-A-L8-score"] = runs["phi4-A-L8"]

    def score_matching(name):
        init = runs[name]["training"].get("init")
        own = cards[name]["training"]["seconds"]
        if not init:
            return own
        if init in cards:
            return own + score_matching(init) + tuning(init)
        parent = init.split("/")[1]
        if parent in runs:
            return own + score_matching(parent)
        earlier = [row for row in bill.rows_of(cards[name]) if row["what"] == bill.SCORE_MATCHING][:-1]
        extents = [row["shape"][0] for row in earlier]
        assert (
            extents == [8 * 2**i for i in range(len(extents))] and 2 * extents[-1] == runs[name]["lattice"]["shape"][0]
        )
        return own + sum(row["seconds"] for row in earlier)

    def tuning(name):
        tuned = cards[name].get("finetune", {})
        return tuned.get("seconds", 0) + tuned.get("seconds_before", 0)

    for name, card in cards.items():
        wanted = score_matching(name) + tuning(name)
        assert bill.training_seconds(card) == pytest.approx(wanted), name
    rows = {row["name"]: row for row in describe_models()}
    assert rows["phi4-A-L64"]["training_seconds"] == pytest.approx(1251, abs=1)
    assert rows["phi4-A-L128"]["training_seconds"] == pytest.approx(6656, abs=1)
    assert all(row["data_seconds"] > 0 for row in rows.values())


@pytest.mark.parametrize("row", ["x", {"what": "data", "seconds": -1.0}, {"what": "data", "seconds": "3"}, {"of": ""}])
def test_rows_that_are_none_are_refused(row):
    with pytest.raises(ModelError, match="expected what, of and seconds"):
        bill.training_seconds({"bill": [row]})

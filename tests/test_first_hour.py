"""What a newcomer mistakes in the first hour is answered by one line that says what to do instead."""

import json
from pathlib import Path

import pytest

from latticediff.config import load_card, parse_card
from latticediff.ensemble import Ensemble, thin
from latticediff.errors import CardError, FileError, UserError
from latticediff.stages.compare import compare
from latticediff.stages.first_weights import require_first_weights
from latticediff.stages.generate import generate
from latticediff.stages.line import draw_line
from latticediff.stages.made import made_run
from latticediff.stages.measure import measure
from latticediff.stages.model_place import refuse_model_folder

CARD = """
[action]
convention = "A"
m2 = -4.0
lam = 6.975
[lattice]
shape = [4, 4]
[hmc]
n_chains = 8
n_updates = 2000
thin = 1
"""


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory):
    path = tmp_path_factory.mktemp("hour") / "ens.h5"
    generate(parse_card(CARD), path).close()
    return path


def test_a_thinned_file_is_measured_in_both_units(ensemble, tmp_path):
    assert "in updates (0.5 is independent)" in measure(ensemble).to_text()
    thin(ensemble, tmp_path / "thin.h5", 50).close()
    found = measure(tmp_path / "thin.h5")
    text, told = found.to_text(), found.to_dict()
    assert "in stored configurations, of which one in 50 updates was kept" in text
    assert "at most 25 updates: thinned too far to tell" in text
    assert (told["thin"], told["tau_int_unit"]) == (50, "updates")


def test_a_file_is_not_compared_with_itself(ensemble, tmp_path):
    with pytest.raises(UserError, match="twice, and a file agrees with itself"):
        compare([ensemble, ensemble.parent / "." / ensemble.name], tmp_path / "page")


def test_a_model_folder_is_no_ensemble_and_takes_no_results(tmp_path):
    (tmp_path / "weights.safetensors").touch()
    with pytest.raises(FileError, match=r"is a model folder.*latticediff sample CARD"):
        measure(tmp_path)
    with pytest.raises(FileError, match="is the folder of a model; choose another --out"):
        refuse_model_folder(tmp_path)
    with pytest.raises(FileError, match="is the folder of a model; choose another --out"):
        draw_line("phi4-A-line", "lam=4:5:2", tmp_path)


def test_a_card_and_an_ensemble_that_are_swapped(ensemble, tmp_path):
    with pytest.raises(FileError, match="is an HDF5 file, perhaps an ensemble; expected a run-card"):
        load_card(ensemble)
    (tmp_path / "card.toml").write_text(CARD)
    with pytest.raises(FileError, match="is not an HDF5 file; expected an ensemble"):
        Ensemble(tmp_path / "card.toml")


def test_other_couplings_are_told_in_words(ensemble):
    with Ensemble(ensemble) as opened, pytest.raises(FileError) as caught:
        opened.expect(parse_card(CARD, ["action.lam=5"]).theory())
    said = str(caught.value)
    assert "is of action Phi4.A(m2=-4, lam=6.975, ndim=2); expected Phi4.A(m2=-4, lam=5, ndim=2): give" in said
    assert "{" not in said
    with Ensemble(ensemble) as opened, pytest.raises(FileError, match=r"expected \(8, 8\): give a file"):
        opened.expect(shape=(8, 8))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("lattice.shape=8", r"write e.g. shape = \[16, 16\]"),
        (
            'action={convention="hopping", kappa=0.2, lam=1}',
            r'expected one of A, H.*write e.g. convention = "A" with m2',
        ),
        ("sampling.max_doubling=inf", "sampling.max_doubling = inf: input should be a finite number"),
    ],
)
def test_a_wrong_value_gets_an_example(override, said):
    with pytest.raises(CardError, match=said):
        parse_card(CARD, [override])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("phi4-A-L16", "latticediff run configs/phi4-A-L8.toml --out runs/phi4-A-L8`.* --set training.init=phi4-A-L16"),
        ("phi4-A-L64-fast", "the first lines of the card tell how it is made, or begin .*init=phi4-A-L64-fast"),
    ],
)
def test_cards_of_a_series_say_how_to_begin(name, said, monkeypatch, tmp_path, request):
    card = load_card(request.config.rootpath / "configs" / f"{name}.toml")
    monkeypatch.chdir(tmp_path)  # where no run is
    with pytest.raises(FileError, match=said):
        require_first_weights(card)
    shipped = said.rpartition("init=")[2]
    require_first_weights(card.model_copy(update={"training": card.training.model_copy(update={"init": shipped})}))


def test_cards_that_begin_with_a_run_name_shipped_weights_or_that_run_beside_it(request, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    cards = [
        path for path in (request.config.rootpath / "configs").glob("*.toml") if 'init = "runs/' in path.read_text()
    ]
    assert len(cards) > 10
    for path in cards:
        card = load_card(path)
        with pytest.raises(FileError) as caught:
            require_first_weights(card)
        remedy = str(caught.value).rpartition(", ")[2]
        if "training.init=" not in remedy:  # none of the shipped models will do
            run = Path(card.training.init).parent
            assert remedy.endswith("the first lines of the card tell how it is made")
            remedy = f"#   latticediff run configs/{run.name}.toml --out {run}"
            assert (path.parent / f"{run.name}.toml").exists()
        assert remedy in path.read_text()


def test_a_finished_run_is_told_in_one_line(tmp_path):
    ode = {"acceptance": 0.9875, "ess_reverse": 0.99, "ess_reverse_error": 0.001}
    ode |= {"ess_forward": 0.98, "ess_forward_error": 0.002}
    report = {"chains": {"hmc": {"acceptance": 0.8, "ess_reverse": None}, "ode": ode}}
    (tmp_path / "report.json").write_text(json.dumps(report))
    assert made_run(tmp_path) == f"{tmp_path}: ode acceptance 0.9875, ESS reverse 0.9900(10), forward 0.9800(20)"

"""What a study keeps of fields, values that are known, models that it trains itself, and the page as Markdown."""

import math
import re
import shutil

import numpy as np
import pytest
from figure_toys import blank_figures

from latticediff.errors import CardError
from latticediff.observables.momentum import structure_factor, timeslice_correlator
from latticediff.report.blocks import Lines, Listing, Section, Table
from latticediff.report.markdown import markdown
from latticediff.stages.study import study
from latticediff.stages.study_models import Wanted, models_wanted
from latticediff.study.card import parse_study
from latticediff.study.fields import FieldSums, effective_masses, on_axis
from latticediff.study.gathered import held_against
from latticediff.study.models import model_folder_of, model_of
from latticediff.study.plan import plan_study, study_status
from latticediff.study.samplers import SAMPLERS

CARD = """
[study]
samplers = ["hmc_unit", "fast"]
reference = "hmc_unit"
precision = 0.3
seconds = 2.0
n_chains = 16
sites = 256
missing = "train"

[action]
convention = "A"
m2 = -4.0

[[line]]
shape = [6, 6]
couplings = { lam = 6.0 }
known = { abs_m = [0.15, 0.05] }
"""


@pytest.fixture
def phi():
    return np.random.default_rng(1).standard_normal((12, 10, 4, 6, 6))


def test_the_propagator_is_that_of_all_modes(phi):
    """Along the longest axes alone, and their average."""
    modes = structure_factor(phi.reshape(-1, 4, 6, 6), 3).reshape(12, 10, 4, 6, 4)
    expected = (modes[:, :, 0, :4, 0] + modes[:, :, 0, 0, :]) / 2
    np.testing.assert_allclose(on_axis(phi), expected, rtol=1e-12)


def test_stretches_are_summed_and_the_beginning_is_dropped(phi):
    sums = FieldSums()
    for start in (0, 3, 6, 9):
        sums.add(phi[start : start + 3])
    told = sums.told(4)
    kept = on_axis(phi[6:]).mean(axis=0)
    found = np.array(told["propagator"])
    np.testing.assert_allclose(found[:, 0], kept.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found[:, 1], kept.std(axis=0, ddof=1) / math.sqrt(10), rtol=1e-12)
    np.testing.assert_array_equal(told["configuration"], np.round(phi[-1, 0, 0], 2))
    assert np.shape(told["configuration"]) == (6, 6)


def test_too_few_chains_have_no_error():
    sums = FieldSums()
    sums.add(np.random.default_rng(1).standard_normal((20, 4, 6, 6)))
    assert set(sums.told(0)) == {"configuration"}


def test_masses_are_those_of_the_correlator():
    """A free field with mass 0.7: the mass of every separation is arcosh(1 + m^2 / 2) within its error."""
    rng, extent, m2 = np.random.default_rng(5), 12, 0.49
    k = 2 * np.pi * np.arange(extent) / extent
    power = 1 / (m2 + 4 * np.sin(k / 2) ** 2)
    noise = rng.standard_normal((20_000, 32, extent))
    phi = np.fft.ifft(np.fft.fft(noise) * np.sqrt(power)).real
    chains = on_axis(phi).mean(axis=0)
    masses = effective_masses(chains, extent)
    exact = math.acosh(1 + m2 / 2)
    known = [pair for pair in masses if pair]
    assert len(known) >= 5
    for value, error in known:
        assert abs(value - exact) < 5 * error
        assert error < 0.1 * value
    # the correlator itself, by the package's other formula
    correlator = timeslice_correlator(phi[:100].reshape(-1, extent)).reshape(100, 32, -1).mean(axis=(0, 1))
    mine = np.fft.irfft(on_axis(phi[:100]).mean(axis=(0, 1)), extent)[: extent // 2 + 1]
    np.testing.assert_allclose(mine, correlator, rtol=1e-10)


def test_masses_end_where_noise_begins():
    chains = np.abs(np.random.default_rng(2).standard_normal((16, 9)))
    masses = effective_masses(chains, 16)
    first = next(i for i, pair in enumerate(masses) if pair is None)
    assert not any(masses[first:])


# values that are known


def test_values_that_are_known_are_held_against_every_sampler(tmp_path):
    cells = [
        {
            "theory": 0,
            "sampler": name,
            "n_updates": 110,
            "n_dropped": 10,
            "tau_int": {key: [1.0, 0.1] for key in ("m", "abs_m", "m2", "action", "shell")},
            "average": {"abs_m": [1.0 + shift, 0.03]},
            "derived": {"binder": [0.2, 0.03]},
        }
        for name, shift in (("hmc", 0.0), ("fast", 1.0))
    ]
    found = held_against(cells, [{"abs_m": [1.0, 0.04], "binder": [0.25, 0.04], "chi": [1.0, 0.1]}])
    assert found["n"] == 4  # a quantity that was not measured is none
    assert [row["sigma"] for row in found["rows"]] == pytest.approx([0.0, -1.0, 20.0, -1.0])
    assert found["beyond"] == 1
    document = study(parse_study(CARD, ["study.missing=skip"]), tmp_path / "out")
    assert [row["observable"] for row in document["known"]["rows"]] == ["abs_m"]
    assert document["known"]["rows"][0]["value"] == document["cells"][0]["average"]["abs_m"]
    assert "known" in (tmp_path / "out/study.html").read_text()
    text = (tmp_path / "out/study.md").read_text()
    pair = document["cells"][0]["derived"]["binder"]
    assert 0 < pair[1] < 0.1
    assert len(document["cells"][0]["propagator"]) == 4
    for name in re.findall(r"\((figures/[^)]+)\)", text):
        assert (tmp_path / "out" / name).is_file(), name
    assert text.count("figures/configurations.png") == 1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("abs_m = [0.15, 0.05]", "abs_n = [0.15, 0.05]", "has 'abs_n'.*did you mean 'abs_m'"),
        ("[0.15, 0.05]", "[0.15, 0.0]", "expected \\[value, error\\] with an error above 0"),
        ("[0.15, 0.05]", "[0.15]", "expected \\[value, error\\]"),
        ("[0.15, 0.05]", "[nan, 0.1]", "known"),
    ],
)
def test_known_values_that_are_none_are_refused(old, new, message):
    with pytest.raises(CardError, match=message):
        parse_study(CARD.replace(old, new))


# models of its own


def test_models_that_are_missing_are_named_and_found_once_they_are_there(tmp_path):
    card = parse_study(CARD)
    (wanted,) = models_wanted(card, tmp_path)
    assert (wanted.family, wanted.title) == ("fast", "fast model at 6x6, lam = 6")
    assert wanted.folder == model_folder_of("fast", card.theories()[0], tmp_path)
    assert wanted.bare_card().theory().describe() == card.theories()[0].action.describe()
    assert list(plan_study(card, tmp_path).cells) == [(0, "hmc_unit")]
    with pytest.raises(CardError, match=r"1 models are still to be trained .fast model at 6x6.* --models"):
        study(card, tmp_path / "out", part=(1, 2))
    assert not (tmp_path / "out").exists()
    # any finished model at that place is taken for it
    from latticediff.model.shipped import model_folder

    shutil.copytree(model_folder("phi4-A-L8-fast"), wanted.folder / "model")
    assert models_wanted(card, tmp_path) == []
    use = model_of(SAMPLERS["fast"], card.theories()[0], tmp_path)
    assert use.name == str(wanted.folder / "model")
    assert plan_study(card, tmp_path).cells[0, "fast"].model == use.fingerprint


def test_the_fast_card_is_slimmer_than_the_accurate_one(tmp_path):
    theory = parse_study(CARD).theories()[0]
    cards = {family: Wanted(family, theory, 1, tmp_path / family).card() for family in ("accurate", "fast")}
    features = {family: card.network.options["features"] for family, card in cards.items()}
    assert features["fast"] < features["accurate"]
    steps = {family: card.to_dict()["sampling"]["ode"]["steps"] for family, card in cards.items()}
    assert steps["fast"] < steps["accurate"]
    assert cards["accurate"].training.sites == "all"
    assert cards["fast"].training.sites == "odd"


@pytest.mark.slow
def test_a_study_trains_what_it_lacks(tmp_path):
    document = study(parse_study(CARD), tmp_path / "out")
    assert not document["failed"]
    learned = next(cell for cell in document["cells"] if cell["sampler"] == "fast")
    assert learned["ess_reverse"][0] > 0.97
    assert learned["training_seconds"] > 1
    assert document["comparisons"]["beyond"] == 0
    stamp = (tmp_path / "out/study.json").stat().st_mtime_ns
    again = study(parse_study(CARD), tmp_path / "out")
    assert [cell["digest"] for cell in again["cells"]] == [cell["digest"] for cell in document["cells"]]
    assert stamp != (tmp_path / "out/study.json").stat().st_mtime_ns


# films

LEARNED = """
[study]
samplers = ["hmc_unit", "learned", "sde", "partial", "fast"]
reference = "hmc_unit"
precision = 0.3
seconds = 0.3
n_chains = 16
sites = 256

[action]
convention = "A"
m2 = -4.0

[[line]]
shape = [8, 8]
couplings = { lam = 6.008 }
models = { fast = "phi4-A-L8-fast" }

[[line]]
shape = [8, 8]
couplings = { lam = 6.45 }
models = { accurate = "phi4-A-line", fast = "phi4-A-line" }
"""


@blank_figures()
def test_every_model_and_route_has_a_film_once_where_the_reference_is_slowest(tmp_path, monkeypatch):
    import latticediff.stages.study_after as stage

    monkeypatch.setattr(stage, "ROUND_SECONDS", 0.01)
    monkeypatch.setattr("latticediff.study.chains.N_FORWARD", 64)
    made = stage.films
    monkeypatch.setattr(stage, "films", lambda chains: 1 / 0)
    card, out = parse_study(LEARNED), tmp_path / "out"
    document = study(card, out)
    assert [line.split(":")[0] for line in document["failed"]] == ["film at 8x8, lam = 6.008"]
    assert len(document["cells"]) == 10  # the chains are not lost
    assert not any("film" in cell for cell in document["cells"])
    plan = plan_study(card, out)
    assert [(c.kind, state[:6]) for c, state in study_status(plan, out)][-1] == ("film", "failed")
    # the same command tries it again, and nothing else
    monkeypatch.setattr(stage, "films", made)
    before = {path.name: path.stat().st_mtime_ns for path in (out / "cells").iterdir()}
    document = study(card, out)
    after = {path.name: path.stat().st_mtime_ns for path in (out / "cells").iterdir()}
    assert [name for name in after if after[name] != before[name]] == [f"{plan.film(out).digest}.json"]
    assert not document["failed"]
    films = {(cell["theory"], cell["sampler"]): cell["film"] for cell in document["cells"] if "film" in cell}
    # partial noise goes along the flow of the accurate model, which is shown
    assert list(films) == [(0, "learned"), (0, "sde"), (0, "fast")]
    for film in films.values():
        assert film["sigma"][0] > 1 > film["sigma"][-2] > film["sigma"][-1] == 0
        assert np.shape(film["fields"]) == (len(film["sigma"]), 8, 8)
        assert not any(value is None for row in film["fields"][-1] for value in row)
    assert any(value is None for row in films[0, "fast"]["fields"][0] for value in row)
    again = made({name: plan.cells[0, name] for name in ("learned", "sde", "fast")})
    assert again == {name: film for (_, name), film in films.items()}
    assert (out / "figures/film.svg").is_file()


# Markdown


def test_markdown_keeps_every_cell_and_escapes_what_would_be_marks():
    sections = [
        Section("A *b*", [Table("|m| here", ("x", "|y|"), [("a_b", "1(2)"), ("nothing", "–")]), Lines(["<b>"])]),
        Section("empty", [Lines([]), Table("none", ("x", "y"), [])]),
        Section("how", [Listing("latticediff study x"), Listing("[a]\nb = 1", "card")]),
    ]
    text = markdown("T", "sub", ["It is so."], sections)
    assert "| a\\_b | 1(2) |" in text
    assert "| x | \\|y\\| |\n| --- | --- |" in text
    assert "nothing" not in text
    assert "## empty" not in text
    assert "\\<b\\>" in text
    assert "    latticediff study x" in text
    assert "card:\n\n    [a]\n    b = 1" in text

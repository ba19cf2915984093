"""The study of critical slowing down: its card, its cells on disk, what is refused, and every number once more.

Numbers are recomputed from the raw chains by other formulas than the package's: a fit of z by numpy.polyfit, tau_int by
a plain sum up to the recorded window.
"""

import json
import math
import time
from contextlib import nullcontext
from itertools import pairwise

import numpy as np
import pytest
from figure_toys import blank_figures

from latticediff.cli import main
from latticediff.errors import CardError, FileError, ModelError, StopRequested, UserError
from latticediff.job.progress import Progress
from latticediff.markov import ChainState
from latticediff.signals import StopReason
from latticediff.stages.study import rewrite_page, study
from latticediff.streams import Streams
from latticediff.study.card import load_study, parse_study
from latticediff.study.cell import Cell, read_result, result_path, write_result
from latticediff.study.chains import observed, run_chain
from latticediff.study.costs import cost_of, paid_back_after, ratio_of
from latticediff.study.fits import power_law
from latticediff.study.gathered import compared, fitted, held_against
from latticediff.study.kernels import rebuild
from latticediff.study.plan import describe_plan, plan_study, study_status
from latticediff.study.quantities import OBSERVABLES
from latticediff.study.timing import Price, timed
from latticediff.study.verdict import verdict

SMALL = """
[study]
name = "small"
samplers = ["hmc_unit", "hmc"]
reference = "hmc_unit"
precision = 0.3
seconds = 2.0
n_chains = 16
sites = 256
budget = 20000
fit_from = 4

[action]
convention = "A"
m2 = 1.0
lam = 0.5

[[line]]
shape = [4, 4]

[[line]]
shape = [4, 6]

[[line]]
shape = [6, 6]
"""
ONE = SMALL.split("[[line]]")[0] + "[[line]]\nshape = [4, 4]\n"
TILTED = """
[study]
samplers = ["hmc_unit", "cluster"]
reference = "hmc_unit"
[action]
name = "polynomial"
a1 = 0.01
a2 = 1.2
a4 = 0.25
[[line]]
shape = [4, 4]
"""


@pytest.fixture(scope="module", autouse=True)
def quickly():
    """Scans and timings as short as they can be: what they find is not looked at here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("latticediff.stages.study_after.ROUND_SECONDS", 0.01)
        patch.setattr("latticediff.study.kernels.SCAN", 40)
        patch.setattr("latticediff.study.kernels.SCAN_SECONDS", 0.002)
        yield


@pytest.fixture(autouse=True)
def undrawn(request):
    """Pages without pictures, but for that of the finished study and where they are asked for."""
    with nullcontext() if "drawn" in request.fixturenames else blank_figures():
        yield


@pytest.fixture
def drawn():
    """Asks for pictures."""


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A finished small study: its folder and its document."""
    folder = tmp_path_factory.mktemp("study") / "small"
    return folder, study(parse_study(SMALL), folder)


def cells_of(text):
    return list(plan_study(parse_study(text)).cells.values())


# the card


def test_a_card_reads_back_from_its_own_text():
    card = parse_study(SMALL)
    assert parse_study(card.to_toml()) == card
    assert [theory.shape for theory in card.theories()] == [(4, 4), (4, 6), (6, 6)]
    assert card.chains_of((4, 4)) == 16
    assert card.chains_of((2, 2)) == 64


def test_shipped_cards_can_be_read(pytestconfig):
    for name in ("quick", "full", "hopping"):
        plan = plan_study(load_study(pytestconfig.rootpath / "configs" / f"study-{name}.toml"))
        assert {"hmc", "hmc_unit", "cluster", "learned"} <= {sampler for _, sampler in plan.cells}
        assert all("no " in line and 'say missing = "train"' in line for line in plan.skipped)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"hmc"]', '"clusters"]', "no sampler 'clusters' .did you mean 'cluster'"),
        ('"hmc"]', '"hmc_unit"]', "names a sampler twice"),
        ('reference = "hmc_unit"', 'reference = "fast"', "reference = 'fast', which is none of samplers"),
        ("precision = 0.3", "precision = 2.0", "study.precision = 2.0: "),
        ("precision = 0.3", "precission = 0.3", "has no key 'precission' .did you mean 'precision'"),
        ("seconds = 2.0", "seconds = nan", "study.seconds"),
        ("[study]", "[studies]", "section .study. is missing"),
        ("shape = [4, 6]", "shape = [4, 4]", "is the theory of an earlier line"),
        ("shape = [4, 6]", "shape = [4, 0]", "shape"),
        ("shape = [4, 6]", "shape = [4, 6]\ncouplings = { kappa = 0.1 }", "has no key 'kappa'"),
        ("shape = [4, 6]", "shape = [4, 6]\ncouplings = { lam = nan }", "couplings.lam"),
        ("shape = [4, 6]", 'shape = [4, 6]\nmodels = { quick = "x" }', "a model for 'quick'"),
        ("[action]", "[actoin]", "has no key 'actoin' .did you mean 'action'"),
    ],
)
def test_a_wrong_card_is_refused_in_one_line(old, new, message):
    with pytest.raises(CardError, match=message) as caught:
        parse_study(SMALL.replace(old, new, 1))
    assert "\n" not in str(caught.value)


def test_a_card_of_a_run_is_told_from_one_of_a_study(pytestconfig):
    with pytest.raises(CardError, match="run-card of a single theory, which `latticediff run` takes"):
        load_study(pytestconfig.rootpath / "configs" / "demo.toml")
    with pytest.raises(FileError, match=r"study-quick.toml"):
        load_study("nowhere.toml")


def test_couplings_of_the_command_line_replace_those_of_the_card():
    card = parse_study(SMALL).along("lam", [0.4, 0.6])
    assert [(t.shape, t.couplings) for t in card.theories()][:3] == [
        ((4, 4), {"lam": 0.4}),
        ((4, 4), {"lam": 0.6}),
        ((4, 6), {"lam": 0.4}),
    ]


# what is refused before anything runs


def test_a_sampler_that_a_theory_does_not_have_is_said_with_its_remedy(tmp_path):
    with pytest.raises(CardError, match=r"cluster at 4x4: the potential is not even.*missing = .skip"):
        study(parse_study(TILTED), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    plan = plan_study(parse_study(TILTED, ["study.missing=skip"]))
    assert [sampler for _, sampler in plan.cells] == ["hmc_unit"]
    assert "cluster at 4x4" in plan.skipped[0]


def test_a_theory_without_a_model_is_said_with_its_remedy():
    text = ONE.replace('"hmc"]', '"fast"]')
    with pytest.raises(
        CardError, match=r"fast: no fast model .* for 4x4; say missing = .*models = \{ fast = .FOLDER. \}"
    ):
        plan_study(parse_study(text))
    only = text.replace('"hmc_unit", ', "").replace('reference = "hmc_unit"', 'reference = "fast"')
    with pytest.raises(CardError, match="nothing is left of the study"):
        plan_study(parse_study(only, ["study.missing=skip"]))


def test_a_named_model_must_exist_even_where_missing_ones_are_skipped():
    text = ONE.replace('"hmc"]', '"fast"]') + 'models = { fast = "phi4-A-L88" }\n'
    with pytest.raises(ModelError, match="did you mean"):
        plan_study(parse_study(text, ["study.missing=skip"]))
    with pytest.raises(ModelError, match="no model in nowhere/at-all"):
        plan_study(parse_study(text.replace("phi4-A-L88", "nowhere/at-all")))


AT_8 = ONE.replace("m2 = 1.0\nlam = 0.5", "m2 = -4.0\nlam = 6.008").replace("[4, 4]", "[8, 8]")


@pytest.mark.parametrize(
    ("sampler", "named", "reason"),
    [
        ("fast", 'fast = "phi4-A-L16-fast"', "fast at 8x8.*phi4-A-L16-fast was trained for .*lam=4.98.*lam=6.008"),
        ("sde", 'accurate = "phi4-H-L16"', "sde at 8x8.*trained for"),
        ("fast_hmc", 'fast_hmc = "phi4-A-L16-coarse"', "fast_hmc at 8x8.*phi4-A-L16-coarse was trained for"),
        ("partial", 'partial = "phi4-A-L8-coarse"', "partial at 8x8.*of the coarse sites alone.*a model of all sites"),
        ("partial", 'accurate = "phi4-A-L8-odd"', "partial at 8x8.*of the odd sites alone"),
    ],
)
def test_a_named_model_that_does_not_fit_is_said_before_anything_runs(sampler, named, reason, tmp_path):
    text = AT_8.replace('"hmc"]', f'"{sampler}"]') + f"models = {{ {named} }}\n"
    with pytest.raises(CardError, match=f"{reason}.*missing = .skip"):
        study(parse_study(text), tmp_path / "out")
    plan = plan_study(parse_study(text, ["study.missing=skip"]))
    assert [name for _, name in plan.cells] == ["hmc_unit"]
    assert sampler in plan.skipped[0]
    with pytest.raises(UserError, match=reason):  # none is trained in its place
        study(parse_study(text, ["study.missing=train"]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_shipped_models_are_found_by_lattice_and_couplings():
    text = """
[study]
samplers = ["hmc", "learned", "fast"]
[models]
fast = "phi4-A-L{L}-fast"
[action]
convention = "A"
m2 = -4.0
[[line]]
shape = [8, 8]
couplings = { lam = 6.008 }
[[line]]
shape = [16, 16]
couplings = { lam = 4.98 }
"""
    names = {(number, s): cell.model_name for (number, s), cell in plan_study(parse_study(text)).cells.items()}
    assert (names[0, "learned"], names[1, "learned"]) == ("phi4-A-L8", "phi4-A-L16")
    assert (names[0, "fast"], names[1, "fast"]) == ("phi4-A-L8-fast", "phi4-A-L16-fast")
    # a model of a line serves what lies between its ends
    between = plan_study(parse_study(text.replace("6.008", "5.0"), ["study.missing=skip"]))
    assert between.cells[0, "learned"].model_name == "phi4-A-line"


def test_fields_beyond_memory_are_refused():
    with pytest.raises(CardError, match=r"chains at 30000x30000 take .* GB, this machine has"):
        plan_study(parse_study(ONE.replace("[4, 4]", "[30000, 30000]"), ["study.n_chains=4000"]))


@pytest.mark.parametrize("look", ["--status", "--dry-run"])
def test_a_look_at_a_folder_of_something_else_is_refused_too(look, tmp_path, capsys):
    (tmp_path / "card.toml").write_text(ONE)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "ens.h5").write_text("data")
    assert run(tmp_path / "card.toml", "--out", tmp_path / "out", look) == 2
    assert "is no folder of a study, it holds ens.h5; choose another --out" in capsys.readouterr().err


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(FileError, match=r"is no folder of a study, it holds thesis.tex"):
        study(parse_study(ONE), tmp_path)
    with pytest.raises(FileError, match="holds no study; give the --out of"):
        rewrite_page(tmp_path)
    (tmp_path / "cells").mkdir()
    with pytest.raises(FileError, match=r"holds cells but no study.json; finish the study"):
        rewrite_page(tmp_path)


@pytest.mark.parametrize("options", [{"jobs": 0}, {"part": (0, 2)}, {"part": (3, 2)}])
def test_senseless_numbers_of_jobs_and_parts_are_refused(options, tmp_path):
    with pytest.raises(UserError, match="expected"):
        study(parse_study(ONE), tmp_path / "out", **options)


# cells


def test_the_name_of_a_result_is_a_digest_of_all_that_determines_it():
    first, *_ = cells_of(ONE)
    assert first.digest == cells_of(ONE.replace("small", "other"))[0].digest
    changed = [
        ONE.replace("lam = 0.5", "lam = 0.6"),
        ONE.replace("precision = 0.3", "precision = 0.2"),
        ONE.replace("seconds = 2.0", "seconds = 3.0"),
        ONE.replace("[4, 4]", "[4, 6]"),
        ONE.replace("n_chains = 16", "n_chains = 17"),
        ONE.replace('name = "small"', "seed = 7"),
    ]
    assert len({first.digest, *(cells_of(text)[0].digest for text in changed)}) == 1 + len(changed)


def test_a_damaged_or_foreign_result_is_refused(tmp_path):
    first, second = cells_of(ONE)
    assert read_result(tmp_path, first) is None
    path = write_result(tmp_path, first, {"n": 1})
    assert read_result(tmp_path, first)["n"] == 1
    path.write_text(path.read_text().replace('"n": 1', '"n": 2'))
    with pytest.raises(FileError, match="remove it, and the cell runs again"):
        read_result(tmp_path, first)
    path.replace(result_path(tmp_path, second))
    with pytest.raises(FileError, match="is no result of the cell hmc at 4x4"):
        read_result(tmp_path, second)


def test_only_what_is_missing_runs(done, tmp_path):
    folder, document = done
    cells = sorted((folder / "cells").iterdir())
    assert len(cells) == 6 + 3  # chains, and a timing for each theory
    times = [path.stat().st_mtime_ns for path in cells]
    again = study(parse_study(SMALL), folder)
    assert [path.stat().st_mtime_ns for path in sorted((folder / "cells").iterdir())] == times
    assert {key: value for key, value in again.items() if key != "created"} == {
        key: value for key, value in document.items() if key != "created"
    }
    plan = plan_study(parse_study(SMALL))
    assert {state for _, state in study_status(plan, folder)} == {"done"}
    assert "9 of 9 cells are done" in describe_plan(plan, folder)
    assert "0 of 6 cells are done" in describe_plan(plan, tmp_path)


def test_a_failed_cell_leaves_the_others_and_is_tried_again(tmp_path, monkeypatch):
    import latticediff.stages.study_cells as stage

    def fails(cell, tell):
        if cell.sampler == "hmc":
            raise RuntimeError("a defect\nof two lines")
        return run_chain(cell, tell=tell)

    monkeypatch.setattr(stage, "run_chain", fails)
    document = study(parse_study(ONE), tmp_path / "out")
    assert document["failed"] == ["hmc at 4x4: RuntimeError: a defect of two lines"]
    assert [cell["sampler"] for cell in document["cells"]] == ["hmc_unit"]
    assert "1 cell failed" in document["verdict"][-1]
    assert "a defect of two lines" in (tmp_path / "out" / "study.html").read_text()
    monkeypatch.undo()
    assert [c["sampler"] for c in study(parse_study(ONE), tmp_path / "out")["cells"]] == ["hmc_unit", "hmc"]


def test_a_stop_keeps_what_is_done(tmp_path):
    calls = []

    def stop():
        calls.append(1)
        return StopReason("the time limit is near") if len(calls) > 1 else None

    with pytest.raises(StopRequested, match="run the same command again"):
        study(parse_study(SMALL), tmp_path / "out", stop=stop)
    assert len(list((tmp_path / "out" / "cells").iterdir())) == 1
    assert len(json.loads((tmp_path / "out" / "study.json").read_text())["cells"]) == 1


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_study_says_what_its_last_cell_found(tmp_path, jobs, monkeypatch):
    seen = []

    def reach(status, done, total, numbers, work, ahead):
        seen.append((done, total, numbers, ahead))

    monkeypatch.setattr("latticediff.job.status.Status.reach", reach)
    monkeypatch.setattr("latticediff.stages.study_board.SECONDS", 0.0)
    monkeypatch.setattr("latticediff.stages.study_cells.SECONDS", 0.05)
    progress = Progress()
    with progress.seen_at(tmp_path / "out"):
        document = study(parse_study(ONE), tmp_path / "out", jobs=jobs, progress=progress)
    cells = [row for row in seen if row[1] == 2]  # tasks after them are of one
    ended = [row for before, row in pairwise(cells) if row[0] > before[0]]
    assert [row[0] for row in ended] == [1, 2]
    found = {(c["tau_int"]["abs_m"][0], c["acceptance"]) for c in document["cells"]}
    assert {(numbers["tau_int"], numbers["acceptance"]) for _, _, numbers, _ in ended} == found
    # the time left is that of all, timing and page too; where it comes from is on the way, within cells as well
    assert ended[-1][3].seconds_left > 5 and 0 < ended[0][3].share < 1
    within = [ahead.at for done, _, _, ahead in cells]
    assert any("hmc at 4x4: search" in at for at in within)
    if jobs == 1:  # processes pass a word on every so often
        assert len({at for at in within if at.startswith("hmc at 4x4: search")}) > 5
        assert any(at.startswith("hmc at 4x4: chain") for at in within)
    assert seen[-1][3].seconds_left == 0 and seen[-1][3].share == 1


def test_parts_are_seen_beside_each_other(tmp_path, monkeypatch):
    where = []
    monkeypatch.setattr(Progress, "seen_at", lambda self, out: where.append(str(out)) or nullcontext())
    (tmp_path / "card.toml").write_text(ONE)
    assert run(tmp_path / "card.toml", "--out", tmp_path / "out", "--part", "2/2", "-q") == 0
    assert where == [str(tmp_path / "out.part-2-of-2")]


def test_parts_of_an_array_and_processes_find_the_same(done, tmp_path):
    _, document = done
    card = parse_study(SMALL)
    processes = study(card, tmp_path / "processes", jobs=2)
    assert [cell["tau_int"] for cell in processes["cells"]] == [cell["tau_int"] for cell in document["cells"]]
    for k in (1, 2):
        assert study(card, tmp_path / "out", part=(k, 2)) == {}
    parts = study(card, tmp_path / "out")
    for ours, theirs in zip(parts["cells"], document["cells"], strict=True):
        assert ours["tau_int"] == theirs["tau_int"]  # chains of 0.3 end long before their two seconds
        assert ours["kernel"] == theirs["kernel"]


# numbers


@pytest.mark.parametrize("sampler", ["hmc_unit", "cluster"])
def test_tau_int_and_averages_are_those_of_the_raw_chains(sampler):
    cell = next(cell for cell in cells_of(ONE.replace('"hmc"]', '"cluster"]')) if cell.sampler == sampler)
    series = []
    row = run_chain(cell, series)
    values = series[0]
    assert values.shape == (5, 16, row["n_updates"] - row["n_dropped"])
    for key, chains in zip(OBSERVABLES, values, strict=True):
        assert row["average"][key][0] == pytest.approx(chains.mean(), rel=1e-12)
        deltas, n = chains - chains.mean(), chains.shape[1]
        gamma = [np.mean(deltas[:, : n - t] * deltas[:, t:]) for t in range(row["window"][key] + 1)]
        plain = 0.5 + sum(gamma[1:]) / gamma[0]
        # what the mean takes away is given back, by the window over the number of entries
        given_back = (2 * row["window"][key] + 1) / chains.size
        assert row["tau_int"][key][0] == pytest.approx(max(0.5, plain) * (1 + given_back), rel=0.02)
    # 16 independent chains: their spread is the error
    assert 0 < row["acceptance_error"] < 0.1 and 0.5 < row["acceptance"] <= 1
    assert row["history"][:3] == pytest.approx(values[0, 0, :3].tolist(), rel=1e-4)
    assert sum(row["histogram"]["counts"]) == values[0].size


def test_observables_are_their_definitions():
    phi = np.random.default_rng(2).normal(size=(3, 2, 4, 6))
    found = observed(phi, np.full((3, 2), 12.0))
    field = phi[1, 1]
    k0, k1 = (np.exp(2j * np.pi * np.arange(n) / n) for n in (4, 6))
    modes = [np.abs((field * k0[:, None]).sum()) ** 2, np.abs((field * k1).sum()) ** 2]
    expected = [field.mean(), abs(field.mean()), field.mean() ** 2, 0.5, np.mean(modes) / 24]
    np.testing.assert_allclose(found[:, 1, 1], expected, rtol=1e-12)


def test_a_fit_of_z_is_that_of_polyfit():
    extents, values = [8, 12, 16, 32], [2.0, 5.1, 8.8, 41.0]
    errors = [0.05, 0.2, 0.2, 2.0]
    fit = power_law(extents, values, errors)
    weights = np.divide(values, errors)
    (z, offset), cov = np.polyfit(np.log(extents), np.log(values), 1, w=weights, cov="unscaled")
    assert fit["z"] == pytest.approx(z, rel=1e-12)
    assert fit["offset"] == pytest.approx(offset, rel=1e-12)
    chi2 = np.sum((weights * (np.log(values) - offset - z * np.log(extents))) ** 2) / 2
    assert fit["chi2_per_dof"] == pytest.approx(chi2, rel=1e-10)
    assert fit["error"] == pytest.approx(math.sqrt(cov[0, 0] * max(1, chi2)), rel=1e-10)
    assert power_law(extents[:2], values[:2], errors[:2]) is None
    for bad in ([8, 12, 16, math.nan], [8, 12, 16, -1]):
        with pytest.raises(UserError, match="not finite and above zero"):
            power_law(bad, values, errors)
    with pytest.raises(UserError, match="as many of each"):
        power_law(extents, values[:3], errors)


def test_every_cost_and_ratio_of_the_document_follows_from_its_chains_and_prices(done):
    _, document = done
    for cell in document["cells"]:
        for kind in ("processor", "wall"):
            for key, (value, error) in cell["cost"][f"{kind}_seconds"].items():
                tau, each = cell["tau_int"][key], cell["seconds_per_update"][kind]
                assert value == pytest.approx(2 * tau[0] * each[0], rel=1e-12)
                relative = (error / value) ** 2
                assert relative == pytest.approx((tau[1] / tau[0]) ** 2 + (each[1] / each[0]) ** 2, rel=1e-9)
        if cell["evaluations_per_update"] is not None:
            expected = 2 * cell["tau_int"]["m"][0] * cell["evaluations_per_update"]
            assert cell["cost"]["evaluations"]["m"][0] == pytest.approx(expected)
    for number in range(3):
        unit, other = (
            next(c for c in document["cells"] if (c["theory"], c["sampler"]) == (number, name))
            for name in ("hmc_unit", "hmc")
        )
        assert unit["cost"]["gradient_equivalents"] == unit["cost"]["evaluations"]
        gradient = unit["seconds_per_update"]["processor"][0] / unit["evaluations_per_update"]
        for key, (value, error) in other["cost"]["gradient_equivalents"].items():
            assert value == pytest.approx(other["cost"]["processor_seconds"][key][0] / gradient, rel=1e-12)
            assert error > 0
    for row in document["ratios"]:
        ours, theirs = (
            next(c for c in document["cells"] if (c["theory"], c["sampler"]) == (row["theory"], name))
            for name in (row["sampler"], row["reference"])
        )
        pair = [c["cost"]["processor_seconds"]["abs_m"][0] for c in (ours, theirs)]
        assert row["value"] == pytest.approx(pair[0] / pair[1])
    assert document["fits"] == []  # 4x6 is no lattice of equal extents, and two points are no fit
    assert document["comparisons"]["n"] == 3 * 4
    assert document["comparisons"]["threshold"] == pytest.approx(2.87, abs=0.02)  # of twelve, two-sided


def test_when_training_is_paid_back():
    assert paid_back_after(100.0, 1.0, 3.0) == 50
    assert paid_back_after(100.0, 3.0, 1.0) is None
    assert paid_back_after(0.0, 1.0, 2.0) == 0
    assert cost_of((2.0, 0.2), (3.0, 0.0)) == (12.0, pytest.approx(1.2))
    assert ratio_of((2.0, 0.2), (4.0, 0.0)) == (0.5, pytest.approx(0.05))


def row_of(extent, sampler, tau, seconds, average=1.0, **more):
    """A cell as the document has it, all observables alike."""
    keys = OBSERVABLES
    pair = {key: [tau, 0.01 * tau] for key in keys}
    cost = {key: [2 * tau * seconds, 0.02 * tau * seconds] for key in keys}
    return {
        "theory": [8, 16, 32].index(extent),
        "sampler": sampler,
        "L": extent,
        "tau_int": pair,
        "n_updates": 5500,
        "n_dropped": 500,
        "average": {key: [average, 0.01] for key in keys},
        "cost": {"processor_seconds": cost},
        **more,
    }


def document_of(cells, failed=(), ratios=()):
    return {
        "reference": "hmc",
        "samplers": {"hmc": {"label": "HMC"}, "fast": {"label": "fast model"}},
        "theories": [{"label": f"{L}x{L}", "shape": [L, L]} for L in (8, 16, 32)],
        "cells": cells,
        "fits": fitted(cells, 8),
        "ratios": list(ratios),
        "comparisons": compared(cells, "hmc"),
        "failed": list(failed),
    }


@pytest.mark.parametrize("wins", [True, False])
def test_the_verdict_is_three_sentences_whichever_way_it_falls(wins):
    from latticediff.study.gathered import ratios

    price = 1e-6 if wins else 1.0
    cells = [row_of(L, "hmc", 0.01 * L**2, 1e-4 * L**2) for L in (8, 16, 32)]
    paid = {"training_seconds": 90.0, "data_seconds": 10.0}
    cells += [row_of(L, "fast", 0.6, price * L**2, **paid) for L in (8, 16, 32)]
    said = verdict(document_of(cells, ratios=ratios(cells, "hmc")))
    assert len(said) == 3
    assert "(of which the number of sites makes 2) from L = 8 to 32, z = 4.000(" in said[0]
    assert "for HMC" in said[0]
    assert ("paid back against HMC after" in said[1]) is wins
    assert ("never paid back against HMC" in said[1]) is not wins
    assert f"the cheapest of 2 being {'fast model' if wins else 'HMC'}" in said[1]
    assert "All 12 averages agree" in said[2]


def test_a_deviation_is_called_one_only_beyond_what_chance_explains():
    cells = [row_of(L, "hmc", 2.0, 1e-3) for L in (8, 16, 32)]
    near = compared([*cells, row_of(8, "fast", 1.0, 1e-3, average=1.03)], "hmc")  # 2.1 sigma, of four
    assert (near["n"], near["beyond"]) == (4, 0)
    far = document_of([*cells, row_of(8, "fast", 1.0, 1e-3, average=1.2)], failed=["x"])
    said = verdict(far)[-1]
    assert "4 of 4 averages deviate" in said
    assert "look at fast model first, and 1 cell failed" in said
    assert verdict(document_of([])) == ["Nothing was measured: every cell failed or is missing."]


def test_a_chain_of_few_tau_int_is_held_against_nothing():
    """What a study of mine called a deviation of 3.8 sigma: 16 updates of a sampler whose tau_int is 3."""
    cells = [row_of(8, "hmc", 2.0, 1e-3), row_of(8, "fast", 3.0, 1e-3, average=1.3)]
    cells[1] |= {"n_updates": 16, "n_dropped": 1}
    cells[1]["tau_int"] = {**cells[1]["tau_int"], "action": [0.7, 0.1]}  # of which it is long enough: 15 > 14
    found = compared(cells, "hmc")
    assert [row["observable"] for row in found["rows"]] == ["action"]
    assert [row["observable"] for row in found["short"]] == ["abs_m", "m2", "shell"]
    said = verdict(document_of(cells))[-1]
    assert "1 of 1 averages deviate" in said
    assert "and 3 averages of chains that are too short could not be compared" in said
    cells[1]["tau_int"]["action"] = [0.8, 0.1]
    said = verdict(document_of(cells))[-1]
    assert said == "4 averages of chains that are too short could not be compared."
    # the reference may be the short one
    cells[0], cells[1] = {**cells[0], "n_updates": 30, "n_dropped": 3}, row_of(8, "fast", 0.5, 1e-3)
    assert len(compared(cells, "hmc")["short"]) == 4
    known = held_against(cells, [{"abs_m": [1.0, 0.1], "chi": [1.0, 0.1]}])
    assert [(row["sampler"], row["observable"]) for row in known["short"]] == [("hmc", "abs_m")]


def test_several_couplings_on_one_lattice_are_no_series_in_extent():
    assert fitted([row_of(8, "hmc", 2.0, 1e-3), row_of(8, "hmc", 3.0, 1e-3), row_of(16, "hmc", 3.0, 1e-3)], 8) == []


# learned cells


def test_a_learned_cell_has_both_effective_sample_sizes():
    text = ONE.replace('"hmc"]', '"fast"]').replace("m2 = 1.0\nlam = 0.5", "m2 = -4.0\nlam = 6.008")
    text = text.replace("[4, 4]", "[8, 8]")
    cell = next(cell for cell in cells_of(text) if cell.sampler == "fast")
    assert (cell.model_name, cell.paid[0] > 10) == ("phi4-A-L8-coarse", True)
    row = run_chain(cell)
    for direction in ("reverse", "forward"):
        assert 0.99 < row[f"ess_{direction}"][0] < 1
    assert row["acceptance"] > 0.95
    assert row["evaluations_per_update"] == 10
    assert row["tau_int"]["m"][0] < 1
    assert row["training_seconds"] > 10


@pytest.mark.parametrize(
    ("sampler", "model"),
    [("partial", "phi4-A-L8"), ("fast_hmc", "phi4-A-L8-coarse"), ("sde", "phi4-A-L8-coarse")],
)
def test_chains_that_combine_models_are_exact_and_can_be_timed(sampler, model):
    named = f'models = {{ sde = "{model}" }}\n' if sampler == "sde" else ""
    exact, cell = cells_of(AT_8.replace('"hmc"]', f'"{sampler}"]') + named)
    assert cell.model_name == model
    row, reference = run_chain(cell), run_chain(exact)
    for key in ("abs_m", "action"):
        (a, da), (b, db) = row["average"][key], reference["average"][key]
        assert abs(a - b) < 5 * math.hypot(da, db)
    assert 0.7 < row["ess_forward"][0] < 1
    assert rebuild(cell, json.loads(json.dumps(row))).kernel.describe() == row["kernel"]


@pytest.mark.parametrize(
    "action",
    [
        'name = "polynomial"\na1 = 0.01\na2 = 4.0\na4 = 0.25',
        'name = "sine_gordon"\nm2 = 0.5\nalpha = 1.0\nbeta = 1.0',
    ],
)
def test_any_action_in_any_dimension_can_be_studied(action, tmp_path, drawn):
    head, _ = SMALL.split("[action]")
    text = f"{head}[action]\n{action}\n[[line]]\nshape = [4]\n[[line]]\nshape = [4, 4, 4]\n"
    document = study(parse_study(text), tmp_path / "out")
    assert not document["failed"]
    assert len(document["cells"]) == 4
    assert document["comparisons"]["beyond"] == 0
    assert "action" in (tmp_path / "out" / "study.html").read_text()


# timing


class Sleeper:
    """A kernel that waits for a while, and works for a while."""

    def __init__(self, waits, works):
        self.waits, self.works = waits, works

    def advance(self, state, streams, n_updates, thin=1):
        time.sleep(self.waits * n_updates)
        until = time.process_time() + self.works * n_updates
        while time.process_time() < until:
            pass
        return state, None


def test_prices_are_per_update_and_chain_and_waiting_is_seen():
    state = ChainState(np.zeros((4, 2)), np.zeros(4), 0)
    chains = {"works": (Sleeper(0, 2e-3), state), "waits": (Sleeper(4e-3, 2e-3), state)}
    prices = timed(chains, Streams(1), 0.02, 3)
    for price in prices.values():
        assert price.processor[0] == pytest.approx(2e-3 / 4, rel=0.3)
        assert price.wall[0] > 0.99 * price.processor[0]
    assert prices["waits"].wall[0] > 6e-3 / 4
    assert prices["waits"].is_disturbed
    assert not Price((1.0, 0.0), (1.09, 0.0)).is_disturbed
    assert Price((1.0, 0.0), (1.2, 0.0)).is_disturbed


# the command line


def run(*arguments):
    with pytest.raises(SystemExit) as caught:
        main(["study", *map(str, arguments)])
    return caught.value.code or 0


def test_the_command(tmp_path, capsys):
    card, out = tmp_path / "card.toml", tmp_path / "out"
    card.write_text(ONE)
    assert run(card, "--out", out, "--dry-run") == 0
    said = capsys.readouterr().out
    assert "hmc_unit at 4x4" in said
    assert "0 of 2 cells are done" in said
    assert not out.exists()
    assert run(card, "--out", out, "--part", "1/2", "-q") == 0
    assert run(card, "--out", out, "--status") == 0
    assert "1 of 3 cells are done" in capsys.readouterr().out
    assert run(card, "--out", out, "-q") == 0
    assert "All 4 averages agree" in capsys.readouterr().out
    page = (out / "study.html").read_text()
    assert "latticediff study card.toml --out out" in page
    (out / "study.html").unlink()
    with pytest.raises(SystemExit):
        main(["report", str(out)])
    assert (out / "study.html").read_text() == page
    assert run(card, "--out", out, "--part", "1:2") == 2
    assert "expected K/N" in capsys.readouterr().err


def test_a_failed_cell_makes_the_exit_code(tmp_path, capsys, monkeypatch):
    import latticediff.stages.study_cells as stage

    monkeypatch.setattr(stage, "run_chain", lambda cell: run_chain(Cell(**{**vars(cell), "sampler": "nothing"})))
    (tmp_path / "card.toml").write_text(ONE)
    assert run(tmp_path / "card.toml", "--out", tmp_path / "out", "-q") == 2
    captured = capsys.readouterr()
    assert "2 failed" in captured.err
    assert "2 cells failed, and nothing could be compared" in captured.out

"""The critical point of phi^4: its card, what is measured of fields, files of them, the coupling f, and the command."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import brentq
from scipy.stats import norm

from latticediff import Phi4, Streams
from latticediff.analysis.finite_size import Curves, curves
from latticediff.cli import main
from latticediff.critical.card import load_critical, parse_critical
from latticediff.critical.continuum import critical_ratio, tadpole
from latticediff.critical.models import Place, cards_of
from latticediff.critical.results import _exponents
from latticediff.critical.series import measured, read_fields, sampled, source_of, write_fields
from latticediff.errors import CardError, FileError, StopRequested, UserError
from latticediff.hmc import tune
from latticediff.metropolis.contract import Draw
from latticediff.report.critical import critical_markdown
from latticediff.signals import StopReason

CARD = """
[critical]
nodes = [0.0]
window = 0.6
budget = 20000
max_doubling = 0.1
n_replicas = 50
couplings = 21

[[point]]
lam = 0.5
kappa = 0.34
known = [0.3434, 0.0001]
told = "a table"
"""
SIZE = """
[[size]]
L = {}
draws = 4000
steps = 24
data = 6400
training_steps = 300
batch = 64
finetune_steps = {}
finetune_batch = 8
hmc_chains = 32
"""


def card(*extents, tuned=0):
    return CARD + "".join(SIZE.format(extent, tuned) for extent in extents)


def test_the_card_that_comes_along_is_whole():
    found = load_critical(Path(__file__).parents[1] / "configs" / "critical-point.toml")
    assert parse_critical(found.to_toml()) == found
    assert [[size.L for size in found.sizes(point)] for point in found.point] == [[8, 16, 32, 64], [8, 16, 32]]
    point, size = found.point[0], found.size[0]
    assert_allclose(found.kappas(point, size), [0.27088 * (1 + x / 8) for x in (-0.15, 0, 0.1)], rtol=1e-6)
    low, high = found.window(point, 8)
    assert_allclose([low, high], [0.27088 * (1 - 0.25 / 8), 0.27088 * (1 + 0.25 / 8)])


def test_the_card_of_several_couplings_is_whole():
    found = load_critical(Path(__file__).parents[1] / "configs" / "critical-couplings.toml")
    assert parse_critical(found.to_toml()) == found
    g = [point.lam / point.kappa**2 for point in found.point] + [
        row.lam / row.kappa_c[0] ** 2 for row in found.elsewhere
    ]
    assert_allclose(g, [0.60, 1.2, 2.4, 0.30], rtol=0.02)  # as its comments say
    assert [found.beside(point) for point in found.point] == [[], [], []]
    one = parse_critical(card(4, 6, 8).replace("lam = 0.5", 'lam = 0.5\nbeside = ["cluster"]'))
    assert one.beside(one.point[0]) == ["cluster"] and one.critical.beside == ["hmc"]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("lam = 0.5", "lam = -0.5", "greater than 0"),
        ("lam = 0.5", "lam = nan", "finite number"),
        ("kappa = 0.34", "kapa = 0.34", "no key 'kapa' .did you mean 'kappa'"),
        ("[0.0]", "[0.1, 0.1]", "each once"),
        ("[0.3434, 0.0001]", "[0.3434]", r"\[kappa_c, error\]"),
        ("L = 6", "L = 7", "even extents"),
        ("L = 6", "L = 8", "the smallest first"),
        ("[[point]]", "[[points]]", r"no \[\[point\]\]"),
        ("lam = 0.5", "lam = 0.5\nlargest = 6", "three sizes"),
        ("window = 0.6", 'beside = ["wolff"]', "hmc"),
        ("[0.0]", "[0.0, 0.00001]", "steps of 0.01"),
        ("draws = 4000", "draws = 40", "64 blocks"),
        ("draws = 4000", "draws = -40", "greater than or equal to 1"),
        ("[[point]]", "[[elsewhere]]\nlam = 0.1\nkappa_c = [0.3, 0.0]\n[[point]]", "both above 0"),
        ("[[point]]", "[[elsewhere]]\nlam = 0.1\nkappa = 0.3\n[[point]]", "no key 'kappa' .did you mean 'kappa_c'"),
    ],
)
def test_a_card_that_cannot_be_used_is_refused_in_one_line(old, new, words):
    with pytest.raises(CardError, match=words) as caught:
        parse_critical(card(4, 6, 8).replace(old, new, 1))
    assert "\n" not in str(caught.value)


def test_two_sizes_are_too_few_and_a_missing_card_is_named():
    with pytest.raises(CardError, match="size"):
        parse_critical(card(4, 8))
    with pytest.raises(FileError, match=r"critical-point\.toml"):
        load_critical("nowhere.toml")


def test_the_cards_of_a_size_differ_in_kappa_and_seed_alone():
    found = parse_critical(card(4, 6, 8).replace("[0.0]", "[-0.15, 0.1]"))
    point, size = found.point[0], found.size[1]
    before = Place.of("out", point, found.size[0])
    cards = cards_of(found, point, size, before, 7)
    low, high = cards.values()
    assert (
        low.difference(high.to_dict(), ("action", "lattice", "hmc", "network", "training", "finetune"))
        == "action.kappa = 0.3456667 there, 0.3315 here"
    )
    assert low.run.seed != high.run.seed
    assert high.training.init == "out/models/lam0.5-L4/score" and high.training.sites == "odd"
    assert high.network.options["conditioned"] and max(cards) == high.theory().couplings["kappa"]


def test_what_is_measured_is_what_its_formula_says():
    phi = np.random.default_rng(1).standard_normal((2, 3, 4, 4))
    found = measured(phi)
    links = sum(
        phi[..., i, j] * (phi[..., (i + 1) % 4, j] + phi[..., i, (j + 1) % 4]) for i in range(4) for j in range(4)
    )
    assert_allclose(found["conjugate"], 2 * links, rtol=1e-12)
    assert_allclose(found["m2"], phi.mean((2, 3)) ** 2, rtol=1e-12)
    waves = [sum(phi[..., i, j] * 1j ** (i, j)[axis] for i in range(4) for j in range(4)) for axis in (0, 1)]
    assert_allclose(found["shell"], (abs(waves[0]) ** 2 + abs(waves[1]) ** 2) / (2 * 16), rtol=1e-12)
    # S = S_0 - kappa A
    one, other = Phi4.H(0.2, 0.1, 2), Phi4.H(0.3, 0.1, 2)
    assert_allclose(one(phi) - other(phi), 0.1 * found["conjugate"], rtol=1e-10)


class Normal:
    """Independent normal sites; one draw in a hundred is reported as lost."""

    is_deterministic, evaluations_per_draw, lattice_shape = True, 1, (4, 4)

    def draw(self, n, rng):
        phi = 0.75 * rng.standard_normal((n, 4, 4))
        log_q = norm.logpdf(phi, scale=0.75).sum((1, 2))
        phi[::100], log_q[::100] = 0.0, np.inf
        return Draw(phi, log_q)

    def weigh(self, phi, rng):
        return norm.logpdf(phi, scale=0.75).sum((1, 2))

    def fingerprint(self):
        return "normal"


@pytest.fixture(scope="module")
def fields():
    action, streams = Phi4.H(0.1, 0.1, 2), Streams(11)
    start = 0.3 * streams.generator("start").standard_normal((64, 4, 4))
    hmc = tune(action, start, streams.child("tune"), 0.85, 1.0, jitter=0.1)
    state, _ = hmc.advance(hmc.start(start), streams.child("warm"), 100, 100)
    return sampled(action, Normal(), 40_000, {"hmc": hmc}, state.phi, streams)


def test_draws_and_chains_agree_at_other_couplings(fields):
    """False alarms: six comparisons at 4 sigma, at most 4 in 10^4."""
    at = np.linspace(0.08, 0.14, 7)
    learned, hmc = (curves([source_of(fields, name)], at) for name in ("learned", "hmc"))
    for rows in ((learned.m2, hmc.m2), (learned.shell, hmc.shell), (learned.m4, hmc.m4)):
        for g in (0, 6):
            a, b = (row[:, g] for row in rows)
            assert abs(a[0] - b[0]) < 4 * math.hypot(a[1:].std(), b[1:].std())
    assert (np.isneginf(fields.columns["learned"]["base"])).sum() == 401  # three batches
    assert fields.about["seconds"]["hmc"] >= fields.about["seconds"]["learned"] > 0
    told = fields.about["samplers"]["hmc"]
    assert told["evaluations"] >= told["n"] * told["n_chains"] * told["kernel"]["n_leapfrog"]


def test_fields_are_kept_and_damage_is_told(fields, tmp_path):
    path, identity = tmp_path / "fields" / "one.npz", {"kappa": 0.1}
    assert read_fields(path, identity) is None
    write_fields(path, fields, identity)
    again = read_fields(path, identity)
    assert again.about == json.loads(json.dumps(fields.about))
    for sampler, table in fields.columns.items():
        for column, values in table.items():
            assert np.array_equal(again.columns[sampler][column], values)
    assert read_fields(path, {"kappa": 0.2}) is None
    whole = path.read_bytes()
    for place in (len(whole) // 2, len(whole) // 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(FileError, match="sampled again"):
            read_fields(path, identity)
    path.write_bytes(whole[:1000])
    with pytest.raises(FileError, match="damaged"):
        read_fields(path, identity)
    path.write_bytes(whole)
    with np.load(path) as held:
        arrays = dict(held)
    np.savez(path, **arrays, more=np.zeros(2))
    with pytest.raises(FileError, match=r"damaged .it holds more, too.*sampled again"):
        read_fields(path, identity)
    with pytest.raises(FileError, match="cluster was not run"):
        source_of(fields, "cluster")


def test_progress_is_told_after_each_batch():
    action, told = Phi4.H(0.1, 0.1, 2), []
    sampled(action, Normal(), 40_000, {}, np.zeros((8, 4, 4)), Streams(1), reach=told.append)
    assert told == [16384, 32768, 40000]


def test_a_stop_ends_the_sampling(fields):
    action, start = Phi4.H(0.1, 0.1, 2), np.zeros((8, 4, 4))
    with pytest.raises(StopRequested, match="same command again"):
        sampled(action, Normal(), 1000, {}, start, Streams(1), lambda: StopReason("enough", 75))


def test_the_tadpole_is_the_propagator_at_distance_zero():
    p2 = 4 * np.sin(np.pi * np.arange(400) / 400) ** 2
    for mass_squared in (0.1, 1.0, 7.0):  # a lattice of 400 has it to exp(-400 m)
        direct = (1 / (mass_squared + p2[:, None] + p2)).mean()
        assert_allclose(tadpole(mass_squared), direct, rtol=1e-12)
    # logarithm of a small mass: -log(mu^2 / 32) / 4 pi
    assert_allclose(tadpole(1e-9), -math.log(1e-9 / 32) / (4 * math.pi), rtol=1e-7)
    for bad in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(UserError, match="above 0"):
            tadpole(bad)


def test_f_does_not_depend_on_the_convention_and_solves_its_equation():
    action = Phi4.SL(mu0_sq=-0.47, lam=0.3, ndim=2)
    p2 = 4 * np.sin(np.pi * np.arange(600) / 600) ** 2

    def gap(mass_squared):
        return mass_squared + 0.47 - 0.9 * (1 / (mass_squared + p2[:, None] + p2)).mean()

    f = critical_ratio(action)
    assert_allclose(f, 0.3 / brentq(gap, 0.01, 1.0, xtol=1e-14), rtol=1e-8)
    couplings, _ = action.in_convention("H")
    assert_allclose(critical_ratio(Phi4.H(**couplings, ndim=2)), f, rtol=1e-9)
    with pytest.raises(UserError, match="3 dimensions"):
        critical_ratio(Phi4.H(0.2, 0.1, 3))


def test_f_is_told_far_in_the_broken_phase_too():
    """mu^2 is 1e-28 there: the bracket of its root has to reach down to it."""
    action = Phi4.H(kappa=0.36, lam=0.0103, ndim=2)
    g, bare = (action.in_convention("SL")[0][name] for name in ("lam", "mu0_sq"))
    mass_squared = g / critical_ratio(action)
    assert 0 < mass_squared < 1e-20
    assert_allclose(bare, -3 * g * math.log(32 / mass_squared) / (4 * math.pi), rtol=1e-12)
    with pytest.raises(UserError, match="broken phase"):
        critical_ratio(Phi4.H(kappa=3.0, lam=0.001, ndim=2))


def test_exponents_are_not_taken_from_the_edge_of_a_window():
    at = np.linspace(0.30, 0.36, 9)
    rows = np.random.default_rng(3).normal(1, 0.01, (30, 1))

    def lattice(extent):
        x = (at - 0.33) * extent
        m2 = extent**-0.25 * np.exp(x) * rows
        return Curves(extent, at, m2, m2**2 * (1.17 - 0.1 * x), m2 * extent**2 / (1 + np.exp(3 * x)), np.ones(9))

    pairs = [(lattice(8), lattice(12)), (lattice(12), lattice(16))]
    inside = _exponents(pairs, {"value": 0.335, "error": 0.001})
    with pytest.raises(UserError, match=r"kappa_c = 0.37 is outside of 0.3 to 0.36, where L = 12 and 16"):
        _exponents(pairs, {"value": 0.37, "error": 0.001})
    # an error that reaches out of the window counts in full
    near, far = (_exponents(pairs, {"value": 0.335, "error": error})["nu"] for error in (0.02, 0.1))
    assert inside["nu"]["systematic"] < near["systematic"] < 0.5 * far["systematic"]


def called(words):
    """Exit code of the command in this process."""
    with pytest.raises(SystemExit) as caught:
        main(words)
        raise SystemExit(0)
    return caught.value.code or 0


def test_the_command_goes_on_and_says_what_it_found(tmp_path, capsys):
    """Without fine-tuning, in seconds: weights are exact at any ESS, and the two samplers have to agree."""
    (tmp_path / "card.toml").write_text(card(4, 6, 8))
    words = ["critical", str(tmp_path / "card.toml"), "--out", str(tmp_path / "out"), "-q"]
    assert called([*words, "--max-walltime", "1"]) == 75
    assert called(words) == 0
    page = capsys.readouterr().out
    first = json.loads((tmp_path / "out" / "critical.json").read_text())
    for name in ("critical.md", "figures/sizes.png", "figures/crossings-lam0.5.csv"):
        assert (tmp_path / "out" / name).stat().st_size > 100
    assert critical_markdown(first) == page.rstrip("\n") + "\n"
    point = first["points"][0]
    learned, hmc = (
        {(row["L"], row["quantity"]): row["kappa"] for row in point["samplers"][name]["fixed"]}
        for name in ("learned", "hmc")
    )
    # six pulls at 5 sigma: their errors are known to a part in six
    for key, (value, error) in learned.items():
        assert abs(value - hmc[key][0]) < 5 * math.hypot(error, hmc[key][1])
    assert [row["sampler"] for row in point["costs"]] == 3 * ["learned", "hmc"]
    files = sorted((tmp_path / "out").rglob("*.npz"))
    before = [file.stat().st_mtime_ns for file in files]
    assert called([*words, "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["points"] == first["points"] and len(files) == 3
    assert [file.stat().st_mtime_ns for file in files] == before
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "mine.txt").write_text("mine")
    assert called(["critical", str(tmp_path / "card.toml"), "--out", str(tmp_path / "foreign"), "-q"]) == 2
    assert "no folder of a critical point" in capsys.readouterr().err


@pytest.mark.slow
def test_kappa_c_and_exponents_of_small_lattices(tmp_path):
    """Three sizes at lam = 0.5 in minutes: both samplers agree, and crossings lie where they are known to lie.

    The bounds on crossing, 1/nu and 2 - eta are for corrections to scaling: 0.00095, 0.12 and 0.05 at L = 8 and 16.
    """
    text = card(8, 12, 16, tuned=200).replace("window = 0.6", "window = 0.3").replace("[0.0]", "[-0.15, 0.1]")
    text = text.replace("draws = 4000", "draws = 40000").replace("max_doubling = 0.1", "max_doubling = 0.02")
    text = text.replace("training_steps = 300", "training_steps = 600")
    (tmp_path / "card.toml").write_text(text.replace("kappa = 0.34\n", "kappa = 0.3434\n"))
    assert called(["critical", str(tmp_path / "card.toml"), "--out", str(tmp_path / "out"), "-q"]) == 0
    point = json.loads((tmp_path / "out" / "critical.json").read_text())["points"][0]
    learned, hmc = (point["samplers"][name] for name in ("learned", "hmc"))
    for one, other in zip(learned["fixed"], hmc["fixed"], strict=True):
        assert abs(one["kappa"][0] - other["kappa"][0]) < 5 * math.hypot(one["kappa"][1], other["kappa"][1])
    pair = next(pair for pair in learned["pairs"] if pair["extents"] == [12, 16] and pair["quantity"] == "xi")
    assert abs(pair["kappa"][0] - 0.34347) < 1e-3
    assert abs(pair["inverse_nu"][0] - 1) < 0.2
    assert abs(pair["two_minus_eta"][0] - 1.75) < 0.07

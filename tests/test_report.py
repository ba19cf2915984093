"""The report: numbers, verdict, figures' data and the page, on synthetic AR(1) chains with known answers."""

import csv
import dataclasses
import io
import json
import math
import subprocess
import sys
import warnings
from html.parser import HTMLParser

import matplotlib
import numpy as np
import pytest

from latticediff.action import Phi4
from latticediff.errors import FileError, UserError
from latticediff.report import (
    Autocorrelation,
    ChainResult,
    Correlator,
    Propagator,
    RunResult,
    report_dict,
    write_report,
)
from latticediff.report import figures as drawings
from latticediff.report.brief import brief
from latticediff.report.figures.chains import _block_histogram, distribution, history, log_weights
from latticediff.report.figures.costs import cost
from latticediff.report.figures.physics import observables
from latticediff.report.html import page
from latticediff.report.numbers import break_even, cost_ratio, differences, seconds, setup_total, value_error
from latticediff.report.style import FigureRecord, chain_styles, new_figure, styled
from latticediff.report.verdict import verdict

V = 64


def ar1(rng, n_chains, n, tau):
    """Unit Gaussian AR(1) chains with tau_int = tau, i.e. rho(t) = a^t, a = (2 tau - 1) / (2 tau + 1)."""
    a = (2 * tau - 1) / (2 * tau + 1)
    x = np.empty((n_chains, n))
    x[:, 0] = rng.standard_normal(n_chains)
    noise = math.sqrt(1 - a * a) * rng.standard_normal((n_chains, n))
    for i in range(1, n):
        x[:, i] = a * x[:, i - 1] + noise[:, i]
    return x


def make_chain(rng, name, tau=4.0, n_chains=8, n=400, weights=False, **changes):
    m = 0.25 * ar1(rng, n_chains, n, tau)
    error = math.sqrt(2 * tau / m.size)
    t = np.arange(60.0)
    a = (2 * tau - 1) / (2 * tau + 1)
    p2 = np.array([0.0, 0.586, 1.172, 2.0, 4.0, 8.0])
    g = 1 / (0.25 + 2 * p2)
    s = 0.2  # Gaussian rule: reverse log_weight ~ N(-s^2/2, s^2), forward ~ N(+s^2/2, s^2)
    fields = dict(
        name=name,
        label=name.upper(),
        n_updates=n,
        n_chains=n_chains,
        series={"m": m, "abs_m": np.abs(m)},
        observables={
            "abs_m": (np.abs(m).mean(), 0.15 * error),
            "chi": (V * (m**2).mean(), V * 0.09 * error),
            "binder": (0.2, 0.01),
            "xi_2nd": (2.0, 0.03),
        },
        tau_int={"m": (tau, 0.1 * tau), "abs_m": (0.5 * tau + 0.25, 0.05 * tau)},
        acceptance=0.9,
        ess_reverse=(math.exp(-s * s), 0.001) if weights else None,
        ess_forward=(math.exp(-s * s), 0.002) if weights else None,
        log_weight_reverse=10 - s * s / 2 + s * rng.standard_normal(20000) if weights else None,
        log_weight_forward=10 + s * s / 2 + s * rng.standard_normal(20000) if weights else None,
        seconds_per_update=1e-4,
        evaluations_per_update=10.0,
        evaluation_kind="network evaluations" if weights else "action gradients",
        setup_seconds={"generate": 2.0, "train": 8.0} if weights else {"thermalise": 0.5},
        autocorrelation={k: Autocorrelation(t, a**t, np.full(60, error)) for k in ("m", "abs_m")},
        propagator=Propagator(p2, g * (1 + error * rng.standard_normal(6)), g * error),
        correlator=Correlator(np.arange(5.0), np.exp(-np.arange(5.0)), 0.01 * np.ones(5)),
        algorithm={"name": name},
    )
    return ChainResult(**(fields | changes))


def make_run(**changes):
    rng = np.random.default_rng(11)
    chains = [
        make_chain(rng, "hmc", tau=6.0),
        make_chain(rng, "ode", tau=0.6, weights=True),
        make_chain(rng, "sde", tau=1.5, weights=True),
    ]
    fields = dict(
        action=Phi4.A(m2=-4.0, lam=6.008).describe(),
        shape=(8, 8),
        chains=chains,
        seed=3,
        seconds={"generate": 2.0, "train": 8.0, "total": 20.0},
        checks={"schwinger_dyson": (0.999, 0.002), "exp_minus_delta_h": (1.001, 0.001)},
        training=[{"step": i, "loss": 1 + 1 / (1 + i)} for i in range(200)],
        device="two cores",
        versions={"latticediff": "0.1.0"},
        created="2026-01-02T03:04:05+00:00",
        card='[action]\nname = "phi4"\n',
    )
    return RunResult(**(fields | changes))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One report, written once."""
    out = tmp_path_factory.mktemp("report")
    return make_run(), write_report(make_run(), out)


@pytest.mark.parametrize(
    ("pair", "text"),
    [
        ((0.141452, 0.00015), "0.14145(15)"),
        ((25.13, 4.2), "25.1(4.2)"),
        ((1234.0, 56.0), "1234(56)"),
        ((12345.0, 560.0), "12340(560)"),
        ((0.7, 0.0996), "0.70(10)"),
        ((-0.0449, 0.0005), "−0.04490(50)"),
        ((1.42e-6, 3.7e-7), "1.42(37)×10⁻⁶"),
        ((7.0e5, 1.8e5), "7.0(1.8)×10⁵"),
        ((0.5, None), "0.5"),
        ((0.5, 0.0), "0.5"),
        ((None, None), "–"),
    ],
)
def test_value_error_counts_the_last_digits(pair, text):
    assert value_error(*pair) == text


def test_seconds_choose_their_unit():
    assert [seconds(x) for x in (3e-7, 0.25, 90.0, 300.0, 9000.0, None)] == [
        "0.3 µs",
        "250 ms",
        "90 s",
        "5 min",
        "2.5 h",
        "–",
    ]
    assert seconds(1.2e-4, 1e-5) == "120(10) µs"


def test_differences_combine_both_errors():
    rng = np.random.default_rng(1)
    a = make_chain(rng, "a", observables={"chi": (3.0, 0.3), "binder": (0.2, None), "phi2": (1.0, 0.1)})
    b = make_chain(rng, "b", observables={"chi": (2.0, 0.4), "binder": (0.1, None)})
    assert differences(a, b) == {"chi": pytest.approx(2.0), "binder": None}


def test_total_costs_are_equal_at_break_even():
    rng = np.random.default_rng(2)
    slow = make_chain(rng, "slow", tau=10.0, setup_seconds={"thermalise": 1.0})
    fast = make_chain(rng, "fast", tau=0.7, setup_seconds={"generate": 4.0, "train": 50.0})
    n = break_even(fast, slow)
    totals = [setup_total(c) + n * c.per_independent_sample(c.seconds_per_update)[0] for c in (slow, fast)]
    assert totals[0] == pytest.approx(totals[1], rel=1e-12)
    assert cost_ratio(fast, slow)[0] == pytest.approx(10.0 / 0.7)
    # the dearer one never breaks even, whoever it is
    assert break_even(slow, fast) is None


def test_the_slowest_observable_counts():
    chain = make_chain(np.random.default_rng(3), "x", tau_int={"m": (2.0, 0.1), "action": (5.0, 0.2)})
    assert chain.slowest == "action"
    assert chain.per_independent_sample(0.1) == pytest.approx((1.0, 0.04))
    assert chain.per_independent_sample(0.1, "m") == pytest.approx((0.4, 0.02))


def test_report_json_has_the_schema_and_the_numbers(folder):
    run, paths = folder
    report = json.loads(paths["json"].read_text(), parse_constant=lambda text: pytest.fail(f"{text} is no JSON"))
    assert report["action"] == run.action
    assert report["shape"] == [8, 8]
    assert {"generate", "train", "sample_ode", "sample_sde", "total"} <= set(report["seconds"])
    assert report["seconds"]["sample_ode"] is None
    assert {"schwinger_dyson", "exp_minus_delta_h", "log_weight_step_doubling_max"} <= set(report["checks"])
    assert report["checks"]["schwinger_dyson"] == [0.999, 0.002]
    for chain in run.chains:
        entry = report["chains"][chain.name]
        assert entry["n_updates"] == chain.n_updates
        assert list(entry["tau_int"]) == ["m", "abs_m", "m2", "action"]
        assert entry["tau_int"]["m"] == list(chain.tau_int["m"])
        assert entry["tau_int"]["action"] is None
        assert list(entry["observables"]) == ["abs_m", "chi", "chi_abs", "binder", "phi2", "action_per_site", "xi_2nd"]
        assert entry["observables"]["chi"] == list(chain.observables["chi"])
        cost = 2 * chain.tau_int["m"][0] * chain.seconds_per_update
        assert entry["seconds_per_independent_sample"] == pytest.approx(cost, rel=1e-12)
    assert report["chains"]["hmc"]["ess_reverse"] is None
    assert report["chains"]["ode"]["ess_forward"] == pytest.approx(math.exp(-0.04))
    assert report["amortised"]["ode"]["setup_seconds"] == 10.0


def test_undefined_quantities_are_null():
    class Undefined:
        def pair(self):
            return [None, None]

    values = {"xi_2nd": Undefined(), "chi": (1.0, 0.1), "binder": (0.2, math.nan)}
    chain = make_chain(np.random.default_rng(4), "x", observables=values)
    run = make_run(chains=[chain], checks={"exp_minus_delta_h": (0.9999, None)})
    entry = report_dict(run)["chains"]["x"]
    assert entry["observables"]["xi_2nd"] is None
    assert entry["observables"]["chi"] == [1.0, 0.1]
    # an error that is not known (NaN in an Estimate) is no alarm either
    assert entry["observables"]["binder"] == [0.2, None]
    assert "fails" not in verdict(run)[0]


def test_verdict_says_who_wins_whoever_it_is():
    rng = np.random.default_rng(5)
    slow = make_chain(rng, "slow", tau=10.0, setup_seconds={})
    fast = make_chain(rng, "fast", tau=1.0, setup_seconds={"train": 50.0})
    headline, text = verdict(make_run(chains=[slow, fast]))
    assert "in seconds FAST wins on this lattice beyond 28\u00a0000 independent samples" in headline
    assert "repaid after 28\u00a0000" in text[-1]
    headline, text = verdict(make_run(chains=[fast, slow]))
    assert "in seconds FAST wins on this lattice at any number of samples" in headline
    assert "10.0(1.4) times dearer" in text[-1]
    headline, _ = verdict(make_run(chains=[slow, dataclasses.replace(slow, name="twin", label="TWIN")]))
    assert "equal within errors" in headline


def test_verdict_prints_a_disagreement():
    rng = np.random.default_rng(6)
    good = make_chain(rng, "hmc", observables={"chi": (2.0, 0.1)})
    bad = make_chain(rng, "ode", observables={"chi": (2.5, 0.1)})
    headline, text = verdict(make_run(chains=[good, bad]))
    assert headline.startswith("ODE not in agreement with HMC")
    assert "χ of ODE by 3.5σ" in text[1]
    agreeing, _ = verdict(make_run(chains=[good, dataclasses.replace(bad, observables={"chi": (2.1, 0.1)})]))
    assert agreeing.startswith("ODE agrees with HMC")


def test_verdict_warns_of_a_failed_identity_and_of_missed_configurations():
    rng = np.random.default_rng(7)
    blind = make_chain(rng, "ode", weights=True, ess_reverse=(0.95, 0.001), ess_forward=(0.4, 0.05))
    headline, text = verdict(make_run(chains=[blind], checks={"schwinger_dyson": (1.1, 0.01)}))
    assert "fails an exact identity" in headline
    assert "schwinger_dyson is 1.100(10) where 1 is exact" in text[1]
    assert any("misses some of the configurations" in sentence for sentence in text)
    _, text = verdict(make_run())
    assert not any("misses some" in sentence or "Do not trust" in sentence for sentence in text)


def test_verdict_calls_a_stuck_chain_too_short():
    stuck = make_chain(np.random.default_rng(16), "sde", tau_int={"m": (53.0, 14.0)})
    headline, text = verdict(make_run(chains=[stuck]))
    assert "SDE is too short to judge" in headline
    assert "only 7.5 τ_int long where 20 are wanted" in text[1]
    assert "too short" not in verdict(make_run())[0]
    # it is not said to agree, but to disagree if it does
    hmc = make_chain(np.random.default_rng(17), "hmc", observables={"chi": (2.0, 0.1)})
    for value, said in ((2.1, False), (3.0, True)):
        chain = dataclasses.replace(stuck, observables={"chi": (value, 0.1)})
        assert ("agree" in verdict(make_run(chains=[hmc, chain]))[0]) is said


def test_verdict_owns_up_to_thinning():
    # rho(t) = a^t falls smoothly: thin * (1/2 + sum_k a^(k thin)) is above the tau_int of every update
    a, thin = 0.87, 10
    assert thin * (0.5 + a**thin / (1 - a**thin)) > 0.5 + a / (1 - a)
    chain = make_chain(np.random.default_rng(15), "hmc", thin=thin)
    _, text = verdict(make_run(chains=[chain]))
    assert any("cannot come out below 5 and is an upper bound" in sentence for sentence in text)
    assert not any("upper bound" in sentence for sentence in verdict(make_run())[1])


def test_histogram_errors_contain_the_autocorrelation():
    # Two independent AR(1) ensembles with tau_int(m) = 8, 60 pairs, 11 bins. The mean square of the pulls is 1.04 (24
    # blocks a side make a Student t of about 46 degrees of freedom) and scatters by 0.17 / sqrt(3) from seed to seed,
    # measured over 40 other seeds with 20 pairs: 0.5 is 5 sigma (6e-7).
    rng = np.random.default_rng(8)
    edges = np.linspace(-1.65, 1.65, 12)
    pulls, naive = [], []
    for _ in range(60):
        pair = [ar1(rng, 4, 3000, 8.0) for _ in range(2)]
        (d1, e1), (d2, e2) = (_block_histogram(x, edges) for x in pair)
        pulls += list((d1 - d2) / np.hypot(e1, e2))
        counting = np.sqrt((d1 + d2) / (12000 * np.diff(edges)))
        naive += list((d1 - d2) / counting)
    assert abs(np.mean(np.square(pulls)) - 1.04) < 0.5
    # by counting alone, without the blocks, the same test fails (2.24 with a scatter of 0.21)
    assert np.mean(np.square(naive)) - 1.04 > 0.5


def test_distribution_data_are_normalised():
    rows = distribution(make_run()).rows
    for name in ("hmc", "ode", "sde"):
        m, density = np.array([(row[1], row[2]) for row in rows if row[0] == name]).T
        assert density.sum() * (m[1] - m[0]) == pytest.approx(1.0, rel=1e-9)


def test_forward_weights_are_exp_x_times_reverse():
    # Gaussian rule with 20,000 draws a side; bins with at least 400 entries have errors below 5 %, two of them 7 %:
    # 0.35 is 5 sigma for a few dozen bins (2e-5)
    rows = [row for row in log_weights(make_run()).rows if row[0] == "ode"]
    sides = {kind: [row for row in rows if row[1] == kind] for kind in ("reverse", "forward")}
    compared = 0
    for (_, _, low, high, reverse), (_, _, _, _, forward) in zip(sides["reverse"], sides["forward"], strict=True):
        if min(reverse, forward) * (high - low) * 20000 > 400:
            x = 0.5 * (low + high)
            assert forward / (math.exp(x) * reverse) == pytest.approx(1.0, abs=0.35)
            compared += 1
    assert compared > 10
    # x is relative to the mean weight
    mean = sum(math.exp(0.5 * (low + high)) * d * (high - low) for _, _, low, high, d in sides["reverse"])
    assert mean == pytest.approx(1.0, abs=0.01)


def test_csv_holds_what_is_drawn(folder):
    run, paths = folder
    with open(paths["figures"] / "propagator.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["chain"] == "ode"]
    curve = run.chains[1].propagator
    # shortest round-trip digits: equal, not close
    assert [float(row["g"]) for row in rows] == curve.value.tolist()
    assert [float(row["error"]) for row in rows] == curve.error.tolist()


def test_every_figure_has_png_pdf_and_data(folder):
    _, paths = folder
    names = {path.stem for path in paths["figures"].glob("*.png")}
    assert names == {
        "observables", "history", "autocorrelation", "distribution", "log_weight", "propagator", "correlator", "cost",
        "amortised", "training",
    }  # fmt: skip
    for name in names:
        assert (paths["figures"] / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (paths["figures"] / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        table = list(csv.reader(io.StringIO((paths["figures"] / f"{name}.csv").read_text())))
        assert len(table) > 1
        assert {len(row) for row in table} == {len(table[0])}


class Page(HTMLParser):
    """Collects what a page refers to and whether its tags are balanced."""

    VOID = ("meta", "link", "img", "br")

    def __init__(self, text):
        super().__init__()
        self.stack, self.tags, self.words = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_page_is_self_contained_and_accessible(folder):
    _, paths = folder
    text = paths["html"].read_text()
    found = Page(text)
    assert found.stack == []
    assert not any(tag in ("script", "iframe", "object") for tag, _ in found.tags)
    for _, attributes in found.tags:
        for key in ("src", "href"):
            # nothing is fetched: places on the page, and files beside it that a reader may ask for
            assert attributes.get(key, "data:").startswith(("data:", "#", "figures/"))
    assert "url(" not in text and "@import" not in text
    ids = {attributes["id"] for _, attributes in found.tags if "id" in attributes}
    places = [attributes["href"] for tag, attributes in found.tags if tag == "a"]
    assert all(place[1:] in ids for place in places if place.startswith("#"))
    assert all((paths["html"].parent / place).is_file() for place in places if place.startswith("figures/"))
    images = [attributes for tag, attributes in found.tags if tag == "img"]
    assert len(images) == 10 and all(image["alt"] for image in images)
    assert all(a.get("scope") in ("row", "col") for tag, a in found.tags if tag == "th")
    assert ("html", {"lang": "en"}) in found.tags
    assert len([tag for tag, _ in found.tags if tag == "figcaption"]) == 10


def test_page_escapes_what_it_is_given():
    chain = make_chain(np.random.default_rng(9), "x", label='<b onclick="x">&')
    text = page(make_run(chains=[chain], title="<script>"), [])
    assert "<b onclick" not in text and "<script" not in text
    assert "&lt;b onclick=&quot;x&quot;&gt;&amp;" in text


def test_page_lists_every_convention(folder):
    _, paths = folder
    text = paths["html"].read_text()
    couplings, scale = Phi4.A(m2=-4.0, lam=6.008).in_convention("H")
    assert f"kappa = {couplings['kappa']:.6g}, lam = {couplings['lam']:.6g}" in text
    assert f"{scale:.5g}" in text


def test_same_result_gives_the_same_bytes(folder):
    _, paths = folder
    with styled():
        again = history(make_run())
    for kind in ("png", "pdf"):
        assert getattr(again, kind) == (paths["figures"] / f"history.{kind}").read_bytes()
    assert json.dumps(report_dict(make_run())) == json.dumps(json.loads(paths["json"].read_text()))
    assert not list(paths["figures"].parent.rglob("*.part"))


def test_bare_chains_make_a_page(tmp_path):
    bare = [
        ChainResult(name=n, label=n, n_updates=3, n_chains=1, series={}, observables={}, tau_int={}) for n in ("a", "b")
    ]
    run = RunResult(action={"name": "sine-gordon", "t": 1.0}, shape=(4,), chains=bare)
    assert drawings.draw(run) == []
    paths = write_report(run, tmp_path / "deep" / "folder")
    assert Page(paths["html"].read_text()).stack == []
    assert json.loads(paths["json"].read_text())["chains"]["a"]["acceptance"] is None


def test_rejected_everything_is_drawn_without_a_crash():
    rng = np.random.default_rng(10)
    chain = make_chain(rng, "ode", weights=True, log_weight_reverse=np.full(50, -np.inf), log_weight_forward=None)
    assert log_weights(make_run(chains=[chain])) is None
    half = np.where(np.arange(50) % 2, -np.inf, rng.standard_normal(50))
    chain = dataclasses.replace(chain, log_weight_reverse=half)
    assert "lie left of the frame" in log_weights(make_run(chains=[chain])).caption


def test_many_long_names_keep_their_room():
    rng = np.random.default_rng(14)
    chains = [
        make_chain(rng, f"c{i}", n=40, label=f"a_folder/a rather long name of a chain, number {i}") for i in range(9)
    ]
    run = make_run(chains=chains)
    assert len(set(chain_styles(run).values())) == 9
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns when the axes collapse
        warnings.simplefilter("ignore", DeprecationWarning)  # what an old matplotlib calls of a new pyparsing
        with styled():
            for figure in (observables, cost):
                figure(run).figure.draw_without_rendering()


def test_drawing_leaves_matplotlib_as_it_was():
    with matplotlib.rc_context({"font.size": 17.0}):
        before = dict(matplotlib.rcParams)
        drawings.draw(make_run())
        assert dict(matplotlib.rcParams) == before


def test_report_needs_neither_torch_nor_numba():
    unwanted = "('torch', 'numba', 'matplotlib.pyplot')"
    code = f"import sys, latticediff.report; sys.exit(any(m in sys.modules for m in {unwanted}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"series": {"m": np.full((8, 4), np.nan)}}, "series 'm' is not finite"),
        ({"series": {"m": np.zeros((3, 4))}}, r"has shape \(3, 4\); expected \(8, n_cfg\)"),
        ({"observables": {"chi": 1.0}}, r"expected a pair"),
        ({"observables": {"chi": (float("nan"), 0.1)}}, "is not finite"),
        ({"observables": {"chi": (1.0, float("inf"))}}, "is not finite"),
        ({"tau_int": {"m": (1.0, -0.1)}}, "expected at least 0"),
        ({"log_weight_reverse": np.array([0.0, np.inf])}, "NaN or [+]inf"),
        ({"log_weight_forward": np.array([0.0, -np.inf])}, "NaN or -inf"),
        ({"acceptance": 1.5}, r"expected a number in \[0, 1\]"),
        ({"seconds_per_update": float("inf")}, "cost is not finite"),
    ],
)
def test_impossible_results_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        make_chain(np.random.default_rng(12), "x", **changes)


def test_impossible_runs_are_refused(tmp_path):
    chain = make_chain(np.random.default_rng(13), "x")
    with pytest.raises(UserError, match="no chains"):
        make_run(chains=[])
    with pytest.raises(UserError, match="different names"):
        make_run(chains=[chain, chain])
    with pytest.raises(UserError, match="one-dimensional"):
        Propagator(np.zeros(3), np.zeros(2), np.zeros(3))
    with pytest.raises(UserError, match="no cost known"):
        break_even(dataclasses.replace(chain, seconds_per_update=None), chain)
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="choose another --out"):
        write_report(make_run(), tmp_path / "file")


def test_verdict_in_three_sentences_says_what_ode_and_sde_are():
    rng = np.random.default_rng(4)
    chains = [make_chain(rng, "hmc"), make_chain(rng, "ode", weights=True), make_chain(rng, "sde", weights=True)]
    sentences = brief(make_run(chains=chains))
    assert len(sentences) == 3
    assert "the ODE (a flow from noise to a field" in sentences[0] and "the SDE (a random path" in sentences[0]
    assert "differences from" in sentences[1] and "Per independent sample" in sentences[2]


def test_page_folds_the_long_verdict_and_labels_cells_for_phones():
    text = page(make_run(), [])
    assert "<details><summary>In full, with all numbers</summary>" in text
    assert (
        '<nav aria-label="Contents">' in text and 'href="#section-samplers"' in text and 'id="section-samplers"' in text
    )
    assert 'data-label="' in text


def test_chains_with_cluster_updates_are_not_called_hmc():
    from latticediff.stages.chains import sampler_name

    parts = [{"name": "hmc"}, {"name": "cluster"}, {"name": "cluster"}]
    assert sampler_name({"name": "hmc"}) == "HMC"
    assert sampler_name({"name": "sequence", "parts": parts}) == "HMC + cluster"


def test_a_figure_is_laid_out_before_it_is_drawn():
    """As matplotlib does when it saves one: labels have room."""
    places = []
    for draw in (
        lambda figure: FigureRecord("wide", "", "", "", figure, (), []).png,
        lambda figure: figure.savefig(io.BytesIO(), format="png", dpi=200),
    ):
        with styled():
            figure, axes = new_figure(1)
            before = np.array(axes.get_position().bounds)
            axes.set_ylabel("a label\nof three\nlines")
            axes.set_title("above", fontsize=30)
            draw(figure)
        places.append(np.array(axes.get_position().bounds))
    assert np.allclose(*places, atol=0.01) and np.abs(places[0] - before).max() > 0.05

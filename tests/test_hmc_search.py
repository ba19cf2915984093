"""The search for the cheapest HMC: what it counts, what it elects, and that no clock has a say."""

import json
import math

import numpy as np
import pytest

from latticediff.action import Phi4
from latticediff.analysis import tau_int
from latticediff.cli import main
from latticediff.config import parse_card
from latticediff.ensemble import Ensemble
from latticediff.errors import CardError, UserError
from latticediff.hmc import HMC, tune, warm_up
from latticediff.hmc import search as module
from latticediff.hmc.ladders import dearer, race
from latticediff.hmc.pilots import overhead
from latticediff.hmc.search import OVERHEAD, Pilot
from latticediff.job.log import JsonLog, read_log
from latticediff.job.progress import Task
from latticediff.markov import kernel_from_description
from latticediff.report.verdict import tuning
from latticediff.stages.estimate import probe
from latticediff.stages.generate import generate
from latticediff.stages.sample_hmc import baseline
from latticediff.stages.shown_search import shown_search
from latticediff.streams import Streams

ACTION, SHAPE = Phi4.A(-4.0, 6.008), (8, 8)
START = 0.3 * np.random.default_rng(1).normal(size=(32, *SHAPE))
CARD = """
[action]
convention = "A"
m2 = -4.0
lam = 6.008
[lattice]
shape = [4, 4]
[hmc]
n_chains = 8
n_warmup = 20
n_updates = 40
thin = 2
jitter = 0.1
search_budget = 20000
[gate]
enforce = false
[sampling.hmc]
n_updates = 10
"""


@pytest.fixture(scope="module")
def searched():
    return warm_up(ACTION, START, Streams(3), "search", "search", "search", 0.1)


def test_the_cost_that_is_recorded_is_that_of_the_kernel(searched):
    """2 tau_int (force evaluations + overhead) of |m| by chains of this test's own; 5 sigma."""
    kernel, state = searched
    record = kernel.tuning["search"]["confirmed"]
    _, block = kernel.advance(state, Streams(11), 1500)
    tau = tau_int(np.abs(block.phi.mean(axis=(2, 3))).T)
    own = 2 * tau.value * (kernel.force_evaluations_per_update + OVERHEAD)
    error = 2 * tau.error * (kernel.force_evaluations_per_update + OVERHEAD)
    cost, its = record["cost"]
    assert abs(own - cost) < 5 * math.hypot(error, its)
    assert its < 0.07 * cost
    assert (record["n_leapfrog"], record["integrator"]) == (kernel.n_leapfrog, kernel.integrator)
    np.testing.assert_allclose(kernel.trajectory_length, record["trajectory_length"])


def test_what_is_found_is_cheaper_than_what_was_given(searched):
    """Of unit trajectories of leapfrog 77(2), of the best near 57(2): 3 sigma between them."""
    kernel, _ = searched
    unit, state = warm_up(ACTION, START, Streams(4))
    _, block = unit.advance(state, Streams(12), 1500)
    tau = tau_int(np.abs(block.phi.mean(axis=(2, 3))).T)
    cost, error = kernel.tuning["search"]["confirmed"]["cost"]
    factor = 2 * (unit.force_evaluations_per_update + OVERHEAD)
    assert factor * tau.value - cost > 3 * math.hypot(factor * tau.error, error)
    assert 1.2 < kernel.trajectory_length < 3.2


def test_the_same_streams_find_the_same_kernel_whatever_the_clock_says(searched, monkeypatch):
    kernel, state = searched
    for name in ("perf_counter", "process_time", "monotonic", "time"):
        monkeypatch.setattr(f"time.{name}", lambda: pytest.fail("the search looked at a clock"))
    again, end = warm_up(ACTION, START, Streams(3), "search", "search", "search", 0.1)
    assert again.describe() == kernel.describe() == json.loads(json.dumps(kernel.describe()))
    np.testing.assert_array_equal(end.phi, state.phi)
    rebuilt = kernel_from_description(ACTION, kernel.describe())
    assert rebuilt.describe() == kernel.describe() and state.update == 0


def test_a_search_tells_what_it_has_spent_and_is_shown_as_a_task(monkeypatch):
    """In force evaluations of a chain, rising to what the record has; one who listens changes nothing."""
    told, seen = [], []
    options = {"integrator": "search", "jitter": 0.1, "budget": 4000}
    plain = tune(ACTION, START, Streams(5), "search", "search", **options)
    found = tune(ACTION, START, Streams(5), "search", "search", **options, tell=told.append)
    assert found.describe() == plain.describe()
    assert told == sorted(told) and len(told) > 10
    assert told[-1] == found.tuning["search"]["force_evaluations_per_chain"]
    monkeypatch.setattr(Task, "advance", lambda task, n, *_, **__: seen.append((task.name, task.total, n)))
    with shown_search(None, 4000, len(START)) as tell:
        tell(3000)
        tell(10**9)
    assert seen == [("searching the cheapest HMC", 6000, 3000), ("searching the cheapest HMC", 6000, 5940)]


def test_the_winner_is_confirmed_with_numbers_that_did_not_elect_it(searched):
    record = searched[0].tuning["search"]
    assert record["confirmed"]["tau_int"] not in [row["tau_int"] for row in record["pilots"]]
    assert record["confirmed"]["tau_int"][1] < 0.05 * record["confirmed"]["tau_int"][0]


def test_the_ladder_is_climbed_until_the_cost_has_risen(searched):
    rows = searched[0].tuning["search"]["pilots"]
    least = min(rows, key=lambda row: row["cost"][0])
    longest = max(rows, key=lambda row: row["trajectory_length"])
    assert longest["trajectory_length"] > 1.9 * least["trajectory_length"]
    assert longest["cost"][0] > 1.1 * least["cost"][0] + math.hypot(longest["cost"][1], least["cost"][1])
    assert min(row["trajectory_length"] for row in rows) < 0.9 * least["trajectory_length"]


def test_the_integrator_of_fewest_evaluations_is_taken():
    """At 16x16, length 2 and 97 % leapfrog wants 56, the others 41; a step more or less is noise."""
    action, start = Phi4.A(-4.0, 4.98), 0.3 * np.random.default_rng(1).normal(size=(32, 16, 16))
    fewest = {
        name: tune(action, start, Streams(7), 0.97, 2.0, integrator=name).force_evaluations_per_update
        for name in ("leapfrog", "omelyan2", "omelyan4")
    }
    found = tune(action, start, Streams(8), 0.97, 2.0, integrator="search", precision=0.4, budget=30_000)
    assert max(fewest.values()) > 1.3 * min(fewest.values())
    assert found.force_evaluations_per_update < 1.2 * min(fewest.values())


def test_a_start_far_from_equilibrium_is_forgotten_first():
    """|m| of 2 at the start, 0.14(10) later: a transient in the series would make tau_int several times too long."""
    far = tune(ACTION, np.full((16, *SHAPE), 2.0), Streams(9), 0.85, 1.1, integrator="search")
    near = tune(ACTION, START[:16], Streams(10), 0.85, 1.1, integrator="search")
    (a, da), (b, db) = (kernel.tuning["search"]["pilots"][0]["tau_int"] for kernel in (far, near))
    assert abs(a - b) < 5 * math.hypot(da, db)


class Fake(Pilot):
    """A pilot whose tau_int is known beforehand, up to noise that falls as it runs."""

    def __init__(self, length, tau, luck):
        super().__init__(HMC(ACTION, 0.1, round(10 * length)), 0.85, None, 0)
        self.truth, self.luck, self.n = tau, luck, 1
        self.show()

    def show(self):
        self.tau, self.error = self.truth * (1 + 0.15 * self.luck / self.n), 0.15 * self.truth / self.n


class FakeRun:
    def __init__(self, *pilots):
        self.pilots = list(pilots)

    def refine(self, pilot, precision):
        pilot.n = max(pilot.n, 0.15 / precision)
        pilot.show()


def test_a_lucky_pilot_does_not_win():
    """Cost 100 in truth, shown as 70 at first: the honest 90 wins once both are known."""
    unlucky, lucky = Fake(1, 90 / 34, 0.5), Fake(3, 100 / 74, -2.0)
    assert lucky.cost[0] < unlucky.cost[0]
    assert race(FakeRun(unlucky, lucky), 0.01) is unlucky


def test_of_what_is_level_the_shortest_trajectory_is_taken():
    short, long = Fake(1, 100 / 34, 0.0), Fake(3, 99 / 74, 0.0)
    assert race(FakeRun(long, short), 0.05) is short
    assert not dearer(short, long) and dearer(Fake(9, 2.0, 0.0), short)


def test_a_mass_that_is_searched_is_no_dearer_than_its_neighbours():
    """The ladder has risen on both sides of what is found, or ended within the errors; the record says the mass."""
    kernel = tune(ACTION, START, Streams(3), "search", "search", integrator="search", jitter=0.1, mass="search")
    record = kernel.tuning["search"]
    masses = {row["mass"] for row in record["pilots"]}
    assert record["confirmed"]["mass"] == kernel.mass and len(masses) >= 3
    assert min(masses) < kernel.mass < max(masses)
    assert kernel_from_description(ACTION, kernel.describe()).describe() == kernel.describe()
    again = tune(ACTION, START, Streams(3), "search", "search", integrator="search", jitter=0.1, mass="search")
    assert again.describe() == kernel.describe()
    # at mass (4 / L)^2 the best costs 32(2); unit masses want 57(2), in evaluations that are cheaper
    cost, error = record["confirmed"]["cost"]
    assert cost < 32 + 5 * error
    short = tune(ACTION, START, Streams(3), 0.85, 1.0, mass="search", precision=0.2)
    assert short.trajectory_length == pytest.approx(1.0) and short.integrator == "leapfrog"


def test_half_a_period_is_no_bargain():
    """A free field with Fourier masses: all modes alike, m flips sign in half a period, which counts as independent."""
    free = Phi4.A(0.6, 0.0)
    half = np.pi / np.sqrt(free.hopping)
    kernel = tune(free, START, Streams(1), 0.9, half, jitter=0.01, mass=0.6, integrator="search", observable="m")
    tau, _ = kernel.tuning["search"]["confirmed"]["tau_int"]
    assert tau >= 0.5


def test_only_what_is_asked_for_is_searched(searched):
    kernel = tune(ACTION, START, Streams(5), 0.8, 2.0, integrator="search", jitter=0.2, precision=0.2)
    assert kernel.trajectory_length == pytest.approx(2.0) and kernel.jitter == 0.2
    assert kernel.tuning["target_acceptance"] == 0.8
    assert len(kernel.tuning["search"]["pilots"]) == 1
    kernel = tune(ACTION, START, Streams(5), 0.8, "search", integrator="omelyan4", jitter=0.2, precision=0.2)
    assert {row["integrator"] for row in kernel.tuning["search"]["pilots"]} == {"omelyan4"}


def test_an_observable_of_ones_own():
    def phi2(phi, action):
        return (phi**2).mean(axis=(2, 3))

    kernel = tune(ACTION, START, Streams(5), 0.85, 1.0, integrator="search", observable=phi2, precision=0.2)
    assert kernel.tuning["search"]["observable"] == "phi2"


def test_a_budget_is_kept_and_said():
    kernel = tune(ACTION, START, Streams(6), "search", "search", integrator="search", jitter=0.1, budget=12_000)
    record = kernel.tuning["search"]
    assert record["budget_ended"] and record["force_evaluations_per_chain"] < 1.5 * 12_000 + 5_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"jitter": 0.0}, "jitter is 0.0; a trajectory length that is searched"),
        ({"observable": "phi4"}, "observable is 'phi4' .*expected one of m, abs_m, m2, "),
        ({"precision": 0}, "precision is 0; expected a number between 0 and 1"),
        ({"budget": 10}, "budget of 10 force evaluations a chain is too small"),
        ({"integrator": "euler"}, "integrator is 'euler'"),
    ],
)
def test_what_cannot_be_searched_is_refused(options, message):
    options = {"trajectory_length": "search", "jitter": 0.1} | options
    with pytest.raises(UserError, match=message):
        tune(ACTION, START, Streams(0), **options)


def test_a_card_asks_for_it_and_the_ensemble_keeps_it(tmp_path):
    card = parse_card(CARD, ["hmc.trajectory_length=search", "hmc.integrator=search"])
    generate(card, tmp_path / "a.h5").close()
    more = parse_card(CARD, ["hmc.trajectory_length=search", "hmc.integrator=search", "hmc.n_updates=60"])
    generate(more, tmp_path / "a.h5", resume=True).close()
    generate(more, tmp_path / "b.h5").close()
    with Ensemble(tmp_path / "a.h5") as extended, Ensemble(tmp_path / "b.h5") as whole:
        assert extended.fingerprint() == whole.fingerprint()
        assert extended.algorithm["tuning"]["search"]["observable"] == "abs_m"
    costs = probe(card, ["generate"])
    assert list(costs) == ["search, about", "generate"] and costs["search, about"].seconds > 0


def test_the_compared_chain_may_have_a_kernel_of_its_own(tmp_path):
    card, log = parse_card(CARD, ["sampling.hmc.search=true"]), JsonLog(tmp_path / "log.jsonl")
    generate(card, tmp_path / "a.h5").close()
    one = baseline(card, tmp_path / "a.h5", tmp_path / "hmc.h5", log=log)
    assert one.algorithm["tuning"]["search"]["confirmed"]
    assert len(list(read_log(tmp_path / "log.jsonl", "searched"))) == 1
    plain = baseline(parse_card(CARD), tmp_path / "a.h5", tmp_path / "plain.h5")
    assert "search" not in plain.algorithm["tuning"]

    def said(ensemble):
        return tuning(type("Chain", (), {"label": "HMC", "algorithm": ensemble.algorithm}))

    assert said(one).startswith("HMC is tuned in trajectory length")
    assert said(plain).startswith(
        "Of HMC only the step size was tuned, to 85 % acceptance: trajectories of length 1 by"
    )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["hmc.trajectory_length=search", "hmc.jitter=0.0"], "wants some jitter"),
        (["hmc.integrator=search", "hmc.cluster=1"], "looks at trajectories alone"),
        (["sampling.hmc.search=true", "hmc.cluster=1"], "looks at trajectories alone"),
        (["hmc.trajectory_length=long"], "trajectory_length"),
        (["hmc.search_observable=phi"], "search_observable"),
    ],
)
def test_a_card_that_asks_for_the_impossible_is_refused(overrides, message):
    with pytest.raises(CardError, match=message) as caught:
        parse_card(CARD, overrides)
    assert "\n" not in str(caught.value)


def test_a_command_prints_the_pilots_and_the_keys(tmp_path, capsys):
    (tmp_path / "card.toml").write_text(CARD)
    for options in ([], ["--json"]):
        with pytest.raises(SystemExit) as done:
            main(["tune-hmc", str(tmp_path / "card.toml"), "--quiet", *options])
        printed = capsys.readouterr().out
        assert done.value.code == 0
        if options:
            found = json.loads(printed)
            assert found["kernel"]["tuning"]["search"]["pilots"] and len(found["per_independent"]) == 2
            overrides = [f"hmc.{key}={json.dumps(value)}" for key, value in found["keys"].items()]
            assert parse_card(CARD, overrides).hmc.trajectory_length == found["keys"]["trajectory_length"]
        else:
            assert "<- taken" in printed and "[hmc]" in printed and "force evaluations" in printed


def test_the_overhead_is_a_constant_of_the_code():
    """It stands for seconds in a cost that decides bits; changing it is a change of every searched chain."""
    assert module.OVERHEAD == overhead(None) == 6.0 and overhead(0.5) == 3.0

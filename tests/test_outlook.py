"""The time left of a study: arithmetic of its outlook on a clock that the test sets; nothing here waits."""

import numpy as np
import pytest

from latticediff.action import Phi4
from latticediff.study.card import load_study
from latticediff.study.cell import Cell
from latticediff.study.chains import run_chain
from latticediff.study.expected import expected_after, expected_of
from latticediff.study.outlook import Outlook, Phase, Piece
from latticediff.study.plan import plan_study

CELL = {
    "kind": "chain",
    "action": Phi4.A(1.0, 0.5).describe(),
    "shape": (4, 4),
    "seed": 1,
    "n_chains": 16,
    "settings": {"precision": 0.3, "seconds": 5.0, "budget": 20_000},
}
AFTER = ("timing", "film", "page")


def piece(key, *phases, kind="hmc", alone=False):
    return Piece(key, key, kind, tuple(Phase(*phase) for phase in phases), alone)


def test_what_is_expected_is_what_is_left_at_first():
    pieces = [piece("a", ("search", 10.0), ("chain", 30.0, 20.0)), piece("b", ("timing", 5.0), alone=True)]
    assert Outlook(pieces).left(0.0) == 10.0 + 20.0 + 5.0
    assert Outlook([]).left(0.0) == 0.0 and Outlook([]).share(1.0) == 1.0


def test_a_phase_that_says_how_far_it_is_goes_at_its_own_pace():
    outlook = Outlook([piece("a", ("search", 10.0), ("chain", 30.0))])
    outlook.begin("a", 0.0)
    outlook.reach("a", "search", 0.1, 15.0)  # what was before its first word may have compiled
    assert outlook.left(15.0) == pytest.approx(1.0 + 30.0)
    outlook.reach("a", "search", 0.5, 35.0)  # 0.02 a second
    assert outlook.left(35.0) == pytest.approx(25.0 + 30.0)
    assert outlook.share(35.0) == pytest.approx(35.0 / 90.0)
    assert outlook.at() == "a: search 50 %"
    outlook.reach("a", "chain", 0.0, 60.0)
    # at its pace since the first word the search takes 45 / 0.9 s for 10; the chain is corrected by all that has run
    assert outlook.left(60.0) == pytest.approx(30.0 * (50.0 + 5.0) / (10.0 + 5.0))


def test_compiling_is_taken_for_slowness_in_no_later_piece():
    outlook = Outlook([piece(key, ("search", 2.0), kind="cluster") for key in "ab"])
    outlook.begin("a", 0.0)
    outlook.end("a", 17.0)
    assert outlook.left(17.0) == pytest.approx(2.0)
    outlook.begin("b", 17.0)
    outlook.end("b", 34.0)  # a second time nothing compiles: that is what they take
    assert outlook.corrected("cluster", Phase("search", 2.0)) > 5.0


def test_a_limit_holds_whatever_was_measured():
    outlook = Outlook([piece("a", ("chain", 100.0, 10.0)), piece("b", ("chain", 100.0, 10.0))])
    outlook.begin("a", 0.0)
    outlook.reach("a", "chain", 0.01, 4.0)
    assert outlook.left(4.0) == pytest.approx(6.0 + 10.0)
    outlook.end("a", 10.0)  # its limit ended it, and nothing is learned of how long it would have taken
    assert outlook.corrected("hmc", Phase("chain", 8.0)) == 8.0


def test_kinds_are_corrected_by_their_own_measurements_first():
    """A kind that took 100 times as long is multiplied by nearly that; another one by what all took together."""
    pieces = [piece("a", ("chain", 100.0)), piece("b", ("chain", 100.0), kind="cluster")]
    outlook = Outlook(pieces)
    for key, seconds, begins in (("a", 1e4, 0.0), ("b", 100.0, 1e4)):
        outlook.begin(key, begins)
        outlook.end(key, begins + seconds)
    assert outlook.corrected("hmc", Phase("chain", 1.0)) == pytest.approx(97.4, rel=0.01)
    assert outlook.corrected("cluster", Phase("chain", 1.0)) == pytest.approx(3.3, rel=0.05)
    assert outlook.corrected("fast", Phase("chain", 1.0)) == pytest.approx(49.3, rel=0.01)


def test_several_at_once_share_the_time_but_none_is_cut_in_two():
    pieces = [piece("a", ("chain", 30.0)), piece("b", ("chain", 10.0)), piece("c", ("timing", 4.0), alone=True)]
    assert Outlook(pieces, at_once=2).left(0.0) == 30.0 + 4.0
    assert Outlook([*pieces, piece("d", ("chain", 40.0))], at_once=2).left(0.0) == 40.0 + 4.0


def test_what_is_not_known_or_failed_changes_nothing():
    outlook = Outlook([piece("a", ("search", 10.0), ("chain", 10.0)), piece("b", ("chain", 10.0))])
    outlook.begin("a", 0.0)
    outlook.reach("a", "weights", 0.5, 1.0)  # a phase of learned chains
    outlook.reach("x", "chain", 0.5, 1.0)
    outlook.begin("x", 1.0)
    outlook.end("x", 1.0)
    assert outlook.at() == "a: search"
    outlook.reach("a", "chain", 0.5, 5.0)
    outlook.reach("a", "search", 0.5, 6.0)  # phases do not come back
    assert outlook.at() == "a: chain 50 %"
    before = outlook.corrected("hmc", Phase("chain", 10.0))
    outlook.end("a", 1000.0, failed=True)
    assert outlook.corrected("hmc", Phase("chain", 10.0)) == before
    assert outlook.left(1000.0) == before


@pytest.mark.parametrize("sampler", ["hmc", "fourier_hmc", "hmc_unit", "cluster"])
def test_a_chain_tells_the_phases_that_are_expected_and_changes_nothing(sampler, monkeypatch):
    """In their order, with shares that rise to nearly one; with a listener the same numbers come out."""
    monkeypatch.setattr("latticediff.study.kernels.SCAN", 40)
    monkeypatch.setattr("latticediff.study.kernels.SCAN_SECONDS", 0.001)
    cell, told = Cell(sampler=sampler, **CELL), []
    found = run_chain(cell, tell=lambda phase, share: told.append((phase, share)))
    assert list(dict.fromkeys(phase for phase, _ in told if phase != "search" or sampler != "hmc_unit")) == [
        phase.name for phase in expected_of(cell).phases if phase.name != "search" or sampler != "hmc_unit"
    ]
    assert all(0 <= share <= 1 for _, share in told)
    if sampler != "hmc_unit":
        shares = [share for phase, share in told if phase == "search"]
        assert len(shares) > 10 and shares == sorted(shares) and shares[-1] > 0.4
    if sampler != "cluster":  # its mix is chosen by a clock
        assert found["tau_int"] == run_chain(cell)["tau_int"]


def run(pieces, taken, compiling):
    """Let pieces take what `taken` says of their phases, and kinds compile at first; (share of the time, said / taken).

    The last tenth is left out: little time, of films and the page alone.
    """
    outlook, now, said, compiled = Outlook(pieces), 0.0, [], set()
    for each in pieces:
        outlook.begin(each.key, now)
        for phase in each.phases:
            speaks = phase.name in ("search", "chain", "page")
            outlook.reach(each.key, phase.name, 0.0, now)
            for step in range(1, 9):
                said.append((now, outlook.left(now)))
                if each.kind not in compiled:
                    now += compiling[each.kind]
                    compiled.add(each.kind)
                now += min(phase.at_most, taken[each.key, phase.name]) / 8
                if speaks:
                    outlook.reach(each.key, phase.name, step / 8, now)
        outlook.end(each.key, now)
    return [(when / now, left / (now - when)) for when, left in said if when < 0.9 * now]


@pytest.mark.parametrize("card", ["study-quick", "study-full"])
def test_after_the_first_tenth_the_time_left_is_right_within_one_and_a_half(pytestconfig, card):
    """On a machine a third as fast as expected, samplers off by 1.3 either way, phases by 1.1 (one sigma); all compile.

    What clocks end takes what it takes: timing, and chains at their limits.
    """
    plan = plan_study(load_study(pytestconfig.rootpath / f"configs/{card}.toml"))
    pieces = [*(expected_of(cell, 1) for cell in plan.cells.values()), *expected_after(plan)]
    whole = [sum(min(phase.seconds, phase.at_most) for phase in each.phases) for each in pieces]
    assert max(whole) > 60 * min(whole)
    rng = np.random.default_rng(1)
    for _ in range(20):
        kinds = {each.kind: 3 * 1.3 ** rng.uniform(-1, 1) for each in pieces}
        kinds |= dict.fromkeys(AFTER, 3.0)
        compiling = {kind: rng.uniform(0, 15) for kind in kinds} | dict.fromkeys(AFTER, 0.0)
        taken = {
            (each.key, phase.name): phase.seconds * kinds[each.kind] * 1.1 ** rng.standard_normal()
            for each in pieces
            for phase in each.phases
        }
        ratios = [ratio for share, ratio in run(pieces, taken, compiling) if share > 0.1]
        assert min(ratios) > 1 / 1.5 and max(ratios) < 1.5

"""Laws of coexisting phases: one model for each, proposed in proportion to their Z.

Statistical tests use five standard errors: a correct code fails one number with probability 6e-7.
"""

import pickle

import numpy as np
import pytest
from learned_toys import network, some_propagator
from metropolis_toys import Warped

import latticediff
from latticediff.action import Phi4, Polynomial
from latticediff.cli import main
from latticediff.config import parse_card
from latticediff.diffusion.ladder import NoiseRange
from latticediff.errors import FileError, ModelError, UserError
from latticediff.gaussian.reference import GaussianReference
from latticediff.metropolis import IndependenceMetropolis
from latticediff.model.kinds import is_phases
from latticediff.model.phases import Parts, Phases, load_phases, natural_parts
from latticediff.model.score_model import ScoreModel
from latticediff.model.storage import load_model, save_model
from latticediff.proposal.mixture import MixtureProposal, part_log_z
from latticediff.stages.mix import mix
from latticediff.stages.propose import propose
from latticediff.stages.sample import sample
from latticediff.streams import Streams

N_SIGMA = 5
#: two sites in a double well that leans to one side
WELL = Polynomial(0.3, [-0.1, -1.2, 0.0, 0.4, 0.0, 0.15], 1)
LEFT, RIGHT = Warped((2,), centre=-0.9, width=0.45), Warped((2,), centre=0.95, width=0.45)
MIDDLE = Parts([0.05])
PHI4 = Phi4.A(-4.0, 3.0)


def quadrature():
    """``<phi>, <phi^2>`` and the log Z of both parts."""
    x = np.linspace(-4, 4, 1601)
    a, b = np.meshgrid(x, x, indexing="ij")
    weight = np.exp(-WELL(np.stack([a, b], -1).reshape(-1, 2))).reshape(a.shape) * (x[1] - x[0]) ** 2
    right = 0.5 * (a + b) >= MIDDLE.boundaries[0]
    log_z = np.log([weight[~right].sum(), weight[right].sum()])
    return [(weight * f).sum() / weight.sum() for f in (a, a**2)], log_z


class Forgetful(MixtureProposal):
    """Leaves the probability of a part out of its density."""

    def _admitted(self, drawn, which):
        return super()._admitted(drawn, which) - np.log(self.probabilities[which])


class Lax(MixtureProposal):
    """Takes a draw that left its part for one of its part."""

    def _admitted(self, drawn, which):
        return drawn.log_q + np.log(self.probabilities[which])


@pytest.mark.parametrize(("kind", "exact"), [(MixtureProposal, True), (Forgetful, False), (Lax, False)])
def test_chains_are_exact_at_any_probabilities(kind, exact):
    """Against quadrature; without the probability of a part, or its border, the chain is seen to be wrong."""
    wide = Warped((2,), centre=-0.5, width=0.9), RIGHT  # many of the first one's draws leave its part
    kernel = IndependenceMetropolis(kind(wide, MIDDLE, [0.7, 0.3]), WELL)
    n_chains = 400
    state = kernel.hot_start(n_chains, Streams(1).child("start"))
    state, _ = kernel.advance(state, Streams(1).child("burn"), 60, 60)
    _, block = kernel.advance(state._replace(update=0), Streams(1).child("chain"), 500)
    deviations = []
    for power, expected in zip((1, 2), quadrature()[0], strict=True):
        means = (block.phi**power).mean(axis=(0, 2))
        deviations.append(abs(means.mean() - expected) / (means.std(ddof=1) / np.sqrt(n_chains)))
    assert bool(max(deviations) < N_SIGMA) is exact


def test_each_part_measures_its_own_integral():
    _, exact = quadrature()
    for which, proposal in enumerate((LEFT, RIGHT)):
        found = part_log_z(proposal, WELL, MIDDLE, which, 40_000, np.random.default_rng(which))
        assert abs(found.log_z - exact[which]) < N_SIGMA * found.error
        assert found.error < 0.05 and 0.5 < found.inside < 1 and 0.05 < found.ess < 1


def test_a_field_has_one_density_whether_drawn_or_given():
    proposal = MixtureProposal((LEFT, RIGHT), MIDDLE, [1.0, 3.0])
    draw = proposal.draw(3000, np.random.default_rng(4))
    inside = np.isfinite(draw.log_q)
    np.testing.assert_allclose(proposal.weigh(draw.phi[inside]), draw.log_q[inside], rtol=1e-9)
    share = (MIDDLE.of(draw.phi[inside]) == 1).mean()
    assert abs(share - 0.75) < 0.1
    again = [proposal.draw(n, rng) for rng in [np.random.default_rng(4)] for n in (1, 999, 2000)]
    np.testing.assert_array_equal(np.concatenate([d.phi for d in again]), draw.phi)


def test_parts_are_intervals_of_the_order_parameter():
    phi = np.array([-0.9, -0.2, 0.2, 0.5, 0.9]).reshape(-1, 1) * np.ones((5, 4))
    assert Parts([-0.5, 0.5]).of(phi).tolist() == [0, 1, 1, 2, 2]
    assert Parts([0.5], "abs_m").of(phi).tolist() == [1, 0, 0, 1, 1]
    with pytest.raises(UserError, match="order_parameter is 'phi'; expected one of m, abs_m"):
        Parts([0.0], "phi")
    for bad in ([1.0, 0.5], [np.nan], [0.5, 0.5]):
        with pytest.raises(UserError, match="expected finite numbers that ascend"):
            Parts(bad)


def test_what_makes_no_mixture_is_refused():
    for arguments, said in [
        (((LEFT,), MIDDLE, [1.0]), "1 proposals and 1 probabilities for 2 parts"),
        (((LEFT, RIGHT), MIDDLE, [1.0, 0.0]), "expected positive numbers"),
        (((LEFT, RIGHT), MIDDLE, [1.0, np.nan]), "expected positive numbers"),
        (((LEFT, Warped((3,))), MIDDLE, [1.0, 1.0]), r"of lattices \(2,\), \(3,\); expected one"),
    ]:
        with pytest.raises(UserError, match=said):
            MixtureProposal(*arguments)
    with pytest.raises(UserError, match="none of 100 draws for part 0 stayed in it"):
        part_log_z(Warped((2,), centre=3.0, width=0.05), WELL, MIDDLE, 0, 100, np.random.default_rng(1))


def score_model(vacuum, one_sided, shape=(4, 4), action=PHI4, seed=0):
    gaussian = GaussianReference(action, 0.1 * some_propagator(shape), vacuum=vacuum, one_sided=one_sided)
    noise = NoiseRange(0.05, 1.0)
    net = network(2, 0.1, seed)
    return ScoreModel(net, gaussian, noise, np.array(noise.log_range), np.ones((2, *shape)))


@pytest.fixture
def folders(tmp_path):
    for name, vacuum in (("low", -0.7), ("high", 0.7)):
        save_model(score_model(vacuum, True), tmp_path / name)
    return tmp_path


def test_mixed_models_are_kept_whole(folders, capsys):
    found = mix([folders / "high", folders / "low"], folders / "both", n=200)
    assert found.names == ("low", "high") and found.phases.parts.boundaries == pytest.approx([0.0], abs=1e-12)
    difference = found.found[1].log_z - found.found[0].log_z
    assert abs(difference) < 6 * np.hypot(found.found[0].error, found.found[1].error)  # of one theory's two vacua
    assert "log Z(high) - log Z(low) = " in found.to_text() and "Phi4.A" in found.to_text()
    assert is_phases(folders / "both") and not is_phases(folders / "low")
    loaded = load_phases(folders / "both", action=PHI4, shape=(4, 4))
    assert loaded.fingerprint() == found.phases.fingerprint()
    assert loaded.probabilities.sum() == pytest.approx(1)
    with pytest.raises(ModelError, match=r"holds a model of several phases.*part-0"):
        load_model(folders / "both")
    with pytest.raises(FileError, match="never overwritten"):
        mix([folders / "high", folders / "low"], folders / "both", n=200)
    with pytest.raises(ModelError, match="was trained"):
        load_phases(folders / "both", shape=(8, 8))
    for command in ("info", "verify"):
        main_done([command, str(folders / "both")])
    told = capsys.readouterr().out
    assert "coexisting phases" in told and "m from 0 to inf, log Z = " in told and "is sound: 2 models" in told
    # a part exchanged for another model
    for file in ("card.toml", "weights.safetensors"):
        (folders / "both" / "part-0" / file).write_bytes((folders / "high" / file).read_bytes())
    with pytest.raises(ModelError, match="one was altered or exchanged"):
        load_phases(folders / "both")
    capsys.readouterr()
    for options, said in [
        (["--order-parameter", "abs_m"], "are told apart by m"),
        (["--boundary", "0.1", "--boundary", "0.2"], "2 boundaries for 2 phases; expected 1"),
    ]:
        with pytest.raises(SystemExit):
            main(["mix", str(folders / "high"), str(folders / "low"), "--out", str(folders / "no"), *options])
        assert said in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["mix", str(folders / "high"), "--out", str(folders / "one")])
    assert ended.value.code == 2
    assert "expected two or more" in capsys.readouterr().err


def main_done(arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert not ended.value.code


def test_weights_that_tell_nothing_of_log_z_are_said_to(folders):
    narrow = GaussianReference(PHI4, 0.002 * some_propagator((4, 4)), vacuum=1.4, one_sided=True)
    noise = NoiseRange(0.05, 1.0)
    poor = ScoreModel(network(2, 0.1), narrow, noise, np.array(noise.log_range), np.ones((2, 4, 4)))
    save_model(poor, folders / "poor")
    other = GaussianReference(PHI4, 0.002 * some_propagator((4, 4)), vacuum=-1.4, one_sided=True)
    save_model(
        ScoreModel(network(2, 0.1), other, noise, np.array(noise.log_range), np.ones((2, 4, 4))), folders / "two"
    )
    found = mix([folders / "poor", folders / "two"], folders / "poorly", n=400)
    assert all(part.warning for part in found.found)
    assert "warning: log Z(poor) rests on few draws (ESS" in found.to_text()


CARD = """
[run]
seed = 3
[action]
convention = "A"
m2 = -4.0
lam = 3.0
[lattice]
shape = [4, 4]
[sampling]
max_doubling = "any"
[sampling.ode]
n_chains = 4
n_updates = 10
steps = 6
[sampling.sde]
n_chains = 4
n_updates = 5
steps = 6
"""


@pytest.mark.parametrize("route", ["ode", "sde"])
def test_a_card_samples_phases_and_resumes_with_the_same_bits(folders, route):
    mix([folders / "low", folders / "high"], folders / "both", n=200)
    with sample(parse_card(CARD), folders / "both", route, folders / "chain.h5") as ensemble:
        assert len(ensemble) in (40, 20)
        assert "mixture" in str(ensemble.algorithm) or "probabilities" in str(ensemble.algorithm)
    for section, said in [
        ('[sampling.kernel]\nmove = "partial"\nnoise = "coloured"\neps = 0.1\n', "coexisting phases want move = indep"),
        *([("[sampling.ode]\nrungs = 2\n", "rungs anneal one model")] if route == "ode" else []),
    ]:
        text = CARD if "kernel" in section else CARD.split("[sampling.ode]")[0]
        with pytest.raises(UserError, match=said):
            sample(parse_card(text + section), folders / "both", route, folders / "other.h5")


@pytest.mark.parametrize("route", ["ode", "sde"])
def test_a_host_loads_phases_as_it_does_a_plain_model(folders, route):
    mix([folders / "low", folders / "high"], folders / "both", n=200)
    model = latticediff.load(folders / "both")
    assert "PhasesModel('both': 2 phases of Phi4.A" in repr(model) and model.shape == (4, 4)
    assert model.fingerprint() == load_phases(folders / "both").fingerprint()
    proposal = model.proposal(route, steps=6)
    phi, log_q = proposal.draw(60, np.random.default_rng(3))
    inside, halves = np.isfinite(log_q), np.random.default_rng(3)
    both = [proposal.draw(30, halves) for _ in range(2)]
    assert np.array_equal(np.concatenate([draw.phi for draw in both]), phi)
    assert {0, 1} <= set((phi[inside].mean(axis=(1, 2)) > 0).astype(int))
    if route == "ode":
        assert np.allclose(proposal.weigh(phi[inside]).log_q, log_q[inside], atol=1e-3)
    again = pickle.loads(pickle.dumps(model)).proposal(route, steps=6)
    assert again.fingerprint() == proposal.fingerprint()
    kernel = proposal.kernel()
    _, block = kernel.advance(kernel.hot_start(4, rng=1), Streams(1), 3)
    assert np.allclose(block.action, model.action(block.phi))
    options = {"route": route, "max_doubling": np.inf, "options": {"steps": 6}}
    header = propose(folders / "both", 20, folders / f"{route}.h5", **options)
    assert header.model == "both" and header.model_sha256 == model.fingerprint()


def test_what_a_host_cannot_have_of_phases_is_one_line(folders):
    mix([folders / "low", folders / "high"], folders / "both", n=200)
    model = latticediff.load(folders / "both", action=PHI4, shape=(4, 4))
    assert model.at(PHI4, (4, 4)) is model
    for call, said in (
        (lambda: model.at(Phi4.A(-4.0, 3.1)), "change their proportions with couplings and lattice"),
        (lambda: model.at(shape=(8, 8)), "make one for this theory"),
        (lambda: model.proposal(rungs=2), "leave rungs out"),
        (lambda: model.proposal(tsteps=2), "has no option 'tsteps'"),
        (lambda: model.proposal("odd"), "odd"),
        (lambda: latticediff.load(folders / "both", shape=(8, 8)), "was trained"),
    ):
        with pytest.raises(UserError, match=said) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_boundaries_lie_as_many_widths_from_either_side():
    leaning = Polynomial(2.0, [0.01, -4.0, 0.0, 3.0])
    order, parts = natural_parts([score_model(0.7, True, action=leaning), score_model(-0.5, True, action=leaning)])
    assert order == [1, 0] and parts.order_parameter == "m" and parts.boundaries == pytest.approx([0.1])
    order, parts = natural_parts([score_model(0.7, False), score_model(0.0, False)])
    assert order == [1, 0] and parts.order_parameter == "abs_m" and parts.boundaries == pytest.approx([0.35])
    for close in (0.7, 0.72):
        with pytest.raises(UserError, match=r"expanded around 0\.7 and 0\.7.*: expected one for each phase"):
            natural_parts([score_model(0.7, True), score_model(close, True), score_model(-0.7, True)])
    with pytest.raises(UserError, match=r"has a phase around -0\.7 too, .* none of the models is of it"):
        natural_parts([score_model(0.7, True), score_model(0.0, True)])
    with pytest.raises(UserError, match="parts of m would cut it"):
        natural_parts([score_model(0.7, True), score_model(0.7, False)])
    with pytest.raises(UserError, match="phases coexist in one theory on one lattice"):
        Phases([score_model(0.7, True), score_model(-0.7, True, (4, 6))], Parts([0.0]), [(0, 0), (0, 0)])
    pair = score_model(-0.7, True), score_model(0.7, True)
    shares = Phases(pair, Parts([0.0]), [(-800.0, 0.1), (-799.0, 0.1)]).probabilities
    np.testing.assert_allclose(shares, [1 / (1 + np.e), np.e / (1 + np.e)])
    with pytest.raises(UserError, match="expected as many"):
        Phases([score_model(0.7, True)], Parts([0.0]), [(0, 0), (0, 0)])

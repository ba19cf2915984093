"""O(N) theories: the action, HMC of several components, observables, files, and what refuses them."""

import re

import numpy as np
import pytest
from hmc_toys import check_bits
from scipy.integrate import quad

from latticediff.action import CONVENTIONS, ON, ExternalField, OddSites, Phi4, action_from_description
from latticediff.analysis import mean, observables_table
from latticediff.cli import main
from latticediff.cluster import Cluster
from latticediff.config import parse_card
from latticediff.ensemble import Ensemble, start_fields
from latticediff.errors import CardError, UserError
from latticediff.hmc import HMC, FourierHMC, tune
from latticediff.lattice import p_hat_squared
from latticediff.local_updates import LocalMetropolis
from latticediff.observables import measure_primary, momentum_susceptibility
from latticediff.stages.generate import generate
from latticediff.stages.measure import measure
from latticediff.streams import Streams

COUPLINGS = {"m2": -1.0, "lam": 1.5}
SHAPES = [(7,), (6, 8), (5, 14), (3, 4, 6)]
CARD = """
[run]
seed = 4
[action]
name = "on"
components = 2
convention = "A"
m2 = -1.0
lam = 1.5
[lattice]
shape = [4, 6]
[hmc]
n_chains = 8
n_warmup = 50
n_updates = 200
thin = 2
[gate]
enforce = false
"""


def on(components=2, ndim=2, **couplings):
    return ON("A", {**COUPLINGS, **couplings}, components, ndim)


def rotation(n, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(n, n)))[0]


def rotated(phi, matrix, axis=1):
    return np.moveaxis(np.tensordot(matrix, phi, (1, axis)), 0, axis)


# --- the action ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_one_component_is_phi4_in_action_force_and_chains(shape):
    one, several = Phi4.A(**COUPLINGS, ndim=len(shape)), on(1, len(shape))
    phi = np.random.default_rng(1).normal(size=(5, *shape))
    np.testing.assert_allclose(several(phi[:, None]), one(phi), rtol=1e-13, atol=1e-12)
    np.testing.assert_allclose(several.force(phi[:, None])[:, 0], one.force(phi), rtol=1e-13, atol=1e-12)
    for integrator in ("leapfrog", "omelyan2", "omelyan4"):
        plain, vector = (HMC(action, 0.1, 6, integrator, jitter=0.1) for action in (one, several))
        state, block = plain.advance(plain.start(phi), Streams(3), 8)
        other, its = vector.advance(vector.start(phi[:, None]), Streams(3), 8)
        np.testing.assert_allclose(other.phi[:, 0], state.phi, rtol=0, atol=1e-10)
        np.testing.assert_allclose(its.info["delta_h"], block.info["delta_h"], rtol=0, atol=1e-10)


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("n", [2, 3])
def test_action_is_that_of_the_formula_in_every_convention(n, convention):
    couplings = dict.fromkeys(CONVENTIONS[convention].couplings, 0.3)
    action, one = ON(convention, couplings, n, 2), Phi4(convention, couplings, 2)
    c, a, b = one.coefficients
    phi = np.random.default_rng(2).normal(size=(3, n, 4, 5))
    square = (phi**2).sum(1)
    hops = sum((phi * np.roll(phi, -1, axis)).sum(1) for axis in (2, 3))
    np.testing.assert_allclose(action(phi), (-c * hops + a * square + b * square**2).sum((1, 2)), rtol=1e-12)
    # along one direction in the space of components it is phi^4
    direction = rotation(n)[0]
    np.testing.assert_allclose(action(direction[:, None, None] * phi[:, :1]), one(phi[:, 0]), rtol=1e-12)


@pytest.mark.parametrize("n, shape", [(2, (3, 4)), (3, (5,)), (3, (2, 3, 2))])
def test_force_is_the_derivative_and_turns_with_the_field(n, shape):
    action = on(n, len(shape))
    phi = np.random.default_rng(3).normal(size=(1, n, *shape))
    force, h = action.force(phi), 1e-5
    for at in np.ndindex(phi.shape):
        up, down = phi.copy(), phi.copy()
        up[at] += h
        down[at] -= h
        assert force[at] == pytest.approx(float((action(down) - action(up))[0]) / (2 * h), abs=1e-7)
    turn = rotation(n)
    np.testing.assert_allclose(action(rotated(phi, turn)), action(phi), rtol=1e-13)
    np.testing.assert_allclose(action.force(rotated(phi, turn)), rotated(force, turn), atol=1e-12)


def test_action_is_what_it_describes():
    for action in (on(2), on(3, 1), ON("H", {"kappa": 0.2, "lam": 0.1}, 2, 3)):
        again = action_from_description(action.describe())
        assert again == action and again.describe() == action.describe() and hash(again) == hash(action)
    assert on(2) != on(3) and on(2) != Phi4.A(**COUPLINGS)
    assert parse_card(CARD).theory() == on(2)
    assert ON.from_options(on(3).options(), 2) == on(3)


# --- HMC -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape, fewer", [((2, 6, 8), (1, 3, 5)), ((3, 2, 34), (1, 2))])
def test_bits_do_not_depend_on_threads_cuts_or_batch(shape, fewer, monkeypatch):
    action = on(shape[0], len(shape) - 1)
    phi = 0.5 * np.random.default_rng(5).normal(size=(6, *shape))
    check_bits(HMC(action, 0.2, 5, jitter=0.2), phi, fewer, monkeypatch)


@pytest.mark.parametrize("integrator", ["leapfrog", "omelyan2"])
def test_trajectory_is_reversible_and_its_energy_is_that_of_its_end(integrator):
    action = on(3)
    rng = np.random.default_rng(6)
    phi, p = 0.5 * rng.normal(size=(3, 3, 5, 14)), rng.normal(size=(3, 3, 5, 14))
    kernel = HMC(action, 0.05, 15, integrator)
    assert kernel.reversibility_error(phi, p) < 1e-13
    end, momentum, energy = kernel.integrate(phi, p)
    np.testing.assert_allclose(energy, action(end) + 0.5 * (momentum**2).sum((1, 2, 3)), rtol=1e-13)
    before = action(phi) + 0.5 * (p**2).sum((1, 2, 3))
    assert np.abs(energy - before).max() < 0.5  # and it is nearly kept


@pytest.mark.parametrize("n", [1, 2, 3])
def test_one_site_has_the_moments_of_its_integral(n):
    """At 4.5 standard errors: two tests for each N, a false alarm in 25,000 runs of this test."""
    action = on(n, 1, m2=-1.5, lam=0.8)

    def density(r):
        phi = np.zeros((n, 1))
        phi[0] = r
        return r ** (n - 1) * np.exp(-float(action(phi)))

    norm, second, fourth = (quad(lambda r: r**k * density(r), 0, 8)[0] for k in (0, 2, 4))  # noqa: B023
    kernel = HMC(action, 0.4, 4, jitter=0.3)
    state = kernel.start(np.random.default_rng(7).normal(size=(256, n, 1)))
    state, _ = kernel.advance(state, Streams(8).child("warmup"), 100, 100)
    _, block = kernel.advance(state._replace(update=0), Streams(8), 800, 4)
    square = (block.phi**2).sum((2, 3)).T
    for power, exact in ((1, second / norm), (2, fourth / norm)):
        found = mean(square**power)
        assert abs(found.value - exact) < 4.5 * found.error
        assert found.error < 0.02 * exact


def test_free_field_has_its_propagator_and_its_identities():
    """At 4.5 standard errors: four tests."""
    action, shape = on(2, m2=0.7, lam=0.0), (2, 4, 6)
    kernel = tune(action, start_fields("hot", 32, shape, Streams(9), action), Streams(9), 0.9, 1.5, jitter=0.2)
    state = kernel.start(start_fields("hot", 32, shape, Streams(9), action))
    state, _ = kernel.advance(state, Streams(9).child("warmup"), 100, 100)
    _, block = kernel.advance(state._replace(update=0), Streams(9).child("chain"), 1500, 3)
    exact = 1 / (2 * (0.7 + p_hat_squared(shape[1:])))
    series = measure_primary(block.phi, action)
    for name, value in (
        ("phi2", 2 * exact.mean()),
        ("sd", 1.0),
        ("g_kmin", 2 * exact[0, 1]),
        ("m2", 2 * exact[0, 0] / 24),
    ):
        found = mean(series[name])
        assert abs(found.value - value) < 4.5 * found.error, name
        assert found.error < 0.03 * value


def test_interacting_chain_obeys_the_schwinger_dyson_identity():
    """``<phi . dS/dphi> = N V``: at 4.5 standard errors, and a wrong N + 1 would be 60 of them away."""
    action, shape = on(3, m2=-2.0), (3, 4, 4)
    kernel = HMC(action, 0.12, 8, jitter=0.2)
    state = kernel.start(start_fields("hot", 32, shape, Streams(10), action))
    state, _ = kernel.advance(state, Streams(10).child("warmup"), 200, 200)
    _, block = kernel.advance(state._replace(update=0), Streams(10).child("chain"), 1200, 3)
    total = -(block.phi * action.force(block.phi)).reshape(*block.phi.shape[:2], -1).sum(2)
    found = mean(total.T)
    assert abs(found.value - 3 * 16) < 4.5 * found.error
    assert found.error < 16 / 60


# --- observables, files ----------------------------------------------------------------------------------------------


def test_observables_are_those_of_a_vector_field():
    action, shape = on(3), (3, 4, 6)
    phi = np.random.default_rng(11).normal(size=(5, *shape))
    series = measure_primary(phi, action)
    m = phi.mean((2, 3))
    np.testing.assert_allclose(series["abs_m"][0], np.linalg.norm(m, axis=1), rtol=1e-12)
    np.testing.assert_allclose(series["m2"][0], (m**2).sum(1), rtol=1e-12)
    np.testing.assert_allclose(series["m4"][0], (m**2).sum(1) ** 2, rtol=1e-12)
    np.testing.assert_allclose(series["phi2"][0], (phi**2).sum((1, 2, 3)) / 24, rtol=1e-12)
    waves = sum(momentum_susceptibility(phi[:, i], (0, 1)) for i in range(3))
    np.testing.assert_allclose(series["g_kmin"][0], waves, rtol=1e-12)
    turned = measure_primary(rotated(phi, rotation(3)), action)
    for name, values in series.items():
        np.testing.assert_allclose(turned[name], values, rtol=1e-11, err_msg=name)
    table = observables_table({k: np.repeat(v, 8, 1) + 0 for k, v in series.items()}, action, shape, ["chi"])
    assert table["chi"].value == pytest.approx(24 * float(series["m2"].mean()))


def test_a_vector_of_gaussian_means_has_no_cumulant():
    """chi_4 is 0 for Gaussian m of any N: at 4.5 standard errors of 2 10^5 draws."""
    rng = np.random.default_rng(12)
    for n in (1, 2, 3):
        action = on(n, 1)
        series = measure_primary(rng.normal(size=(200_000, n, 1)), action)
        found = observables_table(series, action, (n, 1), ["fourth_cumulant"])["fourth_cumulant"]
        assert abs(found.value) < 4.5 * found.error


def test_file_is_written_measured_and_resumed(tmp_path):
    card = parse_card(CARD)
    with generate(card, tmp_path / "ens.h5") as ensemble:
        assert ensemble.shape == (2, 4, 6) and ensemble.action == on(2)
        assert ensemble.phis(0, 3).shape == (3, 2, 4, 6)
    found = measure(tmp_path / "ens.h5")
    assert 0 < found.observables["abs_m"].value < 1 and np.isfinite(found.observables["xi_2nd"].value)
    longer = parse_card(CARD, ["hmc.n_updates=400"])
    with generate(longer, tmp_path / "ens.h5", resume=True) as ensemble:
        resumed = ensemble.phis(0)
    with generate(longer, tmp_path / "whole.h5") as ensemble:
        np.testing.assert_array_equal(ensemble.phis(0), resumed)
    with pytest.raises(UserError, match="correlator"):
        measure(tmp_path / "ens.h5", correlator=True)
    other = parse_card(CARD, ["action.components=3"])
    with Ensemble(tmp_path / "ens.h5") as ensemble, pytest.raises(UserError, match=r"action.components"):
        ensemble.expect(other.theory(), other.shape)


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: Cluster(on()),
        lambda: LocalMetropolis(on(), 1.0),
        lambda: HMC(on(), 0.1, 5, mass=1.0),
        lambda: FourierHMC(on(), 0.1, 5, mass=1.0),
        lambda: OddSites(on()),
        lambda: ExternalField(on(), np.zeros((2, 4, 4))),
    ],
)
def test_what_knows_one_component_says_so_in_one_line(make):
    with pytest.raises(UserError, match="component") as refused:
        make()
    assert "\n" not in str(refused.value)


def test_fields_of_other_components_are_refused():
    with pytest.raises(UserError, match=r"shape \(4, 3, 6, 8\); a theory of 2 components in 2 dimensions"):
        HMC(on(), 0.1, 5).start(np.zeros((4, 3, 6, 8)))
    with pytest.raises(UserError, match="2 components"):
        measure_primary(np.zeros((4, 3, 6, 8)), on())


@pytest.mark.parametrize(
    "override, said",
    [
        ("action.components=0", "action.components = 0"),
        ("action.components=65", "action.components = 65"),
        ("action.components=2.5", "action.components"),
        ("lattice.shape=[2,2,2,2]", "lattice of 4 dimensions; expected 1 to 3"),
        ("action.lam=-1.0", "diverges"),
        ("action.kappa=0.3", "kappa"),
        ("action.convention='Q'", "convention is 'Q'"),
    ],
)
def test_card_is_refused_in_one_line(override, said):
    with pytest.raises(CardError, match=re.escape(said)) as refused:
        parse_card(CARD, [override])
    assert "\n" not in str(refused.value)


def test_command_line_ends_with_one_line(tmp_path, capsys):
    path = tmp_path / "card.toml"
    path.write_text(CARD)
    with pytest.raises(SystemExit) as ended:
        main(["generate", str(path), "--out", str(tmp_path / "a.h5"), "--set", "hmc.cluster=1"])
    assert ended.value.code != 0
    said = capsys.readouterr().err
    assert "knows one" in said and said.strip().count("\n") == 0
    assert not (tmp_path / "a.h5").exists()

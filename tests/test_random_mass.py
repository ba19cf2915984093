"""A theory with a random mass: action, bounds, HMC and clusters; alone and in an external field."""

import re

import numpy as np
import pytest
from hmc_toys import check_bits

from latticediff.action import (
    ON,
    ExternalField,
    Modulated,
    OddSites,
    Phi4,
    Polynomial,
    RandomMass,
    SineGordon,
    action_from_description,
)
from latticediff.action.external_field import normal_field
from latticediff.action.random_mass import normal_mass
from latticediff.action.site_terms import site_terms
from latticediff.cluster import Cluster
from latticediff.composite import Sequence
from latticediff.config import parse_card
from latticediff.ensemble import Ensemble
from latticediff.ensemble.start import start_fields
from latticediff.errors import CardError, UserError
from latticediff.hmc import HMC
from latticediff.local_updates import LocalMetropolis
from latticediff.metropolis.totals import actions_of
from latticediff.stages.generate import generate
from latticediff.stages.info import info
from latticediff.streams import Streams
from latticediff.testing import check_action

PHI4 = Phi4.A(m2=-4.0, lam=6.0, ndim=2)
THEORIES = [
    (PHI4, (6, 8)),
    (PHI4, (16, 14)),
    (Phi4.A(m2=-1.0, lam=6.0, ndim=1), (7,)),
    (Phi4.A(m2=-4.0, lam=6.0, ndim=3), (4, 3, 5)),
    (Modulated(1.0, -0.35, 0.5, 0.4, ndim=2), (6, 6)),
]


def with_mass(theory, shape, width=0.9, seed=3):
    return RandomMass(theory, normal_mass(shape, width, seed))


def with_both(theory, shape):
    return ExternalField(with_mass(theory, shape), normal_field(shape, 0.7, 4))


# --- the action ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("theory", "shape"), THEORIES)
@pytest.mark.parametrize("make", [with_mass, with_both])
def test_the_mass_adds_half_of_its_square_and_the_contract_of_actions_holds(theory, shape, make):
    action, rng = make(theory, shape), np.random.default_rng(1)
    terms = site_terms(action)
    phi = rng.normal(size=(3, *shape))
    h = 0.0 if terms.field is None else terms.field
    extra = (0.5 * terms.mass * phi**2 - h * phi).reshape(3, -1).sum(axis=1)
    np.testing.assert_allclose(action(phi), theory(phi) + extra, rtol=1e-13)
    np.testing.assert_allclose(action.force(phi), theory.force(phi) - terms.mass * phi + h, rtol=0, atol=1e-12)
    check_action(action, shape)
    np.testing.assert_array_equal(actions_of(action)(phi), action(phi))  # never the compiled total of S_0 alone


@pytest.mark.parametrize(
    ("convention", "couplings", "shifted"),
    [
        ("A", {"m2": 0.5, "lam": 1.0}, lambda r: {"m2": 0.5 + r / 2, "lam": 1.0}),
        ("N", {"m2": 0.5, "lam": 1.0}, lambda r: {"m2": 0.5 + r, "lam": 1.0}),
        ("SL", {"mu0_sq": 0.5, "lam": 1.0}, lambda r: {"mu0_sq": 0.5 + r, "lam": 1.0}),
    ],
)
def test_a_constant_mass_is_the_shift_of_m2_that_the_documentation_says(convention, couplings, shifted):
    phi = np.random.default_rng(2).normal(size=(4, 3, 5))
    constant = RandomMass(Phi4(convention, couplings), np.full((3, 5), 0.75))
    np.testing.assert_allclose(constant(phi), Phi4(convention, shifted(0.75))(phi), rtol=1e-13)


@pytest.mark.parametrize("make", [with_mass, with_both])
def test_a_mass_is_told_whole_and_found_again(make):
    action = make(PHI4, (3, 4))
    again = action_from_description(action.describe())
    assert again.describe() == action.describe()
    np.testing.assert_array_equal(site_terms(again).mass, site_terms(action).mass)
    assert action.describe() != with_mass(PHI4, (3, 4), seed=4).describe()


def test_normal_masses_are_those_of_their_seed_and_independent_of_the_field_of_the_same_seed():
    mass = normal_mass((200, 200), 0.5, 7)
    np.testing.assert_array_equal(mass, normal_mass((200, 200), 0.5, 7))
    assert abs(mass.mean()) < 4 * 0.5 / 200  # false alarm 6e-5, as of the next two
    assert abs(mass.std() / 0.5 - 1) < 4 / np.sqrt(2 * 200**2)
    assert abs(np.corrcoef(mass.ravel(), normal_field((200, 200), 0.5, 7).ravel())[0, 1]) < 4 / 200


def test_the_field_of_a_seed_is_what_it_was_before_masses_were_there():
    np.testing.assert_allclose(normal_field((3,), 1.0, 7), [-1.40356434, 0.84841951, 1.30868027], atol=1e-8)


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomMass(PHI4, np.zeros(4)), "has 2 dimensions"),
        (lambda: RandomMass(PHI4, np.full((2, 2), np.nan)), "not finite"),
        (lambda: RandomMass(PHI4, np.full((2, 2), np.inf)), "not finite"),
        (lambda: RandomMass(with_mass(PHI4, (4, 4)), np.zeros((4, 4))), "once"),
        (lambda: RandomMass(with_both(PHI4, (4, 4)), np.zeros((4, 4))), "once"),
        (lambda: RandomMass(OddSites(PHI4), np.zeros((4, 2))), "whole lattice"),
        (lambda: RandomMass(ON("A", {"m2": 1.0, "lam": 1.0}, 2, 2), np.zeros((4, 4))), "components"),
        (lambda: ExternalField(with_mass(PHI4, (4, 4)), np.zeros((4, 5))), r"random mass beside it \(4, 4\)"),
        (lambda: OddSites(with_mass(PHI4, (4, 4))), r"training\.sites = all"),
        (lambda: OddSites(with_both(PHI4, (4, 4))), r"training\.sites = all"),
        (lambda: with_mass(PHI4, (4, 4))(np.zeros((2, 4, 5))), r"lattice \(4, 4\)"),
        (lambda: LocalMetropolis(with_mass(PHI4, (4, 4)), 0.5), "no random mass"),
        (lambda: HMC(with_mass(PHI4, (4, 4)), 0.1, 5, mass=0.5), "no random mass"),
        (lambda: Cluster(with_both(PHI4, (4, 4))), "no external field"),
        (lambda: Cluster(with_mass(Polynomial(1.0, (0.0, 1.0, 0.5, 0.4)), (4, 4))), "not even"),
        (lambda: normal_mass((4,), -1.0, 1), "random mass has width"),
        (lambda: normal_mass((4,), 1.0, -1), "random mass has seed"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(make, message):
    with pytest.raises(UserError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(6, 5), (40, 30)])  # all eigenvalues, and Lanczos
@pytest.mark.parametrize(
    ("theory", "rest"),
    [(Phi4.A(m2=0.4, lam=0.0), 0.8), (Polynomial(1.0, (0.3, 2.1)), 0.2), (SineGordon(0.3, 2.0, 1.5), 0.3)],
)
def test_without_a_quartic_term_a_mass_is_refused_where_the_lowest_mode_is_lost(theory, rest, shape):
    """A well at one site: its bound state by the exact condition ``1 = depth G(0, 0)`` of a rank-one change of K."""
    form = rest + (2.0 if theory.hopping == 2 else 1.0) * sum(
        2 - 2 * np.cos(k) for k in np.meshgrid(*(2 * np.pi * np.arange(n) / n for n in shape), indexing="ij")
    )
    critical = 1 / np.mean(1 / form)
    for depth, is_fine in ((0.999 * critical, True), (1.001 * critical, False)):
        mass = np.zeros(shape)
        mass[2, 3] = -depth
        if is_fine:
            assert RandomMass(theory, mass).mass[2, 3] == -depth
        else:
            with pytest.raises(UserError, match=r"eigenvalue -.* no term beyond phi\^2"):
                RandomMass(theory, mass)


def test_a_quartic_term_holds_any_mass():
    assert RandomMass(PHI4, np.full((4, 4), -1e6)).mass.min() == -1e6


# --- cards -----------------------------------------------------------------------------------------------------------

CARD = """
[run]
seed = 5
[action]
name = "random_mass"
{mass}
[action.of]
convention = "A"
m2 = -4.0
lam = 6.0
[lattice]
shape = [4, 4]
"""
BOTH = """
[run]
seed = 5
[action]
name = "external_field"
width = 0.5
seed = 9
[action.of]
name = "random_mass"
width = 1.0
seed = 9
[action.of.of]
convention = "A"
m2 = -4.0
lam = 6.0
[lattice]
shape = [4, 4]
[hmc]
n_chains = 4
n_warmup = 10
n_updates = 20
[gate]
enforce = false
"""


def test_a_card_names_theory_and_mass(tmp_path):
    drawn = parse_card(CARD.format(mass="width = 0.5\nseed = 9")).theory()
    np.testing.assert_array_equal(drawn.mass, normal_mass((4, 4), 0.5, 9))
    assert drawn.of.describe() == PHI4.describe()
    np.save(tmp_path / "r.npy", drawn.mass)
    given = parse_card(CARD.format(mass=f'file = "{tmp_path}/r.npy"')).theory()
    assert given.describe() == drawn.describe()


def test_a_card_with_both_runs_and_its_file_is_told(tmp_path):
    card = parse_card(BOTH)
    action = card.theory()
    np.testing.assert_array_equal(action.field, normal_field((4, 4), 0.5, 9))
    np.testing.assert_array_equal(action.of.mass, normal_mass((4, 4), 1.0, 9))
    generate(card, tmp_path / "both.h5")
    assert '"random_mass"' in info(tmp_path / "both.h5")
    with Ensemble(tmp_path / "both.h5") as file:
        assert file.action.describe() == action.describe()
        np.testing.assert_allclose(file.read("action"), action(file.phis()), rtol=1e-12)


@pytest.mark.parametrize(
    ("mass", "message"),
    [
        ("width = 0.5", r"random_mass has width; expected width and seed, of normal r_x, or file"),
        ("", "width and seed"),
        ('width = 0.5\nseed = 1\nfile = "r.npy"', "beside file"),
        ('file = "nowhere.npy"', "nowhere.npy"),
        ("width = 0.5\nseed = 1\nsed = 2", "sed"),
        ("width = -1.0\nseed = 1", "width"),
    ],
)
def test_cards_without_one_clear_mass_are_refused(mass, message):
    with pytest.raises(CardError, match=message):
        parse_card(CARD.format(mass=mass)).theory()


@pytest.mark.parametrize(
    ("of", "message"),
    [
        ('name = "external_field"\nwidth = 0.1\nseed = 1', "the order external_field, of random_mass"),
        ('name = "random_mass"\nwidth = 0.1\nseed = 1', "without one: all of r goes into one"),
        ('convention = "A"\nm2 = 0.1\nlam = 0.0', "no term beyond"),
    ],
)
def test_orders_and_theories_that_cannot_be_are_refused_in_a_card(of, message):
    text = CARD.format(mass="width = 30.0\nseed = 1")
    text = re.sub(r"\[action.of\].*?\[lattice\]", f"[action.of]\n{of}\n[lattice]", text, flags=re.DOTALL)
    with pytest.raises(CardError, match=message):
        parse_card(text).theory()


# --- HMC and clusters ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("theory", "shape"), THEORIES)
@pytest.mark.parametrize("make", [with_mass, with_both])
def test_compiled_trajectories_have_the_energy_and_the_force_of_the_action(theory, shape, make):
    action, rng = make(theory, shape), np.random.default_rng(2)
    phi, momentum = 0.5 * rng.normal(size=(5, *shape)), rng.normal(size=(5, *shape))
    axes = tuple(range(1, phi.ndim))
    end, back, hamiltonian = HMC(action, 0.02, 7).integrate(phi, momentum)
    np.testing.assert_allclose(hamiltonian, 0.5 * (back**2).sum(axis=axes) + action(end), rtol=1e-12)
    x, p = phi.copy(), momentum.copy()
    for _ in range(7):  # leapfrog, kick first, in NumPy
        p = p + 0.01 * action.force(x)
        x = x + 0.02 * p
        p = p + 0.01 * action.force(x)
    np.testing.assert_allclose(end, x, rtol=0, atol=1e-12)
    np.testing.assert_allclose(back, p, rtol=0, atol=1e-12)


R4 = np.array([[1.5, -2.0], [0.4, -0.9]])
H4 = np.array([[0.6, 0.0], [-0.4, 0.2]])


def quadrature(h):
    """``<phi_x>`` and ``<phi_x phi_y>`` on 2x2 sites, m2 = -1 and lam = 2 of convention A, written out here."""
    points = np.linspace(-3.2, 3.2, 33)
    a, b, c, d = np.meshgrid(points, points, points, points, indexing="ij", sparse=True)
    # every pair of neighbours is joined by two links of the periodic lattice
    S = 2 * ((a - b) ** 2 + (c - d) ** 2 + (a - c) ** 2 + (b - d) ** 2)
    for x, r, force in zip((a, b, c, d), R4.ravel(), h.ravel(), strict=True):
        S = S - x**2 + 2 * x**4 + r * x**2 / 2 - force * x
    w = np.exp(-S)
    first = [float((x * w).sum() / w.sum()) for x in (a, b, c, d)]
    second = [float((x * y * w).sum() / w.sum()) for x in (a, b, c, d) for y in (a, b, c, d)]
    return np.array(first), np.array(second)


def averages_agree(kernel, h, is_symmetric):
    state, _ = kernel.advance(kernel.start(np.full((64, 2, 2), 0.3)), Streams(1), 100)
    _, block = kernel.advance(state, Streams(1), 1500)
    np.testing.assert_allclose(block.action, kernel.action(block.phi), rtol=1e-11, atol=1e-13)
    phi = block.phi.reshape(1500, 64, 4)
    first, second = quadrature(h)
    found = np.concatenate([phi, (phi[..., :, None] * phi[..., None, :]).reshape(1500, 64, 16)], -1).mean(axis=0)
    error = found.std(axis=0, ddof=1) / 8
    pull = (found.mean(axis=0) - np.concatenate([first, second])) / error
    assert np.abs(pull).max() < 4.8  # 14 different numbers, 63 degrees of freedom: false alarm 1.5e-4
    assert np.all(error[4:] < 0.005)
    # what the mass does is a hundred times that: without it all four sites are alike
    assert np.ptp(second[[0, 5, 10, 15]]) > 0.02
    if is_symmetric:
        assert np.abs(first).max() < 1e-12


@pytest.mark.parametrize("h", [np.zeros((2, 2)), H4])
def test_hmc_has_the_averages_of_quadrature(h):
    action = RandomMass(Phi4.A(m2=-1.0, lam=2.0), R4)
    averages_agree(HMC(ExternalField(action, h) if h.any() else action, 0.2, 5), h, not h.any())


@pytest.mark.parametrize("method", ["swendsen-wang", "wolff"])
def test_clusters_with_hmc_have_the_averages_of_quadrature(method):
    action = RandomMass(Phi4.A(m2=-1.0, lam=2.0), R4)
    averages_agree(Sequence([HMC(action, 0.2, 5), Cluster(action, method)]), np.zeros((2, 2)), True)


@pytest.mark.parametrize(("theory", "shape"), THEORIES[2:4])
def test_schwinger_and_dyson_hold_at_every_site(theory, shape):
    """``<phi_x dS/dphi_x> = 1``, whatever r_x."""
    action = with_mass(theory, shape, width=2.0)
    kernel = HMC(action, 0.08, 8)
    state, _ = kernel.advance(kernel.start(start_fields("hot", 64, shape, Streams(3), action)), Streams(3), 200)
    _, block = kernel.advance(state, Streams(3), 1000)
    found = -(block.phi * action.force(block.phi)).mean(axis=0)
    pull = (found.mean(axis=0) - 1) / (found.std(axis=0, ddof=1) / 8)
    assert np.abs(pull).max() < 5.5  # at most 60 sites, 63 degrees of freedom: false alarm 4e-5
    assert found.std(axis=0).max() / 8 < 0.05


def test_a_free_field_has_the_covariance_of_the_dense_inverse():
    """``<phi_x phi_y> = (K + r)^-1``, K written out as a matrix here."""
    shape, m2 = (4, 5), 0.9
    mass = normal_mass(shape, 1.0, 2)
    free = Phi4.N(m2=m2, lam=0.0)
    sites = np.arange(20).reshape(shape)
    K = np.diag(np.full(20, 4 + m2) + mass.ravel())
    for axis in (0, 1):
        for sign in (1, -1):
            K[sites.ravel(), np.roll(sites, sign, axis).ravel()] -= 1
    exact = np.linalg.inv(K)
    kernel = HMC(RandomMass(free, mass), 0.15, 8, jitter=0.2)
    state, _ = kernel.advance(kernel.start(np.zeros((64, *shape))), Streams(4), 200)
    _, block = kernel.advance(state, Streams(4), 2000)
    phi = block.phi.reshape(2000, 64, 20)
    found = np.einsum("tcx,tcy->cxy", phi, phi) / 2000
    pull = (found.mean(axis=0) - exact) / (found.std(axis=0, ddof=1) / 8)
    assert np.abs(pull).max() < 5.5  # 210 numbers, 63 degrees of freedom: false alarm 1.5e-4
    assert np.abs(np.linalg.inv(K - np.diag(mass.ravel())) - exact).max() > 0.1


@pytest.mark.parametrize(("theory", "shape"), [THEORIES[1], *THEORIES[3:]])
@pytest.mark.parametrize("make", [with_mass, with_both])
def test_bits_do_not_depend_on_threads_cuts_or_batch(theory, shape, make, monkeypatch):
    kernel = HMC(make(theory, shape), 0.05, 5, jitter=0.2)
    check_bits(kernel, np.random.default_rng(3).normal(size=(7, *shape)), (2,), monkeypatch)


def test_bits_of_clusters_and_their_actions_do_not_depend_on_cuts_or_batch():
    kernel = Cluster(with_mass(PHI4, (8, 8)))
    phi, streams = np.random.default_rng(7).normal(size=(5, 8, 8)), Streams(8)
    whole, block = kernel.advance(kernel.start(phi), streams, 7, 2)
    np.testing.assert_allclose(block.action, kernel.action(block.phi), rtol=1e-11)
    np.testing.assert_allclose(whole.action, kernel.action(whole.phi), rtol=1e-11)
    state, _ = kernel.advance(kernel.start(phi), streams, 3)
    end, few = kernel.advance(state, streams, 4)[0], kernel.advance(kernel.start(phi[:2]), streams, 7)[0]
    for part, rows in ((end, slice(None)), (few, slice(2))):
        np.testing.assert_array_equal(part.phi, whole.phi[rows])
        np.testing.assert_array_equal(part.action, whole.action[rows])

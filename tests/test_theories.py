"""Laws of the theories beside phi^4: potentials, couplings at a distance, averages, wells, and what is refused."""

import numpy as np
import pytest
import torch

from latticediff._kernels.potentials import cosine, sine
from latticediff._kernels.site_links import colours, tables
from latticediff.action import LocalAction, Modulated, OddSites, Phi4, Polynomial, SineGordon
from latticediff.action.contract import action_from_description
from latticediff.action.links import coupling_scale, lowest, only_nearest
from latticediff.cluster import Cluster
from latticediff.errors import UserError
from latticediff.gaussian.contract import Expandable, Quartic
from latticediff.hmc import HMC, FourierHMC
from latticediff.hmc.fourier import masses
from latticediff.local_updates import LocalMetropolis
from latticediff.streams import Streams

FAR = [((2, -3), 0.2), ((1, 1), -0.3)]
THEORIES = {
    "tilted": (Polynomial(1.0, (0.1, 1.2, -0.1, 0.3), 2), (6, 5)),
    "phi6": (Polynomial(0.7, (0, 2.0, 0, -1.5, 0, 0.5), 2), (4, 6)),
    "phi12": (Polynomial(0.7, (0.1,) * 11 + (0.02,), 1), (7,)),
    "free": (Polynomial([0.3, 0.1, 0.2], (0.4, 1.0), 3), (3, 2, 4)),
    "anisotropic": (Polynomial([1.0, 0.5], (0, 1.2, 0, 0.3), 2), (4, 6)),
    "far": (Polynomial([1.0, 0.5], (0.1, 1.2, 0, 0.3), 2, FAR), (6, 16)),
    "stripes": (Modulated(1.0, -0.45, 1.2, 0.5), (6, 4)),
    "one axis": (Modulated(1.0, -0.45, 1.2, 0.5, 3, [0]), (4, 2, 3)),
    "chain": (Modulated(1.0, -0.45, 1.2, 0.5, 1), (40,)),
    "cosine": (SineGordon(0.2, 1.5, 2.0, 0.3), (6, 5)),
    "two wells": (SineGordon(0.1, 1.5, 2.0, np.pi), (4, 4)),
}
EACH = pytest.mark.parametrize(("action", "shape"), THEORIES.values(), ids=THEORIES)


def fields(shape, n=3, seed=11):
    return np.random.default_rng(seed).normal(size=(n, *shape))


def averaged(function, phi, variance):
    """<function(phi + eta)> by Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    return np.tensordot(weights / weights.sum(), [function(phi + np.sqrt(variance) * x) for x in nodes], 1)


@EACH
def test_the_force_is_minus_the_gradient(action, shape):
    phi, direction, h = fields(shape), fields(shape, seed=12), 1e-5
    slope = (action(phi + h * direction) - action(phi - h * direction)) / (2 * h)
    axes = tuple(range(1, phi.ndim))
    np.testing.assert_allclose(-(action.force(phi) * direction).sum(axis=axes), slope, rtol=1e-6, atol=1e-6)


@EACH
def test_the_force_is_the_quadratic_form_and_the_local_force(action, shape):
    assert isinstance(action, Expandable)
    phi = fields(shape)
    axes = tuple(range(1, phi.ndim))
    linear = np.fft.ifftn(action.quadratic_form(shape) * np.fft.fftn(phi, axes=axes), axes=axes).real
    np.testing.assert_allclose(linear + action.local_force(phi), -action.force(phi), rtol=1e-10, atol=1e-10)


@EACH
def test_averages_over_a_gaussian_are_closed_forms_for_arrays_and_tensors(action, shape):
    phi, variance = 0.5 * fields(shape), np.abs(fields(shape, seed=3)) * 0.2
    expected = averaged(action.local_force, phi, variance)
    np.testing.assert_allclose(action.local_force(phi, variance), expected, rtol=1e-8, atol=1e-8)
    bend = averaged(action.local_curvature, phi, variance)
    np.testing.assert_allclose(action.local_curvature(phi, variance), bend, rtol=1e-8, atol=1e-8)
    vacuum = 0.7
    shifted = action.local_force(phi, variance, vacuum)
    slope = action.local_curvature(np.array([vacuum]))[0] * phi
    np.testing.assert_allclose(shifted, expected - slope, rtol=1e-8, atol=1e-8)
    tensor = action.local_force(torch.tensor(phi), torch.tensor(variance), vacuum)
    np.testing.assert_allclose(tensor.numpy(), shifted, rtol=1e-12, atol=1e-12)
    assert action.local_curvature(torch.tensor(phi)).shape == phi.shape
    assert action.local_curvature(phi, 0.25).shape == action.local_force(phi).shape == phi.shape


@EACH
def test_a_description_names_the_theory(action, shape):
    again = type(action).from_description(action.describe())
    assert again == action and hash(again) == hash(action) and again.describe() == action.describe()
    np.testing.assert_array_equal(again(fields(shape)), action(fields(shape)))
    assert repr(action).endswith(f"ndim={action.ndim})")
    assert all(other.coefficients != action.coefficients for other, _ in THEORIES.values() if other is not action)


@EACH
def test_minima_are_constant_fields_of_least_action(action, shape):
    grid = np.linspace(-12, 12, 4801)
    values = np.array([action(np.full(shape, m)) for m in grid]) / np.prod(shape)
    wells = action.wells()
    at = [float(action(np.full(shape, well.value))) / np.prod(shape) for well in wells]
    np.testing.assert_allclose([well.action for well in wells], at, rtol=1e-10, atol=1e-10)
    assert min(at) <= values.min() + 1e-12
    assert set(action.minima) <= {well.value for well in wells}
    inner = (values[1:-1] < values[:-2]) & (values[1:-1] < values[2:])
    assert len(wells) == np.count_nonzero(inner)
    np.testing.assert_allclose([well.value for well in wells], grid[1:-1][inner], atol=0.006)
    for well in wells:
        flat = np.full(shape, well.value)
        np.testing.assert_allclose(action.force(flat), 0, atol=1e-9)
        bend = action.local_curvature(np.array([well.value]))[0] + action.quadratic_form(shape).ravel()[0]
        np.testing.assert_allclose(well.curvature, bend, rtol=1e-8, atol=1e-8)
    if action.is_symmetric:
        assert [-m for m in reversed(action.minima)] == list(action.minima)
        np.testing.assert_array_equal(action(fields(shape)), action(-fields(shape)))


def test_wells_that_are_not_related_by_symmetry():
    tilted = Polynomial(1.0, (0.05, 1.5, 0.0, 0.25), 2)  # U = 0.05 m - 0.5 m^2 + 0.25 m^4
    low, high = tilted.wells()
    assert low.value < 0 < high.value and low.action < high.action and tilted.minima == (low.value,)
    three = Polynomial(1.0, (0, 3.0, 0, -2.0, 0, 1.0), 2).wells()  # U = m^2 (1 - m^2)^2
    np.testing.assert_allclose([well.value for well in three], [-1, 0, 1], atol=1e-14)
    np.testing.assert_allclose([well.action for well in three], 0, atol=1e-14)
    assert len(Polynomial(1.0, (0, 3.0, 0, -2.0, 0, 1.0), 2).minima) == 3
    for scale in (1e-9, 1e6):  # of the field: V(scale phi) has the same wells, scaled
        a = [number * scale**-n for n, number in enumerate((0.05, -0.5, 0, 0.25), 1)]
        scaled = Polynomial(0.0, a, 2).wells()
        np.testing.assert_allclose([well.value / scale for well in scaled], [low.value, high.value], rtol=1e-12)
    flat = Polynomial(1.0, (0, 2.0, 0, 0.5), 2)  # U = m^4 / 2: a minimum without curvature
    assert flat.minima == (0.0,) and flat.wells()[0].curvature == 0


def test_a_polynomial_of_fourth_order_is_phi4():
    phi4 = Phi4.A(-4.0, 6.008)
    same = Polynomial(2.0, (0, phi4.a, 0, phi4.b))
    phi = fields((6, 8))
    np.testing.assert_allclose(same(phi), phi4(phi), rtol=1e-13)
    np.testing.assert_allclose(same.force(phi), phi4.force(phi), rtol=1e-13, atol=1e-12)
    np.testing.assert_allclose(same.minima, phi4.minima, rtol=1e-14)
    np.testing.assert_allclose(same.wells(), phi4.wells(), rtol=1e-13)
    for variance, vacuum in ((0.0, 0.0), (0.3, 0.0), (0.3, 0.5)):
        mine, theirs = (action.local_force(phi, variance, vacuum) for action in (same, phi4))
        np.testing.assert_allclose(mine, theirs, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(same.quadratic_form((4, 6)), phi4.quadratic_form((4, 6)))
    one, other = (
        HMC(action, 0.05, 4).advance(HMC(action, 0.05, 4).start(phi), Streams(1), 5)[0] for action in (same, phi4)
    )
    np.testing.assert_allclose(one.phi, other.phi, rtol=1e-9, atol=1e-11)


def test_modulated_is_quartic_and_knows_its_momentum():
    action = Modulated(1.0, -0.5, 1.2, 0.5)
    assert isinstance(action, Quartic) and action.modulation == pytest.approx(np.pi / 3)
    form = action.quadratic_form((12, 12))
    at = np.unravel_index(form.argmin(), form.shape)
    assert at in {(2, 2), (2, 10), (10, 2), (10, 10)}
    assert Modulated(1.0, -0.2, 1.2, 0.5).modulation == 0
    assert Modulated(-1.0, 0.2, 1.2, 0.5).modulation == np.pi


@EACH
def test_the_least_of_the_coupling_form(action, shape):
    fine = np.linspace(0, 2 * np.pi, {1: 4001, 2: 401, 3: 41}[action.ndim])
    form = np.zeros((len(fine),) * action.ndim)
    for offset, c in action.links:
        form = form - 2 * c * np.cos(
            sum(n * k for n, k in zip(offset, np.meshgrid(*[fine] * action.ndim, indexing="ij"), strict=True))
        )
    assert lowest(action.links) <= form.min() + 1e-12 and lowest(action.links) >= form.min() - 1e-2
    assert coupling_scale(action) == pytest.approx(-lowest(action.links) / (2 * action.ndim))


@EACH
@pytest.mark.parametrize("n", [1, 5])
def test_compiled_trajectories_are_those_of_the_forces(action, shape, n):
    phi, momentum = fields(shape, n), fields(shape, n, seed=5)
    kernel = HMC(action, 0.02, 4)
    x, p = phi.copy(), momentum.copy()
    for _ in range(4):
        p = p + 0.01 * action.force(x)
        x = x + 0.02 * p
        p = p + 0.01 * action.force(x)
    end, back, energy = kernel.integrate(phi, momentum)
    np.testing.assert_allclose(end, x, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(back, p, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(energy, action(x) + 0.5 * (p**2).reshape(n, -1).sum(1), rtol=1e-11)


@EACH
def test_fourier_acceleration_is_reversible_and_of_second_order(action, shape):
    if action is THEORIES["far"][0]:
        with pytest.raises(UserError, match="without its mirror image"):
            HMC(action, 0.1, 2, mass=0.5)
        return
    phi, momentum = 0.3 * fields(shape, 4), fields(shape, 4, seed=5)
    axes = tuple(range(1, phi.ndim))
    errors = []
    for steps in (8, 16):
        kernel = HMC(action, 0.4 / steps, steps, mass=0.5)
        M = masses(action, shape, 0.5)
        assert (M >= 0.5).all()
        kinetic = (np.abs(np.fft.fftn(momentum, axes=axes)) ** 2 / M).sum(axis=axes) / (2 * M.size)
        errors.append(kernel.integrate(phi, momentum)[2] - action(phi) - kinetic)
        assert kernel.reversibility_error(phi, momentum) < 1e-11
    assert np.abs(errors[1]).max() < 0.4 * np.abs(errors[0]).max() + 1e-11


def test_a_free_field_of_any_links_is_moved_exactly():
    mass = 0.5
    links = [((2, 0), -0.2), ((1, 1), 0.1), ((1, -1), 0.1)]
    scale = coupling_scale(Polynomial([1.0, 0.5], (0, 9.0), 2, links))
    action = Polynomial([1.0, 0.5], (0, 0.5 * scale * (4 + mass)), 2, links)
    kernel = FourierHMC(action, np.pi / 2, 1, mass=mass)
    phi = fields((6, 5), 8)
    _, block = kernel.advance(kernel.start(phi), Streams(3), 2)
    assert block.info["accepted"].all() and np.abs(block.info["delta_h"]).max() < 1e-10


def test_bits_of_linked_chains_depend_on_no_batch():
    action, shape = THEORIES["far"]
    kernel, phi = HMC(action, 0.1, 5, jitter=0.1), fields(shape, 6)
    whole, _ = kernel.advance(kernel.start(phi), Streams(2), 6)
    part, _ = kernel.advance(kernel.start(phi[:3]), Streams(2), 2)
    part, _ = kernel.advance(part, Streams(2), 4)
    np.testing.assert_array_equal(part.phi, whole.phi[:3])
    np.testing.assert_allclose(whole.action, action(whole.phi), rtol=1e-12)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Polynomial(1.0, (0, 1.0, 0.5), 2), "a_3 = 0.5"),
        (lambda: Polynomial(1.0, (0, 1.0, 0, -0.5), 2), "a_4 = -0.5"),
        (lambda: Polynomial(1.0, (0, 2.0), 2), "a_2 above 2"),
        (lambda: Polynomial(0.0, (1.0,), 2), "a_2 = 0"),
        (lambda: Polynomial(1.0, (0, np.nan), 2), "finite"),
        (lambda: Polynomial(1.0, "x", 2), "numbers a_1"),
        (lambda: Polynomial(1.0, (0,) * 13 + (1.0,), 2), "degree 14"),
        (lambda: Polynomial([1.0, 2.0, 3.0], (0, 9.0), 2), "one for each of 2 axes"),
        (lambda: Polynomial(1.0, (0, 9.0), 2, [((1, 0), 0.1)]), "a nearest neighbour"),
        (lambda: Polynomial(1.0, (0, 9.0), 2, [((0, 0), 0.1)]), "a site itself"),
        (lambda: Polynomial(1.0, (0, 9.0), 2, [((2, 0), 0.1), ((-2, 0), 0.1)]), "given twice"),
        (lambda: Polynomial(1.0, (0, 9.0), 2, [((2,), 0.1)]), "expected 2 integers"),
        (lambda: Polynomial(1.0, (0, 9.0), 2, [((2, 0), np.inf)]), "finite number"),
        (lambda: Polynomial(1.0, (0, 9.0), 2, [5]), "an offset and a coefficient"),
        (lambda: Polynomial.from_options({"a2": 9.0, "b4": 1.0}, 2), "polynomial has no key 'b4'"),
        (lambda: SineGordon.from_options({"m2": 1.0, "alpha": 1.0, "beta": 1.0, "mass": 1.0}, 2), "no key 'mass'"),
        (lambda: Modulated.from_options({"links": []}, 2), "modulated has no key 'links'"),
        (lambda: SineGordon(0.0, 1.0, 1.0), "m2 > 0"),
        (lambda: SineGordon(1.0, 1.0, 0.0), "beta = 0"),
        (lambda: SineGordon(1.0, np.nan, 1.0), "finite"),
        (lambda: Modulated(1.0, -0.4, 1.0, 0.0), "a_2"),
        (lambda: Modulated(1.0, -0.4, 1.0, 1.0, 2, [2]), "from 0 to 1"),
        (lambda: Cluster(Modulated(1.0, -0.4, 1.0, 1.0)), "more than nearest neighbours"),
        (lambda: Cluster(Polynomial([1.0, 0.5], (0, 1, 0, 1))), "not alike along all axes"),
        (lambda: Cluster(Polynomial(1.0, (0.1, 1, 0, 1))), "not even"),
        (lambda: OddSites(Modulated(1.0, -0.4, 1.0, 1.0)), "more than nearest neighbours"),
        (lambda: OddSites(Polynomial(1.0, (0, 1, 0, 1), 2, [((8, 0), 0.1)])), "more than nearest neighbours"),
        (lambda: LocalMetropolis(Modulated(1.0, -0.4, 1.0, 1.0), 0.5).start(np.zeros((1, 2, 4))), "to themselves"),
    ],
)
def test_what_is_refused_in_one_line(build, words):
    with pytest.raises(UserError) as caught:
        build()
    assert words in str(caught.value) and "\n" not in str(caught.value)


class Own(LocalAction):
    """V = a phi^2 + g phi^4, to be spoiled."""

    g, a, slope = 0.5, 1.0, 1.0

    def __init__(self, hopping=1.0, ndim=2):
        super().__init__(hopping, ndim)

    def potential(self, phi):
        return self.a * phi**2 + self.g * phi**4

    def potential_derivative(self, phi):
        return 2 * self.a * phi + 4 * self.g * phi**3

    def numba_potential(self):
        a, g, slope = self.a, self.g, self.slope
        return (
            lambda phi, p: a * phi**2 + g * phi**4,
            lambda phi, p: slope * (2 * a * phi + 4 * g * phi**3),
            np.zeros(0),
        )

    def describe(self):
        return {"name": "own"}

    def __repr__(self):
        return "Own()"


class OwnForce(Own):
    def force(self, phi):
        return super().force(phi) - 0.01


class OwnSum(Own):
    def __call__(self, phi):
        return super().__call__(phi) + 0.1 * (phi * np.roll(phi, 2, -1)).sum(axis=(-1, -2))


class OwnPotential(Own):
    def potential(self, phi):
        return super().potential(phi) + 0.01 * phi


class OwnSlope(Own):
    slope = 1.01


class NoBound(Own):
    g = -0.5


class TooFlat(Own):
    g, a = 0.0, 1.9


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (OwnForce, "its force differs from what links and numba_potential say"),
        (OwnSum, "its __call__ differs from what links and numba_potential say"),
        (OwnPotential, "its potential differs"),
        (OwnSlope, "numba_potential's derivative differs from that of its value"),
        (NoBound, "the integral of exp(-S) diverges"),
        (TooFlat, "V(phi) - 2 phi^2 does not rise"),
    ],
)
def test_an_action_that_its_compiled_form_is_not_is_refused_at_the_door(kind, words):
    for kernel in (
        lambda a: HMC(a, 0.1, 2),
        lambda a: LocalMetropolis(a, 0.5),
        lambda a: FourierHMC(a, 0.1, 2, mass=1.0),
    ):
        with pytest.raises(UserError) as caught:
            kernel(kind())
        assert words in str(caught.value) and "\n" not in str(caught.value)
    HMC(Own(), 0.1, 2)


@pytest.mark.parametrize("shape", [(5, 7), (8, 8), (6, 16), (3, 3)])
def test_coupled_sites_have_colours_of_their_own(shape):
    for action in (THEORIES["far"][0], THEORIES["stripes"][0], THEORIES["anisotropic"][0]):
        order, (near, _) = colours(shape, action.links), tables(shape, action.links)
        assert sorted(order) == list(range(len(order)))
        # a run of sites in this order ends where a site is coupled to one of the run: as many runs as colours
        runs, run = 1, set()
        for x in order.tolist():
            if run & set(near[:, x].tolist()):
                runs, run = runs + 1, set()
            run.add(x)
        assert runs <= 12


def test_the_sine_of_the_kernels():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(-s, s, 3000) for s in (2, 30, 1e4, 1e8)] + [np.arange(-6, 7) * np.pi / 2])
    for ours, right, sign in ((sine, np.sin, -1), (cosine, np.cos, 1)):
        values = np.array([ours(number) for number in x])
        np.testing.assert_allclose(values, right(x), rtol=0, atol=4.5e-16)
        np.testing.assert_array_equal(values, sign * np.array([ours(-number) for number in x]))
        assert all(abs(ours(number)) <= 1 for number in (1e17, -1e40, 1e300)) and np.isnan(ours(np.nan))


def test_links_of_what_names_only_its_hopping():
    assert only_nearest(Own()) and only_nearest(Phi4.A(-1.0, 1.0, 3)) and only_nearest(Polynomial([1, 1], (0, 9.0)))
    assert not only_nearest(THEORIES["anisotropic"][0])
    assert Polynomial([1, 1], (0, 9.0)) == Polynomial(1.0, (0, 9.0))
    assert Polynomial(1.0, (0, 9.0), 2, [((-2, 3), 0.1)]) == Polynomial(1.0, (0, 9.0), 2, [((2, -3), 0.1)])
    assert action_from_description({**Phi4.A(-1.0, 1.0).describe()}) == Phi4.A(-1.0, 1.0)

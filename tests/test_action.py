"""Laws of the actions: gradient, conventions, closed forms."""

import json
from decimal import Decimal, localcontext

import numpy as np
import pytest
from scipy.integrate import dblquad

from latticediff._kernels import oracle as reference
from latticediff.action import CONVENTIONS, Phi4, free_log_z, free_propagator
from latticediff.errors import UserError

LATTICES = [(7,), (4, 6), (5, 3), (3, 2, 4), (2, 3, 2, 3)]


def theory(ndim, lam=1.3):
    return Phi4.A(-0.7 * ndim, lam, ndim)


def fields(shape, n=2, seed=11):
    return np.random.default_rng(seed).normal(size=(n, *shape))


@pytest.mark.parametrize("shape", LATTICES)
def test_force_is_minus_gradient(shape):
    action, phi = theory(len(shape)), fields(shape)
    direction, h = fields(shape, seed=12), 1e-5
    slope = (action(phi + h * direction) - action(phi - h * direction)) / (2 * h)
    axes = tuple(range(1, phi.ndim))
    np.testing.assert_allclose(slope, -(action.force(phi) * direction).sum(axis=axes), rtol=1e-8)


@pytest.mark.parametrize("shape", LATTICES)
def test_action_and_force_equal_the_site_by_site_sums(shape):
    action, phi = theory(len(shape)), fields(shape)
    np.testing.assert_allclose(action(phi), [reference.action(action, one) for one in phi], rtol=1e-13)
    np.testing.assert_allclose(action.force(phi), [reference.force(action, one) for one in phi], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("shape", LATTICES)
def test_action_is_invariant_under_translation_and_sign(shape):
    action, phi = theory(len(shape)), fields(shape)
    moved = np.roll(phi, 1, axis=phi.ndim - 1)
    np.testing.assert_allclose(action(moved), action(phi), rtol=1e-13)
    np.testing.assert_allclose(action(-phi), action(phi), rtol=1e-13)


SITE = {
    "A": lambda p, m2, lam: m2 * p**2 + lam * p**4,
    "H": lambda p, kappa, lam: (1 - 2 * lam) * p**2 + lam * p**4,
    "B": lambda p, beta, lam: (1 - 2 * lam) * p**2 + lam * p**4,
    "SL": lambda p, mu0_sq, lam: 0.5 * mu0_sq * p**2 + lam / 4 * p**4,
    "N": lambda p, m2, lam: 0.5 * m2 * p**2 + lam / 24 * p**4,
}
LINK = {
    "A": lambda p, q, **_: (q - p) ** 2,
    "H": lambda p, q, kappa, **_: -2 * kappa * p * q,
    "B": lambda p, q, beta, **_: -beta * p * q,
    "SL": lambda p, q, **_: 0.5 * (q - p) ** 2,
    "N": lambda p, q, **_: 0.5 * (q - p) ** 2,
}


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("name", CONVENTIONS)
def test_convention_is_the_published_formula(name, ndim):
    couplings = dict(zip(CONVENTIONS[name].couplings, (0.31, 0.27), strict=True))
    phi = fields((5, 3, 2)[:ndim])[0]
    published = SITE[name](phi, **couplings).sum()
    for axis in range(ndim):
        published += LINK[name](phi, np.roll(phi, -1, axis), **couplings).sum()
    np.testing.assert_allclose(Phi4.from_couplings(name, couplings, ndim)(phi), published, rtol=1e-13)


@pytest.mark.parametrize("source", CONVENTIONS)
@pytest.mark.parametrize("target", CONVENTIONS)
def test_conversion_keeps_the_theory(source, target):
    couplings = dict(zip(CONVENTIONS[source].couplings, (0.31, 0.27), strict=True))
    action = Phi4.from_couplings(source, couplings, 2)
    there, scale = action.in_convention(target)
    other = Phi4.from_couplings(target, there, 2)
    phi = fields((4, 6))
    np.testing.assert_allclose(action(scale * phi), other(phi), rtol=1e-12)
    back, inverse = other.in_convention(source)
    np.testing.assert_allclose([back[k] for k in couplings], list(couplings.values()), rtol=1e-12)
    np.testing.assert_allclose(scale * inverse, 1, rtol=1e-12)


def test_description_round_trip():
    action = Phi4.SL(-1.2, 0.5, ndim=3)
    again = Phi4.from_description(json.loads(json.dumps(action.describe())))
    assert again == action and again != Phi4.SL(-1.2, 0.5, ndim=2)


def test_free_log_z_is_the_integral_of_two_sites():
    action = Phi4.A(0.8, 0.0, ndim=1)
    integral, _ = dblquad(lambda x, y: np.exp(-action(np.array([x, y]))), -9, 9, -9, 9)
    np.testing.assert_allclose(free_log_z(action, (2,)), np.log(integral), rtol=1e-7)


def test_free_propagator_inverts_the_quadratic_form():
    action, shape = Phi4.A(0.8, 0.0), (3, 4)
    quadratic = np.array([-action.force(row) for row in np.eye(12).reshape(12, *shape)]).reshape(12, 12)
    covariance = np.fft.ifftn(free_propagator(action, shape)).real
    np.testing.assert_allclose(np.linalg.inv(quadratic)[0].reshape(shape), covariance, atol=1e-12)


def test_divergent_or_malformed_theory_is_refused():
    with pytest.raises(UserError, match="diverges"):
        Phi4.A(-4.0, -1.0)
    with pytest.raises(UserError, match="diverges"):
        Phi4.A(-0.1, 0.0)
    with pytest.raises(UserError, match="expected kappa, lam"):
        Phi4("H", {"m2": 1.0, "lam": 1.0})
    with pytest.raises(UserError, match="convention is 'Z'"):
        Phi4("Z", {})
    with pytest.raises(UserError, match="finite"):
        Phi4.A(float("nan"), 1.0)
    with pytest.raises(UserError, match="closed form"):
        free_propagator(Phi4.A(1.0, 1.0), (4, 4))
    with pytest.raises(UserError, match="lattice axes"):
        Phi4.A(1.0, 1.0)(np.zeros(3))


CONVERSIONS = [
    ("A", {"m2": m2, "lam": lam})
    for m2, lam in ((1.0, 1e-15), (1.0, 1e-17), (1.0, 1e-10), (-4.0, 6.008), (1e-14, 1e-3), (1e120, 1.0), (-1e8, 1e8))
] + [
    ("H", {"kappa": 0.27, "lam": 0.022}),
    ("H", {"kappa": 0.2499999995, "lam": 1e-9}),  # 1 - 2 lam - 4 kappa = 5e-17, which no float near 1 holds
    ("B", {"beta": 0.3, "lam": 0.2 - 1e-13}),
    ("B", {"beta": 1e-30, "lam": 0.3}),
    ("N", {"m2": -1e-13, "lam": 1e-9}),
    ("SL", {"mu0_sq": 3e-15, "lam": 0.5}),
]


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize(("name", "couplings"), CONVERSIONS, ids=str)
@pytest.mark.parametrize("other", CONVENTIONS)
def test_conversions_keep_all_digits(name, couplings, other, ndim):
    """Relative 1e-14, against 400 digits."""
    if name == other:
        return
    with localcontext(prec=400):
        given = {key: Decimal(value) for key, value in couplings.items()}
        c, a, b = map(Decimal, CONVENTIONS[name].to_internal(ndim, **given))
        u = {"A": 2 / c, "SL": 1 / c, "N": 1 / c}.get(other) or (-a + (a * a + 8 * b).sqrt()) / (4 * b)
        mass, quartic = {"SL": (2, 4), "N": (2, 24)}.get(other, (1, 1))
        hopping = {"H": c * u / 2, "B": c * u}
        exact = [hopping[other] if other in hopping else mass * (a - ndim * c) * u, quartic * b * u * u]
        found, scale = Phi4(name, couplings, ndim).in_convention(other)
        for number, value in zip(found.values(), exact, strict=True):
            assert abs(Decimal(number) - value) <= Decimal("1e-14") * abs(value)
        assert abs(Decimal(scale) - u.sqrt()) <= Decimal("1e-14") * u.sqrt()


@pytest.mark.parametrize(("m2", "lam"), [(1e308, 1.0), (-1e200, 1e-200), (1e160, 1.0)])
def test_what_float64_cannot_hold_is_refused(m2, lam):
    """kappa = 1e-308 with lam = 1e-616, which is no free field; infinities; lam = 1e-320, which has three digits."""
    with pytest.raises(UserError, match=r"in convention H is kappa = .*: beyond the range of float64"):
        Phi4.A(m2, lam).in_convention("H")


def test_no_hopping_stays_no_hopping():
    assert Phi4.H(0.0, 0.1).in_convention("B") == ({"beta": 0.0, "lam": 0.1}, 1.0)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(
    "action", [Phi4.A(1e-14, 0.0, 3), Phi4.N(3e-12, 0.0, 3), Phi4.H(0.5 / 3 - 1e-15, 0.0, 3)], ids=str
)
def test_free_field_keeps_the_digits_of_a_small_mass(action, half):
    """Against 50 digits, at every momentum; the theory of opposite hopping is the same field on staggered sites."""
    shape = (4, 6, 2)
    values = {key: Decimal(value) for key, value in action.couplings.items()}
    with localcontext(prec=50):
        c, a, b = map(Decimal, CONVENTIONS[action.convention].to_internal(3, **values))
        assert b == 0
        cosines = {
            4: [1, 0, -1, 0],
            6: [1, Decimal("0.5"), Decimal("-0.5"), -1, Decimal("-0.5"), Decimal("0.5")],
            2: [1, -1],
        }
        exact = np.array(
            [[[float(1 / (2 * a - 2 * c * (x + y + z))) for z in cosines[2]] for y in cosines[6]] for x in cosines[4]]
        )
    np.testing.assert_allclose(free_propagator(action, shape, half), exact, rtol=1e-14)
    if action.convention == "H":
        staggered = free_propagator(Phi4.H(-action.couplings["kappa"], 0.0, 3), shape, half)
        np.testing.assert_allclose(staggered, np.roll(exact, (2, 3, 1), (0, 1, 2)), rtol=1e-14)

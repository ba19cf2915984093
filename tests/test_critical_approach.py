"""f(g) towards the continuum: the two logarithms that are known, and the fit of what is not."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.integrate import quad
from scipy.special import k0
from scipy.stats import chi2 as chi2_law

from latticediff.critical.approach import FORMS, approach, continuum_limit, first_order
from latticediff.errors import UserError

G = np.array([0.15, 0.3, 0.6, 1.2, 2.4])
KNOWN = np.array([11.0, 0.7, -0.4])


def sums(mass, extent):
    """Sum over x of G^2 and G^3 of the lattice less the integrals of the continuum."""
    p2 = 4 * np.sin(np.pi * np.arange(extent) / extent) ** 2
    found = np.fft.irfft2(1 / (mass**2 + p2[:, None] + p2[: extent // 2 + 1]), (extent, extent))
    cubed = quad(lambda x: x * k0(x) ** 3, 0, 60, limit=400)[0] / (2 * math.pi * mass) ** 2
    return (found**2).sum() - 1 / (4 * math.pi * mass**2), (found**3).sum() - cubed


def test_bubble_and_sunset_of_the_lattice_have_the_logarithms_of_the_docstring():
    """At mass^2 of 0.005 to 0.02, by which T changes by 0.11; what is left out changes by a hundredth of mass^2."""
    rows = np.array([(mass, *sums(mass, extent)) for mass, extent in ((0.14, 512), (0.1, 720), (0.07, 1024))])
    t = np.log(32 / rows[:, 0] ** 2) / (4 * math.pi)
    assert np.ptp(rows[:, 1] - t / 8) < 3e-4 < np.ptp(rows[:, 1])
    squared = rows[:, 2] - 3 / 16 * t**2
    assert np.ptp(squared + 3 / (64 * math.pi) * t) < 3e-4 < 1e-3 < np.ptp(squared)


def test_the_first_order_is_what_bubble_and_sunset_do_to_a_continuum_theory():
    """f of the lattice whose shifted mass and coupling are critical, solved without expanding."""
    f_c, small = 11.1, 1e-7
    for g in (small, 2 * small):
        t = math.log(32 * f_c / g) / (4 * math.pi)
        shift_mass = -6 * g**2 * (3 / 16 * t**2 - 3 / (64 * math.pi) * t)
        shift_g = -9 / 8 * g**2 * t

        def critical(mass_squared, g=g, shift_mass=shift_mass, shift_g=shift_g):
            """g' / m'^2 - f_c, m'^2 ordered with itself: m'^2 = mass^2 + shift + 3 g (A(m'^2) - A(mass^2))."""
            new = mass_squared
            for _ in range(200):
                new = 0.7 * new + 0.3 * (
                    mass_squared + shift_mass - 3 * g * math.log(new / mass_squared) / (4 * math.pi)
                )
            return (g + shift_g) / new - f_c

        one, other = (critical(g / f) for f in (f_c, f_c + g))
        found = f_c + g * one / (one - other)
        assert_allclose((found - f_c) / g, first_order(np.array([g]), f_c)[0], rtol=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_a_fit_recovers_what_points_lie_on(form):
    f = FORMS[form](G, KNOWN)
    found = approach(G, f, np.full(5, 0.1), form)
    assert_allclose(found.parameters, KNOWN, rtol=1e-6)
    assert found.chi2 < 1e-12 and found.dof == 2
    assert_allclose(found.at(G), f, rtol=1e-9)


@pytest.mark.parametrize("form", FORMS)
def test_pulls_of_f_c_are_normal(form):
    """400 experiments with errors as large as measured ones: the pulls' chi^2 within its central 1 - 1e-4, both ways,
    and their mean below 4 / sqrt(400); chi^2 of the fits likewise. False alarms: 3 in 10^4."""
    rng, n = np.random.default_rng(5), 400
    error = np.array([0.4, 0.15, 0.06, 0.04, 0.08])
    pulls, left = [], 0.0
    for _ in range(n):
        found = approach(G, FORMS[form](G, KNOWN) + error * rng.standard_normal(5), error, form)
        wider = math.sqrt(max(1.0, found.chi2 / found.dof))  # taken out again: it makes the pulls narrower
        pulls.append((found.value - KNOWN[0]) / (found.error / wider))
        left += found.chi2
    low, high = chi2_law.ppf([5e-5, 1 - 5e-5], n)
    assert low < np.square(pulls).sum() < high and abs(np.mean(pulls)) < 0.2
    low, high = chi2_law.ppf([5e-5, 1 - 5e-5], 2 * n)
    assert low < left < high


def test_a_fit_that_does_not_describe_its_points_has_a_larger_error():
    f = FORMS["g^2"](G, KNOWN)
    near, far = (approach(G, f + shift * np.array([1, -1, 1, -1, 1]), np.full(5, 0.05)) for shift in (0.001, 0.3))
    assert_allclose(far.error / near.error, math.sqrt(far.chi2 / far.dof), rtol=0.05)
    assert far.chi2 / far.dof > 2


@pytest.mark.parametrize(
    ("g", "f", "error", "form", "words"),
    [
        ([0.3, 0.6], [10, 10], [1, 1], "g^2", "3 or more"),
        ([0.3, 0.6, 0.6], [10, 10, 10], [1, 1, 1], "g^2", "different g"),
        ([0.3, 0.6, 1.2], [10, 10], [1, 1, 1], "g^2", "as many"),
        ([0.3, 0.6, 1.2], [10, math.nan, 10], [1, 1, 1], "g^2", "not finite"),
        ([0.3, 0.6, 1.2], [10, 10, 10], [1, 0, 1], "g^2", "above 0"),
        ([0.3, 0.6, 1.2], [10, 10, 10], [1, 1, 1], "cubic", "expected one of"),
    ],
)
def test_points_that_cannot_be_fitted_are_refused(g, f, error, form, words):
    with pytest.raises(UserError, match=words):
        approach(g, f, error, form)


def test_the_limit_is_the_middle_of_both_ends_of_the_next_order():
    f, error = FORMS["g^2"](G, KNOWN), [0.4, 0.15, 0.06, 0.04, 0.08]
    found = continuum_limit(G.tolist(), f.tolist(), error)
    one, other = (approach(G, f, error, form) for form in ("g^2", "g^2 T^4"))
    assert_allclose(one.value, KNOWN[0], rtol=1e-6)
    assert_allclose(
        [found["value"], found["systematic"]], [(one.value + other.value) / 2, (one.value - other.value) / 2]
    )
    assert_allclose(found["error"], math.hypot(found["statistical"], found["systematic"]))
    assert [fit["form"] for fit in found["fits"]] == list(FORMS)
    assert continuum_limit([0.3, 0.6], [10.0, 10.0], [0.1, 0.1]) is None

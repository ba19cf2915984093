"""S of proposals by the compiled form, against the action itself."""

import pickle

import numpy as np
import pytest

from latticediff.action import LocalAction, Phi4, Polynomial, SineGordon
from latticediff.metropolis.totals import actions_of


class Own(LocalAction):
    """A theory of one's own, of which `said` is another one than its compiled parts are."""

    def __init__(self, said=1.0):
        super().__init__(0.7, 2)
        self.said = said

    def potential(self, phi):
        return self.said * phi**4

    def potential_derivative(self, phi):
        return 4 * self.said * phi**3

    def numba_potential(self):
        return (lambda phi, params: phi**4), (lambda phi, params: 4 * phi**3), np.empty(0)

    def describe(self):
        return {"name": "own"}


@pytest.mark.parametrize(
    ("action", "shape"),
    [
        (Phi4.A(-4.0, 4.98), (8, 6)),
        (Phi4.H(0.2, 1.1, ndim=3), (4, 3, 5)),
        (Phi4.A(0.4, 0.3, ndim=1), (7,)),
        (Phi4.A(0.4, 0.3, ndim=4), (2, 3, 2, 4)),
        (Polynomial(0.9, [0.1, -1.0, 0.2, 0.5]), (5, 4)),
        (SineGordon(0.3, 0.5, 2.0), (4, 4)),
        (Polynomial([0.3, 0.9], [0.0, 1.5]), (4, 4)),
        (Polynomial(0.9, [0.0, 0.5, 0.0, 0.1], links=[((1, 1), 0.2)]), (4, 4)),
        (Own(), (4, 4)),
        (Own(said=1.1), (4, 4)),
    ],
)
def test_compiled_totals_are_the_action(action, shape):
    phi = np.random.default_rng(1).standard_normal((9, *shape))
    total = actions_of(action)
    assert np.allclose(total(phi), action(phi), rtol=1e-12, atol=1e-10)
    assert np.array_equal(total(phi)[4:6], total(phi[4:6]))


def test_values_without_an_action_have_none_here_either():
    phi = np.ones((3, 4, 4))
    phi[1, 2, 2], phi[2, 0, 0] = 1e200, np.nan
    with np.errstate(all="ignore"):
        found = actions_of(Phi4.A(-4.0, 4.98))(phi)
    assert np.isfinite(found[0]) and not np.isfinite(found[1:]).any()


def test_compiled_totals_are_pickled_by_their_action():
    total = actions_of(Phi4.A(-4.0, 4.98))
    phi = np.random.default_rng(2).standard_normal((3, 4, 4))
    total(phi)
    assert np.array_equal(pickle.loads(pickle.dumps(total))(phi), total(phi))

"""The contracts of this package, by the kit that latticediff brings along; any test runner will do."""

import numpy as np
from latticediff_example.action import Sextic
from latticediff_example.kernel import SignFlip
from latticediff_example.observable import phi6
from latticediff_example.proposal import GaussianProposal

from latticediff.testing import check_action, check_kernel, check_observable, check_proposal


def test_the_action():
    check_action(Sextic(1.0, 1.0, 0.3))


def test_the_kernel():
    action = Sextic(0.0, 1.0, 0.3)  # sites alone: exact fields by rejection
    rng, fields = np.random.default_rng(1), np.empty(0)
    while len(fields) < 16_000:
        phi = rng.normal(scale=np.sqrt(0.5), size=10_000)
        fields = np.append(fields, phi[rng.random(len(phi)) < np.exp(-0.3 * phi**6)])
    check_kernel(SignFlip(action), fields[:16_000].reshape(1000, 4, 4))


def test_the_proposal():
    check_proposal(GaussianProposal(np.full((4, 6), 0.4), width=1.1))
    check_proposal(GaussianProposal(np.full((1, 1), 0.4), width=1.1))  # one site: its density is integrated


def test_the_observable():
    check_observable(phi6)

"""The embedding of noise level and couplings."""

import pytest
import torch
from numpy.testing import assert_allclose

from latticediff.action import OddSites, Phi4, SineGordon
from latticediff.action.conventions import CONVENTIONS
from latticediff.errors import UserError
from latticediff.gaussian.reference import GaussianReference
from latticediff.lattice import p_hat_squared
from latticediff.networks.embedding import Embedding, coupling_features

PROPAGATOR = 1 / (p_hat_squared((4, 4)) * 2 + 0.5)


def gaussians(*lams):
    return [GaussianReference(Phi4.A(-4.0, lam), PROPAGATOR) for lam in lams]


@pytest.mark.parametrize("name", CONVENTIONS)
def test_coupling_features_do_not_depend_on_the_normalisation_of_the_field(name):
    theory = Phi4.A(-4.5, 6.0, ndim=3)
    couplings, _ = theory.in_convention(name)
    features = coupling_features(theory)
    assert_allclose(coupling_features(Phi4(name, couplings, 3)), features, rtol=1e-12)
    # and they do tell another theory
    assert max(abs(x - y) for x, y in zip(coupling_features(Phi4.A(-4.5, 5.0, 3)), features, strict=True)) > 0.05


def test_odd_sites_have_the_couplings_of_the_whole_lattice():
    theory = Phi4.H(0.27, 0.022, ndim=2)
    assert coupling_features(OddSites(theory)) == coupling_features(theory)
    assert coupling_features(OddSites(theory)) != coupling_features(OddSites(Phi4.H(0.26, 0.022, ndim=2)))
    with pytest.raises(UserError, match="conditioned = false"):
        coupling_features(OddSites(SineGordon(1.0, 1.0, 1.0)))


def test_only_a_conditioned_embedding_sees_the_couplings():
    low, high = gaussians(4.5, 6.0)
    log_sigma = torch.linspace(-4, 1, 5)
    for conditioned in (False, True):
        torch.manual_seed(0)
        embedding = Embedding(16, conditioned)
        e = embedding(low, log_sigma)
        assert e.shape == (5, 16)
        assert torch.equal(e, embedding(high, log_sigma)) is not conditioned
        assert (e[1:] - e[:-1]).abs().max() > 1e-3  # and both see the noise level


def test_embedding_keeps_its_frequencies_and_precision():
    torch.manual_seed(0)
    embedding = Embedding(8, conditioned=True).double()
    (gaussian,) = gaussians(5.0)
    log_sigma = torch.zeros(1, dtype=torch.float64)
    assert embedding(gaussian, log_sigma).dtype == torch.float64
    other = Embedding(8, conditioned=True).double()
    other.frequencies.zero_()
    other.load_state_dict(embedding.state_dict())
    assert torch.equal(other(gaussian, log_sigma), embedding(gaussian, log_sigma))


def test_couplings_are_counted_from_their_mean_in_units_of_their_spread():
    """What the first layer sees: for three theories each varying feature has mean 0 and standard deviation 1."""
    nodes = gaussians(4.0, 5.0, 6.5)
    torch.manual_seed(0)
    embedding, seen = Embedding(8, conditioned=True), []
    embedding.centre_on([gaussian.action for gaussian in nodes])
    embedding[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0, -3:]))
    for gaussian in nodes:
        embedding(gaussian, torch.zeros(1))
    first, middle, last = torch.stack(seen).T  # (c d, a, sqrt b); a = 0 on the line m2 = -4
    for feature in (first, last):
        assert_allclose([feature.mean(), feature.std(correction=0)], [0, 1], atol=1e-5)
    assert torch.equal(middle, torch.zeros(3))
    # a model file keeps mean and units, and the file of a model without them means none
    other = Embedding(8, conditioned=True)
    other.load_state_dict(embedding.state_dict())
    assert torch.equal(other(nodes[0], torch.zeros(1)), embedding(nodes[0], torch.zeros(1)))
    plain = Embedding(8, conditioned=True)
    other.load_state_dict(plain.state_dict())
    assert torch.equal(other(nodes[0], torch.zeros(1)), plain(nodes[0], torch.zeros(1)))


def test_embedding_without_couplings_has_nothing_to_centre():
    embedding = Embedding(8)
    embedding.centre_on([Phi4.A(-4.0, 5.0)])
    assert embedding.couplings is None


def test_embedding_refuses_no_width():
    with pytest.raises(UserError, match="hidden = 0; expected at least 1"):
        Embedding(0)

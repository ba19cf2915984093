"""Laws of combined kernels."""

import numpy as np
import pytest

from latticediff.action import Phi4, free_propagator
from latticediff.composite import Mixture, Sequence
from latticediff.errors import UserError
from latticediff.hmc import HMC
from latticediff.markov import chain
from latticediff.streams import Streams

ACTION, SHAPE = Phi4.A(0.6, 0.0), (4, 6)
PARTS = [HMC(ACTION, 0.3, 2), HMC(ACTION, 0.3, 4)]


@pytest.mark.parametrize("kernel", [Sequence(PARTS), Mixture(PARTS, [2, 1])], ids=["sequence", "mixture"])
def test_combination_keeps_the_exact_propagator_and_the_bits(kernel):
    """5 sigma over 64 chains; blocks of any size give the same bits."""
    state = kernel.start(np.random.default_rng(1).normal(size=(64, *SHAPE)))
    state, _ = kernel.advance(state, Streams(1), 30)
    _, block = kernel.advance(state, Streams(1), 300)
    spectrum = (np.abs(np.fft.rfftn(block.phi, axes=(2, 3))) ** 2 / 24).mean(axis=0)
    deviation = (spectrum.mean(axis=0) - free_propagator(ACTION, SHAPE, half=True)) * 8 / spectrum.std(axis=0, ddof=1)
    assert np.abs(deviation).max() < 5
    steps = chain(kernel, state, Streams(1), block=7, thin=2)
    pieces = [next(steps)[1].phi for _ in range(3)]
    np.testing.assert_array_equal(np.concatenate(pieces), block.phi[1 - state.update % 2 :: 2][:10])


def test_parts_of_one_kind_draw_independently():
    """Two copies of one kernel must not see the same momenta."""
    same = HMC(ACTION, 1e-6, 1)
    sequence = Sequence([same, same])
    phi = np.zeros((1, *SHAPE))
    once, _ = same.advance(same.start(phi), Streams(3).child("part-0"), 1)
    twice, _ = sequence.advance(sequence.start(phi), Streams(3), 1)
    second = (twice.phi - once.phi).ravel()
    assert abs(np.corrcoef(once.phi.ravel(), second)[0, 1]) < 0.9


def test_mixture_chooses_by_weight():
    """Binomial, 5 sigma; a part of weight zero never runs."""
    kernel = Mixture([*PARTS, PARTS[0]], [3, 1, 0])
    _, block = kernel.advance(kernel.start(np.zeros((1, 2, 2))), Streams(2), 400)
    counts = np.bincount(block.info["choice"][:, 0], minlength=3)
    assert counts[2] == 0
    assert abs(counts[0] - 300) < 5 * np.sqrt(400 * 3 / 16)


def test_nothing_to_combine_is_refused():
    with pytest.raises(UserError, match="at least one"):
        Sequence([])
    with pytest.raises(UserError, match="non-negative"):
        Mixture(PARTS, [1, -1])

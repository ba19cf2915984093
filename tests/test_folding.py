"""Even functions of momentum are written once and come back bit by bit; others are written whole."""

import numpy as np
import pytest
from learned_toys import QUARTIC, model

from latticediff.gaussian.propagator import symmetrise
from latticediff.model.folding import fold, unfold
from latticediff.model.storage import load_model, save_model


@pytest.mark.parametrize("shape", [(1,), (2,), (7,), (8,), (4, 6), (5, 5), (2, 3, 4)])
def test_an_even_function_comes_back_from_its_part(shape):
    whole = np.stack([symmetrise(np.random.default_rng(seed).normal(size=shape)) for seed in range(3)])
    part = fold(whole, len(shape))
    assert part.shape == (3, *(n // 2 + 1 for n in shape))
    assert np.array_equal(unfold(part, shape), whole)


def test_another_function_is_written_whole():
    whole = np.random.default_rng(1).normal(size=(3, 4, 6))
    assert fold(whole, 2) is whole and np.array_equal(unfold(whole, (4, 6)), whole)


def test_a_model_file_is_smaller_and_the_model_the_same(tmp_path):
    made = model(QUARTIC, (16, 16), 0.3)
    made.power = np.stack([symmetrise(np.random.default_rng(seed).random((16, 16))) for seed in range(40)])
    made.power_grid = np.linspace(*made.noise.log_range, 40)
    save_model(made, tmp_path / "folded")
    again = load_model(tmp_path / "folded")
    assert again.fingerprint() == made.fingerprint() and np.array_equal(again.power, made.power)
    assert (tmp_path / "folded" / "weights.safetensors").stat().st_size < 0.6 * made.power.nbytes

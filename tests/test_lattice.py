"""Laws of the periodic lattice."""

import numpy as np
import pytest

from latticediff.errors import UserError
from latticediff.lattice import check_shape, cos_sum, mode_weights, neighbours, p_hat_squared

SHAPES = [(7,), (4, 6), (5, 3), (2, 3, 4), (2, 3, 2, 5)]


@pytest.mark.parametrize("shape", SHAPES)
def test_neighbours_are_inverse_to_each_other(shape):
    table = neighbours(shape)
    for axis in range(len(shape)):
        np.testing.assert_array_equal(table[axis][table[len(shape) + axis]], np.arange(np.prod(shape)))


def test_neighbours_step_along_one_axis():
    table = neighbours((4, 6))
    assert [row[0] for row in table] == [6, 1, 18, 5]


@pytest.mark.parametrize("shape", SHAPES)
def test_half_grid_with_weights_is_the_full_grid(shape):
    full = cos_sum(shape) ** 2
    half = cos_sum(shape, half=True) ** 2
    np.testing.assert_allclose((mode_weights(shape) * half).sum(), full.sum(), rtol=1e-12)
    assert mode_weights(shape).sum() == np.prod(shape)


@pytest.mark.parametrize("shape", SHAPES)
def test_plane_wave_is_eigenvector_of_the_laplacian(shape):
    n = tuple(min(1, extent - 1) for extent in shape)
    phase = sum(2 * np.pi * k * x / extent for k, x, extent in zip(n, np.indices(shape), shape, strict=True))
    wave = np.exp(1j * phase)
    laplacian = sum(2 * wave - np.roll(wave, 1, axis) - np.roll(wave, -1, axis) for axis in range(len(shape)))
    np.testing.assert_allclose(laplacian, p_hat_squared(shape)[n] * wave, atol=1e-12)


@pytest.mark.parametrize(
    ("shape", "message"),
    [((), "0 extents"), ((2,) * 5, "5 extents"), ((4, 0), "at least 1"), ((4, 2.5), "at least 1"), (8, "list of")],
)
def test_impossible_shape_is_refused(shape, message):
    with pytest.raises(UserError, match=message):
        check_shape(shape)
    with pytest.raises(UserError, match="the action has 2"):
        check_shape((4, 4, 4), ndim=2)

"""Folded Fourier transforms of the lanes kernel, against the plain ones in float64."""

import numpy as np
import pytest

from latticediff._kernels import folded
from latticediff._kernels.vectors import LANES
from latticediff.fourier import oblique_pairs, transform

SHAPES = [(8, 8), (32, 32), (16,), (36, 8), (4, 6), (20, 3), (5, 7), (4, 4, 8), (2, 2), (1, 4)]


def run(direction, fields, tables, oblique=False):
    """`folded.transform` of fields (LANES, *shape), float32."""
    shape = fields.shape[1:]
    sizes, order, forth, back = tables
    packed = np.ascontiguousarray(fields.reshape(LANES, -1).T).ravel()
    blocks, plain = (back if direction == "back" else forth), np.arange(max(shape))
    work, scratch = np.empty_like(packed), np.empty(folded.scratch_size(order), np.float32)
    extents, inverse = np.array(shape, np.int64), direction == "back"
    pairs = oblique_pairs(shape, oblique)
    folded.transform(extents, sizes, order, plain, pairs, blocks, inverse, packed, work, scratch)
    return packed.reshape(-1, LANES).T.reshape(fields.shape)


@pytest.mark.parametrize("fold_from", [4, 32])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_transforms_are_the_plain_ones_and_each_other_s_inverse(shape, fold_from, monkeypatch):
    """To rounding: a sum of V products of float32 numbers of order one."""
    monkeypatch.setattr(folded, "FOLD_FROM", fold_from)
    tables = folded.tables(shape)
    fields = np.random.default_rng(5).normal(size=(LANES, *shape)).astype(np.float32)
    modes = run("forth", fields, tables)
    np.testing.assert_allclose(modes, transform(fields.astype(float), shape), atol=3e-6)
    np.testing.assert_allclose(run("back", modes, tables), fields, atol=5e-6)


@pytest.mark.parametrize("shape", [(8, 4), (32, 16), (12, 6)])
def test_an_oblique_lattice_has_its_pairs_exchanged(shape):
    tables = folded.tables(shape)
    fields = np.random.default_rng(6).normal(size=(LANES, *shape)).astype(np.float32)
    modes = run("forth", fields, tables, oblique=True)
    np.testing.assert_allclose(modes, transform(fields.astype(float), shape, oblique=True), atol=3e-6)
    np.testing.assert_allclose(run("back", modes, tables, oblique=True), fields, atol=5e-6)


@pytest.mark.parametrize("extent", [4, 8, 12, 32, 64])
def test_every_function_and_every_site_of_a_half_axis_has_its_place(extent, monkeypatch):
    monkeypatch.setattr(folded, "FOLD_FROM", 4)
    functions, sites = folded.kinds(extent)
    assert sorted(np.concatenate(functions)) == list(range(extent))
    quarter = extent // 4
    assert [len(rows) for rows in functions] == [quarter + 1, quarter - 1, quarter, quarter]
    assert [len(columns) for columns in sites] == [len(rows) for rows in functions]


def test_a_lane_does_not_see_the_others():
    fields = np.random.default_rng(6).normal(size=(LANES, 32, 4)).astype(np.float32)
    tables = folded.tables((32, 4))
    alone = fields.copy()
    alone[1:] = 1e30
    assert np.array_equal(run("forth", fields, tables)[0], run("forth", alone, tables)[0])
    assert np.array_equal(run("back", fields, tables)[0], run("back", alone, tables)[0])

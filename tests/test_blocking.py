"""Block spins and back: the Gaussian of the fine field given the coarse one, against closed forms and quadrature."""

import json

import numpy as np
import pytest
from scipy import stats

from latticediff.action import Phi4, free_log_z, free_propagator
from latticediff.blocking import Blocking, ConditionalGaussian, HeldHMC, gap_propagator, read_blocking
from latticediff.errors import FileError, UserError
from latticediff.fourier import basis_from_momenta, transform
from latticediff.streams import Streams

# a symmetric stencil that reaches over the block
STENCIL = {(0, 0): 0.6, **dict.fromkeys([(1, 0), (-1, 0), (0, 1), (0, -1)], 0.1)}
KERNELS = {
    "average": Blocking.average(2),
    "decimation": Blocking.decimation(2, factor=1.3),
    "stencil": Blocking(STENCIL, 1.09),
}
FREE = Phi4.N(0.3, 0.0)
FALSE_ALARM = 1e-6  # of every chi^2 below, two-sided


def exact_fields(action, shape, n, seed=1):
    """Independent fields of a free theory."""
    root = np.sqrt(basis_from_momenta(free_propagator(action, shape), shape))
    return transform(root * np.random.default_rng(seed).standard_normal((n, *shape)), shape, inverse=True)


def matrix(blocking, shape):
    """The blocking as a matrix, (V_c, V)."""
    unit = np.eye(int(np.prod(shape))).reshape(-1, *shape)
    return blocking(unit).reshape(len(unit), -1).T


@pytest.mark.parametrize("name", KERNELS)
def test_the_transposed_map_is_the_transposed_matrix(name):
    blocking, shape = KERNELS[name], (4, 6)
    B = matrix(blocking, shape)
    unit = np.eye(6).reshape(6, 2, 3)
    assert np.allclose(blocking.adjoint(unit).reshape(6, -1), B, rtol=0, atol=1e-15)
    assert np.allclose(B.sum(axis=1), blocking.factor)


def test_blocks_of_three_in_one_dimension():
    phi = np.arange(6.0)[None]
    assert np.allclose(Blocking.average(1, 2.0, 3)(phi), [[2.0, 8.0]])
    assert np.allclose(Blocking.decimation(1, 1.0, 3)(phi), [[0.0, 3.0]])


@pytest.mark.parametrize("softness", [0.0, 0.4])
@pytest.mark.parametrize("name", KERNELS)
def test_density_and_mean_are_those_of_the_dense_matrices(name, softness):
    """log q on the surface of the constraint, by covariance and pseudo-determinant; float64 against float64."""
    shape, blocking = (4, 6), KERNELS[name]
    G = free_propagator(FREE, shape)
    given = ConditionalGaussian(G, blocking, softness)
    one = np.fft.ifftn(G).real  # covariance with the site at 0
    sites = list(np.ndindex(shape))
    C = np.array([[one[tuple(np.subtract(x, y) % shape)] for y in sites] for x in sites])
    B = matrix(blocking, shape)
    D = B @ C @ B.T + softness**2 * np.eye(len(B))
    coarse = blocking(exact_fields(FREE, shape, 3))
    phi, log_q = given.draw(coarse, np.random.default_rng(2))
    mean = coarse.reshape(3, -1) @ np.linalg.solve(D, B @ C)
    assert np.allclose(given.response(coarse).reshape(3, -1), mean, rtol=0, atol=1e-12)
    conditional = C - C @ B.T @ np.linalg.solve(D, B @ C)
    away = phi.reshape(3, -1) - mean
    values, vectors = np.linalg.eigh(conditional)
    kept = values > 1e-10
    assert kept.sum() == (len(C) if softness else len(C) - len(B))
    noise = away @ vectors[:, kept] / np.sqrt(values[kept])
    dense = -0.5 * (noise**2).sum(axis=1) - 0.5 * np.log(2 * np.pi * values[kept]).sum()
    if not softness:  # delta(B phi - Phi) d phi is the surface element over sqrt(det B B^T)
        assert np.allclose(blocking(phi), coarse, rtol=0, atol=1e-12)
        dense += 0.5 * np.linalg.slogdet(B @ B.T)[1]
    assert np.allclose(log_q, dense, rtol=0, atol=1e-9)
    assert np.array_equal(given.weigh(phi, coarse), log_q)
    # many draws for one coarse field: mean and variance along every direction that is left
    n = 4000
    far = np.repeat(5 * coarse[:1], n, axis=0)  # where an error of the mean is large
    many = given.draw(far, np.random.default_rng(7)).phi.reshape(n, -1)
    noise = (many - 5 * mean[0]) @ vectors[:, kept] / np.sqrt(values[kept])
    means, spreads = n * (noise.mean(axis=0) ** 2).sum(), (noise**2).sum()
    assert stats.chi2.sf(means, kept.sum()) > FALSE_ALARM
    assert 2 * min(stats.chi2.cdf(spreads, n * kept.sum()), stats.chi2.sf(spreads, n * kept.sum())) > FALSE_ALARM


@pytest.mark.parametrize("softness", [0.0, 0.4])
@pytest.mark.parametrize("name", KERNELS)
def test_blocked_fields_come_back_as_the_ensemble_that_they_were(name, softness):
    """With the exact propagator the fine ensemble is exact: chi^2 of the two-point function, mode by mode and whole."""
    shape, n, blocking = (8, 8), 4000, KERNELS[name]
    G, rng = free_propagator(FREE, shape), np.random.default_rng(3)
    coarse = blocking(exact_fields(FREE, shape, n))
    coarse += softness * rng.standard_normal(coarse.shape)
    phi = ConditionalGaussian(G, blocking, softness).draw(coarse, rng).phi
    power = (transform(phi, shape) ** 2 / basis_from_momenta(G, shape)).sum(axis=0).ravel()
    tails = stats.chi2.cdf(power, n), stats.chi2.sf(power, n)
    assert 2 * np.minimum(*tails).min() * power.size > FALSE_ALARM  # Bonferroni over 64 modes
    total = power.sum()
    assert 2 * min(stats.chi2.cdf(total, n * power.size), stats.chi2.sf(total, n * power.size)) > FALSE_ALARM
    # modes that the coarse lattice takes for one are independent again
    modes = (transform(phi, shape) / np.sqrt(basis_from_momenta(G, shape))).reshape(n, -1)
    z = (modes.T @ modes / np.sqrt(n))[np.triu_indices(modes.shape[1], 1)]
    assert np.abs(z).max() < stats.norm.isf(FALSE_ALARM / 2 / len(z))


def test_the_weight_of_a_free_field_depends_on_the_coarse_one_alone():
    """exp(-S)/q is Z N(Phi; 0, D), the exponential of minus the action of the coarse field."""
    shape = (6, 4)
    given = ConditionalGaussian(free_propagator(FREE, shape), Blocking.average(2))
    coarse = np.random.default_rng(4).standard_normal((3, 3, 2))
    for seed in (1, 2):
        phi, log_q = given.draw(coarse, np.random.default_rng(seed))
        expected = free_log_z(FREE, shape) + given.log_coarse(coarse)
        assert np.allclose(-FREE(phi) - log_q, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("softness", [0.0, 0.3])
def test_weights_make_averages_of_an_interacting_theory_exact(softness):
    """Two sites in one dimension, one block: averages given the block and its action, by quadrature; 5 sigma."""
    action, given_m = Phi4.A(-1.0, 1.5, ndim=1), 0.35
    given = ConditionalGaussian(gap_propagator(action, (2,)), Blocking.average(1), softness)
    n = 40_000
    coarse = np.full((n, 1), given_m)
    phi, log_q = given.draw(coarse, np.random.default_rng(5))
    weight = np.exp(-action(phi) + given.log_constraint(phi, coarse) - log_q)

    def integral(f):
        """Of f exp(-S) over both sites under the constraint, by sums: delta(m - Phi) d^2 phi = 2 d half."""
        half = np.linspace(-4, 4, 801)
        m = np.array([given_m]) if not softness else given_m + np.linspace(-6, 6, 241) * softness
        a, b = np.meshgrid(m, half, indexing="ij")
        inner = 2 * np.trapezoid(f(b, a) * np.exp(-action(np.stack([a - b, a + b], axis=-1))), half, axis=1)
        return inner[0] if not softness else np.trapezoid(inner * stats.norm(given_m, softness).pdf(m), m)

    Z = integral(lambda half, m: np.ones_like(m))
    assert abs(weight.mean() - Z) < 5 * weight.std() / np.sqrt(n)
    exact = integral(lambda half, m: m * m + half * half) / Z
    square = (phi**2).mean(axis=1)
    error = np.sqrt((weight**2 * (square - exact) ** 2).sum()) / weight.sum()
    assert abs((weight * square).sum() / weight.sum() - exact) < 5 * error


def test_hmc_at_fixed_block_spins_is_exact():
    """Two sites, one block: <half^2> given the block, by quadrature, with steps that are often rejected; 5 sigma."""
    action, m = Phi4.A(-1.0, 1.5, ndim=1), 0.35
    kernel = HeldHMC(action, Blocking.average(1), (2,), step_size=0.6, n_leapfrog=2)
    state = kernel.start(np.full((400, 2), m))
    state, _ = kernel.advance(state, Streams(1), 20, 20)
    state, block = kernel.advance(state, Streams(1), 100)
    assert 0.4 < block.info["accepted"].mean() < 0.7
    assert np.allclose(block.phi.mean(axis=2), m, rtol=0, atol=1e-12)
    assert np.allclose(block.action, action(block.phi), rtol=1e-12)
    half = np.linspace(-4, 4, 4001)
    weight = np.exp(-action(np.stack([m - half, m + half], axis=1)))
    exact = (weight * half**2).sum() / weight.sum()
    means = ((block.phi[..., 1] - block.phi[..., 0]) ** 2 / 4).mean(axis=0)
    assert abs(means.mean() - exact) < 5 * means.std(ddof=1) / np.sqrt(len(means))


@pytest.mark.parametrize("name", KERNELS)
def test_every_kind_of_block_spin_is_held_and_cuts_leave_the_bits(name):
    blocking, action = KERNELS[name], Phi4.A(-4.0, 5.0)
    phi = exact_fields(FREE, (4, 6), 3)
    kernel = HeldHMC.tuned(action, blocking, phi, Streams(2))
    state, whole = kernel.advance(kernel.start(phi), Streams(3), 6, 2)
    assert np.allclose(blocking(state.phi), blocking(phi), rtol=0, atol=1e-12)
    assert whole.info["accepted"].any() and whole.phi.shape == (3, 3, 4, 6)
    rng, state = Streams(3), kernel.start(phi)
    parts = []
    for n in (1, 3, 2):
        state, block = kernel.advance(state, rng, n, 2)
        parts.append(block.phi)
    assert np.array_equal(np.concatenate(parts), whole.phi)


def test_bits_do_not_depend_on_the_batch():
    given = ConditionalGaussian(free_propagator(FREE, (8, 8)), Blocking.average(2), 0.1)
    coarse = np.random.default_rng(6).standard_normal((7, 4, 4))
    whole = given.draw(coarse, np.random.default_rng(1))
    rng = np.random.default_rng(1)
    parts = [given.draw(coarse[a:b], rng) for a, b in ((0, 1), (1, 5), (5, 7))]
    assert np.array_equal(whole.phi, np.concatenate([part.phi for part in parts]))
    assert np.array_equal(whole.log_q, np.concatenate([part.log_q for part in parts]))


def test_the_gap_equation():
    """Its solution solves it, in the broken phase too; a free theory has its own propagator."""
    for action in (Phi4.A(-4.0, 6.0), Phi4.H(0.35, 0.022), Phi4.A(-4.0, 6.0, ndim=3)):
        G = gap_propagator(action, (6,) * action.ndim)
        shift = 12 * action.b * G.mean()
        assert np.allclose(1 / G, action.quadratic_form(G.shape) + shift, rtol=1e-9)
    assert np.allclose(gap_propagator(FREE, (4, 6)), free_propagator(FREE, (4, 6)), rtol=1e-9)


def test_what_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"lattice \(5, 4\) cannot be cut into blocks of 2"):
        Blocking.average(2).coarse_shape((5, 4))
    with pytest.raises(UserError, match=r"add up to 0\.9; expected 1"):
        Blocking({(0, 0): 0.9})
    with pytest.raises(UserError, match="scale = 1"):
        Blocking.average(2, scale=1)
    lopsided = Blocking({(0, 0): 0.5, (1, 0): 0.3, (0, 1): 0.1, (1, 1): 0.1})
    G = free_propagator(FREE, (4, 4))
    with pytest.raises(UserError, match="not symmetric under a reflection"):
        ConditionalGaussian(G, lopsided)
    # 1/2 at distance 1 on either side: the wave of largest momentum on the coarse lattice is lost
    with pytest.raises(UserError, match="loses a mode"):
        ConditionalGaussian(free_propagator(Phi4.N(0.3, 0.0, ndim=1), (4,)), Blocking({(1,): 0.5, (-1,): 0.5}))
    given = ConditionalGaussian(G, Blocking.average(2))
    with pytest.raises(UserError, match=r"coarse has shape \(1, 4, 4\); expected \(n, 2, 2\)"):
        given.draw(np.zeros((1, 4, 4)), np.random.default_rng(1))
    with pytest.raises(UserError, match="finite"):
        given.draw(np.full((1, 2, 2), np.nan), np.random.default_rng(1))
    assert given.weigh(np.ones((1, 4, 4)), np.zeros((1, 2, 2))) == -np.inf  # no field of this coarse one
    with pytest.raises(UserError, match="step_size = 0"):
        HeldHMC(FREE, Blocking.average(2), (4, 4), 0.0)
    with pytest.raises(UserError, match="softness = -1"):
        ConditionalGaussian(G, Blocking.average(2), -1)
    with np.errstate(all="raise"):
        for softness in (1e-320, 1e-10, 1e10, 1e300):
            with pytest.raises(UserError, match=r"softness = .*; expected 0, or from \de-09 to \de\+07"):
                ConditionalGaussian(G, Blocking.average(2), softness)
    path = tmp_path / "kernel.json"
    for weights, said in (
        ({"weights": {"0,0": 1.0}, "factor": 2.0}, "it says factor too; --factor and --scale are given beside"),
        ({"weights": {"0,0": 0.5, "0, 0": 0.5, "1,0": 0.5}}, "an offset stands there twice"),
        ({"weights": {"0,0": True}}, "True is no number"),
        ({"weights": {"0,0": "1"}}, "'1' is no number"),
    ):
        path.write_text(json.dumps(weights))
        with pytest.raises(FileError, match=f"holds no weights .*{said}"):
            read_blocking(path, 2)
    path.write_text(json.dumps({"weights": {"0,0": 0.6, **{f"{a},{b}": 0.1 for a, b in STENCIL if a or b}}}))
    assert read_blocking(path, 2, 1.09).weights == STENCIL
    with pytest.raises(UserError, match="offsets of 2 dimensions; the lattice has 3"):
        read_blocking(path, 3)
    path.write_text("[1]")
    with pytest.raises(FileError, match="holds no weights"):
        read_blocking(path, 2)
    with pytest.raises(UserError, match="expected average, decimation"):
        read_blocking("mean", 2)

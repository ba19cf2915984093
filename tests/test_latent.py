"""Laws of correlated and of several-try proposals: exact whatever the knob, wrong without each part of the correction.

Learned proposals are untrained networks with random weights, bad on purpose. Errors come from the spread of 64 or
more independent chains: a correct code exceeds five of them in one number with probability 5e-6 (Student's t), about
2e-3 in one run of this file. Each broken twin must be off by twice as much.
"""

import functools

import numpy as np
import pytest
from learned_toys import FREE, QUARTIC, SHAPE, model
from metropolis_toys import (
    DOUBLE_WELL,
    ONE_SITE,
    Changed,
    Warped,
    exact_fields,
    exact_moments,
    free_fields,
    largest_deviation,
    moments_of,
    no_density,
    propagator_deviation,
)
from scipy.stats import norm

from latticediff.action import Phi4
from latticediff.composite import Mixture, Sequence
from latticediff.errors import UserError
from latticediff.hmc import HMC
from latticediff.markov import ChainState
from latticediff.metropolis import (
    IndependenceMetropolis,
    LatentMetropolis,
    MultipleTry,
    check_doubling,
    doubling_error,
    latent,
)
from latticediff.metropolis import accept_reject as stream
from latticediff.metropolis import multiple_try as tries
from latticediff.metropolis.moves import Block, Coloured, Infrared, KeepTop, White
from latticediff.proposal import OdeProposal, PathProposal, RefinedProposal, SdeProposal
from latticediff.streams import Streams

N_SIGMA, N_CHAINS, N_BALANCED, BATCH = 5, 64, 30_000, 4000


def flat(shape):
    """Propagators for the moves: any positive, even function of momentum."""
    return 1.0 / (1.0 + sum(np.ogrid[tuple(slice(0, n) for n in shape)][a] % 2 for a in range(len(shape))))


MOVES = {
    "coloured": lambda shape: Coloured(0.7),
    "white": lambda shape: White(0.8, flat(shape)),
    "infrared": lambda shape: Infrared(0.9, flat(shape)),
    "block": lambda shape: Block((1, 2) if len(shape) > 1 or shape[0] > 1 else 1, 0.9),
}


def toy_kernel(kind, action, shape, proposal=None, tries=1):
    """A kernel by name on the warped proposal."""
    proposal = proposal or Warped(shape, mix=0.4 if shape[0] > 1 else 0.0)
    if kind == "tries":
        return MultipleTry(proposal, action, 3)
    return LatentMetropolis(proposal, action, MOVES[kind](shape), tries)


def run(kernel, n_updates, seed=1, n_chains=N_CHAINS, warm=60):
    streams = Streams(seed)
    state, _ = kernel.advance(kernel.hot_start(n_chains, streams), streams, warm)
    return kernel.advance(state, streams, n_updates)[1]


# --- exact on one and two sites, and why -----------------------------------------------------------------------------

TOYS = [("tries", 1), *((kind, n) for kind in MOVES for n in (1, 3))]


@pytest.mark.parametrize("shape", [(1,), (2,)], ids=["one-site", "two-sites"])
@pytest.mark.parametrize(("kind", "n_tries"), TOYS)
def test_moments_agree_with_quadrature(kind, n_tries, shape):
    block = run(toy_kernel(kind, ONE_SITE, shape, tries=n_tries), 600)
    assert 0.1 < block.info["accepted"].mean() < 0.999
    assert largest_deviation(block, ONE_SITE) < N_SIGMA


@pytest.mark.parametrize(("kind", "n_tries"), TOYS)
def test_without_log_q_moments_are_wrong(kind, n_tries):
    proposal = Warped((2,), mix=0.4, honest=False)
    assert largest_deviation(run(toy_kernel(kind, ONE_SITE, (2,), proposal, n_tries), 600), ONE_SITE) > 2 * N_SIGMA


def test_modes_move_as_much_as_their_propagator_says():
    """Both definitions on a propagator of three values: 1 - rho^2 = eps^2 G / max G, and rho = G / (G + sigma^2)."""
    G = np.array([4.0, 1.0, 0.25, 1.0])  # one axis of four sites: momenta 0, 1, 2, 1
    u_shape, rng = (2, 4), np.random.default_rng(0)
    on_basis = np.array([4.0, 1.0, 1.0, 0.25])  # constant, cosine, sine, alternating
    infrared = Infrared(0.6, G).correlations(u_shape, (4,), rng)
    np.testing.assert_allclose(1 - infrared**2, 0.36 * on_basis / 4, rtol=1e-14)
    np.testing.assert_allclose(White(0.5, G).correlations(u_shape, (4,), rng), on_basis / (on_basis + 0.25), rtol=1e-14)


def test_a_move_that_widens_the_noise_is_wrong(monkeypatch):
    """The autoregressive step keeps the normal distribution; adding noise to u does not."""
    monkeypatch.setattr(latent, "_step", lambda u, rho, rng: u + np.sqrt(1 - rho**2) * rng.standard_normal(u.shape))
    assert largest_deviation(run(toy_kernel("coloured", ONE_SITE, (1,)), 600), ONE_SITE) > 2 * N_SIGMA


CHOOSE = tries.choose


@pytest.mark.parametrize("kind", ["tries", "coloured"])
def test_the_weights_of_the_other_candidates_are_needed(kind, monkeypatch):
    """A choice by weight among three, then accepted as if it had been the only one."""

    def forgetful(log_weight, u):
        index, rest = CHOOSE(log_weight, u)
        return index, np.full_like(rest, -np.inf)

    for module in (latent, tries):
        monkeypatch.setattr(module, "choose", forgetful)
    assert largest_deviation(run(toy_kernel(kind, ONE_SITE, (1,), tries=3), 600), ONE_SITE) > 2 * N_SIGMA


def test_choice_is_proportional_to_weight():
    """Binomial, 5 sigma; what is not chosen is the rest; zero weights are chosen only where there is nothing else."""
    log_weight = np.log(np.tile([1.0, 2.0, 5.0], (20_000, 1))) + 1000
    index, rest = tries.choose(log_weight, np.random.default_rng(1).random(20_000))
    counts = np.bincount(index, minlength=3)
    p = np.array([1, 2, 5]) / 8
    assert (np.abs(counts - 20_000 * p) < 5 * np.sqrt(20_000 * p * (1 - p))).all()
    np.testing.assert_allclose(rest, np.log(np.array([7.0, 6.0, 3.0])[index]) + 1000)
    dead = np.array([[-np.inf, 0.0, -np.inf], [-np.inf] * 3])
    for u in (0.0, 1 - 2.0**-53):
        index, rest = tries.choose(dead, np.full(2, u))
        np.testing.assert_array_equal(index, [1, 0])
        np.testing.assert_array_equal(rest, [-np.inf, -np.inf])


# --- learned proposals, bad on purpose -------------------------------------------------------------------------------


@functools.cache
def learned(route, action, shape, strength=0.3):
    made = model(action, shape, strength)
    if route == "ode":
        return OdeProposal(made, steps=8)
    return PathProposal(made, steps=6, sigma=1.0 if route == "half path" else None)


LEARNED = {
    "ode coloured": ("ode", MOVES["coloured"]),
    "ode white": ("ode", MOVES["white"]),
    "ode block": ("ode", lambda shape: Block((2, 3) if shape != (1,) else 1)),
    "path coloured": ("path", MOVES["coloured"]),
    "path block": ("path", lambda shape: Block(2 if shape != (1,) else 1)),
    "half path": ("half path", lambda shape: KeepTop()),
}


def learned_kernel(name, action, shape, strength=0.3, change=None, n_tries=1):
    route, move = LEARNED[name]
    proposal = learned(route, action, shape, strength)
    return LatentMetropolis(proposal if change is None else Changed(proposal, change), action, move(shape), n_tries)


@pytest.mark.parametrize("name", LEARNED)
def test_bad_network_gives_the_exact_free_propagator(name):
    block = run(learned_kernel(name, FREE, SHAPE), 100, warm=20)
    assert 0.1 < block.info["accepted"].mean() < 0.95  # bad indeed
    assert propagator_deviation(block, FREE, SHAPE) < N_SIGMA


@pytest.mark.parametrize("name", LEARNED)
def test_without_log_q_the_free_propagator_is_wrong(name):
    block = run(learned_kernel(name, FREE, SHAPE, change=no_density), 60, warm=20)
    assert propagator_deviation(block, FREE, SHAPE) > 2 * N_SIGMA


ROUTES = {
    "ode": lambda made: OdeProposal(made, 16, "adams5", BATCH, grid="optimised"),
    "sde": lambda made: SdeProposal(made, 6, BATCH),
    "path": lambda made: PathProposal(made, 6, batch=BATCH),
    "half path": lambda made: PathProposal(made, 6, sigma=1.0, batch=BATCH),
    "refined": lambda made: RefinedProposal(OdeProposal(made, 8), 2, 0.7),
}
TWO = flat((2,))
#: every kind of learned kernel: (route, sites, kernel of a proposal); two sites where one leaves the move nothing to do
KINDS = {
    "independence, ode": ("ode", 1, lambda p: IndependenceMetropolis(p, ONE_SITE)),
    "independence, sde, refresh": ("sde", 1, lambda p: IndependenceMetropolis(p, ONE_SITE, True)),
    "independence, sde, keep": ("sde", 1, lambda p: IndependenceMetropolis(p, ONE_SITE, False)),
    "independence, refined": ("refined", 1, lambda p: IndependenceMetropolis(p, ONE_SITE)),
    "tries, ode": ("ode", 1, lambda p: MultipleTry(p, ONE_SITE, 3)),
    "tries, sde, refresh": ("sde", 1, lambda p: MultipleTry(p, ONE_SITE, 3)),
    "coloured, ode": ("ode", 1, lambda p: LatentMetropolis(p, ONE_SITE, Coloured(0.7))),
    "coloured, three tries, ode": ("ode", 1, lambda p: LatentMetropolis(p, ONE_SITE, Coloured(0.7), 3)),
    "infrared, ode": ("ode", 2, lambda p: LatentMetropolis(p, ONE_SITE, Infrared(0.9, TWO))),
    "white, ode": ("ode", 2, lambda p: LatentMetropolis(p, ONE_SITE, White(0.8, TWO))),
    "block, ode": ("ode", 2, lambda p: LatentMetropolis(p, ONE_SITE, Block(1))),
    "coloured, path": ("path", 1, lambda p: LatentMetropolis(p, ONE_SITE, Coloured(0.7))),
    "block, path": ("path", 2, lambda p: LatentMetropolis(p, ONE_SITE, Block(1))),
    "half path": ("half path", 1, lambda p: LatentMetropolis(p, ONE_SITE, KeepTop())),
}


@functools.cache
def made(route, action, sites, strength=0.5):
    return ROUTES[route](model(action, (sites,), strength))


@pytest.mark.parametrize("kind", KINDS)
def test_bad_network_gives_exact_phi4_moments(kind):
    """<phi>, <|phi|>, <phi^2>, <phi^4> and, of two sites, <phi_0 phi_1>, against quadrature; wrong without log_q."""
    route, sites, make = KINDS[kind]
    proposal = made(route, ONE_SITE, sites)
    block = run(make(proposal), 200, warm=20)
    assert 0.1 < block.info["accepted"].mean() < 0.98
    assert largest_deviation(block, ONE_SITE) < N_SIGMA
    assert largest_deviation(run(make(Changed(proposal, no_density)), 200, warm=20), ONE_SITE) > 2 * N_SIGMA


def test_half_paths_weigh_what_their_definition_says():
    """The ratio of pi(phi) prod q(x_i | x_i-1) / prod p(x_i-1 | x_i), from normal densities written out, one site."""
    proposal = PathProposal(model(ONE_SITE, (1,), 0.5), steps=6, sigma=1.0, kernel="gaussian")
    process, rng = proposal.process, np.random.default_rng(2)
    phi = rng.normal(size=(5, 1))
    u, log_q = proposal.invert(phi, np.random.default_rng(3))
    steps = np.random.default_rng(3).standard_normal((5, 6))
    path = np.concatenate([phi, phi + np.cumsum(steps * np.sqrt(process.deltas), axis=1)], axis=1)
    expected = norm.logpdf(path[:, -1], 0, np.sqrt(process.prior[0]))
    for i in range(1, 7):
        delta, x = process.deltas[i - 1], path[:, i : i + 1]
        mean = x + delta * process.modes.score(x, i)
        expected += norm.logpdf(path[:, i - 1], mean[:, 0], np.sqrt(process.steps[i - 1].covariance[0]))
        expected -= norm.logpdf(path[:, i], path[:, i - 1], np.sqrt(delta))
    np.testing.assert_allclose(log_q, expected, rtol=1e-9, atol=1e-9)
    again = proposal.transport(u)
    np.testing.assert_allclose(again.phi, phi, atol=1e-5)  # the network's inside is float32
    np.testing.assert_allclose(again.log_q, log_q, atol=1e-4)
    # keeping the top keeps x_j: both half paths start there
    rho = KeepTop().correlations(u.shape, (1,), rng)
    np.testing.assert_array_equal(rho[:, 0], [1, *[0] * 6])


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("kind", [OdeProposal, PathProposal])
def test_noise_goes_to_the_field_and_back(kind, compiled):
    """Tolerances: integration error of 16 steps, float32 inside the network."""
    proposal = kind(model(QUARTIC, SHAPE, 0.3), steps=16, compiled=compiled)
    phi = proposal.draw(5, np.random.default_rng(4)).phi
    u, log_q = proposal.invert(phi, np.random.default_rng(5))
    draw = proposal.transport(u)
    np.testing.assert_allclose(draw.phi, phi, atol=2e-3)
    np.testing.assert_allclose(draw.log_q, log_q, atol=5e-2)
    assert u.std() == pytest.approx(1, abs=0.3)


def test_change_of_log_weight_grows_with_the_block_and_not_with_the_lattice():
    """Four times the volume: var(delta log_weight) of a block move stays, that of a global move grows fourfold.

    Spreads by quartiles of 200 chains, 10 % each; factor-of-two bands are five sigma wide.
    """
    spread = {}
    for L in (12, 24):
        kernel = functools.partial(LatentMetropolis, OdeProposal(model(QUARTIC, (L, L), 0.1), steps=6), QUARTIC)
        for move in (Block(4), Coloured(1.0)):
            _, block = kernel(move).advance(kernel(move).hot_start(200, Streams(6)), Streams(7), 1)
            low, high = np.quantile(block.info["delta_log_weight"], [0.25, 0.75])
            spread[L, move.describe()["name"]] = (high - low) ** 2
    assert 0.5 < spread[24, "block"] / spread[12, "block"] < 2
    assert spread[24, "coloured"] / spread[12, "coloured"] > 2
    assert spread[12, "block"] < 0.5 * spread[12, "coloured"]


# --- stationarity and detailed balance -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ode block", "half path"])
@pytest.mark.parametrize("n", [10_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_an_exact_ensemble_stays_exact(name, n):
    """Independent fields of the free theory, two updates, no mode moves; without log_q they do."""
    phi = free_fields(FREE, SHAPE, n, 8)
    kernel = learned_kernel(name, FREE, SHAPE)
    _, block = kernel.advance(kernel.start(phi), Streams(9), 2, 2)
    assert block.info["accepted"].mean() < 0.95
    assert propagator_deviation(block, FREE, SHAPE) < N_SIGMA
    kernel = learned_kernel(name, FREE, SHAPE, change=no_density)
    _, block = kernel.advance(kernel.start(phi), Streams(9), 2, 2)
    assert propagator_deviation(block, FREE, SHAPE) > 2 * N_SIGMA


EDGES = [-1.3, -0.8, 0.0, 0.8, 1.3]


def fluxes(kernel, n):
    """Largest ``(N_ij - N_ji) / sqrt(N_ij + N_ji)`` of two bins, one update from n exact fields; share that cross."""
    phi = exact_fields(DOUBLE_WELL, n, 11)
    _, block = kernel.advance(kernel.start(phi), Streams(10), 1)
    before, after = np.digitize(phi[:, 0], EDGES), np.digitize(block.phi[0, :, 0], EDGES)
    n_bins = len(EDGES) + 1
    counts = np.bincount(before * n_bins + after, minlength=n_bins**2).reshape(n_bins, n_bins)
    total = counts + counts.T
    deviation = np.abs((counts - counts.T)[total > 20] / np.sqrt(total[total > 20])).max()
    return deviation, ((phi * block.phi[0]) < 0).mean()


@pytest.mark.parametrize(("kind", "n_tries"), [*TOYS, ("coloured", 8)])
def test_detailed_balance_between_the_two_wells(kind, n_tries):
    """As many transitions from bin to bin as back, 10^5 exact fields: 15 pairs at 5 sigma, one false alarm in 10^5."""
    deviation, crossing = fluxes(toy_kernel(kind, DOUBLE_WELL, (1,), tries=n_tries), 100_000)
    assert crossing > 0.01
    assert deviation < N_SIGMA
    broken = toy_kernel(kind, DOUBLE_WELL, (1,), Warped((1,), honest=False), n_tries)
    assert fluxes(broken, 100_000)[0] > 2 * N_SIGMA


BALANCED = {
    "independence, sde, refresh": ("sde", lambda p: IndependenceMetropolis(p, DOUBLE_WELL, True, batch=N_BALANCED)),
    "coloured, ode": ("ode", lambda p: LatentMetropolis(p, DOUBLE_WELL, Coloured(0.7))),
    "half path": ("half path", lambda p: LatentMetropolis(p, DOUBLE_WELL, KeepTop())),
}


@pytest.mark.parametrize("kind", BALANCED)
def test_learned_kernels_keep_detailed_balance_between_the_two_wells(kind):
    """Bounds as above, 3 * 10^4 fields. With a fresh path for every update it is a law of the fields alone."""
    route, make = BALANCED[kind]
    proposal = made(route, DOUBLE_WELL, 1, 1.5)
    deviation, crossing = fluxes(make(proposal), N_BALANCED)
    assert crossing > 0.01
    assert deviation < N_SIGMA
    assert fluxes(make(Changed(proposal, no_density)), N_BALANCED)[0] > 2 * N_SIGMA


# --- limits ----------------------------------------------------------------------------------------------------------


def test_without_correlation_it_is_the_independence_sampler():
    phi = free_fields(FREE, SHAPE, 5, 12)
    proposal = learned("ode", FREE, SHAPE)
    kernels = IndependenceMetropolis(proposal, FREE), LatentMetropolis(proposal, FREE, Coloured(1.0))
    one, other = (kernel.advance(kernel.start(phi), Streams(13), 20)[1] for kernel in kernels)
    np.testing.assert_array_equal(one.phi, other.phi)
    np.testing.assert_array_equal(one.info["accepted"], other.info["accepted"])
    assert 0 < one.info["accepted"].mean() < 1


def test_one_try_is_the_independence_sampler():
    phi = free_fields(FREE, SHAPE, 5, 12)
    kernels = IndependenceMetropolis(Warped(SHAPE), FREE), MultipleTry(Warped(SHAPE), FREE, 1)
    one, other = (kernel.advance(kernel.start(phi), Streams(13), 20)[1] for kernel in kernels)
    for mine, theirs in zip((*one[:2], *one.info.values()), (*other[:2], *other.info.values()), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_small_moves_are_accepted():
    kernels = [LatentMetropolis(learned("ode", FREE, SHAPE), FREE, Coloured(eps)) for eps in (0.05, 0.9)]
    small, large = (1 - run(kernel, 20, warm=5).info["accepted"].mean() for kernel in kernels)
    assert small < 0.25 * large


@pytest.mark.parametrize("compiled", [True, False])
def test_half_paths_of_the_free_field_are_all_accepted(compiled):
    """With its own propagator every path has one weight, from any level of the ladder; rounding of float32 is left."""
    for sigma in (0.3, 4.0):
        proposal = PathProposal(model(FREE, SHAPE, 0.0), 4, sigma=sigma, compiled=compiled)
        block = run(LatentMetropolis(proposal, FREE, KeepTop()), 3, n_chains=8, warm=0)
        assert np.abs(block.info["delta_log_weight"]).max() < 2e-3


def test_several_tries_shorten_the_autocorrelation():
    """Acceptance rises with the number of tries, for both kinds of several tries."""
    for make in (
        lambda n: MultipleTry(Warped(SHAPE), FREE, n),
        lambda n: LatentMetropolis(Warped(SHAPE), FREE, Coloured(0.6), n),
    ):
        rates = [run(make(n), 50).info["accepted"].mean() for n in (1, 8)]
        assert rates[1] > 1.3 * rates[0]


# --- together with other kernels -------------------------------------------------------------------------------------


class Stale(Sequence):
    """A sequence that hands the density of the field before on to the next part: the mistake to avoid."""

    def _advance_part(self, index, state, rng):
        after, block = self.parts[index].advance(state, rng.child(f"part-{index}"), 1)
        kept = state if after.log_q is None else after
        return after._replace(update=state.update, log_q=kept.log_q, latent=kept.latent), {
            key: rows[0] for key, rows in block.info.items()
        }


@pytest.mark.parametrize("learned_part", ["independence", "tries", "latent", "path"])
def test_composites_find_the_density_of_a_field_that_another_kernel_moved(learned_part):
    proposal = Warped((2,), mix=0.4)
    part = {
        "independence": lambda: IndependenceMetropolis(proposal, ONE_SITE),
        "tries": lambda: MultipleTry(proposal, ONE_SITE, 3),
        "latent": lambda: LatentMetropolis(proposal, ONE_SITE, Coloured(0.9)),
        "path": lambda: LatentMetropolis(learned("path", ONE_SITE, (2,), 0.5), ONE_SITE, Coloured(0.9)),
    }[learned_part]()
    hmc = HMC(ONE_SITE, 0.5, 2)
    for kernel in (Sequence([hmc, part]), Mixture([part, hmc], [2, 1])):
        block = run(kernel, 400)
        assert largest_deviation(block, ONE_SITE) < N_SIGMA
    if learned_part != "path":  # a path is redrawn before each update: nothing can go stale
        assert largest_deviation(run(Stale([hmc, part]), 400), ONE_SITE) > 2 * N_SIGMA


def test_composites_say_what_they_cost():
    part = IndependenceMetropolis(Warped((2,)), ONE_SITE)
    kernel = Sequence([HMC(ONE_SITE, 0.5, 2), part])
    assert kernel.describe()["evaluations_per_update"] == 2  # one proposal, and the density of the moved field
    assert "evaluations_per_update" not in Sequence([HMC(ONE_SITE, 0.5, 2)]).describe()


# --- bits ------------------------------------------------------------------------------------------------------------


def kernels_of_all_kinds(batch=1024):
    ode, path = (
        OdeProposal(model(FREE, SHAPE, 0.3), 6, batch=batch),
        PathProposal(model(FREE, SHAPE, 0.3), 4, batch=batch),
    )
    return {
        "tries": MultipleTry(ode, FREE, 3, batch=batch),
        "tries path": MultipleTry(path, FREE, 2, batch=batch),
        "tries path kept": MultipleTry(path, FREE, 2, refresh=False, batch=batch),
        "ode": LatentMetropolis(ode, FREE, Coloured(0.6)),
        "ode tries": LatentMetropolis(ode, FREE, Block((1, 4)), 3),
        "path": LatentMetropolis(path, FREE, Coloured(0.6)),
        "path block": LatentMetropolis(path, FREE, Block(2)),
    }


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("kind", kernels_of_all_kinds())
def test_cuts_batches_and_restarts_do_not_change_a_bit(kind):
    phi = free_fields(FREE, SHAPE, 3, 14)
    kernel, streams = kernels_of_all_kinds()[kind], Streams(15)
    whole, block = kernel.advance(kernel.start(phi), streams, 11, 3)
    kernel, streams, pieces = kernels_of_all_kinds(batch=2)[kind], Streams(15), []
    state = kernel.start(phi)
    for n in (1, 4, 0, 6):
        # what a file keeps, arrays and streams, is enough for a new process
        saved = ChainState(*(x.copy() if isinstance(x, np.ndarray) else x for x in state))
        streams = Streams.restore(streams.state())
        state, piece = kernel.advance(state, streams, n, 3)
        pieces.append(piece)
        if n:
            assert kernel.advance(saved, Streams(0), 0)[1].phi.shape == (0, 3, *SHAPE)
    assert same(state, whole)
    np.testing.assert_array_equal(np.concatenate([p.phi for p in pieces]), block.phi)
    np.testing.assert_array_equal(np.concatenate([p.action for p in pieces]), block.action)
    for name, rows in block.info.items():
        np.testing.assert_array_equal(np.concatenate([p.info[name] for p in pieces]), rows)
    assert len(block.phi) == 3


@pytest.mark.parametrize("kind", ["ode", "tries"])
def test_a_file_keeps_what_a_resumed_chain_needs(kind, tmp_path):
    """Noise and density of the current fields are in the file: extended or at once, the same bits."""
    from latticediff.ensemble import run_chain

    phi = free_fields(FREE, SHAPE, 3, 14)
    kernel = kernels_of_all_kinds()[kind]
    run_chain(kernel, (kernel.start(phi), Streams(16)), tmp_path / "whole.h5", 7, block=3).close()
    run_chain(kernel, (kernel.start(phi), Streams(16)), tmp_path / "cut.h5", 3, block=3).close()
    with (
        run_chain(kernel, None, tmp_path / "cut.h5", 7, block=2, resume=True) as cut,
        run_chain(kernel, None, tmp_path / "whole.h5", 7, resume=True) as whole,
    ):
        np.testing.assert_array_equal(cut.phis(), whole.phis())
        assert cut.fingerprint() == whole.fingerprint()


@pytest.mark.parametrize("n_chains", [1, 3, 40])
def test_both_forms_of_the_accept_loop_agree(n_chains, monkeypatch):
    rng = np.random.default_rng(17)
    log_u, log_new, current = np.log(rng.random((50, n_chains))), rng.normal(size=(50, n_chains)), np.zeros(n_chains)
    log_new[7] = -np.inf
    results = []
    for few in (0, 100):
        monkeypatch.setattr(stream, "FEW", few)
        results.append(stream.scan(stream.bounds(log_u, log_new), log_new, current))
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)
    accepted, source = results[0]
    assert not accepted[7].any() and 0 < accepted.mean() < 1
    assert (source[accepted] == np.nonzero(accepted)[0]).all()


def test_bounds_are_the_rule_of_several_tries():
    """``u (r + w) < r + w'`` for every w, solved for w; nothing is accepted where all candidates have weight zero."""
    rng = np.random.default_rng(23)
    u, new, rest, current = rng.random(1000), rng.normal(size=1000), rng.normal(size=1000), rng.normal(size=1000)
    expected = u * (np.exp(rest) + np.exp(current)) < np.exp(rest) + np.exp(new)
    np.testing.assert_array_equal(current < stream.bounds(np.log(u), new, rest), expected)
    np.testing.assert_array_equal(current < stream.bounds(np.log(u), new), u * np.exp(current) < np.exp(new))
    np.testing.assert_array_equal(stream.bounds(np.log(u), new, rest - np.inf), stream.bounds(np.log(u), new))
    assert not (stream.bounds(np.array([-0.5, -np.inf]), np.full(2, -np.inf), np.full(2, -np.inf)) > -1e300).any()


# --- refusals --------------------------------------------------------------------------------------------------------


def test_coarse_integrator_is_refused():
    coarse, fine = (OdeProposal(model(QUARTIC, SHAPE, 0.5), steps) for steps in (2, 32))
    phi = fine.draw(30, np.random.default_rng(18)).phi
    with pytest.raises(UserError, match=r"twice the integration steps change it by .* take more steps"):
        check_doubling(coarse, phi, 0.01)
    assert check_doubling(fine, phi, 0.01) < 0.01
    assert check_doubling(coarse, phi, np.inf) > 0.01
    assert check_doubling(learned("path", FREE, SHAPE), phi, 0.0) is None  # nothing is integrated
    with pytest.raises(UserError, match="a spread needs at least two"):
        check_doubling(fine, phi[:1], 0.01)


class Shifted:
    """A density in closed form, and with twice the 'steps' one without the error `epsilon` of (n,) fields."""

    def __init__(self, epsilon):
        self.epsilon = epsilon

    def doubled(self):
        return Shifted(0 * self.epsilon)

    def weigh(self, phi, rng):
        return -0.5 * (phi**2).sum(axis=1) + self.epsilon


def test_the_gate_looks_at_the_spread_and_for_log_z_at_the_mean():
    """A constant cancels in all ratios of weights, a spread biases averages; a change of 0.1 sin is one of 0.07."""
    phi = np.random.default_rng(19).normal(size=(2000, 3))
    wave = 0.1 * np.sin(np.linspace(0, 200 * np.pi, 2000, endpoint=False))
    both = Shifted(0.3 + wave)
    np.testing.assert_allclose(doubling_error(both, phi), 0.3 + wave, atol=1e-12)
    np.testing.assert_allclose(doubling_error(both, phi, both.weigh(phi, None) - 1.0), wave - 0.7, atol=1e-12)
    assert check_doubling(both, phi, 0.08) == pytest.approx(0.1 / np.sqrt(2), rel=1e-9)
    assert check_doubling(both, phi, 0.08, largest_mean=0.31) > 0
    with pytest.raises(UserError, match=r"by 0\.071 from field to field .* allowed is 0\.06"):
        check_doubling(both, phi, 0.06)
    with pytest.raises(UserError, match=r"by 0\.3 in the mean, allowed is 0\.29"):
        check_doubling(both, phi, 0.08, largest_mean=0.29)
    wave[7] = np.nan  # a field that one of the two cannot weigh
    with pytest.raises(UserError, match="by inf from field to field"):
        check_doubling(Shifted(wave), phi, 0.08)


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_weight_that_is_nan_or_infinite_is_refused(bad):
    proposal = Changed(Warped(), lambda phi, log_q: np.where(phi[:, 0] > 0.8, bad, log_q))
    for kernel in (MultipleTry(proposal, ONE_SITE, 2), LatentMetropolis(proposal, ONE_SITE, Coloured(1.0))):
        with pytest.raises(UserError, match=rf"gave log_q = {bad} .*; expected a finite number"):
            kernel.advance(kernel.start(np.zeros((16, 1))), Streams(19), 50)


def test_proposals_of_weight_zero_are_rejections():
    """Among several tries too, and where all of them diverged."""
    dead = Changed(Warped(), lambda phi, log_q: np.where(phi[:, 0] > 0.2, np.inf, log_q))
    for kernel in (MultipleTry(dead, ONE_SITE, 2), LatentMetropolis(dead, ONE_SITE, Coloured(1.0), 2)):
        _, block = kernel.advance(kernel.start(np.zeros((16, 1))), Streams(20), 100)
        assert block.phi.max() <= 0.2
        assert 0 < block.info["accepted"].mean() < 1


def test_field_that_cannot_be_weighed_is_refused():
    kernel = LatentMetropolis(Changed(Warped(), lambda phi, log_q: log_q + np.inf), ONE_SITE, Coloured(0.5))
    with pytest.raises(UserError, match="cannot weigh"):
        kernel.advance(kernel.start(np.zeros((2, 1))), Streams(21), 1)


def test_impossible_knobs_are_refused():
    made = model(FREE, SHAPE, 0.0)
    for sigma in (0.01, 5.0, float("nan")):
        with pytest.raises(UserError, match=r"outside the model's noise levels, 0.05 to 4"):
            PathProposal(made, 4, sigma=sigma)
    for eps in (0.0, 1.1, float("nan")):
        with pytest.raises(UserError, match="expected 0 < eps <= 1"):
            Coloured(eps)
    with pytest.raises(UserError, match="positive number"):
        White(0.0, flat(SHAPE))
    with pytest.raises(UserError, match="longer than the lattice"):
        LatentMetropolis(Warped(SHAPE), FREE, Block(7))
    with pytest.raises(UserError, match="smaller first"):
        Block((3, 2))
    with pytest.raises(UserError, match="no path"):
        LatentMetropolis(Warped(SHAPE), FREE, KeepTop())
    with pytest.raises(UserError, match=r"propagator has shape \(3, 3\)"):
        LatentMetropolis(Warped(SHAPE), FREE, White(1.0, flat((3, 3))))
    with pytest.raises(UserError, match="tries = 0"):
        MultipleTry(Warped(SHAPE), FREE, 0)
    with pytest.raises(UserError, match="has no transport"):
        LatentMetropolis(object(), FREE, Coloured(1.0))
    with pytest.raises(UserError, match="wants 1 axes"):
        LatentMetropolis(Warped(SHAPE), Phi4.A(1.0, 0.0, 1), Coloured(1.0))
    with pytest.raises(UserError, match="the proposal wants"):
        LatentMetropolis(Warped(SHAPE), FREE, Coloured(1.0)).start(np.zeros((2, 6, 6)))


def test_description_names_move_and_proposal():
    described = kernels_of_all_kinds()["path block"].describe()
    assert described["move"] == {"name": "block", "size": [2, 2], "eps": 1.0}
    assert described["evaluations_per_update"] == 8  # four up to redraw the path, four down
    assert described["proposal"]["name"] == "sde_path"


def test_quadrature_knows_the_two_site_theory():
    """The oracle itself: <phi_0 phi_1> > 0, and moments of exact fields agree."""
    assert exact_moments(ONE_SITE, 2)[3] > 0.05
    phi = exact_fields(DOUBLE_WELL, 50_000, 22)
    error = moments_of(phi).std(axis=0) / np.sqrt(len(phi))
    assert (np.abs(moments_of(phi).mean(axis=0) - exact_moments(DOUBLE_WELL)) < N_SIGMA * error + 1e-12).all()

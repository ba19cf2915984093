"""examples/hosts: proposals in other people's Monte Carlo, against our own chain, where the package is installed."""

import importlib.util
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import latticediff
from latticediff.errors import UserError
from latticediff.hosts.proposal import HostProposal
from latticediff.metropolis import Draw
from latticediff.streams import Streams

pytestmark = pytest.mark.hosts
EXAMPLES = Path(__file__).parents[1] / "examples" / "hosts"
L8 = "phi4-A-L8"


def example(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def expected():
    """<|m|> of our own chain and its error."""
    kernel = latticediff.load(L8).proposal().kernel()
    state = kernel.hot_start(50, Streams(8))
    _, block = kernel.advance(state, Streams(8).child("chain"), 200)
    means = np.abs(block.phi.mean(axis=(2, 3))).mean(axis=0)
    return means.mean(), means.std(ddof=1) / np.sqrt(50), block.info["accepted"].mean()


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("own_loop", None),
        ("with_emcee", "emcee"),
        ("with_blackjax", "blackjax"),
        ("with_numpyro", "numpyro"),
        ("with_flowmc", "flowMC"),
    ],
)
def test_the_example_agrees_with_our_chain(name, needs, expected):
    if needs:
        pytest.importorskip(needs, reason=f"{needs} is not installed (pip install 'latticediff[{needs.lower()}]')")
    series, acceptance = example(name).run()
    mean, error, accepted = expected
    own = series.std() / np.sqrt(series.size) * 1.2  # tau_int is 0.5 to 0.6
    assert abs(series.mean() - mean) < 4 * np.hypot(own, error)
    assert abs(acceptance - accepted) < 0.02


class Poor:
    """White noise: of two draws one is accepted by few, and every third blew up."""

    is_deterministic, lattice_shape, evaluations_per_draw = True, (3, 3), 0

    def draw(self, n, rng):
        noise = rng.standard_normal((n, 10))
        phi, blown = 0.5 * noise[:, 1:].reshape(n, 3, 3), noise[:, 0] > 0.4
        return Draw(phi * ~blown[:, None, None], np.where(blown, np.inf, self.weigh(phi)))

    def weigh(self, phi, rng=None):
        return -2 * (phi**2).sum(axis=(1, 2)) - 9 * np.log(0.5 * np.sqrt(2 * np.pi))

    def fingerprint(self):
        return "poor"


class TestEmcee:
    @pytest.fixture(autouse=True)
    def package(self):
        self.emcee = pytest.importorskip("emcee")
        self.hosts = importlib.import_module("latticediff.hosts.emcee")
        self.proposal = latticediff.load(L8).proposal()

    def sampler(self, moves, n=16):
        chain = self.emcee.EnsembleSampler(n, 64, self.hosts.log_prob(self.proposal), moves=moves, vectorize=True)
        chain._random.seed(5)
        return chain

    def test_log_q_is_carried_and_nothing_is_weighed_twice(self, monkeypatch):
        weighed = []
        own = type(self.proposal).weigh

        def count(proposal, phi, rng=None):
            weighed.append(len(phi))
            return own(proposal, phi, rng)

        monkeypatch.setattr(type(self.proposal), "weigh", count)
        move, start = self.hosts.IndependenceMove(self.proposal, 1), self.proposal.draw(16, 2).phi.reshape(16, 64)
        self.sampler(move).run_mcmc(start, 30, skip_initial_state_check=True)
        assert weighed == [16]  # the start
        assert np.allclose(own(self.proposal, move._known[0].reshape(-1, 8, 8)).log_q, move._known[1], atol=1e-3)

    def test_where_candidates_are_rejected_the_old_log_q_stays(self):
        proposal = HostProposal(Poor(), latticediff.Phi4.A(1.0, 1.0), "poor")
        chain = self.emcee.EnsembleSampler(20, 9, self.hosts.log_prob(proposal), vectorize=True)
        move = self.hosts.IndependenceMove(proposal, 1)
        chain._moves, chain._random = [move], np.random.RandomState(5)
        start = 0.3 * np.random.default_rng(2).standard_normal((20, 9))
        for state in chain.sample(start, iterations=30, skip_initial_state_check=True):
            known, log_q = move._known
            assert np.array_equal(known, state.coords) and np.array_equal(log_q, Poor().weigh(known.reshape(-1, 3, 3)))
            assert (known != 0).any(axis=1).all()  # a draw that blew up has a field of zeros, and the largest weight
        assert 0.02 < chain.acceptance_fraction.mean() < 0.7

    def test_what_another_move_changed_is_weighed_again(self):
        move = self.hosts.IndependenceMove(self.proposal, 1)
        mixed = [(move, 0.5), (self.emcee.moves.GaussianMove(1e-3), 0.5)]
        chain = self.sampler(mixed)
        chain.run_mcmc(self.proposal.draw(16, 2).phi.reshape(16, 64), 30, skip_initial_state_check=True)
        fields = chain.get_last_sample().coords
        assert np.allclose(move._weighed(fields), self.proposal.weigh(fields.reshape(-1, 8, 8)).log_q, atol=1e-3)

    def test_bits_do_not_depend_on_the_batch(self):
        start, found = self.proposal.draw(16, 2).phi.reshape(16, 64), []
        for batch in (1, 64, 1000):
            chain = self.sampler(self.hosts.IndependenceMove(self.proposal, 3, batch))
            chain.run_mcmc(start, 20, skip_initial_state_check=True)
            found.append(chain.get_chain())
        assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])

    def test_another_theory_is_sampled_exactly(self):
        """lam = 6.1 by the model of 6.008, against reweighting."""
        action = latticediff.Phi4.A(-4.0, 6.1)
        chain = self.emcee.EnsembleSampler(
            64,
            64,
            lambda x: -action(x.reshape(-1, 8, 8)),
            moves=self.hosts.IndependenceMove(self.proposal, 1),
            vectorize=True,
        )
        chain._random.seed(1)
        chain.run_mcmc(self.proposal.draw(64, 2).phi.reshape(64, 64), 120, skip_initial_state_check=True)
        means = (chain.get_chain(discard=20) ** 2).mean(axis=(0, 2))
        draw = self.proposal.draw(6000, 4)
        weight = -action(draw.phi) - draw.log_q
        weight, values = np.exp(weight - weight.max()), (draw.phi**2).mean(axis=(1, 2))
        mean = (weight * values).sum() / weight.sum()
        error = np.sqrt((weight**2 * (values - mean) ** 2).sum()) / weight.sum()
        assert abs(means.mean() - mean) < 4 * np.hypot(error, means.std(ddof=1) / 8)

    def test_what_it_cannot_take(self):
        with pytest.raises(UserError, match="use ode"):
            self.hosts.IndependenceMove(latticediff.load(L8).proposal("sde"), 1)
        with pytest.raises(UserError, match="batch = 0"):
            self.hosts.IndependenceMove(self.proposal, 1, 0)
        with pytest.raises(UserError, match=r"walkers have 16 coordinates; the proposal is of \(8, 8\)"):
            chain = self.emcee.EnsembleSampler(
                4,
                16,
                lambda x: -(x**2).sum(axis=1),
                vectorize=True,
                moves=self.hosts.IndependenceMove(self.proposal, 1),
            )
            chain.run_mcmc(np.zeros((4, 16)), 1, skip_initial_state_check=True)


def test_blackjax_draws_are_ours_and_single_precision_is_refused():
    jax = pytest.importorskip("jax")
    pytest.importorskip("blackjax")
    from latticediff.hosts.blackjax import irmh

    before, proposal = jax.config.read("jax_enable_x64"), latticediff.load(L8).proposal()
    try:
        jax.config.update("jax_enable_x64", False)
        with pytest.raises(UserError, match="jax_enable_x64"):
            irmh(proposal)
        jax.config.update("jax_enable_x64", True)
        key = jax.random.key(3)
        position = jax.jit(irmh(proposal)[1])(key)
        draw = proposal.draw(1, np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist()))
        assert np.array_equal(position.phi, draw.phi[0]) and float(position.log_q) == draw.log_q[0]
        assert float(position.action) == proposal.action(draw.phi)[0]
    finally:
        jax.config.update("jax_enable_x64", before)


def test_numpyro_chains_are_functions_of_the_key_and_begin_with_draws():
    jax = pytest.importorskip("jax")
    pytest.importorskip("numpyro")
    from latticediff.hosts.numpyro import Independence

    before, proposal = jax.config.read("jax_enable_x64"), latticediff.load(L8).proposal()
    try:
        jax.config.update("jax_enable_x64", False)
        with pytest.raises(UserError, match="jax_enable_x64"):
            Independence(proposal)
        jax.config.update("jax_enable_x64", True)
        kernel = Independence(proposal)
        with pytest.raises(UserError, match="init_params"):
            kernel.init(jax.random.key(1), 0, np.zeros((8, 8)))
        keys = jax.random.split(jax.random.key(2), 4)
        states = [kernel.init(keys, 0)]
        for _ in range(30):
            states.append(kernel.sample(states[-1], (), {}))
        again = kernel.init(keys, 0)
        for _ in range(30):
            again = kernel.sample(again, (), {})
        assert np.array_equal(again.phi, states[-1].phi)
        for old, new in itertools.pairwise(states):  # a rejected update repeats the field
            same = np.asarray(old.phi == new.phi).all(axis=(1, 2))
            assert np.array_equal(same, ~np.asarray(new.accepted))
        assert np.allclose(states[-1].action, proposal.action(np.asarray(states[-1].phi)), rtol=1e-12)
        assert np.allclose(states[-1].log_q, proposal.weigh(np.asarray(states[-1].phi)).log_q, atol=1e-3)
    finally:
        jax.config.update("jax_enable_x64", before)


class TestFlowMC:
    @pytest.fixture(autouse=True)
    def package(self):
        self.jax = pytest.importorskip("jax")
        pytest.importorskip("flowMC")
        self.hosts = importlib.import_module("latticediff.hosts.flowmc")
        self.proposal = latticediff.load(L8).proposal()
        before = self.jax.config.read("jax_enable_x64")
        self.jax.config.update("jax_enable_x64", True)
        yield
        self.jax.config.update("jax_enable_x64", before)

    def group(self, logpdf, start, n, seed=1):
        """``(positions, log_probs, accepted)`` of n updates of all chains."""
        kernel = self.hosts.Independence(self.proposal)
        keys = self.jax.random.split(self.jax.random.key(seed), len(start))

        def one(key, position):
            return kernel.kernel(key, position, logpdf(position, {}), logpdf, {"n_steps": n})

        return [np.asarray(part) for part in self.jax.jit(self.jax.vmap(one))(keys, start.reshape(len(start), -1))]

    def test_every_field_is_a_draw_or_the_field_before(self):
        start = self.proposal.draw(3, 2).phi
        positions, log_probs, accepted = self.group(self.hosts.log_prob(self.proposal), start, 12)
        before = np.concatenate([start.reshape(3, 1, 64), positions[:, :-1]], axis=1)
        assert np.array_equal((positions == before).all(axis=2), ~accepted)
        assert np.allclose(log_probs, -self.proposal.action(positions.reshape(-1, 8, 8)).reshape(3, 12), rtol=1e-12)
        again = self.group(self.hosts.log_prob(self.proposal), start, 12)
        assert np.array_equal(again[0], positions)

    def test_another_theory_is_sampled_exactly(self):
        """lam = 6.6 by the model of 6.008, in JAX's own arithmetic, against reweighting; 4 sigma."""
        numpy, action = self.jax.numpy, latticediff.Phi4.A(-4.0, 6.6)

        def logpdf(x, data):
            phi = x.reshape(8, 8)
            links = sum((numpy.roll(phi, -1, axis) - phi) ** 2 for axis in (0, 1))
            return -(links - 4.0 * phi**2 + 6.6 * phi**4).sum()

        positions, log_probs, accepted = self.group(logpdf, self.proposal.draw(64, 2).phi, 120)
        assert np.allclose(log_probs[0], -action(positions[0].reshape(-1, 8, 8)), rtol=1e-12)
        assert 0.5 < accepted.mean() < 0.98
        means = (positions[:, 20:] ** 2).mean(axis=(1, 2))
        draw = self.proposal.draw(20_000, 4)
        weight = -action(draw.phi) - draw.log_q
        weight, values = np.exp(weight - weight.max()), (draw.phi**2).mean(axis=(1, 2))
        mean = (weight * values).sum() / weight.sum()
        error = np.sqrt((weight**2 * (values - mean) ** 2).sum()) / weight.sum()
        assert abs(values.mean() - mean) > 8 * error  # the model's own theory would be seen
        assert abs(means.mean() - mean) < 4 * np.hypot(error, means.std(ddof=1) / 8)

    def test_what_it_cannot_take(self):
        with pytest.raises(UserError, match="use ode"):
            self.hosts.Independence(latticediff.load(L8).proposal("sde"))
        with pytest.raises(UserError, match="made anew from its model"):
            self.hosts.Independence(self.proposal).save_resource("x")
        self.jax.config.update("jax_enable_x64", False)
        with pytest.raises(UserError, match="jax_enable_x64"):
            self.hosts.Independence(self.proposal)


@pytest.mark.parametrize("name", ["emcee", "blackjax", "numpyro", "flowmc"])
def test_a_missing_package_is_named(name, monkeypatch):
    package = {"flowmc": "flowMC"}.get(name, name)
    for part in ("", ".moves", ".infer", ".infer.mcmc", ".resource.kernel.base"):
        monkeypatch.setitem(sys.modules, f"{package}{part}", None)
    monkeypatch.delitem(sys.modules, f"latticediff.hosts.{name}", raising=False)
    with pytest.raises(UserError, match=rf"pip install 'latticediff\[{name}\]'"):
        importlib.import_module(f"latticediff.hosts.{name}")


PAGES = Path(__file__).parents[1]
BLOCKS = [
    *re.findall(r"```python\n(import latticediff\n.*?)```", (PAGES / "README.md").read_text(), re.DOTALL),
    *re.findall(r"```python\n(.*?)```", (PAGES / "docs" / "embedding.md").read_text(), re.DOTALL),
]


@pytest.mark.parametrize("code", BLOCKS, ids=["README", "load", "chain", "netcdf", "blocking"])
def test_what_the_pages_print_runs(code, tmp_path):
    command = [sys.executable, "-c", code]
    # a relative path would lead nowhere from there
    environment = {**os.environ, "PYTHONPATH": str(Path(latticediff.__file__).parents[1])}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    if "accepted / 999" in code:
        assert float(done.stdout.split()[0]) > 0.9

"""`latticediff.load`: what a host program draws and weighs, whatever its batches, processes and random numbers are."""

import logging
import os
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest

import latticediff
from latticediff.ensemble import Ensemble, run_chain, verify
from latticediff.errors import ModelError, UserError
from latticediff.hosts import HostProposal
from latticediff.markov import chain
from latticediff.metropolis import Draw, IndependenceMetropolis
from latticediff.metropolis.contract import Proposal
from latticediff.streams import Streams

L8 = "phi4-A-L8"
ROUTES = [("phi4-A-L8", "ode"), ("phi4-A-L8", "sde"), ("phi4-A-L8-fast", "ode")]


@pytest.fixture(scope="module")
def proposals():
    return {(name, route): latticediff.load(name).proposal(route) for name, route in ROUTES}


def rng(seed=1):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("key", ROUTES)
def test_draw_and_weigh_give_one_density_of_the_whole_lattice(proposals, key):
    proposal = proposals[key]
    phi, log_q = proposal.draw(5, rng())
    assert phi.shape == (5, 8, 8) == (5, *proposal.shape) and phi.dtype == log_q.dtype == np.float64
    log_weight = -proposal.action(phi) - log_q
    assert log_weight.std() < 1.5  # of a density that is nearly exp(-S)
    weighed = proposal.weigh(phi, rng(2))
    assert np.array_equal(weighed.log_weight, -proposal.action(phi) - weighed.log_q)
    if proposal.is_deterministic:
        assert np.allclose(weighed.log_q, log_q, atol=1e-3)
    assert isinstance(proposal.contract, Proposal)


@pytest.mark.parametrize("key", ROUTES)
def test_values_do_not_depend_on_the_batch(proposals, key):
    proposal = proposals[key]
    whole, one = proposal.draw(300, rng()), rng()
    parts = [proposal.draw(n, one) for n in (1, 1, 7, 91, 200)]
    for a, b in zip(whole, zip(*parts, strict=True), strict=True):
        assert np.array_equal(a, np.concatenate(b))
    small = latticediff.load(key[0]).proposal(key[1], batch=3).draw(20, rng())
    assert np.array_equal(small.phi, whole.phi[:20]) and np.array_equal(small.log_q, whole.log_q[:20])
    if proposal.is_deterministic:
        log_q = proposal.weigh(whole.phi[:40]).log_q
        assert np.array_equal(log_q[:1], proposal.weigh(whole.phi[:1]).log_q)
        assert np.array_equal(log_q[3:20], proposal.weigh(whole.phi[3:20]).log_q)


def test_the_scheme_is_the_models_own_and_options_change_it():
    model = latticediff.load(L8)
    own = model.proposal().describe()
    assert own["name"] == "ode" and "grid" in own
    assert model.proposal(steps=4, method="rk4", grid="uniform").describe()["steps"] == 4
    assert model.proposal(rungs=2).describe() != own
    assert model.proposal().fingerprint() == model.proposal("ode").fingerprint() != model.proposal("sde").fingerprint()
    assert repr(model).startswith("Model('phi4-A-L8': ") and "ode" in repr(model.proposal())


def test_one_coupling_of_a_line():
    theory = latticediff.Phi4.A(-4.0, 5.5)
    model = latticediff.load("phi4-A-line", action=theory)
    assert model.action.describe() == theory.describe()
    assert latticediff.load("phi4-A-line").at(theory).fingerprint() == model.fingerprint()


def test_pickled_it_draws_the_same(proposals):
    for proposal in proposals.values():
        again = pickle.loads(pickle.dumps(proposal))
        for a, b in zip(again.draw(3, rng()), proposal.draw(3, rng()), strict=True):
            assert np.array_equal(a, b)
    model = pickle.loads(pickle.dumps(latticediff.load(L8)))
    assert np.array_equal(model.proposal().draw(2, 5).phi, latticediff.load(L8).proposal().draw(2, 5).phi)


def test_threads_draw_the_same(proposals):
    proposal, found = proposals[L8, "ode"], {}
    expected = {seed: proposal.draw(64, seed) for seed in range(6)}

    def work(seed):
        found[seed] = proposal.draw(64, seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(found[seed].log_q, draw.log_q) for seed, draw in expected.items())


PROCESSES = """
import multiprocessing, sys
import numpy as np
import latticediff

def work(proposal, seed):
    phi, log_q = proposal.draw(4, seed)
    return np.concatenate([phi.ravel(), log_q, proposal.weigh(phi).log_q]).tobytes()

if __name__ == "__main__":
    proposal = latticediff.load("phi4-A-L8").proposal()
    expected = [work(proposal, seed) for seed in (1, 2)]
    for method in ("fork", "spawn", "forkserver"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            assert pool.starmap_async(work, [(proposal, 1), (proposal, 2)]).get(60) == expected, method
    print("same")
"""


def test_processes_of_every_kind_draw_the_same(tmp_path):
    script = tmp_path / "processes.py"
    script.write_text(PROCESSES)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300)
    assert done.stdout == "same\n", done.stderr


def test_random_numbers_of_every_kind(proposals, caplog):
    proposal = proposals[L8, "ode"]
    assert np.array_equal(proposal.draw(2, 7).phi, proposal.draw(2, rng(7)).phi)
    assert np.array_equal(proposal.draw(2, np.int64(7)).phi, proposal.draw(2, 7).phi)
    streams = Streams(3)
    assert not np.array_equal(proposal.draw(2, streams).phi, proposal.draw(2, streams).phi)
    caplog.clear()  # where code is not on disk yet, the first draw says that it compiles
    assert proposal.draw(2, np.int64(7)).phi.shape == (2, 8, 8)
    assert not caplog.records
    with caplog.at_level(logging.WARNING, "latticediff"):
        phi = proposal.draw(2).phi
    (record,) = caplog.records
    assert np.array_equal(proposal.draw(2, record.args[1]).phi, phi)  # the seed that was said
    before = np.random.get_state()[1].copy()  # noqa: NPY002, the host's
    proposal.draw(2), proposal.draw(2, 1)
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (-1, "expected a seed of at least 0"),
        (True, "rng is a bool"),
        (1.5, "rng is a float"),
        (np.random.RandomState(1), "RandomState; expected a numpy.random.Generator"),
    ],
)
def test_other_random_numbers_are_refused(proposals, given, said):
    with pytest.raises(UserError, match=said):
        proposals[L8, "ode"].draw(1, given)
    with pytest.raises(UserError, match=said):
        next(chain(None, None, given))


def test_chain_takes_a_generator_a_seed_or_nothing(proposals, caplog):
    kernel = proposals[L8, "ode"].kernel()
    assert isinstance(kernel, IndependenceMetropolis) and proposals[L8, "ode"].kernel(tries=3).tries == 3
    state = kernel.hot_start(4, Streams(1))
    assert np.array_equal(kernel.hot_start(4, 1).phi, state.phi)

    def fields(given):
        return next(chain(kernel, state, given, block=5))[1].phi

    assert np.array_equal(fields(9), fields(Streams(9)))
    assert np.array_equal(fields(rng(2)), fields(rng(2))) and not np.array_equal(fields(rng(2)), fields(rng(3)))
    with caplog.at_level(logging.WARNING, "latticediff"):
        fields(None)
    assert "chain: no rng was given" in caplog.text


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: latticediff.load("phi4-A-L9"), ModelError, r"did you mean"),
        (lambda: latticediff.load(L8, shape=(16, 16)), ModelError, r"trained on \(8, 8\)"),
        (lambda: latticediff.load(L8).proposal("odd"), UserError, "route is 'odd'"),
        (lambda: latticediff.load(L8).proposal(step=4), UserError, "no option 'step'; it takes steps, method"),
        (lambda: latticediff.load(L8).proposal("sde", model=1), UserError, "no option 'model'"),
        (lambda: latticediff.load(L8).proposal(batch=0), UserError, "batch = 0"),
        (lambda: latticediff.load(L8).proposal().draw(-1, 1), UserError, "n is -1"),
        (lambda: latticediff.load(L8).proposal().draw(1.0, 1), UserError, "n is 1.0"),
        (lambda: latticediff.load(L8).proposal().weigh(np.zeros((8, 8))), UserError, r"expected \(n, 8, 8\)"),
        (lambda: latticediff.load(L8).proposal().weigh(np.full((1, 8, 8), np.nan)), UserError, "not finite"),
        (lambda: latticediff.load(L8).proposal().weigh(np.zeros((1, 8, 8), complex)), UserError, "complex"),
    ],
)
def test_bad_input_is_one_line(call, error, said):
    with pytest.raises(error, match=said) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_nothing_is_drawn_or_weighed_of_nothing(proposals):
    proposal = proposals[L8, "ode"]
    assert proposal.draw(0, 1).phi.shape == (0, 8, 8)
    assert proposal.weigh(np.zeros((0, 8, 8))).log_q.shape == (0,)


def test_first_use_says_that_it_compiles(tmp_path):
    """In a fresh cache; once, on standard error, and not where code is loaded from the cache."""
    code = (
        "import numpy as np; from latticediff._kernels.compile import cached_sums as make\n"
        "from latticediff.hosts.compiling import saying_when_compiling\n"
        "def twice(x): return 2 * x\n"
        "twice.__module__ = 'latticediff.sample'\n"
        "import numba; f = numba.njit(twice)\n"
        "with saying_when_compiling('here'): f(1), f(1.0)\n"
        "with saying_when_compiling('there'): f(2), f(2.0)\n"
        "import numba.core.event as event; assert not event._registered['numba:compile']\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("compiling") == 1 and "here: compiling" in done.stderr and "warm-up" in done.stderr


def test_an_import_is_quick():
    """Under 0.1 s beyond the interpreter's own start; neither torch nor numba nor NumPy."""
    code = (
        "import sys, time; t = time.perf_counter(); import latticediff; print(time.perf_counter() - t);"
        "print([m for m in ('torch', 'numba', 'numpy') if m in sys.modules])"
    )
    took, loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split("\n")[:2]
    assert float(took) < 0.1 and loaded == "[]"


class Gaussian:
    """A proposal of another package; `change` breaks an answer."""

    is_deterministic, lattice_shape, evaluations_per_draw = True, (4, 4), 0

    def __init__(self, **change):
        self.change = change
        self.asked = 0

    def draw(self, n, rng):
        phi = rng.standard_normal((n, 4, 4))
        draw = Draw(phi, self.weigh(phi))
        return self.change["draw"](draw) if "draw" in self.change else draw

    def weigh(self, phi, rng=None):
        log_q = -0.5 * (phi**2).sum(axis=(1, 2)) - 8 * np.log(2 * np.pi)
        return self.change["weigh"](log_q) if "weigh" in self.change else log_q

    def fingerprint(self):
        self.asked += 1
        return f"{self.asked if 'fingerprint' in self.change else 'same'}"


def fail(*_):
    return 1 / 0


def lack(*_):
    import package_that_is_nowhere  # noqa: F401


BROKEN = [
    ({"draw": fail}, r"draw\(3\) raised ZeroDivisionError"),
    ({"draw": lack}, r"draw\(3\) needs a package that is missing \(No module named 'package_that_is_nowhere'\)"),
    ({"draw": lambda d: d.phi}, r"gave ndarray; expected a Draw|gave phi of shape"),
    ({"draw": lambda d: None}, r"draw\(3\) gave NoneType; expected a Draw"),
    ({"draw": lambda d: Draw(d.phi[:, :3], d.log_q)}, r"phi of shape \(3, 3, 4\); expected \(3, 4, 4\)"),
    ({"draw": lambda d: Draw(d.phi.astype(np.float32), d.log_q)}, "gave phi as ndarray of float32"),
    ({"draw": lambda d: Draw(d.phi, d.log_q.sum())}, "gave log_q as"),
    ({"draw": lambda d: Draw(d.phi, d.log_q[:, None])}, r"log_q of shape \(3, 1\); expected \(3\)"),
    ({"draw": lambda d: Draw(d.phi, d.log_q * np.nan)}, r"draw\(3\) gave log_q = nan \(draw 0\)"),
    ({"draw": lambda d: Draw(d.phi, d.log_q - np.inf)}, r"draw\(3\) gave log_q = -inf"),
    ({"draw": lambda d: Draw(d.phi * np.nan, d.log_q)}, r"draw\(3\) gave a field that is not finite"),
    ({"weigh": lambda q: list(q)}, "gave log_q as list; expected a NumPy array of float64"),
    ({"draw": lambda d: Draw(np.ma.masked_greater(d.phi, 1.0), d.log_q)}, "gave phi as MaskedArray of float64"),
    ({"draw": lambda d: Draw(d.phi, np.ma.masked_array(d.log_q, d.log_q < 0))}, "gave log_q as MaskedArray"),
]


@pytest.mark.parametrize(("change", "said"), BROKEN)
def test_a_proposal_that_breaks_its_contract_is_named_with_the_call(change, said):
    action = latticediff.Phi4.A(1.0, 1.0)
    host = HostProposal(Gaussian(**change), action, "mine")
    kernel = IndependenceMetropolis(Gaussian(**change), action)

    def drawn_and_weighed():
        host.weigh(host.draw(3, 1).phi)

    def advanced():
        kernel.advance(kernel.start(np.zeros((3, 4, 4))), Streams(1), 1)

    def started():
        kernel.advance(kernel.hot_start(3, 1)._replace(log_q=None), Streams(1), 1)

    for call in (drawn_and_weighed, advanced, started):
        with pytest.raises(UserError, match=said) as caught:
            call()
        assert "test_load.Gaussian" in str(caught.value) and "\n" not in str(caught.value)


def test_numbers_that_are_no_density_are_refused():
    action = latticediff.Phi4.A(1.0, 1.0)
    for value, said in ((np.nan, "log_q = nan"), (-np.inf, "log_q = -inf")):
        broken = Gaussian(
            draw=lambda d, value=value: Draw(d.phi, np.where(np.arange(len(d.log_q)) == 1, value, d.log_q))
        )
        with pytest.raises(UserError, match=said):
            HostProposal(broken, action, "mine").draw(3, 1)
    broken = Gaussian(draw=lambda d: Draw(d.phi * np.inf, d.log_q))
    with pytest.raises(UserError, match="field that is not finite"):
        HostProposal(broken, action, "mine").draw(3, 1)


def test_a_fingerprint_that_changes_during_a_chain_is_noticed():
    kernel = IndependenceMetropolis(Gaussian(fingerprint=True), latticediff.Phi4.A(1.0, 1.0))
    state, _ = kernel.advance(kernel.start(np.zeros((2, 4, 4))), Streams(1), 3)
    with pytest.raises(UserError, match=r"test_load.Gaussian: its fingerprint changed during the chain, from 1 to 2"):
        kernel.advance(state, Streams(1), 3)


@pytest.mark.parametrize("told", [None, 7, b"same", np.zeros(2)])
def test_a_fingerprint_is_text(told):
    proposal = Gaussian()
    proposal.fingerprint = lambda: told
    kernel = IndependenceMetropolis(proposal, latticediff.Phi4.A(1.0, 1.0))
    with pytest.raises(UserError, match=r"test_load.Gaussian: fingerprint\(\) gave \w+; expected text"):
        kernel.advance(kernel.start(np.zeros((2, 4, 4))), Streams(1), 3)


def test_a_proposal_that_writes_into_given_fields_is_named():
    """The chain stands at them: written over, it would be a chain of other fields, with actions of these."""

    class Writing(Gaussian):
        def weigh(self, phi, rng=None):
            log_q = super().weigh(phi)
            phi *= 0.5
            return log_q

    action, phi = latticediff.Phi4.A(1.0, 1.0), np.random.default_rng(1).standard_normal((3, 4, 4))
    before, kernel = phi.copy(), IndependenceMetropolis(Writing(), action)
    host, start = HostProposal(Writing(), action, "mine"), kernel.start(phi)
    for call in (lambda: host.weigh(phi), lambda: kernel.advance(start, Streams(1), 2)):
        with pytest.raises(UserError, match=r"Writing: weigh of 3 fields writes into the fields"):
            call()
        assert np.array_equal(phi, before)


def test_a_proposal_may_fill_the_same_memory_at_every_call():
    class Reusing(Gaussian):
        memory = np.empty((5000, 4, 4)), np.empty(5000)

        def draw(self, n, rng):
            for mine, theirs in zip(self.memory, super().draw(n, rng), strict=True):
                mine[:n] = theirs
            return Draw(*(mine[:n] for mine in self.memory))

    action = latticediff.Phi4.A(1.0, 1.0)
    first, second = (HostProposal(kind(), action, "mine").draw(3, 1).phi for kind in (Gaussian, Reusing))
    HostProposal(Reusing(), action, "mine").draw(3, 2)
    assert np.array_equal(first, second)
    kernel = IndependenceMetropolis(Reusing(), action)
    start = kernel.hot_start(3, 1)
    before, values = start.phi.copy(), start.action.copy()
    kernel.advance(start, Streams(1), 2)
    assert np.array_equal(start.phi, before) and np.array_equal(start.action, values)
    assert np.allclose(values, action(before), rtol=1e-12)


@pytest.mark.filterwarnings("ignore:.*encountered")
def test_fields_of_draws_that_blew_up_may_be_anything():
    """They have weight zero by their log_q alone; the chain stays where it stands."""
    action, bad = latticediff.Phi4.A(1.0, 1.0), np.array([np.nan, np.inf, 1e200])[:, None, None]
    broken = Gaussian(draw=lambda d: Draw(d.phi + np.resize(bad, (len(d.phi), 1, 1)), np.full(len(d.phi), np.inf)))
    kernel = IndependenceMetropolis(broken, action)
    state, block = kernel.advance(kernel.start(np.zeros((3, 4, 4))), Streams(1), 4)
    assert not block.info["accepted"].any() and (state.phi == 0).all()
    assert np.isfinite(HostProposal(broken, action, "mine").draw(3, 1).phi).all()
    huge = IndependenceMetropolis(Gaussian(draw=lambda d: Draw(d.phi * 1e200, d.log_q)), action)
    with pytest.raises(UserError, match=r"proposal test_load.Gaussian has log_weight nan"):
        huge.advance(huge.start(np.zeros((3, 4, 4))), Streams(1), 4)


def test_the_file_of_a_chain_whose_proposal_breaks_stays_valid(tmp_path):
    """What was done before is there, and the chain goes on from it when the proposal is mended."""
    action, calls = latticediff.Phi4.A(1.0, 1.0), []

    def fail_late(draw):
        calls.append(1)
        return draw if len(calls) != 4 else 1 / 0

    def start():
        kernel = IndependenceMetropolis(Gaussian(), action)
        return kernel.start(np.zeros((2, 4, 4))), Streams(1)

    path, options = tmp_path / "chain.h5", {"block": 5, "checkpoint_seconds": 0.0}
    with pytest.raises(UserError, match="raised ZeroDivisionError"):
        run_chain(IndependenceMetropolis(Gaussian(draw=fail_late), action), start(), path, 40, **options)
    with Ensemble(path) as part:
        assert part.n_updates == 15 and not part.is_complete
    with run_chain(IndependenceMetropolis(Gaussian(), action), start(), path, 40, resume=True, **options) as chain:
        fields = chain.phis()
    verify(path)
    with run_chain(IndependenceMetropolis(Gaussian(), action), start(), tmp_path / "whole.h5", 40) as whole:
        assert np.array_equal(whole.phis(), fields)


HOSTILE = {
    "float64": lambda torch: torch.set_default_dtype(torch.float64),
    "device": lambda torch: torch.set_default_device("meta"),
    "no gradients": lambda torch: torch.set_grad_enabled(False),
    "low precision": lambda torch: torch.set_float32_matmul_precision("medium"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_the_host_has_set_changes_no_bit_and_stays(name):
    import torch

    def numbers():
        found = []
        for model, route in ROUTES:
            proposal = latticediff.load(model).proposal(route)
            draw = proposal.draw(3, 1)
            found += [*draw, *proposal.weigh(draw.phi, 2), *pickle.loads(pickle.dumps(proposal)).draw(2, 3)]
        return found

    def settings():
        device = torch.empty(0).device
        rng = torch.get_rng_state().clone() if device.type == "cpu" else torch.zeros(0, device="cpu")
        return (torch.get_default_dtype(), device, torch.is_grad_enabled(), np.geterr()), rng

    expected, grad = numbers(), torch.is_grad_enabled()
    try:
        HOSTILE[name](torch)
        with np.errstate(all="raise"):
            before = settings()
            assert all(np.array_equal(a, b) for a, b in zip(numbers(), expected, strict=True))
            after = settings()
        assert after[0] == before[0] and torch.equal(after[1], before[1])
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)
        torch.set_float32_matmul_precision("highest")
        torch.set_grad_enabled(grad)

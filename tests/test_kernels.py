"""The compiled kernels against the slow reference, and the generator against published vectors."""

import fcntl
import importlib
import inspect
import os
import pkgutil
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numba.core.dispatcher import Dispatcher
from scipy import stats
from warm import ALONE

from latticediff import _kernels
from latticediff._kernels import oracle as reference
from latticediff._kernels import random as draws
from latticediff._kernels.layout import lanes_for
from latticediff._kernels.locking import LOCK_FILE
from latticediff._kernels.verified import require_generator
from latticediff.action import Phi4
from latticediff.errors import UserError
from latticediff.hmc import HMC, INTEGRATORS
from latticediff.hmc.integrators import schedule

U = np.uint64

# Random123 kat_vectors, philox4x32 10: counter, key, output
KNOWN = [
    ((0,) * 4, (0,) * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "output"), KNOWN)
def test_philox_known_answers(counter, key, output):
    assert tuple(int(word) for word in draws.philox(*map(U, counter), *map(U, key))) == output
    assert tuple(reference.philox(counter, key)) == output


@pytest.mark.parametrize("lanes", [1, 4])
def test_normals_equal_the_reference(lanes):
    key, update = 0x0123456789ABCDEF, 2**33 + 5
    out = np.empty(52 * lanes)
    draws.fill_normals(out, U(key), U(8), U(lanes), U(update))
    for lane in range(lanes):
        expected = reference.normals(key, 8 + lane, update, 52)
        np.testing.assert_allclose(out.reshape(52, lanes)[:, lane], expected, rtol=3e-14, atol=1e-15)


def test_sums_in_any_order_are_asked_for_by_name():
    """Three kernels may reorder their sums; none of them, nor any other, contains a rounding or bit trick beside it."""
    reordered = set()
    for module in pkgutil.iter_modules(_kernels.__path__):
        room = importlib.import_module(f"latticediff._kernels.{module.name}")
        for name, item in vars(room).items():
            if isinstance(item, Dispatcher) and item.py_func.__module__ == room.__name__:
                flags = set(item.targetoptions["fastmath"])
                assert flags <= {"contract", "reassoc", "nsz"}, name
                if flags != {"contract"}:
                    reordered.add(f"{module.name}.{name}")
                    assert "_as_float" not in inspect.getsource(item.py_func)
    assert reordered == {"ridge.add_outer", "ridge.activate_backward", "adjoint.activate_backward"}
    assert "view(np" not in inspect.getsource(importlib.import_module("latticediff._kernels.ridge"))


# instruction sets without fused multiply-add, with it, and with masks; a foreign one is compiled but not run
# every 64-bit ARM has fused multiply-add; the least of them has no wide vectors
CPUS = {"x86_64": ("x86-64", "nehalem", "sandybridge"), "aarch64": ("generic", "cortex-a53"), "arm64": ("generic",)}


@pytest.mark.parametrize("cpu", CPUS.get(platform.machine(), ()))
def test_normals_are_right_on_lesser_machines(cpu, tmp_path):
    """A child process that compiles for another CPU and checks itself, as every first use does."""
    code = "import latticediff._kernels.random as r; from latticediff._kernels.verified import check_generator as c;"
    lowered = {"NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path)}
    run = [sys.executable, "-c", code + "print(c(r.fill_normals, r.uniform))"]
    done = subprocess.run(run, env={**os.environ, **lowered}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1
    assert len(list(tmp_path.rglob("generator-*.checked"))) == 1


@pytest.mark.parametrize(
    "settings",
    [{}, {"NUMBA_ENABLE_AVX": "0"}, {"NUMBA_CPU_FEATURES": ""}, {"NUMBA_CPU_NAME": "generic"}],
    ids=["as it is", "no AVX", "no features", "another name"],
)
def test_the_mark_is_of_the_machine_that_numba_compiles_for(settings):
    """Code for a lesser set of instructions has a mark of its own, however the set was lowered."""
    code = (
        "from numba.core.registry import cpu_target; from latticediff._kernels.compile import machine;"
        "_, *target = cpu_target.target_context.codegen().magic_tuple();"
        "assert machine() == ' '.join(target).strip(), (machine(), target)"
    )
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **settings}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_generator_that_was_miscompiled_is_refused(tmp_path):
    """One number in a hundred off by 1e-10, or NaN: refused, and no mark is left."""

    class Wrong:
        class _cache:
            cache_path = str(tmp_path)

        def __init__(self, change):
            self.change = change

        def __call__(self, out, *counter):
            draws.fill_normals(out, *counter)
            out[17] += self.change

    for change in (1e-10, np.nan, 0.3):
        with pytest.raises(UserError, match=r"random numbers compiled for .* differ from their definition"):
            require_generator(Wrong(change), draws.uniform)
    assert not list(tmp_path.iterdir())
    require_generator(Wrong(0.0), draws.uniform)
    assert len(list(tmp_path.iterdir())) == 1
    require_generator(Wrong(0.3), draws.uniform)  # marked: not looked at again


def test_uniforms_equal_the_reference():
    for update in (0, 2**40 + 3):
        assert draws.uniform(U(77), U(2), U(9), U(update)) == reference.uniform(77, 2, 9, update)


def test_normals_are_normal():
    """Kolmogorov-Smirnov and a chi-square of the squared radius; false alarm 1e-4 each."""
    out = np.empty(400_000)
    draws.fill_normals(out, U(99), U(0), U(1), U(3))
    assert stats.kstest(out, "norm").pvalue > 1e-4
    assert stats.kstest(out[:100_000] ** 2 + out[100_000:200_000] ** 2, "chi2", args=(2,)).pvalue > 1e-4
    pairs = out.reshape(4, -1)
    correlation = np.corrcoef(np.concatenate([pairs, pairs**2]))
    off = correlation[np.triu_indices(8, 1)]
    assert np.abs(off).max() < 5 / np.sqrt(pairs.shape[1])


def test_chains_and_updates_are_uncorrelated():
    """Correlations of neighbouring counters, 5 sigma: false alarm 6e-7 each of 28."""
    streams = []
    for chain in (0, 1):
        for update in (0, 1):
            out = np.empty(65536)
            draws.fill_normals(out, U(5), U(chain), U(1), U(update))
            streams.extend([out, np.roll(out, 1)])
    off = np.corrcoef(streams)[np.triu_indices(8, 1)]
    assert np.abs(off).max() < 5 / 256


# lattices with one lane and with four, odd and unequal extents, an extent of one and two
LATTICES = [(7,), (40,), (4, 6), (5, 3), (2, 1), (3, 13), (3, 2, 4), (2, 3, 33), (2, 3, 2, 3)]


@pytest.mark.parametrize("shape", LATTICES, ids=str)
def test_compiled_trajectory_equals_reference(shape):
    action = Phi4.A(-0.7 * len(shape), 1.3, len(shape))
    rng = np.random.default_rng(4)
    phi, momentum = rng.normal(size=(2, 5, *shape))  # five chains: one full group of four and one lane of the next
    kernel = HMC(action, 0.07, 3)
    end, back, energy = kernel.integrate(phi, momentum)
    kicks, drifts = schedule("leapfrog", 0.07, 3)
    for c in range(5):
        end_c, back_c = reference.trajectory(action, phi[c], momentum[c], kicks, drifts)
        np.testing.assert_allclose(end[c], end_c, rtol=0, atol=1e-12)
        np.testing.assert_allclose(back[c], back_c, rtol=0, atol=1e-12)
        np.testing.assert_allclose(energy[c], reference.action(action, end_c) + 0.5 * (back_c**2).sum(), rtol=1e-12)


def test_both_layouts_are_tested():
    assert {lanes_for(shape) for shape in LATTICES if len(shape) == 2} == {1, 4}
    assert {lanes_for(shape) for shape in LATTICES if len(shape) == 3} == {1, 4}


@pytest.mark.parametrize("integrator", INTEGRATORS)
def test_integrator_is_reversible(integrator):
    rng = np.random.default_rng(5)
    phi, momentum = rng.normal(size=(2, 4, 4, 6))
    kernel = HMC(Phi4.A(-1.0, 1.0), 0.1, 10, integrator)
    end, _, _ = kernel.integrate(phi, momentum)
    assert np.abs(end - phi).max() > 0.1
    assert kernel.reversibility_error(phi, momentum) < 1e-12


@pytest.mark.parametrize("integrator", INTEGRATORS)
def test_integrator_has_its_order(integrator):
    """Slope of log |delta H| against log step size, over a factor four."""
    rng = np.random.default_rng(6)
    phi, momentum = 0.7 * rng.normal(size=(2, 8, 4, 6))
    action = Phi4.A(-1.0, 1.0)
    before = action(phi) + 0.5 * (momentum**2).sum(axis=(1, 2))
    errors = []
    for n_steps in (16, 64):
        _, _, after = HMC(action, 0.8 / n_steps, n_steps, integrator).integrate(phi, momentum)
        errors.append(np.sqrt(((after - before) ** 2).mean()))
    order = np.log(errors[0] / errors[1]) / np.log(4)
    np.testing.assert_allclose(order, INTEGRATORS[integrator][0], atol=0.1)


PROBE = """
import numpy as np
from latticediff.action import Phi4
from latticediff.errors import UserError
from latticediff.hmc import HMC
kernel = HMC(Phi4.A(-1.0, 1.0), 0.1, 2)
kernel.integrate(np.ones((1, 4, 6)), np.ones((1, 4, 6)))
integrate = kernel._plan((4, 6))[0].integrate
print(len(integrate.stats.cache_hits), len(integrate.stats.cache_misses))
"""


def test_compiled_code_is_cached_across_processes(tmp_path):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    counts = [
        subprocess.run(
            [sys.executable, "-c", PROBE], env=environment, capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    ]
    assert counts[0].split() == ["0", "1"]
    assert counts[1].split() == ["1", "0"]


def test_compiled_code_is_saved_by_one_process_at_a_time(tmp_path):
    """While somebody has the lock, nothing is written; without it another process could name the wrong code."""
    code = """
from latticediff._kernels.compile import cached
def twice(x):
    return 2 * x
twice.__module__ = "latticediff._kernels.compile"
kernel = cached(twice)
print(kernel._cache.cache_path, flush=True)
assert kernel(2.0) == 4.0 and kernel(3) == 6
"""
    script = tmp_path / "compile_something.py"
    script.write_text(code)
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=True)
    folder = Path(done.stdout.strip())
    assert list(folder.glob("*.nbi")) and (folder / LOCK_FILE).exists()
    for path in folder.glob("*.nb*"):
        path.unlink()
    with open(folder / LOCK_FILE, "a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        child = subprocess.Popen([sys.executable, script], env=environment, stdout=subprocess.PIPE, text=True)
        child.stdout.readline()  # it is about to compile
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(3)
        assert not list(folder.glob("*.nb*"))
    assert child.wait(60) == 0 and list(folder.glob("*.nbi"))


def test_code_cached_by_several_processes_is_linked_to_its_own_parts(tmp_path):
    """Kernels of one and of three dimensions compiled by processes of their own, then both loaded by one.

    Forks of one process, which has compiled what all share: the numbers of the next two are the same.
    """
    script = tmp_path / "advance.py"
    script.write_text(
        """
import os
import numpy as np
from latticediff import HMC, Phi4, Streams
from latticediff._kernels.random import fill_normals, uniform
from latticediff._kernels.verified import require_generator
require_generator(fill_normals, uniform)
for words in ("7", "3x2x4", "7 3x2x4"):
    if not (child := os.fork()):
        for word in words.split():
            shape = tuple(int(n) for n in word.split("x"))
            kernel = HMC(Phi4.A(-4.0, 6.0, len(shape)), 0.1, 4)
            start = kernel.start(0.5 * np.random.default_rng(1).normal(size=(5, *shape)))
            print(word, repr(float(kernel.advance(start, Streams(3), 5)[0].phi.sum())), flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""
    )
    # one hash seed: Numba's names hold the fast-math flags in the order of a set, by luck another in each process
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONHASHSEED": "0", **ALONE}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 4 and lines[:2] == lines[2:]

"""examples/cpp: programs in C++ make chains of pools, read as bytes and by the HDF5 library; `accept` agrees."""

import shlex
import shutil
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest

from latticediff.pool import open_pool
from latticediff.pool.consumed import consumed
from latticediff.pool.files import require_digest
from latticediff.stages.accept import accept
from latticediff.stages.propose import propose

FOLDER = Path(__file__).parents[1] / "examples" / "cpp"
COMPILER = next(filter(None, map(shutil.which, ("g++", "c++", "clang++"))), None)
N = 4000

pytestmark = [pytest.mark.hosts, pytest.mark.skipif(COMPILER is None, reason="no C++ compiler on this machine")]


def hdf5_flags():
    """What the compiler is told of the system's HDF5, or a skip that says why."""
    if shutil.which("pkg-config") is None:
        pytest.skip("no pkg-config to find HDF5 with (examples/cpp/install.sh)")
    found = subprocess.run(["pkg-config", "--cflags", "--libs", "hdf5"], capture_output=True, text=True)
    if found.returncode:
        pytest.skip("no headers of HDF5 on this machine (examples/cpp/install.sh)")
    return shlex.split(found.stdout)


@pytest.fixture(scope="module", params=["bin", "h5"])
def program(request, tmp_path_factory):
    """``(program, suffix of its pools)``"""
    name, flags = ("accept_hdf5", hdf5_flags()) if request.param == "h5" else ("accept", [])
    target = tmp_path_factory.mktemp("cpp") / name
    strict = ["-O2", "-std=c++17", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([COMPILER, *strict, FOLDER / f"{name}.cpp", "-o", target, *flags], check=True)
    return target, request.param


def run(program, *arguments):
    return subprocess.run([program[0], *map(str, arguments)], capture_output=True, text=True)


def test_the_chain_in_cpp_is_ours(program, tmp_path):
    pool, copy = (tmp_path / f"{name}.{program[1]}" for name in ("pool", "copy"))
    propose("phi4-A-L8-fast", N, pool)
    shutil.copy(pool, copy)
    done = run(program, pool, 7)
    assert done.returncode == 0, done.stderr
    told = {name: float(value) for name, value in map(str.split, done.stdout.splitlines())}
    with accept([copy], tmp_path / "chain.h5", n_warmup=0) as chain:
        accepted, phi = chain.history("accepted").mean(), chain.phis()
    # the same draws, so only the coins differ: the share of rejections is small, and so is what they change
    assert told["n"] == N and abs(told["acceptance"] - accepted) < 4 * np.sqrt(2 * accepted * (1 - accepted) / N)
    for name, values in (("abs_m", np.abs(phi.mean(axis=(1, 2)))), ("phi2", (phi**2).mean(axis=(1, 2)))):
        assert abs(told[name] - values.mean()) < 4 * values.std() * np.sqrt(2 * (1 - accepted) / N), name


def test_it_uses_a_pool_once_and_ours_knows(program, tmp_path):
    pool, no_pool = (tmp_path / f"{name}.{program[1]}" for name in ("pool", "other"))
    propose("phi4-A-L8-fast", 50, pool)
    assert run(program, pool, 1).returncode == 0
    assert consumed(open_pool(pool)) == 50
    require_digest(open_pool(pool))  # nothing else of the file was touched
    again = run(program, pool, 1)
    assert again.returncode == 2 and "have been used" in again.stderr
    with pytest.raises(ValueError, match="have been used"):
        accept([pool], tmp_path / "chain.h5")
    no_pool.write_text("hello\n")
    refused = run(program, no_pool, 1)
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1
    assert ("opened as HDF5" if program[1] == "h5" else "is no pool") in refused.stderr


@pytest.mark.parametrize("program", ["h5"], indirect=True)
def test_another_hdf5_file_is_no_pool(program, tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["phi"], file.attrs["schema"] = np.zeros((3, 4, 4)), "something else"
    assert "is no pool" in run(program, tmp_path / "other.h5", 1).stderr

"""examples/cpp: a program in C++ makes a chain of a pool; it agrees with `latticediff accept`."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from latticediff.pool import open_pool
from latticediff.pool.consumed import consumed
from latticediff.stages.accept import accept
from latticediff.stages.propose import propose

SOURCE = Path(__file__).parents[1] / "examples" / "cpp" / "accept.cpp"
COMPILER = next(filter(None, map(shutil.which, ("g++", "c++", "clang++"))), None)
N = 4000

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler on this machine")


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    target = tmp_path_factory.mktemp("cpp") / "accept"
    flags = ["-O2", "-std=c++17", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([COMPILER, *flags, SOURCE, "-o", target], check=True)
    return target


def run(program, *arguments):
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)


def test_the_chain_in_cpp_is_ours(program, tmp_path):
    propose("phi4-A-L8-fast", N, tmp_path / "pool.bin")
    shutil.copy(tmp_path / "pool.bin", tmp_path / "copy.bin")
    done = run(program, tmp_path / "pool.bin", 7)
    assert done.returncode == 0, done.stderr
    told = {name: float(value) for name, value in map(str.split, done.stdout.splitlines())}
    with accept([tmp_path / "copy.bin"], tmp_path / "chain.h5", n_warmup=0) as chain:
        accepted, phi = chain.history("accepted").mean(), chain.phis()
    # the same draws, so only the coins differ: the share of rejections is small, and so is what they change
    assert told["n"] == N and abs(told["acceptance"] - accepted) < 4 * np.sqrt(2 * accepted * (1 - accepted) / N)
    for name, values in (("abs_m", np.abs(phi.mean(axis=(1, 2)))), ("phi2", (phi**2).mean(axis=(1, 2)))):
        assert abs(told[name] - values.mean()) < 4 * values.std() * np.sqrt(2 * (1 - accepted) / N), name


def test_it_uses_a_pool_once_and_ours_knows(program, tmp_path):
    propose("phi4-A-L8-fast", 50, tmp_path / "pool.bin")
    assert run(program, tmp_path / "pool.bin", 1).returncode == 0
    assert consumed(open_pool(tmp_path / "pool.bin")) == 50
    again = run(program, tmp_path / "pool.bin", 1)
    assert again.returncode == 2 and "have been used" in again.stderr
    with pytest.raises(ValueError, match="have been used"):
        accept([tmp_path / "pool.bin"], tmp_path / "chain.h5")
    (tmp_path / "text.bin").write_text("hello\n")
    assert "is no pool" in run(program, tmp_path / "text.bin", 1).stderr

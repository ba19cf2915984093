"""docs/extending.md: a package that adds one of everything is installed and used; no file of ours changes for it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from warm import Warm

ROOT = Path(__file__).parents[1]
PLUGIN = ROOT / "examples" / "plugin"

CARD = """
[run]
seed = 3
[action]
convention = "A"
m2 = 0.8
lam = 0.0
[lattice]
shape = [4, 6]
[hmc]
n_chains = 16
n_warmup = 50
n_updates = 120
thin = 2
[gate]
enforce = false
[network]
name = "linear"
begin = 0.01
[training]
steps = 5
batch = 32
device = "cpu"
[sampling]
device = "cpu"
n_forward = 50
[sampling.hmc]
n_updates = 20
[sampling.ode]
n_chains = 4
n_updates = 10
steps = 4
[sampling.sde]
n_chains = 4
n_updates = 10
steps = 4
[sampling.gaussian]
n_chains = 8
n_updates = 200
width = 1.1
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """Run Python, or ``python -m`` a module, in an environment that has the package; returns what it printed."""
    target = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target", target]
    # a copy: building leaves folders behind
    source = tmp_path_factory.mktemp("source") / "plugin"
    subprocess.run(["cp", "-r", PLUGIN, source], check=True)
    subprocess.run([*pip, source], check=True, capture_output=True)
    warm = Warm(PYTHONPATH=os.pathsep.join([str(target), *filter(None, [os.environ.get("PYTHONPATH")])]))

    def run(*words, code=0):
        done = warm(*words)
        assert done.returncode == code, done.stderr
        return done.stdout if code == 0 else done.stderr

    yield run
    warm.close()


def test_the_page_shows_the_files_of_the_package():
    text = (ROOT / "docs" / "extending.md").read_text()
    shown = re.findall(r"<!-- file: (\S+) -->\n\n```\w+\n(.*?)\n```", text, re.DOTALL)
    files = {path.relative_to(ROOT).as_posix() for path in PLUGIN.rglob("*.py") if path.name != "__init__.py"}
    assert {name for name, _ in shown} == files | {"examples/plugin/pyproject.toml"}
    for name, block in shown:
        assert block == (ROOT / name).read_text().rstrip(), name


def test_a_run_has_the_network_the_route_the_observable_and_the_figure(python, tmp_path):
    """Of the free field: the Gaussian route, 10 % too wide, is exact, and stands on the page with its figure."""
    card = tmp_path / "card.toml"
    card.write_text(CARD)
    python("-m", "latticediff", "run", card, "--out", tmp_path / "run", "--quiet")
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert list(report["chains"]) == ["hmc", "ode", "sde", "gaussian"]
    assert (tmp_path / "run" / "figures" / "acceptances.png").exists()
    told = json.loads(python("-m", "latticediff", "measure", tmp_path / "run" / "chain_gaussian.h5", "--json"))
    # <phi^6> = 15 <phi^2>^3; four standard errors
    G = 1 / (
        2 * 0.8 + 4 * sum((1 - np.cos(2 * np.pi * np.arange(n) / n)).reshape(s) for n, s in ((4, (4, 1)), (6, (1, 6))))
    )
    value, error = told["observables"]["phi6"]
    assert abs(value - 15 * G.mean() ** 3) < 4 * error
    value, error = told["observables"]["sextic_ratio"]  # its error knows that both means go up and down together
    assert abs(value - 15) < 4 * error < 5


def test_an_action_is_sampled_and_the_learned_side_says_that_it_cannot(python, tmp_path):
    card = tmp_path / "card.toml"
    theory = '[action]\nname = "sextic"\nc = 1.0\na = 1.0\nb = 0.3'
    card.write_text(CARD.replace('[action]\nconvention = "A"\nm2 = 0.8\nlam = 0.0', theory))
    python("-m", "latticediff", "generate", card, "--out", tmp_path / "ens.h5", "--quiet")
    told = json.loads(
        python("-m", "latticediff", "measure", tmp_path / "ens.h5", "--json", "--observable", "schwinger_dyson")
    )
    value, error = told["observables"]["schwinger_dyson"]
    assert abs(value - 1) < 4 * error
    said = python(
        "-m", "latticediff", "train", card, "--ensemble", tmp_path / "ens.h5", "--out", tmp_path / "m", code=2
    )
    assert "Sextic" in said and "cannot expand" in said and len(said.strip().splitlines()) == 1


def test_a_kernel_is_run_on_from_its_file(python, tmp_path):
    code = f"""
import numpy as np
from latticediff import HMC, Phi4, Streams
from latticediff.composite import Sequence
from latticediff.ensemble import Ensemble, run_chain
from latticediff.markov import kernel_from_description
from latticediff_example.kernel import SignFlip
action, streams = Phi4.A(-1.0, 1.0), Streams(1)
kernel = Sequence([HMC(action, 0.1, 5), SignFlip(action)])
start = kernel.start(streams.generator("start").standard_normal((8, 4, 4)))
run_chain(kernel, (start, Streams(2)), "{tmp_path}/whole.h5", 60, thin=2).close()
run_chain(kernel, (start, Streams(2)), "{tmp_path}/part.h5", 30, thin=2, block=7).close()
with Ensemble("{tmp_path}/part.h5") as part:
    again = kernel_from_description(part.action, part.algorithm)
assert again.describe() == kernel.describe()
run_chain(again, None, "{tmp_path}/part.h5", 60, thin=2, resume=True).close()
with Ensemble("{tmp_path}/whole.h5") as one, Ensemble("{tmp_path}/part.h5") as other:
    assert one.n_cfg == other.n_cfg == 240
    assert np.array_equal(one.phis(0, 240), other.phis(0, 240))
    print((np.diff(np.sign(one.phis(0, 240).mean(axis=(1, 2)).reshape(30, 8)), axis=0) != 0).mean())
"""
    assert 0.3 < float(python("-c", code)) < 0.7  # half of the updates flip all signs


def test_a_card_names_an_installed_kernel(python, tmp_path):
    """After every trajectory, and before every learned update; the chain is run on from its file."""
    card = tmp_path / "card.toml"
    card.write_text(
        CARD.replace("thin = 2", 'thin = 2\nkernels = ["sign_flip"]') + "[sampling.kernel]\nkernels = ['sign_flip']"
    )
    python("-m", "latticediff", "generate", card, "--out", tmp_path / "ens.h5", "--quiet")
    assert "sign_flip" in python("-m", "latticediff", "info", tmp_path / "ens.h5")
    python("-m", "latticediff", "generate", card, "--out", tmp_path / "ens.h5", "--more", "20", "--quiet")
    python("-m", "latticediff", "train", card, "--ensemble", tmp_path / "ens.h5", "--out", tmp_path / "m", "--quiet")
    made = ("--model", tmp_path / "m", "--route", "gaussian", "--out", tmp_path / "chain.h5")
    python("-m", "latticediff", "sample", card, *made, "--quiet")
    assert "sign_flip" in python("-m", "latticediff", "info", tmp_path / "chain.h5")
    told = json.loads(
        python("-m", "latticediff", "measure", tmp_path / "chain.h5", "--json", "--observable", "schwinger_dyson")
    )
    value, error = told["observables"]["schwinger_dyson"]
    assert abs(value - 1) < 4 * error
    code = f"import latticediff; print(latticediff.load('{tmp_path}/m').proposal('propagator', width=1.2).describe())"
    assert python("-c", code) == "{'name': 'gaussian', 'width': 1.2}\n"
    for key, said in (('["sign_flop"]', "did you mean 'sign_flip'"), ("[{a = 1}]", "has no name"), ("[1]", "kernels")):
        card.write_text(CARD.replace("thin = 2", f"thin = 2\nkernels = {key}"))
        assert said in python("-m", "latticediff", "generate", card, "--out", tmp_path / "no.h5", code=2)


def test_a_card_names_an_installed_proposal_that_has_no_route(python, tmp_path):
    card, model = tmp_path / "card.toml", tmp_path / "m"
    section = "[sampling.propagator]\nn_chains = 8\nn_warmup = 2\nn_updates = 100\nwidth = 1.1\n"
    card.write_text(CARD + section)
    python("-m", "latticediff", "generate", card, "--out", tmp_path / "ens.h5", "--quiet")
    python("-m", "latticediff", "train", card, "--ensemble", tmp_path / "ens.h5", "--out", model, "--quiet")
    words = ("-m", "latticediff", "sample", card, "--model", model, "--quiet")
    python(*words, "--route", "propagator", "--out", tmp_path / "named.h5")
    python(*words, "--route", "gaussian", "--set", "sampling.gaussian.n_updates=100", "--out", tmp_path / "route.h5")
    code = f"""
from latticediff.ensemble import Ensemble
one, other = (Ensemble("{tmp_path}/" + name + ".h5") for name in ("named", "route"))
print(one.n_updates, one.n_chains, one.algorithm["proposal"] == other.algorithm["proposal"])
"""
    assert python("-c", code) == "100 8 True\n"
    assert "100" in python(*words, "--route", "propagator", "--out", tmp_path / "no.h5", "--dry-run")
    card.write_text(CARD)  # a section is not needed
    assert python(*words, "--route", "propagator", "--out", tmp_path / "no.h5", "--dry-run")
    card.write_text(CARD + section.replace("width", "breadth"))
    said = python(*words, "--route", "propagator", "--out", tmp_path / "no.h5", code=2)
    assert "proposal 'propagator' cannot be made of a model and options breadth" in said


def test_the_package_keeps_its_contracts(python):
    said = python("-m", "latticediff", "plugins", "check", "latticediff-example")
    groups = [line.split()[1] for line in said.splitlines() if line.startswith("ok ")]
    assert set(groups) >= {"actions", "kernels", "proposals", "routes", "networks", "observables", "readers", "figures"}
    assert "FAULTY" not in said and "note:" not in said
    assert python("-m", "latticediff", "plugins", "check") == said  # what is not ours
    assert "latticediff-example (latticediff_example.action:Sextic)" in python("-m", "latticediff", "plugins", "list")


def test_its_own_tests_pass(python):
    assert "4 passed" in python("-m", "pytest", "-q", "-p", "no:cacheprovider", PLUGIN / "tests")


def test_a_reader_converts(python, tmp_path):
    fields, card = np.random.default_rng(1).normal(size=(5, 24)), tmp_path / "card.toml"
    np.savetxt(tmp_path / "fields.csv", fields, delimiter=",", fmt="%.17g")
    card.write_text(CARD)
    code = f"""
from latticediff.ensemble.readers import choose_reader
found = choose_reader("{tmp_path}/fields.csv", "csv")("{tmp_path}/fields.csv", shape=(4, 6))
print(found.phis.shape, float(found.phis[3, 2, 5]))
"""
    assert python("-c", code).split(") ") == [
        "(5, 4, 6",
        f"{fields[3, 17]!r}\n".replace("np.float64(", "").replace(")", ""),
    ]

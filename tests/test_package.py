"""The package as a whole: what an import costs, what is registered, what is pinned."""

import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from warm import python

import latticediff
from latticediff import registry
from latticediff.errors import UserError
from latticediff.provenance import _state_of

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "numba")


def modules_after(code):
    """Names of the modules that a fresh interpreter holds after running `code`."""
    script = f"{code}\nimport sys\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["latticediff", "latticediff.cli", "latticediff.cli.app", "latticediff.config"])
def test_import_is_light(module):
    assert not modules_after(f"import {module}") & set(HEAVY)


@pytest.mark.parametrize("module", ["action", "ensemble", "observables", "analysis", "hmc", "metropolis", "report"])
def test_numpy_side_never_imports_torch(module):
    assert "torch" not in modules_after(f"import latticediff.{module}")


def test_public_names_exist():
    for name in latticediff.__all__:
        assert getattr(latticediff, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Phi5'"):
        latticediff.Phi5  # noqa: B018


@pytest.mark.parametrize("group", registry.GROUPS)
def test_every_builtin_can_be_loaded(group):
    for name in registry.names(group):
        assert registry.load(group, name) is not None


def test_unknown_name_gives_the_nearest():
    with pytest.raises(UserError, match=r"no action is called 'phi' \(did you mean 'phi4'\?\)"):
        registry.load("actions", "phi")
    with pytest.raises(UserError, match=r"registry group is 'action'; .*\(did you mean 'actions'\?\)"):
        registry.names("action")


def requirements(path):
    """Normalised names pinned in a constraints file, with versions."""
    lines = [line.split("#")[0].strip() for line in path.read_text().splitlines()]
    pins = dict(line.split("==") for line in lines if line)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pins.items()}


def test_everything_that_the_two_commands_install_is_pinned():
    pins = requirements(ROOT / "constraints.txt")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(spec for extra in project["optional-dependencies"].values() for spec in extra),
    ]
    names = {re.match(r"[A-Za-z0-9-]+", spec)[0].lower() for spec in wanted} - {"latticediff"}
    assert names <= set(pins), sorted(names - set(pins))
    assert pins["torch"] == "2.13.0"


def test_installed_version_is_the_source_version():
    assert metadata.version("latticediff") == latticediff.__version__


def test_example_of_the_stages_runs_as_printed(tmp_path):
    """That of README is run by the tests of hosts."""
    text = (ROOT / "docs" / "recipes.md").read_text()
    code = re.search(r"```python\n(from latticediff import HMC.*?)```", text, re.DOTALL)[1]
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    done = python("-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "tau_int" in done.stdout and "abs_m" in done.stdout


def test_demo_card_states_every_key():
    """Every number of the main job is in its card, none is a default that nobody sees."""
    from latticediff.config import load_card

    text = (ROOT / "configs" / "demo.toml").read_text()
    assert load_card(ROOT / "configs" / "demo.toml").to_dict() == tomllib.loads(text)


def test_the_state_of_a_checkout_is_read_and_nothing_written(tmp_path):
    """A file touched since the last look leaves its repository's index as it was; a changed one makes it dirty."""

    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        return subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True)

    try:
        git("init", "-q")
    except FileNotFoundError:
        pytest.skip("no git on this machine")
    assert _state_of(tmp_path) == "unknown"  # no commit yet
    tracked, index = tmp_path / "a.txt", tmp_path / ".git" / "index"
    tracked.write_text("one\n")
    git("add", "a.txt")
    git("commit", "-qm", "first")
    head = git("rev-parse", "HEAD").stdout.strip()
    os.utime(tracked, (1e9, 1e9))
    before = index.read_bytes()
    assert _state_of(tmp_path) == head
    assert index.read_bytes() == before
    (tmp_path / "untracked").touch()
    assert _state_of(tmp_path) == head
    tracked.write_text("two\n")
    assert _state_of(tmp_path) == f"{head}-dirty"

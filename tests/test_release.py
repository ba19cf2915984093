"""What a version says of itself, in all the places where it does."""

import re
import tomllib
from pathlib import Path

import pytest

import latticediff
from latticediff.cli import main
from latticediff.provenance import commit

ROOT = Path(__file__).parents[1]


def test_the_command_tells_version_and_commit(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"latticediff {latticediff.__version__}, commit {commit()}\n"


def test_the_citation_is_of_this_version_and_licence():
    said = dict(re.findall(r"^(version|license): (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert said == {"version": latticediff.__version__, "license": project["license"]}
    assert (ROOT / "LICENSE").read_text().startswith(f"{project['license']} License")


def test_the_hooks_are_the_checks_of_make_lint():
    hooks = re.findall(r"entry: \.venv/bin/(.*)", (ROOT / ".pre-commit-config.yaml").read_text())
    lint = (ROOT / "Makefile").read_text().split("\nlint:")[1].split("\n\n")[0]
    assert {" ".join(hook.split()[:2]) for hook in hooks} == {"ruff check", "ruff format", "mypy"}
    assert all(f"$(VENV)/bin/{hook.split()[0]}" in lint for hook in hooks)

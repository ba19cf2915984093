"""What a version says of itself, in all the places where it does."""

import re
import subprocess
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


def test_the_changelog_begins_with_this_version_and_a_tag_says_the_same():
    """A commit that is tagged is a release: its changelog has the day."""
    version, day = re.search(
        r"^## (\S+), (unreleased|20\d\d-\d\d-\d\d)$", (ROOT / "CHANGELOG.md").read_text(), re.M
    ).groups()
    assert version == latticediff.__version__
    if not (ROOT / ".git").exists():
        return  # a source archive has no tags
    tags = subprocess.run(
        ["git", "tag", "--points-at", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.split()
    for tag in (tag for tag in tags if tag.startswith("v")):
        assert tag == f"v{version}" and day != "unreleased"


def test_the_hooks_are_the_checks_of_make_lint():
    hooks = re.findall(r"entry: \.venv/bin/(.*)", (ROOT / ".pre-commit-config.yaml").read_text())
    lint = (ROOT / "Makefile").read_text().split("\nlint:")[1].split("\n\n")[0]
    assert {" ".join(hook.split()[:2]) for hook in hooks} == {"ruff check", "ruff format", "mypy"}
    assert all(f"$(VENV)/bin/{hook.split()[0]}" in lint for hook in hooks)


def section(title):
    return (ROOT / "docs" / "validation.md").read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]


def padded(version):
    return [*map(int, version.split(".")), 0, 0][:3]


def test_the_oldest_versions_allowed_are_those_that_were_tried():
    """Floors of pyproject.toml, extras and tools included, against docs/validation.md."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(spec for extra in project["optional-dependencies"].values() for spec in extra),
    ]
    floors = [re.match(r"([\w-]+)>=([\d.]+)", spec) for spec in wanted if not spec.startswith("latticediff[")]
    allowed = {found[1]: padded(found[2]) for found in floors}
    tried = re.findall(
        r"([\w-]+) (\d[\d.]*\d)(?:, |$)", re.search(r"^oldest: (.*)$", section("On which versions"), re.M)[1]
    )
    assert {name: padded(version) for name, version in tried} == allowed


def test_every_python_that_is_told_was_tried():
    """The classifiers, the rows of docs/validation.md, and the oldest Python wherever it is said."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    told = [c.rsplit(" ", 1)[1] for c in project["project"]["classifiers"] if "Python :: 3." in c]
    rows = re.findall(r"^\| (3\.\d+) \|", section("On which versions"), re.M)
    assert told and set(told) <= set(rows)
    assert project["project"]["requires-python"] == f">={told[0]}"
    assert project["tool"]["ruff"]["target-version"] == f"py{told[0].replace('.', '')}"
    assert project["tool"]["mypy"]["python_version"] == told[0]
    assert f"sys.version_info < ({told[0].replace('.', ', ')})" in (ROOT / "Makefile").read_text()
    for page in ("README.md", "docs/start.md"):
        assert f"Python {told[0]} or later" in (ROOT / page).read_text()

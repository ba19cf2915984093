"""The documentation holds together: links lead somewhere, commands parse, recipes run, the reference is up to date."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from latticediff.cli import main
from latticediff.cli.app import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def anchor(heading):
    """The anchor that GitHub gives a heading."""
    words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading.strip().lower())
    return re.sub(r"[^\w\- ]", "", words).replace(" ", "-")


def prose(path):
    """A page without its code."""
    return re.sub(r"```.*?```|`[^`\n]*`", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page):
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue  # of the web, which a test does not ask
        name, _, place = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.M) if place and path.exists() else ()
        if not path.exists() or (place and place not in map(anchor, headings)):
            dead.append(target)
    assert not dead


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_no_line_of_a_formula_looks_like_a_list(page):
    """GitHub takes a line that begins with + for an item, also within a formula."""
    formulas = re.findall(r"\$\$.*?\$\$", prose(page), re.DOTALL)
    assert not [line for formula in formulas for line in formula.splitlines() if re.match(r"\s*[-+*] ", line)]


def commands(page):
    """Command lines of `latticediff` in fenced and indented code, continuation lines joined, comments dropped."""
    found, lines = [], page.read_text(encoding="utf-8").split("\n")
    fenced = False
    for number, line in enumerate(lines):
        fenced ^= line.startswith("```")
        match = re.match(r"(?:torchrun .*? -m )?(latticediff .*)", line.strip())
        if match is None or not (fenced or line.startswith("    ")):
            continue
        words = match[1]
        while words.endswith("\\"):
            number += 1
            words = words[:-1] + lines[number].strip()
        found.append(shlex.split(words, comments=True)[1:])
    return found


COMMANDS = [(page.name, words) for page in PAGES for words in commands(page)]


def problem(words):
    """What the command line says against a command before it looks at a file; "" if nothing."""
    from typer.main import get_command

    group = get_command(app)
    context = group.make_context("latticediff", [], resilient_parsing=True)
    name, command, rest = group.resolve_command(context, words)
    inner = command.make_context(name, list(rest), parent=context, resilient_parsing=True)
    given, left, _ = command.make_parser(inner).parse_args(list(rest))
    wanted = [parameter.name for parameter in command.params if parameter.required]
    lacking = [name for name in wanted if not (isinstance(given.get(name), str | list | tuple) and given[name])]
    return f"{lacking} {left}" if lacking or left else ""


def test_there_are_commands_to_check():
    assert len(COMMANDS) > 60 and {"README.md", "recipes.md", "classical.md"} <= {page for page, _ in COMMANDS}
    assert problem(["generate", "--out", "x"]) and problem(["generate", "a", "b", "--out", "x"])


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=[f"{page}-{' '.join(w)[:50]}" for page, w in COMMANDS])
def test_commands_parse(page, words):
    assert not problem(words)


def test_the_reference_of_cards_is_what_its_script_writes(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    import cards_page

    monkeypatch.delitem(sys.modules, "cards_page")
    assert (ROOT / "docs" / "cards.md").read_text(encoding="utf-8") == cards_page.page()


def test_every_key_of_the_demo_is_in_the_reference():
    from latticediff.config import load_card

    text = (ROOT / "docs" / "cards.md").read_text(encoding="utf-8")
    for section, keys in load_card(ROOT / "configs" / "demo.toml").to_dict().items():
        assert f"## [{section}]" in text
        assert all(f"| `{key}` |" in text or f"[{section}.{key}]" in text for key in keys if section != "action")


#: what makes a recipe short: of the numbers on the page, and further words for a command
SHORT = {
    "phi4-A-L64.toml": "demo.toml",
    "lam=4:6.5:6": "lam=4:4.5:2",
    "10000": "1000",
    "5000": "200",
    "150": "20",
    "16, 16": "8, 8",
}
FEW = (
    "network.features=4",
    "network.hidden=8",
    "sampling.ode.grid=uniform",
    "hmc.n_updates=2000",
    "hmc.n_warmup=100",
    "training.steps=20",
    "training.batch=64",
    "finetune.steps=0",
)
FEW_MORE = (
    "sampling.ode.n_updates=5",
    "sampling.sde.n_updates=5",
    "sampling.hmc.n_updates=100",
    "sampling.n_forward=100",
)
FURTHER = {
    "run": [
        word for key in (*FEW, *FEW_MORE, "gate.enforce=false", "sampling.max_doubling=100") for word in ("--set", key)
    ],
    "sample": ["--set", "sampling.max_doubling=100"],
    "line": ["--n", "400"],
    "generate": ["--set", "hmc.n_warmup=50", "--set", "hmc.n_updates=500", "--set", "gate.enforce=false"],
    "tune-hmc": ["--set", "hmc.search_budget=2000"],
}


def recipe(letter):
    """(command lines, card) of a recipe."""
    text = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    part = re.search(rf"^## \({letter}\) .*?(?=^## )", text, re.M | re.DOTALL)[0]
    lines = [line for block in re.findall(r"```sh\n(.*?)```", part, re.DOTALL) for line in block.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("latticediff ")]


@pytest.mark.parametrize("letters", ["a", "b", "c", "d", "ef"])
def test_recipes_run(letters, tmp_path, monkeypatch, capsys):
    """In a short form; (f) goes on with what (e) began; of (c) only plans: (b) runs a card, test_study a study."""
    text = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    (tmp_path / "card.toml").write_text(re.search(r"```toml\n(.*?)```", text, re.DOTALL)[1])
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    if letters == "d":
        code = re.search(r"\(d\).*?```python\n(.*?)```", text, re.DOTALL)[1]
        exec(compile(code, "recipes.md", "exec"), {})
    for words in [words for letter in letters for words in recipe(letter)]:
        if words[0] == "report" or "--submit" in words:  # of a study that was only planned; of a SLURM
            continue
        short = [shorten(word) for word in words]
        extra = FURTHER.get(words[0], [])
        if letters == "c" and words[0] in ("run", "study"):
            extra = [*extra, "--dry-run"]
        if "--more" in words:  # the card of the file that is extended
            extra = extra[:2] + extra[4:]
        with pytest.raises(SystemExit) as exit_:
            main([*short, *extra])
        assert not exit_.value.code, (words, capsys.readouterr().err)


def shorten(word):
    """A word of a command with smaller numbers and sizes."""
    for long, short in SHORT.items():
        word = word.replace(long, short)
    return word

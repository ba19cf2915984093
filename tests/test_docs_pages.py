"""The documentation holds together: links lead somewhere, commands parse, recipes run, the reference is up to date."""

import importlib
import json
import re
import shlex
import sys
from pathlib import Path

import pytest
from docs_toys import exists
from markdown_it import MarkdownIt

from latticediff.cli import main
from latticediff.cli.app import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NOTEBOOKS = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))


def anchor(heading):
    """The anchor that GitHub gives a heading."""
    words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading.strip().lower())
    return re.sub(r"[^\w\- ]", "", words).replace(" ", "-")


def prose(path):
    """A page without its code, or what is told between the cells of a notebook."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        text = "\n\n".join("".join(c["source"]) for c in json.loads(text)["cells"] if c["cell_type"] == "markdown")
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)


@pytest.mark.parametrize("page", [*PAGES, *NOTEBOOKS], ids=lambda path: path.name)
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


def as_read(text):
    """What Markdown leaves of a text, escapes and emphases taken out: on GitHub it comes before the formulas."""
    said = []
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        parts = [token] if token.type == "html_block" else token.children or []
        said += ["\n" if part.type == "softbreak" else part.content for part in parts] + ["\n"]
    return "".join(said)


FORMULA = re.compile(r"(?<![\\$])\$([^$\s](?:[^$]*[^$\s])?)\$(?!\$)")


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_markdown_leaves_formulas_as_they_are(page):
    """GitHub takes \\, within dollars for a comma: such formulas are displayed by ```math, which is not looked into."""
    text = prose(page)
    assert "$$" not in text
    left = as_read(text)
    assert not [formula for formula in FORMULA.findall(text) if formula not in left]


def test_markdown_changes_formulas_that_it_takes_for_its_own():
    for formula in (r"a\,b", r"\{1\}", r"\|x\|", r"a_1 {x}_b c_{d}", "a\n+ b"):
        assert formula not in as_read(f"So ${formula}$ holds.")
    assert r"a_1 \le b^2" in as_read(r"So $a_1 \le b^2$ holds.")


def test_every_page_is_in_the_contents_of_the_site():
    lines = (ROOT / "docs" / "index.md").read_text(encoding="utf-8").splitlines()
    pages = {path.relative_to(ROOT / "docs").with_suffix("").as_posix() for path in [*PAGES[1:], *NOTEBOOKS]}
    assert pages - {"index"} == pages & set(lines)


def test_theory_names_functions_that_exist():
    """Modules below `latticediff`, private ones apart, or keys of a card."""
    from latticediff.config.card import Card

    text = (ROOT / "docs" / "theory.md").read_text(encoding="utf-8")
    rooms = [path.stem for path in (ROOT / "src" / "latticediff").iterdir() if not path.stem.startswith("_")]
    keys = {
        f"{section}.{key}"
        for section, field in Card.model_fields.items()
        for key in getattr(field.annotation, "model_fields", ())
    }
    found = set(re.findall(rf"`((?:{'|'.join(rooms)})(?:\.\w+)+)`", text))
    assert len(found) > 50
    assert not [name for name in found - keys if not exists(f"latticediff.{name}")]


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


@pytest.mark.parametrize("name", ["cards", "commands"])
def test_a_reference_is_what_its_script_writes(name, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    script = importlib.import_module(f"{name}_page")
    monkeypatch.delitem(sys.modules, f"{name}_page")
    assert (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8") == script.page()


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
def test_recipes_run(letters, tmp_path, monkeypatch, capsys, short_probes):
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


def test_the_first_five_minutes_run(tmp_path, monkeypatch, capsys):
    """In a short form, in the order of the page."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "start.md").read_text(encoding="utf-8")
    further = {**FURTHER, "sample": ["--set", "sampling.ode.n_updates=20"]}
    for kind, code in re.findall(r"```(sh|python|toml)\n(.*?)```", page, re.DOTALL):
        if kind == "toml":
            Path("card.toml").write_text(code, encoding="utf-8")
        elif kind == "python":
            exec(compile(code, "start.md", "exec"), {})
        for line in code.splitlines() if kind == "sh" else ():
            words = shlex.split(line)[1:]
            if "--dry-run" in words:
                continue  # seconds of measuring; recipe (c) has some
            with pytest.raises(SystemExit) as exit_:
                main([*words, *further.get(words[0], [])])
            assert not exit_.value.code, (words, capsys.readouterr().err)
    assert Path("page/report.html").exists()


def shorten(word):
    """A word of a command with smaller numbers and sizes."""
    for long, short in SHORT.items():
        word = word.replace(long, short)
    return word

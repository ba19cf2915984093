"""Writes docs/commands.md, the reference of the command line, from the declarations that read it.

Call it by ``python docs/commands_page.py``.

typer's own ``utils docs`` gives the text; this puts the examples into code blocks, gives the table of commands whole
sentences, and drops what every command has. A test compares the page with what this prints.
"""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
HEAD = """# Every command

This page is written by `docs/commands_page.py` from what the command line itself says; do not edit it by hand.
`latticediff COMMAND --help` prints the same. What a task takes from beginning to end is in [recipes](recipes.md), the
keys that `--set` takes are in [cards](cards.md).

Everywhere: `--help`; `latticediff --version` and `--install-completion`. Exit codes: 0 done, 2 something you gave
cannot be used, 3 an ensemble failed a physics gate, 75 a time limit, 128 + n signal n.

"""


def page() -> str:
    """The page as text."""
    from typer.cli import get_docs_for_click
    from typer.main import get_command
    from typer.models import Context

    from latticediff.cli.app import app

    group = get_command(app)
    said = get_docs_for_click(obj=group, ctx=Context(group, info_name="latticediff"), name="latticediff")
    commands = re.split(r"^(?=## `)", said, flags=re.M)[1:]
    rows = [f"| {linked(text)} | {first_sentence(text)} |\n" for text in commands]
    return HEAD + "| command | what it does |\n| --- | --- |\n" + "".join(rows) + "\n" + "".join(map(tidy, commands))


def linked(text: str) -> str:
    """The name of a command, leading to its section."""
    name = re.match(r"## `latticediff ([\w-]+)`", text)[1]
    return f"[`{name}`](#latticediff-{name})"


def first_sentence(text: str) -> str:
    """What stands below the heading, as one line for the table."""
    paragraph = text.split("\n\n")[1]
    return " ".join(paragraph.split()).replace("|", "\\|").replace("<", "&lt;")


def tidy(text: str) -> str:
    """One command: examples as code, no row for help, no tag where an average is meant."""
    text = text.replace("\b", "")  # click's mark before lines that are not to be joined
    text = re.sub(r"^\* `--help`.*\n", "", text, flags=re.M).replace("**Options**:\n\n\n", "")
    text = re.sub(r"\*\*Usage\*\*:\n\n```console\n\$ (.*)\n```", r"Usage: `\1`", text)
    text = re.sub(r"((?:^(?:torchrun|latticediff) .*\n)+)", r"\n```sh\n\1```\n", text, flags=re.M)
    parts = re.split(r"(```.*?```|`[^`\n]*`)", text, flags=re.S)
    parts[::2] = [part.replace("<", "&lt;") for part in parts[::2]]
    return re.sub(r"\n[ \n]*\n", "\n\n", "".join(parts))


if __name__ == "__main__":
    (HERE / "commands.md").write_text(page(), encoding="utf-8")

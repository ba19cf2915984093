"""Arguments and options that several subcommands share, each said once."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "AsJson",
    "CardPath",
    "DryRun",
    "Ensembles",
    "MaxWalltime",
    "Model",
    "NewFile",
    "Outside",
    "Overrides",
    "Quiet",
    "Resume",
    "STau",
    "complain",
    "say",
    "say_line",
    "stop_after",
]


CardPath = Annotated[Path, typer.Argument(metavar="CARD", help="Run-card, a TOML file such as configs/demo.toml.")]
Model = Annotated[str, typer.Option("--model", help="Model folder, or name of a shipped model.")]
Ensembles = Annotated[
    list[Path], typer.Option("--ensemble", help="Ensemble file; repeatable, the card's own theory first.")
]
NewFile = Annotated[Path, typer.Option("--out", help="Where the result goes; never overwrites.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a key, e.g. hmc.n_chains=8, or a section, 'action={...}'; repeatable.",
    ),
]
Outside = Annotated[
    bool, typer.Option("--outside", help="Take a model of other couplings or another size too: exact, less accepted.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the effective card and an estimate; write nothing.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where an earlier call stopped.")]
MaxWalltime = Annotated[
    str | None,
    typer.Option("--max-walltime", metavar="TIME", help="Save and stop before this long: seconds, h:m:s or 1h30m."),
]
STau = Annotated[float, typer.Option("--s-tau", help="S of the Gamma method's automatic window.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only results and errors.")]


def say(text, err=False):
    """Print `text`, which may quote a file or a card: no string of theirs tells the terminal what to do."""
    from ..untrusted import printable

    typer.echo("\n".join(printable(line) for line in str(text).split("\n")), err=err)


def say_line(text, err=False):
    """`say` for what is one line, whatever file names are in it."""
    say(" ".join(str(text).splitlines()), err)


def stop_after(max_walltime):
    """The `latticediff.signals.Stop` of a `MaxWalltime`."""
    from ..signals import Stop, parse_duration

    return Stop(None if max_walltime is None else parse_duration(max_walltime))


def complain(text):
    """One line to standard error: what is no result."""
    say_line(f"note: {text}", err=True)

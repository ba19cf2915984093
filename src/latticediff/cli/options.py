"""Arguments and options that several subcommands share, each declared once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .models import known_model

if TYPE_CHECKING:
    from ..signals import Stop

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
Model = Annotated[str, typer.Option("--model", callback=known_model, help="Model folder, or name of a shipped model.")]
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
    bool,
    typer.Option("--outside", help="Allow a model of other couplings or another size: still exact, lower acceptance."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the effective card and an estimate; write nothing.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where an earlier call stopped.")]
MaxWalltime = Annotated[
    str | None,
    typer.Option("--max-walltime", metavar="TIME", help="Save and stop before this long: seconds, h:m:s or 1h30m."),
]
STau = Annotated[float, typer.Option("--s-tau", help="S of the Gamma method's automatic window.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress; only results, warnings and errors.")]


def say(text: object, err: bool = False) -> None:
    """Print `text`, made harmless to terminals since it may quote files and cards; `err`: to standard error."""
    from ..untrusted import printable

    typer.echo("\n".join(printable(line) for line in str(text).split("\n")), err=err)


def say_line(text: object, err: bool = False) -> None:
    """Print `text` like `say`, but as one line even if a file name in it has line breaks."""
    say(" ".join(str(text).splitlines()), err)


def stop_after(max_walltime: str | None) -> Stop:
    """The `latticediff.signals.Stop` that heeds signals and the given `MaxWalltime`."""
    from ..signals import Stop, parse_duration

    return Stop(None if max_walltime is None else parse_duration(max_walltime))


def complain(text: object) -> None:
    """Print a note of one line to standard error, where it does not mix with results."""
    say_line(f"note: {text}", err=True)

"""Subcommand that looks at another one while it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import AsJson, say

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["add_commands"]

LOOK = 1.0  #: seconds between two looks
LINE = 60.0  #: seconds between two lines of one task, in a file
SILENT = 120.0  #: seconds without a sign of life after which that is said


def watch(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="What the other command writes: its --out.")],
    once: Annotated[bool, typer.Option("--once", help="Say how far it is and exit.")] = False,
    as_json: AsJson = False,
) -> None:
    """How far the command is that writes OUT: run, generate, train, finetune, sample or study, here or on another node.

    \b
    latticediff watch runs/demo
    latticediff watch runs/demo --once --json
    """
    import json

    from ..errors import UserError
    from ..job.status import read_status, status_path

    row = read_status(out)
    if row is None:
        there = "; it is there, so its command has ended" if out.exists() else ""
        raise UserError(f"no command is writing {out} ({status_path(out).name} is not there){there}")
    if once or as_json:
        say(json.dumps(row, indent=1) if as_json else _line(row))
        return
    _follow(out, row)


def _follow(out: Path, row: dict[str, Any] | None) -> None:
    """Show the status until its file is gone: in one place on a terminal; else a line at each new task and minute."""
    import sys
    import time

    from rich.console import Console
    from rich.live import Live

    from ..job.status import read_status

    if not sys.stdout.isatty():
        told, when = None, 0.0
        while row is not None:
            now = time.monotonic()
            if told != (row["task"], len(row["past"])) or now - when >= LINE:
                say(_line(row))
                told, when = (row["task"], len(row["past"])), now
            time.sleep(LOOK)
            row = read_status(out)
    else:
        with Live(_picture(row or {}), console=Console(), refresh_per_second=4) as live:
            while row is not None:
                live.update(_picture(row))
                time.sleep(LOOK)
                row = read_status(out)
    say(f"the command that wrote {out} has ended")


def _line(row: dict[str, Any]) -> str:
    """One line for a status."""
    share = f" ({_share(row):.0%})" if row["total"] else ""
    at = f", {row['at']}" if row.get("at") else ""
    left = row.get("seconds_left")
    numbers = "".join(f", {key} {value:.4g}" for key, value in row["numbers"].items() if value is not None)
    silent = _age(row)
    asleep = f"; no sign of life for {silent:.0f} s, it may have been killed" if silent > SILENT else ""
    after = f" after {', '.join(row['past'])}" if row["past"] else ""
    rest = f", about {_span(left)} left of {'all' if 'share' in row else 'it'}" if left is not None else ""
    return f"{row['task']}: {row['done']} of {row['total']}{share}{at}{rest}{numbers}{after}{asleep}"


def _share(row: dict[str, Any]) -> float:
    """Share of the task that is done; of a study, share of the time of all tasks that has passed."""
    return float(row.get("share", row["done"] / (row["total"] or 1)))


def _picture(row: dict[str, Any]) -> RenderableType:
    """A status for a terminal: what is done, the bar of the task at hand, and its numbers."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.text import Text

    if not row:
        return Text("")
    done = [Text(f"done  {name}", style="dim") for name in row["past"]]
    return Group(*done, Text(_line({**row, "past": []})), ProgressBar(total=1.0, completed=_share(row)))


def _age(row: dict[str, Any]) -> float:
    from datetime import UTC, datetime

    return (datetime.now(UTC) - datetime.fromisoformat(row["written"])).total_seconds()


def _span(seconds: float) -> str:
    """Seconds for people."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def add_commands(app: typer.Typer) -> None:
    """Declare the subcommands of this module on a `typer.Typer`."""
    app.command()(watch)

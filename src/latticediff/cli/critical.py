r"""Subcommand that finds a critical point by finite-size scaling.

``\b`` in a docstring keeps the lines that follow as they are in ``--help``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import AsJson, MaxWalltime, Overrides, Quiet, say, stop_after

__all__ = ["add_commands"]


def critical(
    card: Annotated[
        Path, typer.Argument(metavar="CARD", help="Card of a critical point, such as configs/critical-point.toml.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the result; what is done there is kept.")],
    overrides: Overrides = None,
    max_walltime: MaxWalltime = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Critical kappa and exponents of phi^4 in two dimensions by finite-size scaling, with HMC beside.

    Trains a conditioned model for each size, draws weighed fields, runs HMC for as long, and reweights both. The same
    command goes on after a stop. Writes critical.json, critical.md and figures, and prints the page.

    \b
    latticediff critical configs/critical-point.toml --out critical
    latticediff critical configs/critical-point.toml --out critical --max-walltime 1h30m
    """
    import json
    import shlex

    from ..critical.card import load_critical
    from ..job.progress import make_progress
    from ..report.critical import critical_markdown
    from ..stages.critical import critical as run

    asked = load_critical(card, overrides or [])
    options = [word for entry in overrides or [] for word in ("--set", entry)]
    command = shlex.join(["latticediff", "critical", card.name, "--out", out.name, *options])
    progress = make_progress(quiet)
    with stop_after(max_walltime) as stop, progress.seen_at(out):
        found = run(asked, out, progress=progress, stop=stop, command=command)
    say(json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False) if as_json else critical_markdown(found))


def add_commands(app: typer.Typer) -> None:
    """Declare the subcommand of this module on a `typer.Typer`."""
    app.command()(critical)

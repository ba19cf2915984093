r"""Subcommand that draws ensembles along a line of couplings.

``\b`` in a docstring keeps the lines that follow as they are in ``--help``.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from .models import known_model
from .options import AsJson, MaxWalltime, Outside, Quiet, say, stop_after

__all__ = ["add_commands"]


def line(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", callback=known_model, help="Model folder, or name of a shipped model.")
    ],
    along: Annotated[
        str,
        typer.Option("--along", metavar="NAME=FIRST:LAST:N", help="The coupling and its values, or a list: lam=4,5,6."),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the ensembles, line.json and figures.")],
    n: Annotated[
        int | None, typer.Option("--n", min=1, metavar="N", help="Proposals at each coupling; default 15000.")
    ] = None,
    route: Annotated[str, typer.Option("--route", metavar="ROUTE", help="Which proposal.")] = "ode",
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="A key of the chains' card, e.g. lattice.shape=[16,16]; repeatable."
        ),
    ] = None,
    outside: Outside = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep what is finished, go on with what is not; larger --n extends.")
    ] = False,
    max_walltime: MaxWalltime = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Exact ensembles along a line of couplings from one model, with table and figure.

    Every coupling gets an ensemble file of Metropolis chains; couplings that the model was never trained at are
    interpolated.

    \b
    latticediff line phi4-A-line --along lam=4:6.5:6 --out line
    latticediff line phi4-A-line --along lam=4,4.25,4.5 --n 50000 --out line --resume
    """
    import json

    from ..job.progress import make_progress
    from ..stages.line import draw_line

    common: dict[str, Any] = {
        "route": route,
        "n": n,
        "outside": outside,
        "resume": resume,
        "progress": make_progress(quiet),
    }
    with stop_after(max_walltime) as stop:
        found = draw_line(model, along, out, overrides or (), **common, stop=stop)
    say(json.dumps(found.to_dict(), indent=1, allow_nan=False) if as_json else found.to_text())


def add_commands(app: typer.Typer) -> None:
    """Register the subcommand of this module."""
    app.command()(line)

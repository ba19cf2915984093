r"""The subcommand that makes one model of several phases.

``\b`` in a docstring keeps the lines that follow as they are in ``--help``.
"""

from pathlib import Path
from typing import Annotated

import typer

from .models import known_models
from .options import NewFile, Quiet, say

__all__ = ["add_commands"]


def mix(
    models: Annotated[
        list[Path], typer.Argument(metavar="MODEL...", callback=known_models, help="Model folders, one for each phase.")
    ],
    out: NewFile,
    boundary: Annotated[
        list[float] | None,
        typer.Option("--boundary", help="m or |m| between two phases; repeatable. Default: between the models'."),
    ] = None,
    order_parameter: Annotated[
        str | None, typer.Option("--order-parameter", help="m or abs_m; default: as the models are expanded.")
    ] = None,
    n: Annotated[int, typer.Option("--n", metavar="N", help="Draws of each model.")] = 4000,
    seed: Annotated[int, typer.Option("--seed", help="Same seed, same bits.")] = 1,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:1.")] = "auto",
    quiet: Quiet = False,
) -> None:
    """Coexisting phases: one model of several, each proposed in proportion to its own Z; free energies between them.

    Train a model of each phase on a chain that stays in it. No chain has to cross.

    \b
    latticediff train card.toml --ensemble low.h5 --out low --set training.phase=single
    latticediff train card.toml --ensemble high.h5 --out high --set training.phase=single
    latticediff mix low high --out both
    latticediff sample card.toml --route ode --model both --out chain.h5
    """
    from ..job.progress import make_progress
    from ..stages.mix import mix as make

    found = make(models, out, boundary, order_parameter, n, seed, device, make_progress(quiet))
    say(found.to_text())


def add_commands(app: typer.Typer) -> None:
    """Declare the subcommands of this module on a `typer.Typer`."""
    app.command()(mix)

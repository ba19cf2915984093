"""The command: what all subcommands share, and where each is declared.

Each imports its stage when it runs, so that `--help` stays quick.
"""

from __future__ import annotations

from typing import Annotated

import typer

from . import (
    blocking,
    cluster_jobs,
    critical,
    densities,
    embedding,
    ensembles,
    files,
    installation,
    jobs,
    lines,
    phases,
    sampling,
    study,
    tuning,
    watching,
)
from .group import PlainGroup
from .options import say

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    cls=PlainGroup,
    pretty_exceptions_enable=False,  # a defect shows a plain traceback, a user's error one line (see main)
    rich_markup_mode=None,
    help="Exact diffusion-model samplers for lattice field theory, beside HMC on the same theory.",
)


def _version(asked: bool) -> None:
    if asked:
        from .. import __version__
        from ..provenance import commit

        say(f"latticediff {__version__}, commit {commit()}")
        raise typer.Exit


@app.callback()
def top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print version and commit, and exit.")
    ] = False,
) -> None:
    pass


# in the order of --help
PARTS = (
    jobs,
    watching,
    cluster_jobs,
    sampling,
    phases,
    embedding,
    blocking,
    files,
    ensembles,
    densities,
    lines,
    study,
    critical,
    tuning,
    installation,
)
for part in PARTS:
    part.add_commands(app)

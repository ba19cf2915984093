r"""Subcommands that look at files that are there: measure, compare, info, verify.

``\b`` in a docstring keeps the lines that follow as they are in ``--help``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import (
    AsJson,
    NewFile,
    Quiet,
    STau,
    say,
    say_line,
)

if TYPE_CHECKING:
    pass

__all__ = ["add_commands"]

File = Annotated[Path, typer.Argument(metavar="FILE", help="Ensemble file or model folder.")]


def measure(
    file: File,
    observables: Annotated[
        list[str] | None,
        typer.Option(
            "--observable", metavar="NAME", help="Only this one; repeatable. Default: the report's and all installed."
        ),
    ] = None,
    correlator: Annotated[
        bool, typer.Option("--correlator", help="Correlator C(t) and effective masses m_eff(t) too.")
    ] = False,
    axis: Annotated[
        int | None, typer.Option("--axis", metavar="N", help="Axis that is time; default: the first of the longest.")
    ] = None,
    as_json: AsJson = False,
    s_tau: STau = 1.5,
) -> None:
    """Observables and autocorrelation times of an ensemble file, with errors.

    Observables that other packages install under the entry-point group latticediff.observables are measured too.

    \b
    latticediff measure ens.h5
    latticediff measure ens.h5 --observable binder --observable fourth_cumulant --json
    latticediff measure ens.h5 --correlator
    """
    from ..errors import UserError
    from ..stages.measure import measure as measure_file

    if axis is not None and not correlator:
        raise UserError(f"--axis {axis} is of the correlator; say --correlator too")
    measured = measure_file(file, s_tau, observables or None, correlator, axis)
    say(measured.to_json() if as_json else measured.to_text())
    for notice in measured.notices:
        say(f"note: {notice}", err=True)


def compare(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Ensemble files; the first is the reference.")],
    out: NewFile,
    quiet: Quiet = False,
) -> None:
    """The report page for any set of chains of one theory."""
    from ..job.progress import make_progress
    from ..stages.compare import compare as compare_files

    compare_files(files, out, progress=make_progress(quiet))


def info(file: File) -> None:
    """What a file is: action in every convention, lattice, algorithm, size, acceptance, provenance."""
    from ..stages.info import info as describe

    say(describe(file))


def verify(file: File) -> None:
    """Recompute what a file claims: checksums, the stored action, the hash of a model's weights."""
    from ..stages.verify import verify as check

    say_line(check(file))


def add_commands(app: typer.Typer) -> None:
    """Declare the subcommands of this module on a `typer.Typer`."""
    app.command()(measure)
    app.command()(compare)
    app.command()(info)
    app.command()(verify)

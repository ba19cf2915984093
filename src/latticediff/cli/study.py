r"""Subcommands that measure critical slowing down, and write the page of it.

``\b`` in a docstring keeps the lines that follow as they are in ``--help``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import AsJson, MaxWalltime, Overrides, Quiet, say, stop_after

if TYPE_CHECKING:
    from ..study.card import StudyCard

__all__ = ["add_commands"]


def study(
    card: Annotated[Path, typer.Argument(metavar="CARD", help="Card of a study, such as configs/study-quick.toml.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the study; what is done there is kept.")],
    overrides: Overrides = None,
    along: Annotated[
        str | None,
        typer.Option(
            "--along",
            metavar="NAME=FIRST:LAST:N",
            help="Every lattice of the card at these values of a coupling; or a list: kappa=0.26,0.27.",
        ),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", metavar="N", help="Chains that run at once, in processes.")] = 1,
    part: Annotated[
        str | None, typer.Option("--part", metavar="K/N", help="Only every N-th cell from the K-th on, for job arrays.")
    ] = None,
    models: Annotated[
        bool, typer.Option("--models", help='Train the models that missing = "train" asks for, and stop.')
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the cells with estimated times; run nothing.")
    ] = False,
    status: Annotated[bool, typer.Option("--status", help="Print which cells are done; run nothing.")] = False,
    max_walltime: MaxWalltime = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Critical slowing down: tau_int, z and the cost of every sampler, side by side, with a page.

    Runs the cells (theory, lattice, sampler) that are missing; the same command goes on after a stop. Writes
    study.json, study.html and figures, and prints the verdict.

    \b
    latticediff study configs/study-quick.toml --out study
    latticediff study configs/study-quick.toml --out study --dry-run
    latticediff study configs/study-quick.toml --out study --jobs 2 --set study.seconds=5
    """
    import json

    from ..errors import UserError
    from ..job.progress import make_progress
    from ..stages.study_models import estimated_training, models_wanted
    from ..study.plan import describe_plan, plan_study

    asked = _card(card, overrides or [], along)
    if dry_run or status:
        from ..stages.study import require_own

        require_own(out)
        wanted = models_wanted(asked, out)
        for model in wanted:
            seconds = f", {estimated_training(model) / 60:.0f} min about" if dry_run else ""
            say(f"to be trained: {model.title}{seconds}")
        if wanted:
            say("what these models sample is not in the table below")
        say(describe_plan(plan_study(asked, out), out, jobs))
        return
    from ..stages.study import study as run

    options = [*(f"--set {entry}" for entry in overrides or []), *([f"--along {along}"] if along else [])]
    command = " ".join(["latticediff study", card.name, "--out", out.name, *options])
    progress, share = make_progress(quiet), _part(part)
    # parts run beside each other, and each says how far it is in a file of its own
    seen = out if share is None else Path(f"{out}.part-{share[0]}-of-{share[1]}")
    with stop_after(max_walltime) as stop, progress.seen_at(seen):
        found = run(
            asked,
            out,
            jobs=jobs,
            part=share,
            models_alone=models,
            progress=progress,
            stop=stop,
            command=command,
        )
    if not found:  # models, or one part of an array: the page is for the call without --part
        return
    say(json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False) if as_json else "\n".join(found["verdict"]))
    if failed := found["failed"]:
        raise UserError(
            f"{len(failed)} failed, the others are on the page: {'; '.join(failed)}; run again to retry them"
        )


def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a study.")],
) -> None:
    """The page of a study once more, from its study.json.

    \b
    latticediff report study
    """
    from ..stages.study import rewrite_page

    rewrite_page(folder, say)


def _card(path: Path, overrides: list[str], along: str | None) -> StudyCard:
    from ..study.card import load_study, parse_study

    card = load_study(path, overrides)
    if along is None:
        return card
    from ..stages.line import parse_values

    return parse_study(card.along(*parse_values(along)).to_toml(), source="--along")


def _part(text: str | None) -> tuple[int, int] | None:
    from ..errors import UserError

    if text is None:
        return None
    k, slash, n = text.partition("/")
    if not (slash and k.isdecimal() and n.isdecimal()):
        raise UserError(f"--part got {text!r}; expected K/N, such as 1/8")
    return int(k), int(n)


def add_commands(app: typer.Typer) -> None:
    """Declare the subcommands of this module on a `typer.Typer`."""
    app.command()(study)
    app.command()(report)

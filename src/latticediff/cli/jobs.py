r"""Subcommands that make ensembles and models from a run-card: the whole job, or one stage of it.

``\b`` in a docstring keeps the lines that follow as they are in ``--help``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .cards import prepare, print_plan
from .models import known_model
from .options import (
    CardPath,
    DryRun,
    Ensembles,
    MaxWalltime,
    NewFile,
    Overrides,
    Quiet,
    Resume,
    say,
    say_line,
    stop_after,
)

if TYPE_CHECKING:
    from ..config import Card
    from ..job.progress import Progress
    from ..model.score_model import ScoreModel

__all__ = ["add_commands"]


def run(
    card: CardPath,
    out: NewFile,
    overrides: Overrides = None,
    dry_run: DryRun = False,
    resume: Resume = False,
    max_walltime: MaxWalltime = None,
    quiet: Quiet = False,
) -> None:
    """The whole job: generate, train, sample both routes, measure, report.

    A card with nothing but [run], [action] and [lattice] has everything else chosen from a short pilot run; what was
    chosen is said, and stands in the card.toml of the run.
    """
    loaded, progress = prepare(card, overrides, quiet)
    loaded = _whole(card, loaded, overrides or (), out, resume, progress)
    if dry_run:
        from ..stages.beside import models_beside

        models_beside(loaded)  # refused here as in the run itself
        print_plan(
            loaded,
            "generate",
            "sample_hmc",
            "train",
            *(["finetune"] if loaded.finetune.steps else []),
            "sample_ode",
            "sample_sde",
            *(["beside"] if loaded.sampling.beside else []),
            "report",
        )
        return
    from ..stages.compile_ahead import compiling_ahead
    from ..stages.run import run as run_all

    with stop_after(max_walltime) as stop, progress.seen_at(out), compiling_ahead(loaded, progress):
        run_all(loaded, out, resume=resume, progress=progress, stop=stop)
    if not quiet:
        from ..stages.made import made_run

        say_line(made_run(out))
        say_line(f"next: open {out / 'report.html'}")


def _whole(path: Path, card: Card, overrides: Sequence[str], out: Path, resume: bool, progress: Progress) -> Card:
    """The card itself, or if its file is bare what a recipe makes of it; of a run that goes on, the run's own.

    Overrides of other keys than the run, the action and the lattice are laid over what the recipe chose.
    """
    from ..config import load_card, parse_card
    from ..stages.recipe import GIVEN, is_bare, recipe

    own = [entry for entry in overrides if entry.split("=", 1)[0].split(".")[0].strip() in GIVEN]
    further = [entry for entry in overrides if entry not in own]
    bare = load_card(path, own) if further else card
    if not is_bare(bare):
        return card
    begun = out / "card.toml"
    if resume and begun.is_file():
        begun_card = load_card(begun, further)
        if not begun_card.difference(card.to_dict(), ("run", "action", "lattice")):
            return begun_card
    chosen = recipe(bare)
    for reason in chosen.reasons:
        progress.say(reason)
    return parse_card(chosen.card.to_toml(), further) if further else chosen.card


def generate(
    card: CardPath,
    out: NewFile,
    overrides: Overrides = None,
    until: Annotated[
        int | None,
        typer.Option("--until", metavar="N", help="Go on, or begin, until the file has N updates of each chain."),
    ] = None,
    more: Annotated[
        int | None, typer.Option("--more", metavar="N", help="Extend the finished file by N updates of each chain.")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option("--start", metavar="START", help="hot, cold, a number, or an ensemble file: its last fields."),
    ] = None,
    dry_run: DryRun = False,
    resume: Resume = False,
    max_walltime: MaxWalltime = None,
    quiet: Quiet = False,
) -> None:
    """Thermalise and run the reference chains into an ensemble file, then apply the gate.

    An extended file has the bits of one uninterrupted run.

    \b
    latticediff generate configs/demo.toml --out ens.h5
    latticediff generate configs/demo.toml --out ens.h5 --more 5000
    """
    from ..stages.extend import length_overrides

    overrides = [*(overrides or ()), *length_overrides(out, until, more, start)]
    resume = resume or until is not None or more is not None
    loaded, progress = prepare(card, overrides, quiet)
    if dry_run:
        print_plan(loaded, "generate")
        return
    from ..stages.generate import generate as generate_ensemble

    with stop_after(max_walltime) as stop, progress.seen_at(out):
        ensemble = generate_ensemble(loaded, out, resume=resume, progress=progress, stop=stop)
    if not quiet:
        from ..stages.made import made_ensemble, next_command

        with ensemble:
            say_line(made_ensemble(ensemble, loaded.gate.enforce))
        say_line(next_command("train", card, "--ensemble", out, "--out", "model"))


def train(
    card: CardPath,
    ensemble: Ensembles,
    out: NewFile,
    overrides: Overrides = None,
    dry_run: DryRun = False,
    resume: Resume = False,
    max_walltime: MaxWalltime = None,
    quiet: Quiet = False,
) -> None:
    """Train the score network on an ensemble, or one network on several; writes a model folder.

    Further ensembles carry their own couplings and lattice; the model serves all of them and what lies between.

    \b
    latticediff train configs/demo.toml --ensemble ens.h5 --out model
    latticediff train configs/demo.toml --ensemble ens.h5 --ensemble other.h5 --out model
    """
    loaded, progress = prepare(card, overrides, quiet)
    if dry_run:
        print_plan(loaded, "train")
        return
    from ..stages.train import train as train_model

    with stop_after(max_walltime) as stop, progress.seen_at(out):
        trained = train_model(loaded, ensemble, out, resume=resume, progress=progress, stop=stop)
    if trained is not None:  # else another process of this training says it
        _tell_model(card, trained, out, quiet)


def finetune(
    card: CardPath,
    model: Annotated[
        Path,
        typer.Option("--model", callback=known_model, help="Model folder to start from, or name of a shipped model."),
    ],
    ensemble: Ensembles,
    out: NewFile,
    overrides: Overrides = None,
    dry_run: DryRun = False,
    resume: Resume = False,
    max_walltime: MaxWalltime = None,
    quiet: Quiet = False,
) -> None:
    """Fine-tune a trained model by the likelihood of its flow; writes another model folder.

    Several ensembles, of other couplings or lattices, tune one network for all of them.

    \b
    latticediff finetune configs/demo.toml --model score --ensemble ens.h5 --out model
    latticediff finetune configs/demo.toml --model line --ensemble ens.h5 --ensemble other.h5 --out model
    """
    loaded, progress = prepare(card, overrides, quiet)
    if dry_run:
        from ..model.storage import load_model

        load_model(model, action=loaded.theory(), shape=loaded.shape)  # refused here as in the run itself
        print_plan(loaded, "finetune")
        return
    from ..stages.finetune import finetune as finetune_model
    from ..stages.finetune import summary

    with stop_after(max_walltime) as stop, progress.seen_at(out):
        tuned = finetune_model(loaded, model, ensemble, out, resume=resume, progress=progress, stop=stop)
    if tuned is not None:  # else another process says it
        say(summary(tuned))
        _tell_model(card, tuned, out, quiet)


def _tell_model(card: Path, model: ScoreModel, out: Path, quiet: bool) -> None:
    """Say what a training made, and how to draw from it."""
    if quiet:
        return
    from ..stages.made import made_model, next_command

    route = str(model.card.get("metrics", {}).get("proposal", "ode"))
    say_line(made_model(model, out))
    say_line(next_command("sample", card, "--model", out, "--route", route, "--out", f"{route}.h5"))


def add_commands(app: typer.Typer) -> None:
    """Declare the subcommands of this module on a `typer.Typer`."""
    app.command()(run)
    app.command()(generate)
    app.command()(train)
    app.command()(finetune)

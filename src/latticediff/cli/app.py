"""Subcommands and their options. Each imports its stage when it runs, so that `--help` stays quick."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import densities, ensembles, lines, tuning
from .options import (
    AsJson,
    CardPath,
    DryRun,
    Ensembles,
    MaxWalltime,
    Model,
    NewFile,
    Outside,
    Overrides,
    Quiet,
    Resume,
    STau,
    complain,
    say,
    say_line,
    stop_after,
)

if TYPE_CHECKING:
    from ..config import Card
    from ..job.progress import Progress

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # a defect shows a plain traceback, a user's error one line (see main)
    rich_markup_mode=None,
    help="Exact diffusion-model samplers for lattice field theory, beside HMC on the same theory.",
)


File = Annotated[Path, typer.Argument(metavar="FILE", help="Ensemble file or model folder.")]


def _prepare(card: Path, overrides: Sequence[str] | None, quiet: bool) -> tuple[Card, Progress]:
    """The card of a command with its overrides, and the progress to show."""
    from ..config import load_card
    from ..job.progress import make_progress

    return load_card(card, overrides or (), say=complain), make_progress(quiet)


def _print_plan(card: Card, *stages: str) -> None:
    """Print the effective card and the estimate of what `stages` would cost."""
    from ..stages.estimate import estimate

    say(card.to_toml())
    say(estimate(card, stages))


def _version(asked: bool) -> None:
    if asked:
        from .. import __version__

        say(f"latticediff {__version__}")
        raise typer.Exit


@app.callback()
def top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def run(
    card: CardPath,
    out: NewFile,
    overrides: Overrides = None,
    dry_run: DryRun = False,
    resume: Resume = False,
    max_walltime: MaxWalltime = None,
    quiet: Quiet = False,
) -> None:
    """The whole job: generate, train, sample both routes, measure, report."""
    loaded, progress = _prepare(card, overrides, quiet)
    if dry_run:
        _print_plan(
            loaded,
            "generate",
            "sample_hmc",
            "train",
            *(["finetune"] if loaded.finetune.steps else []),
            "sample_ode",
            "sample_sde",
        )
        return
    from ..stages.run import run as run_all

    with stop_after(max_walltime) as stop:
        run_all(loaded, out, resume=resume, progress=progress, stop=stop)


@app.command()
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
        str | None, typer.Option("--start", metavar="START", help="hot, cold, or an ensemble file: its last fields.")
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
    loaded, progress = _prepare(card, overrides, quiet)
    if dry_run:
        _print_plan(loaded, "generate")
        return
    from ..stages.generate import generate as generate_ensemble

    with stop_after(max_walltime) as stop:
        generate_ensemble(loaded, out, resume=resume, progress=progress, stop=stop)


@app.command()
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
    loaded, progress = _prepare(card, overrides, quiet)
    if dry_run:
        _print_plan(loaded, "train")
        return
    from ..stages.train import train as train_model

    with stop_after(max_walltime) as stop:
        train_model(loaded, ensemble, out, resume=resume, progress=progress, stop=stop)


@app.command()
def finetune(
    card: CardPath,
    model: Annotated[Path, typer.Option("--model", help="Model folder to start from, or name of a shipped model.")],
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
    loaded, progress = _prepare(card, overrides, quiet)
    if dry_run:
        _print_plan(loaded, "finetune")
        return
    from ..stages.finetune import finetune as finetune_model
    from ..stages.finetune import summary

    with stop_after(max_walltime) as stop:
        tuned = finetune_model(loaded, model, ensemble, out, resume=resume, progress=progress, stop=stop)
    say(summary(tuned))


def _cheapest(card: Card, route: str, overrides: Sequence[str] | None, progress: Progress) -> tuple[str, Card]:
    """The cheapest shipped model of a card, and the card with its integrator where ``--set`` says nothing of that."""
    from ..build.learned import on_own_scheme, route_named
    from ..errors import UserError
    from ..model.score_model import load_model
    from ..model.shipped import cheapest_model

    route_named(route)
    if route != "ode":
        raise UserError(f"--route {route} wants a --model: shipped ones are tuned for --route ode")
    name, ode = cheapest_model(card.theory().describe(), card.shape), card.sampling.ode
    said = {entry.split("=", 1)[0].strip() for entry in overrides or ()}
    keys = ("steps", "method", "grid")
    given = {key: getattr(ode, key) for key in keys if said & {f"sampling.ode.{key}", "sampling.ode", "sampling"}}
    card = on_own_scheme(card, load_model(name), **given)
    ode = card.sampling.ode
    progress.say(
        f"model: {name}, which comes with the package, {ode.steps} steps of {ode.method}, {ode.grid} grid"
        " (others: latticediff models)"
    )
    return name, card


@app.command()
def sample(
    card: CardPath,
    route: Annotated[str, typer.Option("--route", metavar="ROUTE", help="Which exact proposal.")],
    out: NewFile,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="Model folder, or name of a shipped model; with --route ode by default the cheapest shipped.",
        ),
    ] = None,
    overrides: Overrides = None,
    dry_run: DryRun = False,
    resume: Resume = False,
    max_walltime: MaxWalltime = None,
    quiet: Quiet = False,
    outside: Outside = False,
) -> None:
    """Metropolis chains with the network's proposals, into an ensemble file."""
    loaded, progress = _prepare(card, overrides, quiet)
    if model is None:
        model, loaded = _cheapest(loaded, route, overrides, progress)
    if dry_run:
        from ..build.model import model_for

        model_for(loaded, model, route, outside, progress)  # refused here as in the run itself
        _print_plan(loaded, f"sample_{route}")
        return
    from ..stages.sample import sample as sample_chain

    with stop_after(max_walltime) as stop:
        sample_chain(loaded, model, route, out, resume=resume, progress=progress, stop=stop, outside=outside)


@app.command()
def weigh(
    card: CardPath,
    model: Model,
    route: Annotated[
        str, typer.Option("--route", metavar="ROUTE", help="Whose density; of the SDE, that of random paths.")
    ],
    ensemble: Annotated[
        Path, typer.Option("--ensemble", help="Configurations of the card's theory, an ensemble file.")
    ],
    out: NewFile,
    overrides: Overrides = None,
    all_chains: Annotated[
        bool, typer.Option("--all", help="Weigh all chains; default: those that training holds out.")
    ] = False,
    outside: Outside = False,
    as_json: AsJson = False,
    max_walltime: MaxWalltime = None,
    quiet: Quiet = False,
) -> None:
    """log_weight = -S - log q of given configurations under a model, into an .npz file; prints the forward ESS.

    \b
    latticediff weigh configs/demo.toml --model model --route ode --ensemble ens.h5 --out weights.npz
    latticediff weigh far.toml --model phi4-A-L8 --route ode --ensemble far.h5 --all --outside --out weights.npz
    """
    from ..atomic import refuse_existing
    from ..stages.weigh import Weighing
    from ..stages.weigh import weigh as weigh_ensemble

    loaded, progress = _prepare(card, overrides, quiet)
    refuse_existing(out)
    with stop_after(max_walltime) as stop:
        arrays = weigh_ensemble(
            loaded,
            ensemble,
            model,
            route,
            out,
            progress=progress,
            stop=stop,
            outside=outside,
            all_chains=all_chains,
        )
    found = Weighing(ensemble.name, route, arrays)
    say(found.to_json() if as_json else found.to_text())


@app.command()
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


@app.command()
def compare(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Ensemble files; the first is the reference.")],
    out: NewFile,
    quiet: Quiet = False,
) -> None:
    """The report page for any set of chains of one theory."""
    from ..job.progress import make_progress
    from ..stages.compare import compare as compare_files

    compare_files(files, out, progress=make_progress(quiet))


@app.command()
def info(file: File) -> None:
    """What a file is: action in every convention, lattice, algorithm, size, acceptance, provenance."""
    from ..stages.info import info as describe

    say(describe(file))


@app.command()
def verify(file: File) -> None:
    """Recompute what a file claims: checksums, the stored action, the hash of a model's weights."""
    from ..stages.verify import verify as check

    say_line(check(file))


ensembles.add_commands(app)
densities.add_commands(app)
lines.add_commands(app)
tuning.add_commands(app)


@app.command()
def models(json_output: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False) -> None:
    """List the trained models that come with the package."""
    import json

    from ..model.shipped import describe_models

    for row in describe_models():
        if json_output:
            say(json.dumps(row))
            continue
        ranges = row["coupling_ranges"].items()
        couplings = ", ".join(
            f"{key}={low:g}" if low == high else f"{key}={low:g}..{high:g}" for key, (low, high) in ranges
        )
        shape = "x".join(map(str, row["shape"]))
        reverse, forward = row["ess_reverse"], row["ess_forward"]
        before = f" ({row['inherited_seconds']:.0f} s of them its ancestors)" if row["inherited_seconds"] >= 0.5 else ""
        data = "" if row["data_seconds"] is None else f", data {row['data_seconds']:.0f} s"
        say(
            f"{row['name']:20} {row['family']:8} {row['convention']}: {couplings}; {shape};"
            f" ESS {reverse[0]:.3f} reverse, {forward[0]:.3f} forward;"
            f" trained {row['training_seconds']:.0f} s{before} on {row['training_device']}{data}"
        )


@app.command()
def selftest(json_output: AsJson = False) -> None:
    """Check that the compiled code computes the right numbers on this machine; half a minute."""
    import json

    from ..stages.selftest import selftest as run_selftest

    found = run_selftest()
    say(json.dumps(found.to_dict(), indent=1) if json_output else found.to_text())
    found.require_passed()

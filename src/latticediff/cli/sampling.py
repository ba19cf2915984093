r"""Subcommands that let a model propose: chains of a run-card, and the weights of given configurations.

``\b`` in a docstring keeps the lines that follow as they are in ``--help``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .cards import prepare, print_plan
from .models import known_model
from .options import (
    AsJson,
    CardPath,
    DryRun,
    MaxWalltime,
    Model,
    NewFile,
    Outside,
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

__all__ = ["add_commands"]


def _cheapest(card: Card, route: str, overrides: Sequence[str] | None, progress: Progress) -> tuple[str, Card]:
    """The cheapest shipped model of a card, and the card with its integrator where ``--set`` says nothing of that."""
    from ..build.learned import on_own_scheme, route_named
    from ..errors import UserError
    from ..model.shipped import cheapest_model
    from ..model.storage import load_model

    route_named(route)
    if route != "ode":
        raise UserError(f"--route {route} wants a --model: shipped ones are tuned for --route ode")
    moves = card.sampling.kernel.move != "independence"  # in the noise of all sites
    name, ode = cheapest_model(card.theory().describe(), card.shape, all_sites=moves), card.sampling.ode
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


def sample(
    card: CardPath,
    route: Annotated[str, typer.Option("--route", metavar="ROUTE", help="Which exact proposal.")],
    out: NewFile,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            callback=known_model,
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
    loaded, progress = prepare(card, overrides, quiet)
    if model is None:
        model, loaded = _cheapest(loaded, route, overrides, progress)
    if dry_run:
        from ..build.learned import route_named
        from ..build.model import model_for

        route_named(route)
        model_for(loaded, model, route, outside, progress)  # refused here as in the run itself
        print_plan(loaded, f"sample_{route}")
        return
    from ..stages.sample import sample as sample_chain

    with stop_after(max_walltime) as stop, progress.seen_at(out):
        chain = sample_chain(loaded, model, route, out, resume=resume, progress=progress, stop=stop, outside=outside)
    if not quiet:
        from ..stages.made import made_chain, next_command

        with chain:
            say_line(made_chain(chain))
        say_line(next_command("measure", out))


def weigh(
    model: Model,
    out: NewFile,
    card: Annotated[
        Path | None, typer.Argument(metavar="[CARD]", help="Run-card of the theory; not with --fields.")
    ] = None,
    route: Annotated[
        str | None,
        typer.Option(
            "--route", metavar="ROUTE", help="Whose density; of the SDE, that of random paths. --fields: ode."
        ),
    ] = None,
    ensemble: Annotated[
        Path | None, typer.Option("--ensemble", help="Configurations of the card's theory, an ensemble file.")
    ] = None,
    fields: Annotated[
        Path | None,
        typer.Option("--fields", help="Fields (n, *lattice) of the model's theory: .h5, .npy, .npz or raw."),
    ] = None,
    reader: Annotated[str | None, typer.Option("--reader", help="Of --fields; default: by suffix.")] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="Where --fields has them (npz, hdf5), or a pattern: 'cfg_*'.")
    ] = None,
    axis: Annotated[
        str | None, typer.Option("--axis", help="Axis of --fields that counts configurations: 'last', or from 0.")
    ] = None,
    dtype: Annotated[str | None, typer.Option("--dtype", help="Of raw --fields, e.g. '>f4'; default '<f8'.")] = None,
    offset: Annotated[int | None, typer.Option("--offset", help="Bytes before raw --fields.")] = None,
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

    With --fields there is no card: fields of another program, weighed in the model's own scheme.

    \b
    latticediff weigh configs/demo.toml --model model --route ode --ensemble ens.h5 --out weights.npz
    latticediff weigh far.toml --model phi4-A-L8 --route ode --ensemble far.h5 --all --outside --out weights.npz
    latticediff weigh --model phi4-A-L16 --fields mine.npy --out weights.npz
    latticediff weigh --model phi4-A-L16 --fields run.jld2 --dataset 'cfg_*' --out weights.npz
    """
    from ..errors import UserError

    of_card = {"CARD": card, "--ensemble": ensemble, "--set": overrides, "--all": all_chains, "--outside": outside}
    of_fields = {"--reader": reader, "--dataset": dataset, "--axis": axis, "--dtype": dtype, "--offset": offset}
    if fields is not None:
        if given := [name for name, value in of_card.items() if value not in (None, False)]:
            raise UserError(f"{given[0]} does not go with --fields, which are weighed in the model's own scheme")
        _weigh_fields(
            model,
            fields,
            out,
            route or "ode",
            as_json,
            max_walltime,
            quiet,
            reader=reader,
            dataset=dataset,
            axis=axis,
            dtype=dtype,
            offset=offset,
        )
        return
    if given := [name for name, value in of_fields.items() if value is not None]:
        raise UserError(f"{given[0]} is of --fields; an ensemble file needs none")
    if card is None or ensemble is None or route is None:
        raise UserError("expected CARD, --route and --ensemble FILE, or --fields FILE alone")
    from ..atomic import refuse_existing
    from ..stages.weigh import Weighing
    from ..stages.weigh import weigh as weigh_ensemble

    loaded, progress = prepare(card, overrides, quiet)
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


def _weigh_fields(
    model: str,
    fields: Path,
    out: Path,
    route: str,
    as_json: bool,
    max_walltime: str | None,
    quiet: bool,
    **reading: Any,
) -> None:
    """`weigh` of fields that no card describes."""
    import json

    import numpy as np

    from ..job.progress import make_progress
    from ..stages.weigh_fields import weigh_fields

    with stop_after(max_walltime) as stop:
        arrays = weigh_fields(model, fields, out, route=route, progress=make_progress(quiet), stop=stop, **reading)
    log_weight = arrays["log_weight"]
    weighed = log_weight[np.isfinite(log_weight)]
    told = {
        "source": fields.name,
        "route": route,
        "n": len(log_weight),
        "without_density": len(log_weight) - len(weighed),
        "log_weight_mean": float(weighed.mean()) if len(weighed) else None,
        "log_weight_std": float(weighed.std()) if len(weighed) else None,
    }
    if as_json:
        say(json.dumps(told, indent=1))
        return
    spread = (
        f"log_weight {told['log_weight_mean']:.6g}, spread {told['log_weight_std']:.3g}" if len(weighed) else "none"
    )
    lost = f"; {told['without_density']} have no density under the model" if told["without_density"] else ""
    say(f"{fields.name}: {told['n']} configurations weighed by the {route} route: {spread}{lost}")


def add_commands(app: typer.Typer) -> None:
    """Declare the subcommands of this module on a `typer.Typer`."""
    app.command()(sample)
    app.command()(weigh)

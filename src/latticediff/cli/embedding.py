r"""Subcommands for other people's Monte Carlo: pools of weighed draws, chains of them, compiled code, plug-ins.

``\b`` in a docstring keeps the lines that follow as they are in ``--help``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import UserError
from .models import known_model, known_models
from .options import AsJson, MaxWalltime, NewFile, Quiet, say, say_line, stop_after

__all__ = ["add_commands", "route_options"]

ModelName = Annotated[
    str, typer.Argument(metavar="MODEL", callback=known_model, help="Model folder, or name of a shipped model.")
]
Route = Annotated[str, typer.Option("--route", metavar="ROUTE", help="ode, sde or an installed one.")]
Steps = Annotated[int | None, typer.Option("--steps", help="Integration steps; default: the model's own.")]
Method = Annotated[str | None, typer.Option("--method", help="rk4, dopri5 or adams5 (ode); default: the model's own.")]
Grid = Annotated[str | None, typer.Option("--grid", help="uniform or optimised (ode); default: the model's own.")]


def route_options(steps: int | None, method: str | None, grid: str | None) -> dict[str, Any]:
    """The options of a route that were given."""
    given = {"steps": steps, "method": method, "grid": grid}
    return {key: value for key, value in given.items() if value is not None}


def propose(
    model: ModelName,
    out: Annotated[Path, typer.Option("--out", help="The pool, .h5 or .bin; never overwrites.")],
    n: Annotated[int, typer.Option("--n", metavar="N", help="Draws.")] = 10_000,
    route: Route = "ode",
    steps: Steps = None,
    method: Method = None,
    grid: Grid = None,
    seed: Annotated[int, typer.Option("--seed", help="Same seed and stream, same bits.")] = 1,
    stream: Annotated[int, typer.Option("--stream", help="Other streams of one seed are independent.")] = 0,
    max_doubling: Annotated[
        float, typer.Option("--max-doubling", help="Largest spread of the change of log_q under twice the steps.")
    ] = 0.1,
    streams: Annotated[
        int | None,
        typer.Option(
            "--streams", metavar="K", help="K pools, NAME-0.h5, NAME-1.h5, ...: of --stream and the next ones."
        ),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", metavar="N", help="Processes that share the streams.")] = 1,
    device: Annotated[
        str, typer.Option("--device", help="cpu, cuda or cuda:1; several --jobs share all devices of cuda.")
    ] = "cpu",
    max_walltime: MaxWalltime = None,
    quiet: Quiet = False,
) -> None:
    """Weighed draws of a model (phi, S, log_q) into a pool, for a Monte Carlo code in any language.

    An accept step takes each draw once, in order: min(1, w'/w), log w = -S - log_q. docs/embedding.md has the layout.

    \b
    latticediff propose phi4-A-L16 --n 10000 --out pool.h5
    latticediff propose phi4-A-L16 --n 10000 --stream 1 --out pool1.bin
    latticediff propose phi4-A-L16 --n 10000 --streams 8 --jobs 2 --out pool.h5
    """
    from ..job.progress import make_progress
    from ..stages.propose import propose as fill
    from ..stages.propose_many import propose_many

    arguments: dict[str, Any] = {
        "route": route,
        "seed": seed,
        "stream": stream,
        "max_doubling": max_doubling,
        "device": device,
        "options": route_options(steps, method, grid),
        "progress": make_progress(quiet),
    }
    if streams is None and jobs != 1:
        raise UserError(f"--jobs {jobs} processes share streams; say --streams, how many pools there shall be")
    with stop_after(max_walltime) as stop:
        if streams is not None:
            paths = propose_many(model, n, out, streams, jobs=jobs, stop=stop, **arguments)
            say_line(f"{paths[0]} to {paths[-1].name}: {len(paths)} pools of {n} draws of {Path(model).name}")
            return
        header = fill(model, n, out, stop=stop, **arguments)
    lattice = "x".join(map(str, header.shape))
    say_line(
        f"{out}: {header.n} draws on {lattice} of {header.model}, model {header.model_sha256[:12]}, stream {stream}"
    )


def accept(
    pools: Annotated[list[Path], typer.Argument(metavar="POOL...", help="Pools of one proposal, used in this order.")],
    out: NewFile,
    chains: Annotated[int, typer.Option("--n-chains", help="Chains that take turns in the draws.")] = 1,
    warmup: Annotated[int, typer.Option("--warmup", help="First updates of each chain that are not kept.")] = 10,
    n: Annotated[int | None, typer.Option("--n", metavar="N", help="Use at most N draws; the others stay.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the accept steps.")] = 1,
    more: Annotated[bool, typer.Option("--more", help="Go on with the chain --out.")] = False,
    model: Annotated[
        str | None, typer.Option("--model", callback=known_model, help="Refuse pools of other weights than these.")
    ] = None,
    max_walltime: MaxWalltime = None,
    quiet: Quiet = False,
) -> None:
    """An exact chain of the draws of pools, each used once: pools that were used before are refused.

    \b
    latticediff accept pool.h5 --out chain.h5
    latticediff accept pool1.bin --out chain.h5 --more
    """
    from ..job.progress import make_progress
    from ..stages.accept import accept as make_chain

    with stop_after(max_walltime) as stop:
        chain = make_chain(
            pools,
            out,
            n_chains=chains,
            n_warmup=warmup,
            n=n,
            seed=seed,
            more=more,
            model=model,
            progress=make_progress(quiet),
            stop=stop,
        )
    with chain:
        accepted = float(chain.history("accepted").mean())
        say_line(f"{out}: {chain.n_updates} updates of {chain.n_chains} chains, acceptance {accepted:.4f}")


def warm_up(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODEL...]", callback=known_models, help="Default: one of each kind, and HMC."),
    ] = None,
) -> None:
    """Compile what proposals and HMC need, so that the first use in a program does not wait for it.

    \b
    latticediff warm-up
    latticediff warm-up phi4-A-L32 mine/model
    """
    from ..stages.warm_up import warm_up as use_all

    use_all(models or (), say)


def plugins(
    action: Annotated[str, typer.Argument(metavar="list|check", help="List all, or check those of one name.")] = "list",
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Of a plug-in or a package.")] = None,
    as_json: AsJson = False,
) -> None:
    """What is installed under the entry-point groups of this package, and whether it keeps its contracts.

    \b
    latticediff plugins list
    latticediff plugins check sextic
    """
    import json

    from ..stages.plugins import check_plugins, list_plugins

    found = list_plugins(action, name) if action != "check" else check_plugins(name)
    say(json.dumps(found.to_dict(), indent=1) if as_json else found.to_text())
    found.require_passed()


def add_commands(app: typer.Typer) -> None:
    """Declare the subcommands of this module on a `typer.Typer`."""
    app.command()(propose)
    app.command()(accept)
    app.command("warm-up")(warm_up)
    app.command()(plugins)

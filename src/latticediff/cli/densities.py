r"""Subcommands that put a model's density to use: free energies, reweighting, diagnosis.

``\b`` in a docstring keeps the lines that follow as they are in ``--help``.
"""

from pathlib import Path
from typing import Annotated

import typer

from ..defaults import SDE_STEPS
from .models import known_model
from .options import AsJson, Model, Quiet, STau, say

__all__ = ["add_commands"]


To = Annotated[
    list[str] | None,
    typer.Option("--to", metavar="COUPLING=VALUE", help="A coupling of the target, e.g. lam=6.1; repeatable."),
]
Reference = Annotated[
    Path | None, typer.Option("--ensemble", help="Exact configurations; default: a short HMC run made on the spot.")
]
Draws = Annotated[int, typer.Option("--n", metavar="N", help="Draws of the model, and at most N configurations.")]
Steps = Annotated[
    int | None, typer.Option("--steps", help=f"Integration steps; default: the model's own (ode), {SDE_STEPS} (sde).")
]
Method = Annotated[
    str | None, typer.Option("--method", help="Integrator: rk4, dopri5 or adams5; default: the model's own.")
]
Grid = Annotated[
    str | None,
    typer.Option("--grid", help="uniform, or optimised: fitted where the model brings none; default: the model's own."),
]
MaxDoubling = Annotated[
    float,
    typer.Option(
        "--max-doubling",
        help="Largest spread (for log Z, mean too) of the change of log_q under twice the steps; inf: any.",
    ),
]
Seed = Annotated[int, typer.Option("--seed", help="Same seed, same bits.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:1.")]


def free_energy(
    model: Model,
    ensemble: Reference = None,
    to: To = None,
    n: Draws = 4000,
    route: Annotated[str, typer.Option("--route", metavar="ROUTE", help="Which proposal.")] = "ode",
    steps: Steps = None,
    method: Method = None,
    grid: Grid = None,
    max_doubling: MaxDoubling = 0.1,
    rungs: Annotated[int, typer.Option("--rungs", help="Rungs of annealing; each costs another passage.")] = 1,
    seed: Seed = 1,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """log Z from a model's draws, from exact configurations, and from both together (acceptance ratio).

    \b
    latticediff free-energy --model phi4-A-L16
    latticediff free-energy --model phi4-A-L8 --to lam=6.1 --json
    latticediff free-energy --model phi4-A-L8 --method rk4 --steps 16
    """
    import json

    from ..job.progress import make_progress
    from ..stages.free_energy import measure_free_energy

    found = measure_free_energy(
        model,
        ensemble,
        to or (),
        n,
        route,
        steps,
        method,
        grid,
        rungs,
        max_doubling,
        seed,
        device,
        make_progress(quiet),
    )
    say(json.dumps(found.to_dict(), indent=1, allow_nan=False) if as_json else found.to_text())
    if found.reach.warning:
        say(f"warning: {found.reach.warning}", err=True)


def reweight(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Ensemble file.")],
    to: To = None,
    model: Annotated[
        str | None, typer.Option("--model", callback=known_model, help="Weigh this model's draws for the target, too.")
    ] = None,
    n: Annotated[int, typer.Option("--n", metavar="N", help="Draws of the model.")] = 4000,
    steps: Steps = None,
    method: Method = None,
    grid: Grid = None,
    max_doubling: MaxDoubling = 0.1,
    s_tau: STau = 1.5,
    seed: Seed = 1,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Observables at nearby couplings, with the ESS of the weights; warns if the target is out of reach.

    \b
    latticediff reweight ens.h5 --to lam=6.1
    latticediff reweight ens.h5 --to lam=6.1 --model phi4-A-L8
    """
    from ..job.progress import make_progress
    from ..stages.reweight import reweight as reweigh

    found = reweigh(
        file, to or (), model, n, steps, method, grid, max_doubling, s_tau, seed, device, make_progress(quiet)
    )
    say(found.to_json() if as_json else found.to_text())
    for line in found.warnings:
        say(f"warning: {line}", err=True)


def diagnose(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", callback=known_model, help="Model folder, or name of a shipped model.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the page; an earlier diagnosis there is replaced.")],
    ensemble: Reference = None,
    n: Draws = 2000,
    route: Annotated[str, typer.Option("--route", metavar="ROUTE", help="Which proposal.")] = "ode",
    steps: Steps = None,
    method: Method = None,
    grid: Grid = None,
    levels: Annotated[int, typer.Option("--levels", help="Noise levels of the score error; 0 leaves it out.")] = 10,
    seed: Seed = 1,
    device: Device = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print diagnosis.json too.")] = False,
    quiet: Quiet = False,
) -> None:
    """What is wrong with a model's density, where that comes from, and what it does to a chain: page and JSON.

    \b
    latticediff diagnose phi4-A-L16 --out diagnosis
    latticediff diagnose runs/mine/model --ensemble runs/mine/ensemble.h5 --out diagnosis
    """
    import json

    from ..job.progress import make_progress
    from ..stages.diagnose import diagnose as examine

    progress = make_progress(quiet)
    found, paths = examine(
        model, out, ensemble, n, route, steps, method, grid, seed, device, levels=levels, progress=progress
    )
    if as_json:
        say(json.dumps(found.to_dict(), indent=1, allow_nan=False, default=str))
    for alarm in found.alarms():
        say(f"warning: {alarm}", err=True)
    progress.say(f"wrote {paths['html']}")


def add_commands(app: typer.Typer) -> None:
    """Declare the subcommands of this module on a `typer.Typer`."""
    app.command("free-energy")(free_energy)
    app.command()(reweight)
    app.command()(diagnose)

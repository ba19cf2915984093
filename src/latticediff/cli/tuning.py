r"""Subcommands that look for the settings of least cost.

``\b`` in a docstring keeps the lines that follow as they are in ``--help``.
"""

from typing import Annotated

import typer

from .options import AsJson, CardPath, Model, Outside, Quiet, complain, say, stop_after

__all__ = ["add_commands"]


def tune(
    card: CardPath,
    model: Model,
    route: Annotated[str, typer.Option("--route", metavar="ROUTE", help="Which proposal.")] = "ode",
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key, e.g. sampling.kernel.move=block; repeatable."),
    ] = None,
    values: Annotated[
        str | None, typer.Option("--values", metavar="V,V,...", help="Values of the knob; default: a grid over all.")
    ] = None,
    n_chains: Annotated[int, typer.Option("--chains", metavar="N", help="Chains side by side.")] = 50,
    n_updates: Annotated[int, typer.Option("--updates", metavar="N", help="Updates of each chain and value.")] = 200,
    max_walltime: Annotated[
        str | None, typer.Option("--max-walltime", metavar="TIME", help="Stop before this long: seconds, h:m:s, 1h30m.")
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    outside: Outside = False,
) -> None:
    """Acceptance, tau_int(|m|) and cost per independent |m| against the knob of a move; writes nothing.

    [sampling.kernel] of the card names the move. The knob is eps of partial moves with coloured or infrared noise,
    sigma with white noise, block of block moves, tries where proposals are independent.

    \b
    latticediff tune configs/phi4-A-L8.toml --model phi4-A-L8 --set sampling.kernel.move=partial
    latticediff tune configs/phi4-A-L8.toml --model phi4-A-L8 --route sde --set sampling.kernel.move=partial
      --set sampling.kernel.noise=white --set sampling.kernel.sigma=1
    """
    from ..config import load_card
    from ..errors import UserError
    from ..job.progress import make_progress
    from ..stages.tune import tune as tune_knob

    try:
        grid = None if values is None else [float(value) for value in values.split(",")]
    except ValueError:
        raise UserError(f"--values got {values!r}; expected numbers, as in 0.2,0.5,1") from None
    # the knob is varied, so a card need not give it
    knobs = ["sampling.kernel.block=1", "sampling.kernel.sigma=1"]
    loaded, progress = load_card(card, [*knobs, *(overrides or ())], complain), make_progress(quiet)
    with stop_after(max_walltime) as stop:
        found = tune_knob(
            loaded, model, route, grid, n_chains, n_updates, progress=progress, stop=stop, outside=outside
        )
    say(found.to_json() if as_json else found.to_text())


def tune_hmc(
    card: CardPath,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key, e.g. hmc.search_observable=m; repeatable."),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Trajectory length, integrator and acceptance of the cheapest HMC for a card's theory; writes nothing.

    Cost is counted in force evaluations per independent |m| (hmc.search_observable), so the same card and seed find
    the same settings; seconds are printed beside. `generate` searches by itself where a key of [hmc] is "search".

    \b
    latticediff tune-hmc configs/demo.toml
    latticediff tune-hmc configs/demo.toml --set hmc.integrator=search --set hmc.search_observable=m
    """
    from ..config import load_card
    from ..job.progress import make_progress
    from ..stages.tune_hmc import tune_hmc as search

    found = search(load_card(card, overrides or (), complain), progress=make_progress(quiet))
    say(found.to_json() if as_json else found.to_text())


def add_commands(app: typer.Typer) -> None:
    """Register the subcommands of this module."""
    app.command()(tune)
    app.command(name="tune-hmc")(tune_hmc)

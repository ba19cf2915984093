r"""Subcommand for inverse blocking: fine fields for given coarse ones.

``\b`` in a docstring keeps the lines that follow as they are in ``--help``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .cards import prepare
from .options import AsJson, CardPath, MaxWalltime, NewFile, Overrides, Quiet, say, stop_after

__all__ = ["add_commands"]


def inverse_block(
    card: CardPath,
    coarse: Annotated[Path, typer.Option("--coarse", help="Coarse fields (n, *lattice): .npy, .npz, .h5 or raw.")],
    out: NewFile,
    kernel: Annotated[
        str, typer.Option("--kernel", metavar="KERNEL", help="average, decimation, or a .json file of weights.")
    ] = "average",
    factor: Annotated[float, typer.Option("--factor", help="zeta: coarse = zeta times the weighted mean.")] = 1.0,
    scale: Annotated[int, typer.Option("--scale", help="Sites of a block along every axis.")] = 2,
    softness: Annotated[
        float, typer.Option("--softness", help="s: the coarse field holds up to white noise of this width; 0: exactly.")
    ] = 0.0,
    propagator: Annotated[
        str | None,
        typer.Option("--propagator", metavar="SOURCE", help="Ensemble file or model that shapes the draws."),
    ] = None,
    copies: Annotated[int, typer.Option("--copies", help="Draws for every coarse field.")] = 1,
    hold: Annotated[int, typer.Option("--hold", help="First, updates that keep the coarse field, exactly.")] = 0,
    sweeps: Annotated[int, typer.Option("--sweeps", help="Updates by the kernel of [hmc], tuned once.")] = 20,
    n_chains: Annotated[int, typer.Option("--n-chains", help="Chains that take turns in --coarse.")] = 1,
    reference: Annotated[
        Path | None, typer.Option("--reference", help="Ensemble of the fine theory to compare with.")
    ] = None,
    reader: Annotated[str | None, typer.Option("--reader", help="Of --coarse; default: by suffix.")] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="Where --coarse has them (npz, hdf5), or a pattern: 'cfg_*'.")
    ] = None,
    axis: Annotated[
        str | None, typer.Option("--axis", help="Axis of --coarse that counts configurations: 'last', or from 0.")
    ] = None,
    dtype: Annotated[str | None, typer.Option("--dtype", help="Of raw --coarse, e.g. '>f4'; default '<f8'.")] = None,
    offset: Annotated[int | None, typer.Option("--offset", help="Bytes before raw --coarse.")] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    max_walltime: MaxWalltime = None,
    quiet: Quiet = False,
) -> None:
    """Fine fields whose block spins are given, with their density, then rethermalised; a line for each sweep.

    The card has theory, lattice and [hmc] of the fine fields. --out is a folder: draws.npz (phi, action, log_q,
    log_weight), fields.h5 after the last sweep, sweeps.csv.

    \b
    latticediff inverse-block fine.toml --coarse coarse.npy --out up
    latticediff inverse-block fine.toml --coarse coarse.npy --hold 10 --out up
    latticediff inverse-block fine.toml --coarse coarse.npy --kernel decimation --out up --set hmc.cluster=1
    """
    from ..stages.inverse_block import inverse_block as refine

    loaded, progress = prepare(card, overrides, quiet)
    with stop_after(max_walltime) as stop:
        made = refine(
            loaded,
            coarse,
            out,
            kernel=kernel,
            factor=factor,
            scale=scale,
            softness=softness,
            propagator=propagator,
            copies=copies,
            hold=hold,
            sweeps=sweeps,
            n_chains=n_chains,
            reference=reference,
            reader=reader,
            progress=progress,
            stop=stop,
            dataset=dataset,
            axis=axis,
            dtype=dtype,
            offset=offset,
        )
    say(made.to_json() if as_json else made.to_text())


def add_commands(app: typer.Typer) -> None:
    """Declare the subcommand of this module on a `typer.Typer`."""
    app.command("inverse-block")(inverse_block)

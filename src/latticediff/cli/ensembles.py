r"""Subcommands that work on ensemble files: each writes a new file and leaves its sources as they are.

``\b`` in a docstring keeps the lines that follow as they are in ``--help``.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import complain, say_line

if TYPE_CHECKING:
    from ..ensemble import Ensemble

__all__ = ["add_commands"]


class Along(StrEnum):
    """Direction in which files are joined or cut: along Monte Carlo time, or chains side by side."""

    updates = "updates"
    chains = "chains"


File = Annotated[Path, typer.Argument(metavar="FILE", help="Ensemble file.")]
Out = Annotated[Path, typer.Option("--out", help="The new file; never overwrites.")]


def _say(ensemble: Ensemble) -> None:
    """Print what a new file holds, and close it."""
    with ensemble:
        low, high = ensemble.first_update, ensemble.last_update
        extendable = "can" if ensemble.state() is not None else "cannot"
        say_line(
            f"{ensemble.path}: {ensemble.n_cfg} configurations of {ensemble.n_chains} chains,"
            f" updates {low} < u <= {high}, thin {ensemble.thin}; {extendable} be extended"
        )


def repair(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Damaged ensemble file, or FILE.run directory.")],
    out: Out,
) -> None:
    """Save the undamaged beginning of a torn file.

    A configuration counts as undamaged if its stored action is that of its field. An unfinished run is better
    resumed: generate --resume.

    \b
    latticediff repair torn.h5 --out saved.h5
    """
    from ..ensemble import repair as save

    report = save(file, out)
    reason = f" ({report.reason})" if report.reason else ""
    say_line(f"{report.path}: {report.kept} configurations kept, {report.lost} lost{reason}")


def merge(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Two or more files of one theory.")],
    out: Out,
    along: Annotated[Along | None, typer.Option("--along", help="Default: updates if the stretches join.")] = None,
) -> None:
    """One file from several: consecutive stretches of the same chains, or independent chains side by side.

    \b
    latticediff merge part-0.h5 part-1.h5 --out whole.h5
    latticediff merge seed1.h5 seed2.h5 --along chains --out both.h5
    """
    from ..ensemble import merge as join

    _say(join(files, out, None if along is None else along.value))


def thin(
    file: File,
    out: Out,
    every: Annotated[int, typer.Option("--every", help="Of the stored updates, keep every N-th.", metavar="N")],
) -> None:
    """Keep every N-th stored update; the history of acceptances and delta_h stays whole.

    \b
    latticediff thin ens.h5 --every 5 --out thin.h5
    """
    from ..ensemble import thin as keep

    _say(keep(file, out, every))


def cut(
    file: File,
    out: Out,
    start: Annotated[int, typer.Option("--start", help="Keep updates above this.")] = 0,
    stop: Annotated[int | None, typer.Option("--stop", help="Keep updates up to this; default: all.")] = None,
) -> None:
    """Keep a stretch of updates, start < u <= stop, for instance without a thermalisation.

    \b
    latticediff cut ens.h5 --start 500 --out late.h5
    """
    from ..ensemble import cut as keep

    _say(keep(file, out, start, stop))


def split(
    file: File,
    out: Annotated[Path, typer.Option("--out", help="Pattern: part.h5 gives part-0.h5, part-1.h5, ...")],
    pieces: Annotated[int, typer.Option("--pieces", help="How many files.", metavar="N")],
    along: Annotated[Along, typer.Option("--along", help="Stretches of updates, or groups of chains.")] = Along.updates,
) -> None:
    """Cut a file into N: the inverse of merge.

    \b
    latticediff split ens.h5 --pieces 4 --out part.h5
    """
    from ..ensemble import Ensemble
    from ..ensemble import split as divide

    for path in divide(file, out, pieces, along.value):
        _say(Ensemble(path))


def convert(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Configurations of another program.")],
    out: Out,
    card: Annotated[
        Path | None,
        typer.Option("--card", help="Run-card with the file's [action] and [lattice]; may be left out with --layout."),
    ] = None,
    layout: Annotated[
        str | None,
        typer.Option("--layout", metavar="NAME", help="A published layout by name, e.g. 2d-phi4-configs."),
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the card; repeatable.")
    ] = None,
    reader: Annotated[
        str | None, typer.Option("--reader", help="npy, npz, raw, hdf5 or an installed one; default: by suffix.")
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option("--dataset", help="Where the fields are (npz, hdf5); 'cfg_*': each in one of its own."),
    ] = None,
    action_dataset: Annotated[
        str | None, typer.Option("--action-dataset", help="Where values of S are (npz, hdf5); a pattern likewise.")
    ] = None,
    axis: Annotated[
        str | None,
        typer.Option("--axis", help="Axis that counts configurations: 'last', or from 0 (npy, npz, hdf5)."),
    ] = None,
    dtype: Annotated[str | None, typer.Option("--dtype", help="Of a raw file, e.g. '>f4'; default '<f8'.")] = None,
    offset: Annotated[int | None, typer.Option("--offset", help="Bytes before the fields of a raw file.")] = None,
    field_convention: Annotated[
        str | None, typer.Option("--field-convention", help="Convention of the fields, if not the card's.")
    ] = None,
    n_chains: Annotated[
        int, typer.Option("--n-chains", help="Chains that take turns in the file, configuration by configuration.")
    ] = 1,
    thinned: Annotated[int, typer.Option("--thin", help="Updates between stored configurations.")] = 1,
    check: Annotated[bool, typer.Option("--check/--no-check", help="Check that the file is of this theory.")] = True,
) -> None:
    """Read configurations of another program: npy, npz, raw binary, foreign HDF5 or jld2.

    A file of another theory, in another normalisation of the field or out of equilibrium is refused: values of S
    that it brings along are recomputed, and <phi dS/dphi>/V = 1 must hold. Axes of a .jld2 file are those that Julia
    shows (HDF5 stores them in the opposite order): --axis last for an array (L_1, L_2, n_cfg).

    \b
    latticediff convert cfgs.npy --card configs/demo.toml --out ens.h5
    latticediff convert cfgs.bin --dtype '>f4' --card card.toml --set 'lattice.shape=[16, 16]' --out ens.h5
    latticediff convert old.h5 --dataset run/cfgs --field-convention H --card card.toml --out ens.h5
    latticediff convert run.jld2 --axis last --card card.toml --out ens.h5
    latticediff convert old.h5 --dataset 'run/cfg_*' --card card.toml --out ens.h5
    latticediff convert 'cfgs_wolff_fahmc_k=0.26_l=0.022_16^2.npz' --layout 2d-phi4-configs --out ens.h5
    """
    from ..config import load_card
    from ..errors import UserError
    from ..stages.transfer import import_foreign

    if card is None and overrides:
        raise UserError("--set changes a card, and no --card is given")
    report = import_foreign(
        file,
        out,
        None if card is None else load_card(card, overrides or (), complain),
        reader=reader,
        layout=layout,
        dataset=dataset,
        action_dataset=action_dataset,
        axis=axis,
        dtype=dtype,
        offset=offset,
        field_convention=field_convention,
        n_chains=n_chains,
        thin=thinned,
        check=check,
    )
    identity = "<phi dS/dphi>/V = {:.4f} +- {:.4f}, expected 1".format(*report.identity)
    how = {
        "action": f"the file's action is reproduced within {report.value:.1e} per site; {identity}",
        "schwinger_dyson": identity,
        "none": "the theory was not checked",
    }[report.check]
    note = f"; {report.note}" if report.note else ""
    say_line(f"{report.path}: {report.n_cfg} configurations; {how}{note}")
    if report.warning:
        complain(report.warning)


def export(
    file: File,
    out: Out,
    licence: Annotated[
        str | None, typer.Option("--license", metavar="URI", help="Of the data, for .xml and .jsonld.")
    ] = None,
    collaboration: Annotated[str | None, typer.Option("--collaboration", help="For .xml and .jsonld.")] = None,
    project: Annotated[str | None, typer.Option("--project", help="For .xml.")] = None,
) -> None:
    """Write an ensemble for other programs; the suffix of --out says which.

    .npy: fields (n_cfg, *lattice). .npz: fields, action, update and chain numbers. .json.gz: primary observables
    for pyerrors (load_json_dict), chains as replica ens|r000, ens|r001, ... .nc: the same for ArviZ (from_netcdf).
    .xml, .jsonld: what the ensemble is, for catalogues: names of QCDml, Croissant.

    \b
    latticediff export ens.h5 --out ens.npy
    latticediff export ens.h5 --out ens.json.gz
    latticediff export ens.h5 --out ens.nc
    latticediff export ens.h5 --out ens.jsonld --license https://creativecommons.org/licenses/by/4.0/
    """
    from ..stages.transfer import export as write

    told = {"license": licence, "collaboration": collaboration, "project": project}
    say_line(f"{write(file, out, {key: value for key, value in told.items() if value is not None})}")


def migrate(file: File, out: Out) -> None:
    """Bring a file of an older schema version to the present one.

    \b
    latticediff migrate old.h5 --out new.h5
    """
    from ..ensemble import migrate as bring_up

    _say(bring_up(file, out))


def add_commands(app: typer.Typer) -> None:
    """Declare the subcommands of this module on a `typer.Typer`."""
    for command in (repair, merge, thin, cut, split, convert, export, migrate):
        app.command()(command)

"""Subcommands that look at the installation: its trained models, and whether it computes the right numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from .options import (
    AsJson,
    say,
)

if TYPE_CHECKING:
    pass

__all__ = ["add_commands"]


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
        shape = "x".join(map(str, row["shape"])) + ("" if row["sites"] == "all" else f", {row['sites']} sites")
        reverse, forward = row["ess_reverse"], row["ess_forward"]
        before = f" ({row['inherited_seconds']:.0f} s of them its ancestors)" if row["inherited_seconds"] >= 0.5 else ""
        data = "" if row["data_seconds"] is None else f", data {row['data_seconds']:.0f} s"
        say(
            f"{row['name']:20} {row['family']:8} {row['convention']}: {couplings}; {shape};"
            f" ESS {reverse[0]:.3f} reverse, {forward[0]:.3f} forward;"
            f" trained {row['training_seconds']:.0f} s{before} on {row['training_device']}{data}"
        )


def selftest(json_output: AsJson = False) -> None:
    """Check that the compiled code computes the right numbers on this machine; half a minute."""
    import json

    from ..stages.selftest import selftest as run_selftest

    found = run_selftest()
    say(json.dumps(found.to_dict(), indent=1) if json_output else found.to_text())
    found.require_passed()


def add_commands(app: typer.Typer) -> None:
    """Declare the subcommands of this module on a `typer.Typer`."""
    app.command()(models)
    app.command()(selftest)

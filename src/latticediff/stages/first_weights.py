"""The model whose weights a training begins with: said at once, with what to do, if it is not there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import FileError
from ..model.shipped import model_folder, model_names
from ..model.storage import read_card
from ..untrusted import status

if TYPE_CHECKING:
    from ..config import Card
    from ..types import PathLikeStr

__all__ = ["require_first_weights"]


def require_first_weights(card: Card) -> None:
    """Refuse a card whose `training.init` is a run that has not been made; nothing is computed before.

    Parameters
    ----------
    card : latticediff.config.Card

    Raises
    ------
    FileError
        There is no such model; the message has the command that makes it, and shipped weights to begin with instead.
    """
    init = card.training.init
    if init is None or status(model_folder(init) / "card.toml") is not None:
        return
    path = Path(init)
    remedies = ["the first lines of the card tell how it is made"]
    if path.name == "score" and path.parent.name in model_names():  # what a card of that name makes
        remedies = [f"make it with `latticediff run configs/{path.parent.name}.toml --out {path.parent}`"]
    if names := _shipped_like(card):
        remedies.append(f"begin with weights that come with the package, --set training.init={names[0]}")
    raise FileError(f"training.init = {str(init)!r} is not there yet: {', or '.join(remedies)}")


def _shipped_like(card: Card) -> list[PathLikeStr]:
    """Names of shipped models with the card's network and sites, those of its theory and lattice first."""
    from ..build.network import build_network

    bare = card.model_copy(update={"training": card.training.model_copy(update={"init": None})})
    network = build_network(bare)
    ours, theory = dict(network.describe()), card.theory().describe()  # type: ignore[operator]  # of `Network`
    ranked = []
    for name in model_names():
        theirs = read_card(name)
        if (
            theirs["network"] != ours
            or theirs.get("sites", "all") != card.training.sites
            or len(theirs["shape"]) != len(card.shape)
        ):
            continue
        other = theirs["action"] != theory
        ranked.append((other, tuple(theirs["shape"]) != tuple(card.shape), theirs["shape"], name))
    return [name for *_, name in sorted(ranked)]

"""Further models that a run samples beside its own: `sampling.beside` of the card, found, checked and named.

Each is sampled by the ODE route in the scheme that it brings along: steps fitted to another network would make
an error of integration with this one, or take more evaluations than it needs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import bill
from ..build.device import pick_device
from ..build.learned import build_kernel, on_own_scheme, routes_of
from ..ensemble import Ensemble
from ..errors import FileError, ModelError, UserError
from ..host import torch_defaults
from ..model.kinds import is_phases
from ..model.shipped import describe_models, model_names
from ..model.storage import load_model, read_card
from ..registry import nearest
from ..report.numbers import scheme_text
from ..streams import Streams
from ..untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from ..config import Card
    from ..model.score_model import ScoreModel
    from ..types import Description, PathLikeStr

__all__ = ["ROUTE", "Beside", "models_beside", "require_sampled", "setup_seconds", "told"]

ROUTE = "ode"  #: by which they are sampled: shipped models are tuned for it
LONGEST = 60  #: of a key, in characters: it is part of file names
NOT_MOVED = {"hmc": 0, "cluster": 0, "kernels": None}


@dataclass(frozen=True)
class Beside:
    """A model that is sampled beside the run's own."""

    key: str  #: of its chains: in files, in ``report.json``, on the page
    model: str  #: name or folder, as the card has it
    card: Card  #: of its chains: the run's, with the model's own steps, method and grid
    fingerprint: str  #: of the model

    def streams(self, purpose: str) -> Streams:
        """Random streams of the run's seed and the model itself, whatever it is called and wherever it lies."""
        return Streams(self.card.run.seed).child("beside").child(self.fingerprint).child(purpose)

    @property
    def stages(self) -> tuple[str, str]:
        """Names of the stages that sample it and that weigh it; no route's are called so."""
        return f"beside_sample_{self.key}", f"beside_weigh_{self.key}"


@torch_defaults()
def models_beside(card: Card) -> tuple[Beside, ...]:
    """The models that ``sampling.beside`` names, each loaded once to see that it can be sampled.

    Parameters
    ----------
    card : latticediff.config.Card

    Returns
    -------
    tuple of Beside
        In the order of the card.

    Raises
    ------
    UserError
        One does not exist, is damaged, is of another theory or lattice or of coexisting phases, cannot make the moves
        of ``[sampling.kernel]``, or is the same as another; where none is found that fits, the message names those that
        come with the package and do.
    """
    found: list[Beside] = []
    for name in card.sampling.beside or ():
        try:
            model = _fitting(card, name)
            own = _own_card(card, model)
            # what goes before the proposals, HMC for one, is the same for all models, and dear to tune
            kernel = own.sampling.kernel.model_copy(update=NOT_MOVED)
            alone = own.model_copy(update={"sampling": own.sampling.model_copy(update={"kernel": kernel})})
            build_kernel(alone, model, ROUTE)
        except (FileError, ModelError, UserError) as exc:
            shown = printable(name, 200)
            whose = "" if shown in str(exc) else f", {shown}"
            raise UserError(f"sampling.beside{whose}: {exc}") from None
        if same := [other.model for other in found if other.fingerprint == model.fingerprint()]:
            raise UserError(f"sampling.beside: {printable(name, 200)} is the same model as {printable(same[0], 200)}")
        taken = {"hmc", *routes_of(card), *(other.key for other in found)}
        found.append(Beside(_key(name, taken), name, own, model.fingerprint()))
    return tuple(found)


def _fitting(card: Card, name: str) -> ScoreModel:
    """The model called `name` for the theory and lattice of the card."""
    theory: Any = card.theory()  # the model refuses any but its own
    shown, device = printable(name, 200), pick_device(card.sampling.device)
    if is_phases(name):
        raise UserError(f"{shown} is of coexisting phases; expected a single model, such as one of its parts")
    if not Path(name).exists() and name not in (known := model_names()):
        raise ModelError(
            f"no model folder and no shipped model is called {shown!r}{nearest(name, known)}; {_advice(card)}"
        )
    model = load_model(name, device)  # one that is damaged is told as anywhere
    try:
        return load_model(name, device, theory, card.shape)
    except ModelError:
        where = "x".join(map(str, card.shape))
        raise ModelError(
            f"{shown} was trained for {model.theory!r} on {'x'.join(map(str, model.lattice))}, and this card is of"
            f" {theory!r} on {where}; {_advice(card)}"
        ) from None


def _advice(card: Card) -> str:
    """Which shipped models are of the card's theory and lattice."""
    wanted = card.theory().describe()
    fitting = [
        row["name"]
        for row in describe_models()
        if tuple(row["shape"]) == card.shape
        and row["convention"] == wanted.get("convention")
        and row["coupling_ranges"].keys() == wanted.get("couplings", {}).keys()
        and all(low <= wanted["couplings"][key] <= high for key, (low, high) in row["coupling_ranges"].items())
    ]
    if not fitting:
        return "no shipped model fits, name a folder that `latticediff train` wrote for this card's theory"
    return f"models that fit: {', '.join(fitting)}"


def _own_card(card: Card, model: ScoreModel) -> Card:
    """The card with the integrator of the model, and single draws: rungs are of the card's own network."""
    card = on_own_scheme(card, model)
    ode = card.sampling.ode.model_copy(update={"rungs": 1})
    return card.model_copy(update={"sampling": card.sampling.model_copy(update={"ode": ode})})


def _key(name: str, taken: Collection[str]) -> str:
    """A short name that fits into those of files and differs from all that are `taken`, whatever their case."""
    stem = re.sub(r"[^A-Za-z0-9.+-]+", "_", Path(name).name)[:LONGEST] or "model"
    used, key, number = {other.casefold() for other in taken}, stem, 1
    while key.casefold() in used:
        number += 1
        key = f"{stem}-{number}"
    return key


def require_sampled(beside: Beside, chain: PathLikeStr) -> None:
    """Refuse a model that is not the one which drew the chains in the file `chain`.

    Raises
    ------
    FileError
        The model was changed since, or the file cannot be read.
    """
    with Ensemble(chain) as ensemble:
        drawn_by = [parent.get("fingerprint") for parent in ensemble.provenance.parents]
    if drawn_by != [beside.fingerprint]:
        raise FileError(
            f"the model {printable(beside.model, 200)} is not the one that drew {chain}; restore it, or begin in"
            " another folder"
        )


def setup_seconds(beside: Beside) -> dict[str, float]:
    """Seconds that were spent on a model before its first draw, item by item, as its bill has them."""
    card = read_card(beside.model)
    inherited, data = bill.inherited_data_seconds(card), bill.data_seconds(card)
    spent = {
        "generate": 0.0 if data is None else data - inherited,
        "train": card.get("training", {}).get("seconds", 0.0),
        "finetune": bill.finetuning_seconds(card),
        "ancestors": bill.inherited_seconds(card),
        "ancestor_data": inherited,
    }
    return {item: float(seconds) for item, seconds in spent.items() if seconds > 0}


def told(model: PathLikeStr, algorithm: Mapping[str, Any]) -> str:
    """The network of a model, and the scheme in which its chains were drawn, in words.

    Parameters
    ----------
    model : path-like
        Model folder, or name of a shipped model.
    algorithm : dict
        What the kernel of the chains says of itself.

    Returns
    -------
    str
        Such as ``"ridge, 8 features, odd sites; ode, adams5, 11 steps, optimised grid"``.
    """
    card = read_card(model)
    network: Description = card["network"]
    words = [str(network.get("name", "network"))]
    words += [f"{network['features']} features"] if "features" in network else []
    words.append(f"{card.get('sites', 'all')} sites")
    last = [algorithm, *algorithm.get("parts", ())][-1]  # what goes before the proposals is told elsewhere
    proposal = last.get("proposal", {})
    return ", ".join(words) + (f"; {scheme_text(proposal)}" if "name" in proposal else "")

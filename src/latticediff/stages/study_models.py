"""Models that a study trains on the way: a recipe's card for each theory that has none, made in the study's folder."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import tomli_w

from ..config import parse_card
from ..errors import UserError
from ..host import torch_defaults
from ..job.folder import RunFolder
from ..job.log import JsonLog
from ..job.progress import Progress
from ..study.models import model_folder_of, model_of
from ..study.samplers import SAMPLERS
from .recipe import recipe

if TYPE_CHECKING:
    from ..config import Card
    from ..study.card import StudyCard, Theory
    from ..types import PathLikeStr
    from .contract import StopCheck

__all__ = ["Wanted", "estimated_training", "models_wanted", "train_model"]

STAGES = ("generate", "train", "finetune")
FAST = {"features": 8, "sigma_min": 0.03, "steps": 0.75}  # docs/records.md, "the price of a better ESS"


class Wanted(NamedTuple):
    """A model that is not there yet."""

    family: str  #: "accurate" or "fast"
    theory: Theory
    seed: int
    folder: Path  #: of the run that makes it; the model is ``folder / "model"``

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.family} model at {self.theory.label}"

    def bare_card(self) -> Card:
        """Theory, lattice and seed, as `latticediff.stages.recipe` takes them."""
        told = {
            "run": {"name": self.folder.name, "seed": self.seed},
            "action": self.theory.section,
            "lattice": {"shape": list(self.theory.shape)},
        }
        return parse_card(tomli_w.dumps(told), source=self.title)

    def card(self) -> Card:
        """The whole card, after a pilot run.

        Raises
        ------
        UserError
            The recipe has no card for the theory; the message says what to do.
        """
        data = recipe(self.bare_card()).card.to_dict()
        data["training"]["sites"] = data["training"]["sites"] if self.family == "fast" else "all"
        if self.family == "fast":
            data["network"]["features"] = FAST["features"]
            data["training"]["sigma_min"] = FAST["sigma_min"]
            data["sampling"]["ode"]["steps"] = round(FAST["steps"] * data["sampling"]["ode"]["steps"])
        return parse_card(tomli_w.dumps(data), source=self.title)


def models_wanted(card: StudyCard, out: PathLikeStr) -> list[Wanted]:
    """Models that a card with ``missing = "train"`` asks for and that are not there, each once.

    Parameters
    ----------
    card : StudyCard
    out : path-like
        Folder of the study.
    """
    found: dict[Path, Wanted] = {}
    if card.study.missing != "train":
        return []
    for theory in card.theories():
        for name in card.study.samplers:
            sampler = SAMPLERS[name]
            if not sampler.is_learned:
                continue
            try:
                model_of(sampler, theory, out)
            except UserError as exc:
                family = str(sampler.family)
                if type(exc) is not UserError or {name, family} & theory.models.keys():
                    raise  # a model that is named, and is not there or does not fit: none is trained in its place
                folder = model_folder_of(family, theory, out)
                found[folder] = Wanted(family, theory, card.study.seed, folder)
    return list(found.values())


def estimated_training(wanted: Wanted) -> float:
    """Seconds that generating, training and fine-tuning will take, about, from probes of a few seconds.

    Raises
    ------
    UserError
        As `Wanted.card`.
    """
    from .estimate import probe

    return float(sum(cost.seconds for cost in probe(wanted.card(), STAGES).values()))


@torch_defaults()
def train_model(wanted: Wanted, progress: Progress, stop: StopCheck | None = None) -> Path:
    """Generate, train and fine-tune; goes on where an earlier call was stopped.

    Parameters
    ----------
    wanted : Wanted
    progress : Progress
    stop : callable, optional
        See `latticediff.signals.Stop`.

    Returns
    -------
    Path
        Folder of the model.

    Raises
    ------
    UserError
        The theory has no recipe, the ensemble does not pass its gates, or training diverged.
    StopRequested
        `stop` gave a reason; everything done is kept.
    """
    from .generate import generate
    from .run import do_stage, finetuned
    from .train import train

    card_path = wanted.folder / "card.toml"
    # a pilot that is run again would choose the same, but takes its seconds
    card = parse_card(card_path.read_text(encoding="utf-8")) if card_path.exists() else wanted.card()
    with RunFolder(wanted.folder, card, resume=True) as folder:
        log = JsonLog(folder.log)
        options: dict[str, Any] = {"progress": progress, "stop": stop, "log": log, "resume": True}
        stages: dict[str, Any] = {
            "generate": (partial(generate, card, folder.ensemble, **options), folder.ensemble),
            "train": (partial(train, card, folder.ensemble, folder.score, **options), folder.score),
            "finetune": (partial(finetuned, card, folder, **options), folder.model),
        }
        for name, (work, output) in stages.items():
            do_stage(folder, log, stop, name, work, [output])
        return folder.model

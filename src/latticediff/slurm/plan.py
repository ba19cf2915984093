"""Which members an array of runs has: a seed and a file of its own for each, kept in ``plan.json``.

Every random number of a run is a function of its seed (`latticediff.streams`), so members share no stream as long as no
two of them have one seed. A member's seed is itself drawn, from the branch ``slurm`` under the card's seed: a function
of the card and the member's number alone. A plan with more members has the same first ones, and cards of neighbouring
seeds (2024, 2025) have no member in common, which seeds counted upwards would.

Layout of the folder::

    plan.json  card.toml           what the members are, and the card of all of them
    chains.sbatch  merge.sbatch    see `scripts`; train.sbatch, finetune.sbatch if a network is to be
    member-0000.h5 ...             one ensemble file each; of ``run`` a folder each, member-0000
    logs/                          what the jobs print
    ensemble.h5  model/            all members in one file, and the network trained on it
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w

from ..atomic import refuse_existing, sealed_text
from ..config import load_card
from ..digests import check_digest, with_digest
from ..errors import FileError, UserError
from ..streams import Streams
from ..untrusted import parse_json, read_text

if TYPE_CHECKING:
    from ..config import Card
    from ..types import PathLikeStr

__all__ = ["MOST_MEMBERS", "STAGES", "Member", "Plan", "make_plan", "member_seed", "read_plan", "write_plan"]

STAGES = ("generate", "run", "sample")
MOST_MEMBERS = 10_000  # MaxArraySize of SLURM is 1001 unless a site raises it; member-0000 has four digits
PLAN, CARD = "plan.json", "card.toml"
#: what a later call for the same folder may change
GROWS: dict[str, Any] = {"members": (), "train": 0, "finetune": False}


@dataclass(frozen=True)
class Member:
    """One of the independent runs."""

    index: int  #: its number in the array
    seed: int  #: ``run.seed`` of its card
    out: str  #: name of its file or folder


@dataclass(frozen=True)
class Plan:
    """What runs, without how much of a cluster it gets (see `latticediff.slurm.scripts.Resources`)."""

    stage: str  #: one of `STAGES`
    members: tuple[Member, ...]
    directory: str  #: where the command was given: relative paths in the card start here
    model: str | None = None  #: of ``sample``
    route: str | None = None  #: of ``sample``
    train: int = 0  #: processes that train a network on all members; 0: none is trained
    finetune: bool = False  #: whether they fine-tune it, too

    def command(self, folder: Path, seed: str, out: str) -> list[str]:
        """Arguments of ``latticediff`` that run a member; `seed` and `out` may be names of shell variables."""
        named = ["--model", self.model or "", "--route", self.route or ""] if self.stage == "sample" else []
        return [self.stage, str(folder / CARD), *named, "--out", out, "--set", f"run.seed={seed}", "--resume", "-q"]

    def card(self, folder: PathLikeStr, member: Member) -> Card:
        """The run-card of a member."""
        return load_card(Path(folder) / CARD, [f"run.seed={member.seed}"])


def member_seed(seed: int, index: int) -> int:
    """Seed of member `index` of a card with `seed`: 63 bits of a stream's key, a pure function of both."""
    return int(Streams(seed).child("slurm").key(f"member {index}")[0] >> 1)


def make_plan(
    card: Card,
    n_members: int,
    stage: str = "generate",
    *,
    directory: PathLikeStr = ".",
    model: str | None = None,
    route: str | None = None,
    train: int = 0,
) -> Plan:
    """Plan `n_members` independent runs of a card.

    Parameters
    ----------
    card : latticediff.config.Card
    n_members : int
    stage : {"generate", "run", "sample"}
        What each member does, a command of the same name.
    directory : path-like
        Relative paths in the card start here.
    model, route : str, optional
        Of ``sample``: model folder or name of a shipped model, and the proposal.
    train : int
        Processes of the training on all members; 0 for none.

    Returns
    -------
    Plan

    Raises
    ------
    UserError
        A number or name out of range, a model without ``sample`` or ``sample`` without one, or two members that would
        have one seed.
    """
    if stage not in STAGES:
        raise UserError(f"stage is {stage!r}; expected one of {', '.join(STAGES)}")
    if not 1 <= n_members <= MOST_MEMBERS:
        raise UserError(f"{n_members} members; expected from 1 to {MOST_MEMBERS}")
    if (stage == "sample") != (model is not None and route is not None):
        raise UserError("a model and a route go with stage sample, and only with it; give both there")
    if train < 0 or (train and stage == "sample"):
        raise UserError(f"training on {train} processes after {stage}; expected at least 1, after generate or run")
    suffix = "" if stage == "run" else ".h5"
    members = tuple(Member(k, member_seed(card.run.seed, k), f"member-{k:04d}{suffix}") for k in range(n_members))
    _require_different(card.run.seed, members)
    tunes = bool(train and card.finetune.steps)
    return Plan(stage, members, str(Path(directory).absolute()), model, route, train, tunes)


def _require_different(own: int, members: tuple[Member, ...]) -> None:
    """Raise `UserError` if two members would draw the same numbers, or one those of the card itself."""
    owner: dict[int, str] = {own: "the card itself"}
    for member in members:
        if member.seed in owner:  # 63 bits: once in 10^11 plans of ten thousand members
            raise UserError(
                f"member {member.index} would draw the numbers of {owner[member.seed]}; take another run.seed"
            )
        owner[member.seed] = f"member {member.index}"


def write_plan(plan: Plan, card: Card, folder: PathLikeStr, bare: bool = False) -> None:
    """Write ``plan.json`` and ``card.toml`` into a new folder, or add members to a plan of the same card.

    Parameters
    ----------
    plan : Plan
    card : latticediff.config.Card
    folder : path-like
    bare : bool
        Keep a card that leaves everything to a recipe as bare as it is, so that each member asks the recipe.

    Raises
    ------
    FileError
        The folder holds something else, or another plan.
    """
    folder = Path(folder)
    text = tomli_w.dumps({k: v for k, v in card.to_dict().items() if k in card.model_fields_set - {"network"}})
    text = text if bare else card.to_toml()
    if (folder / PLAN).exists():
        before = read_plan(folder)
        same = {**asdict(before), **GROWS} == {**asdict(plan), **GROWS}
        if not same or read_text(folder / CARD, "the card of the plan") != text:
            raise FileError(
                f"{folder} holds the plan of other runs (card, stage, model or directory differ); choose another --out"
            )
        if plan.members[: len(before.members)] != before.members:
            raise FileError(f"{folder} holds a plan of {len(before.members)} members; ask for as many or more")
    elif folder.exists() and (not folder.is_dir() or not _is_begun(folder, text)):
        raise FileError(f"{folder} holds other files; choose another --out, nothing was changed")
    else:
        refuse_existing(folder / PLAN)
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    sealed_text(folder / CARD, text)
    document: dict[str, Any] = json.loads(json.dumps(asdict(plan)))
    sealed_text(folder / PLAN, json.dumps(with_digest(document), indent=1) + "\n")


def _is_begun(folder: Path, text: str) -> bool:
    """Whether nothing is there but the beginning of this very plan, as a full disk leaves it: card and empty logs."""
    for path in folder.iterdir():
        is_logs = path.name == "logs" and path.is_dir() and not any(path.iterdir())
        if not is_logs and not (path.name == CARD and read_text(path, "the card of the plan") == text):
            return False
    return True


def read_plan(folder: PathLikeStr) -> Plan:
    """The plan in a folder.

    Raises
    ------
    FileError
        There is none, or it is damaged.
    """
    path = Path(folder) / PLAN
    if not path.exists():
        raise FileError(f"{folder} holds no plan.json; expected a folder that `latticediff slurm CARD --out` wrote")
    document = parse_json(read_text(path, "the plan of an array"), path)
    if not isinstance(document, dict):
        raise FileError(f"{path} is no plan of an array; restore it")
    fields = check_digest(document, path)
    try:
        members = tuple(Member(int(m["index"]), int(m["seed"]), str(m["out"])) for m in fields.pop("members"))
        plan = Plan(members=members, **fields)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise FileError(f"{path} is no plan of an array of this version; restore it") from None
    kinds = {"directory": str, "model": str | None, "route": str | None, "train": int, "finetune": bool}
    if not all(isinstance(getattr(plan, name), kind) for name, kind in kinds.items()):
        raise FileError(f"{path} is no plan of an array of this version; restore it")
    if plan.stage not in STAGES or any(Path(m.out).name != m.out or m.out.startswith(".") for m in members):
        raise FileError(f"{path} names a stage or files that no plan has; restore it")
    return plan

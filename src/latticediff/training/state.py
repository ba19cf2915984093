"""The state of a training as a checkpoint, and back; one of another run is refused."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch

from ..errors import FileError, UserError
from ..types import Description, PathLikeStr
from .checkpoint import read_checkpoint, write_checkpoint

if TYPE_CHECKING:
    from .trainer import Trainer

__all__ = ["FORMAT", "identity", "restore_state", "save_state"]

FORMAT = 1  # of the file; raised whenever an older program would misread a newer one


def identity(trainer: "Trainer") -> Description:
    """What a checkpoint must agree in with the training that goes on from it, JSON-able."""
    low, high = trainer.noise.log_range
    network: Any = trainer.network
    about = {
        "plan": asdict(trainer.plan),
        "network": network.describe(),
        "action": trainer.gaussian.action.describe(),
        "shape": list(trainer.gaussian.shape),
        "noise": [low, high],
        "n_train": len(trainer.data.train),
    }
    if len(trainer.tasks) > 1:
        about["ensembles"] = [
            [t.gaussian.action.describe(), list(t.gaussian.shape), len(t.data.train), t.frequency]
            for t in trainer.tasks
        ]
    if trainer.sources:
        about["sources"] = list(trainer.sources)
    return about | trainer.identity()


def save_state(trainer: "Trainer", path: PathLikeStr) -> None:
    """Write a checkpoint.

    Raises
    ------
    UserError
        Weights are not finite: two such checkpoints would leave nothing to go back to.
    FileError
        The disk refuses.
    """
    tensors = {f"network.{k}": t for k, t in trainer.network.state_dict().items()}
    tensors |= {f"ema.{k}": t for k, t in trainer.ema.state_dict().items()}
    kept, more = trainer.state_dict()
    tensors |= {f"kept.{k}": t for k, t in kept.items()}
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
        raise UserError(
            f"weights are not finite at step {trainer.step}; lower {trainer.section}.learning_rate"
            " (the last checkpoint is kept)"
        )
    for index, state in trainer.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": t for k, t in state.items()}
    tensors |= {f"best.{k}": t for k, t in trainer.best.weights.items()}
    if trainer.untold:  # a row of the log is a mean over steps before and after a stop
        tensors["untold.losses"] = torch.stack(trainer.untold)
    meta = {
        "format": FORMAT,
        "step": trainer.step,
        "seconds": trainer.seconds,
        "finished": trainer.finished,
        "best": trainer.best.meta(),
        "last_row": trainer.last_row,
        "identity": identity(trainer),
        **more,
    }
    write_checkpoint(path, tensors, meta)


def restore_state(trainer: "Trainer", path: PathLikeStr) -> None:
    """Go to the state of a checkpoint, if there is one.

    Raises
    ------
    FileError
        A checkpoint of another plan, seed, network, lattice or version.
    """
    found = read_checkpoint(path)
    if found is None:
        return
    tensors, meta = found
    if meta.get("format", 1) != FORMAT:
        raise FileError(
            f"checkpoint {path} has format {meta['format']}, this version reads {FORMAT};"
            " go on with the version that wrote it, or remove it"
        )
    _expect_same(path, meta["identity"], identity(trainer), asdict(type(trainer.plan)()))
    part: dict[str, dict[str, Any]] = {
        prefix: {} for prefix in ("network", "ema", "optimizer", "best", "kept", "untold")
    }
    for name, tensor in tensors.items():
        prefix, _, rest = name.partition(".")
        part[prefix][rest] = tensor
    trainer.network.load_state_dict(part["network"])
    trainer.ema.load_state_dict(part["ema"])
    state: dict[int, dict[str, Any]] = {}
    for name, tensor in part["optimizer"].items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = tensor
    groups = trainer.optimizer.state_dict()["param_groups"]
    trainer.optimizer.load_state_dict({"state": state, "param_groups": groups})
    trainer.step, trainer.seconds = meta["step"], meta["seconds"]
    trainer.finished = meta.get("finished", False)
    trainer.untold = [loss.to(trainer.gaussian.device) for loss in part["untold"].get("losses", ())]
    trainer.last_row = meta.get("last_row", {})
    if "best" in meta:
        trainer.best.restore(meta["best"], part["best"])
    trainer.load_state_dict(part["kept"], meta)


def _expect_same(path: PathLikeStr, theirs: Description, ours: Description, defaults: Mapping[str, Any]) -> None:
    # a key that an older version did not know had what is now its default
    theirs = {**theirs, "plan": {**defaults, **theirs["plan"]}}
    if "sources" not in theirs:  # older versions did not write down which files they read
        ours = {key: value for key, value in ours.items() if key != "sources"}
    theirs, ours = _flat(theirs), _flat(ours)
    different = [key for key in {**ours, **theirs} if theirs.get(key) != ours.get(key)]
    if different:
        key = different[0]
        raise FileError(
            f"checkpoint {path} belongs to another run (differs in {', '.join(different)}:"
            f" {theirs.get(key)!r} there, {ours.get(key)!r} here); remove it"
        )


def _flat(about: Description) -> dict[str, Any]:
    """`about` with the entries of its plan on the top level, as ``plan.<key>``, so that a message can name each."""
    return {f"plan.{key}": value for key, value in about["plan"].items()} | {
        key: value for key, value in about.items() if key != "plan"
    }

"""The theory of the coarse sites for a training: its law of the fine ones is trained first, or taken as it was left."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..action import OddSites
from ..errors import FileError, StopRequested, UserError
from ..fine import CoarseSites, FineLaw, coarse_shape
from ..host import torch_defaults
from ..model.shipped import model_folder
from ..model.storage import load_model, read_card
from ..training import TrainingData
from ..training.checkpoint import read_checkpoint, write_checkpoint
from ..training.data import evenly
from ..training.fine import FORCES, match_forces
from .model_place import LAW

if TYPE_CHECKING:
    from ..config import Card
    from ..ensemble import Ensemble
    from ..job.log import JsonLog
    from ..job.progress import Progress
    from ..training.ranks import Ranks
    from .contract import StopCheck

__all__ = ["coarse_theory"]

FIELDS = 2000  # whose forces tell the couplings that a network works around
POOR, USELESS = 0.3, 3.0  # variances of log_weight by the fine sites alone


@torch_defaults()
def coarse_theory(
    card: Card,
    ensemble: Ensemble,
    folder: Path,
    ranks: Ranks,
    progress: Progress,
    log: JsonLog,
    stop: StopCheck | None = None,
) -> tuple[CoarseSites, float]:
    """Train the law of the fine sites on an ensemble, or read it from the folder; and the seconds that it took.

    Parameters
    ----------
    card : latticediff.config.Card
        ``training.fine_steps``, ``training.init`` and its seed count.
    ensemble : Ensemble
        Open; of the card's theory and lattice.
    folder : Path
        Keeps the law until the model is there.
    ranks : Ranks
        One process trains, the others read what it wrote.
    progress, log, stop
        See `latticediff.stages.train.train`.

    Returns
    -------
    theory : CoarseSites
    seconds : float

    Raises
    ------
    UserError
        A theory or lattice that has no coarse sites, or whose fine ones the law does not learn.
    FileError
        The folder holds the law of another run.
    StopRequested
        `stop` gave a reason; nothing of the law is kept.
    """
    law, section = FineLaw(OddSites(card.theory()), coarse_shape(card.shape)), card.training
    about = {"ensemble": ensemble.parent()["fingerprint"], "steps": section.fine_steps, "seed": card.run.seed}
    about |= {"held_out": section.held_out}  # whose forces are not matched
    about |= {"action": card.theory().describe(), "shape": list(card.shape), "init": _first(card, law)}
    found = read_checkpoint(folder / LAW)
    if found is None and ranks.writes:
        data = TrainingData(ensemble, held_out=section.held_out, where=section.data, theory=law.site.theory)
        rows = law.geometry.rows(evenly(data.train, max(1, FORCES // (2 * law.geometry.n))))
        began = time.perf_counter()
        mismatch = _train(card, law, rows, progress, stop)
        coarse = rows[:FIELDS, : law.geometry.n].reshape(-1, *law.geometry.shape)
        theory = CoarseSites.fitted(law, coarse)
        spread = theory.spread(coarse)
        _judge(spread, progress)
        seconds = time.perf_counter() - began
        tensors = dict(law.state_dict()) | {"couplings": torch.as_tensor(theory.couplings)}
        write_checkpoint(folder / LAW, tensors, {"identity": about, "seconds": seconds})
        log("fine law", steps=section.fine_steps, mismatch=mismatch, spread=spread, seconds=seconds)
    ranks.any(False, torch.device("cpu"))  # the others wait for the file
    tensors, meta = found or read_checkpoint(folder / LAW) or ({}, {})
    if meta.get("identity") != about:
        different = [key for key in about if meta.get("identity", {}).get(key) != about[key]]
        raise FileError(f"{folder / LAW} belongs to another run (differs in {', '.join(different)}); remove it")
    couplings = tensors.pop("couplings").numpy()
    law.load_state_dict(tensors)
    return CoarseSites(law, couplings), float(meta["seconds"])


def _first(card: Card, law: FineLaw) -> str | None:
    """Take the first weights from ``training.init``, where that is a model of coarse sites; its hash, or None."""
    init = card.training.init
    if init is None or read_card(model_folder(init)).get("sites") != "coarse":
        return None
    model = load_model(init)
    law.load_state_dict(model.action.law.state_dict())
    return model.fingerprint()


def _judge(spread: float, progress: Progress) -> None:
    """Say that a law is poor, and refuse one that no flow of the coarse sites could make up for."""
    remedy = "raise training.fine_steps, or take training.sites = odd"
    if not spread <= USELESS:
        raise UserError(
            f"the law of the fine sites gives log_weight a variance of {spread:.3g}; expected at most {USELESS:g}:"
            f" {remedy}"
        )
    if spread > POOR:
        progress.warn(
            f"the law of the fine sites alone gives log_weight a variance of {spread:.2g}, which holds ESS below"
            f" {math.exp(-spread):.2g}; {remedy}"
        )


def _train(card: Card, law: FineLaw, rows: Any, progress: Progress, stop: StopCheck | None) -> float:
    reason: list[Any] = []

    def asked() -> bool:
        found = stop() if stop is not None else None
        if found:
            reason.append(found)
        return bool(found)

    with progress.task("law of the fine sites", card.training.fine_steps) as task:
        mismatch = match_forces(
            law,
            rows,
            card.training.fine_steps,
            card.run.seed,
            lambda step, mismatch: task.reach(step, force_mismatch=mismatch),
            asked,
        )
    if reason:
        raise StopRequested(
            f"{reason[0]}: stopped in the law of the fine sites, which begins anew with --resume",
            getattr(reason[0], "exit_code", 75),
        )
    return mismatch

"""What a stage has made, in one line, and the command that usually comes next: for the end of a command."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..analysis import ess_reverse
from ..analysis.gamma import format_error
from ..untrusted import parse_json, read_text
from .measure import acceptance

if TYPE_CHECKING:
    from ..ensemble import Ensemble
    from ..model.score_model import ScoreModel
    from ..types import PathLikeStr

__all__ = ["made_chain", "made_ensemble", "made_model", "made_run", "next_command"]


WAYS = ("reverse", "forward")  # in which an ESS is measured


def next_command(*words: object) -> str:
    """The line ``next: latticediff ...``, quoted for a shell.

    Parameters
    ----------
    *words
        Arguments of the command line.

    Returns
    -------
    str
    """
    return f"next: latticediff {shlex.join(str(word) for word in words)}"


def made_ensemble(ensemble: Ensemble, enforced: bool) -> str:
    """One line on chains that `generate` wrote.

    Parameters
    ----------
    ensemble : latticediff.ensemble.Ensemble
        Open.
    enforced : bool
        Whether the card lets the gate refuse: then the ensemble has passed it.

    Returns
    -------
    str
    """
    gate = "passed the gate" if enforced else "the gate was not enforced"
    return f"{_size(ensemble)}{_accepted(ensemble)}; {gate}{_megabytes(ensemble.path)}"


def made_chain(ensemble: Ensemble) -> str:
    """One line on chains of a model's proposals, with the ESS of these where each is independent of the last.

    Parameters
    ----------
    ensemble : latticediff.ensemble.Ensemble
        Open.

    Returns
    -------
    str
    """
    ess = ""
    if "log_weight" in ensemble.history_names:
        log_weight = ensemble.history("log_weight").ravel()
        if np.isfinite(log_weight).any():
            found = ess_reverse(log_weight)
            ess = f", ESS of the proposals {format_error(found.value, found.error)}"
    return f"{_size(ensemble)}{_accepted(ensemble)}{ess}{_megabytes(ensemble.path)}"


def made_model(model: ScoreModel, folder: PathLikeStr) -> str:
    """One line on a model that `train` or `finetune` wrote.

    Parameters
    ----------
    model : ScoreModel
    folder : path-like

    Returns
    -------
    str
    """
    found: dict[str, Any] = model.card.get("metrics", {})
    ess = [f"{way} {format_error(*found[f'ess_{way}'])}" for way in WAYS if found.get(f"ess_{way}")]
    quality = f"; ESS of the {found['proposal']} route {', '.join(ess)}" if ess else ""
    seconds = model.card.get("finetune", model.card.get("training", {})).get("seconds")
    time = "" if seconds is None else f", {seconds:.3g} s of training steps"
    part = getattr(model.action, "sites", None)
    lattice = "x".join(map(str, model.lattice)) + (f", {part} sites" if part else "")
    return f"{folder}: a model of {model.theory!r} on {lattice}{time}{quality}"


def made_run(folder: PathLikeStr) -> str:
    """One line on a finished run: acceptance and ESS of every learned sampler.

    Parameters
    ----------
    folder : path-like
        With its ``report.json``.

    Returns
    -------
    str
    """
    path = Path(folder) / "report.json"
    told = []
    for name, chain in parse_json(read_text(path, "the report of a run"), path)["chains"].items():
        known = [(way, chain.get(f"ess_{way}"), chain.get(f"ess_{way}_error")) for way in WAYS]
        ess = [f"{way} {format_error(value, error or 0.0)}" for way, value, error in known if value is not None]
        if ess and chain.get("acceptance") is not None:
            told.append(f"{name} acceptance {chain['acceptance']:.4f}, ESS {', '.join(ess)}")
    return f"{folder}: {'; '.join(told) or 'finished'}"


def _size(ensemble: Ensemble) -> str:
    lattice = "x".join(map(str, ensemble.shape))
    return f"{ensemble.path}: {ensemble.n_cfg} configurations of {ensemble.n_chains} chains on {lattice}"


def _accepted(ensemble: Ensemble) -> str:
    found = acceptance(ensemble)
    return "" if found is None else f", acceptance {found:.4f}"


def _megabytes(path: Path) -> str:
    return f"; {path.stat().st_size / 1e6:.3g} MB"

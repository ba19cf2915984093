"""What a file is, in words: ensemble files, runs that go on, model folders, run folders."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..action import CONVENTIONS, action_from_description
from ..analysis.gamma import format_error
from ..ensemble import Ensemble
from ..ensemble.check import UNSEALED
from ..errors import FileError, UserError
from ..job.folder import fingerprint, read_identity, read_marker
from ..model.kinds import is_phases
from ..pool.files import is_pool
from ..untrusted import printable, status
from .measure import acceptance
from .pools import pool_rows

if TYPE_CHECKING:
    from ..types import PathLikeStr

Rows = list[tuple[str, str]]  #: ``(label, text)``

__all__ = ["action_lines", "info"]

#: what becomes of the sites that a network does not learn, by ``sites`` of a model's card
SITES = {
    "all": "all",
    "odd": "the odd ones; the even ones follow from their exact law",
    "coarse": "the coarse ones, a quarter; the fine ones follow from a learned law, the even ones from their exact law",
}
MOST_WELLS = 8  # that are told


def info(path: PathLikeStr) -> str:
    """Describe a file or a folder that this package wrote.

    Parameters
    ----------
    path : path-like
        An ensemble file, a pool, the directory of an unfinished run, a model folder, or a run folder.

    Returns
    -------
    str
        A few lines, ``label text`` each.

    Raises
    ------
    FileError
        Nothing there, or nothing that this package wrote.
    """
    path = Path(path)
    status(path)  # a name too long, for instance
    if (path / "stages").is_dir():
        return _table(_run_rows(path))
    if (path / "weights.safetensors").exists():
        return _table(_model_rows(path))
    if is_phases(path):
        return _table(_phases_rows(path))
    if path.is_dir() and not (path / "run.json").exists():
        raise FileError(f"{path} is no run folder, model folder or ensemble; expected what latticediff wrote")
    if is_pool(path):
        return _table(pool_rows(path))
    with Ensemble(path) as ensemble:
        return _table(_ensemble_rows(ensemble))


def _table(rows: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"{printable(name):16}{printable(text)}" for name, text in rows)


def _phases_rows(path: Path) -> Rows:
    from ..model.phases import load_phases

    phases = load_phases(path)
    edges = [-math.inf, *phases.parts.boundaries, math.inf]
    rows = [("coexisting phases", str(path)), *action_lines(phases.theory)]
    rows.append(("lattice", "x".join(map(str, phases.lattice))))
    for number, (value, error) in enumerate(phases.log_z):
        interval = f"{phases.parts.order_parameter} from {edges[number]:.4g} to {edges[number + 1]:.4g}"
        share = f"share {phases.probabilities[number]:.4f}"
        rows.append((f"part-{number}", f"{interval}, log Z = {format_error(value, error)}, {share}"))
    return [*rows, ("fingerprint", phases.fingerprint())]


def _number(value: float) -> str:
    return f"{value:.6g}"


def action_lines(action: Any) -> Rows:
    """The action as it was given, and the same theory in every other convention that can express it.

    Parameters
    ----------
    action : Action

    Returns
    -------
    list of (str, str)
        Label, empty from the second row on, and text. An action that is not phi^4 has one row, its description as JSON,
        and those of its formula and its wells where it names them.
    """
    description = action.describe()
    if description.get("name") != "phi4":
        return [("action", json.dumps(description)), *_formula_and_wells(action)]

    def couplings(values: Mapping[str, float]) -> str:
        return ", ".join(f"{name} = {_number(value)}" for name, value in values.items())

    own = action.convention
    c, a, b = action.coefficients
    rows = [
        ("action", f"phi4, convention {own}: {couplings(action.couplings)}"),
        ("", f"S = sum_x [ {CONVENTIONS[own].formula} ]"),
        ("", "internal form -c sum_mu phi phi' + a phi^2 + b phi^4:"),
        ("", f"c = {_number(c)}, a = {_number(a)}, b = {_number(b)}"),
    ]
    for name in CONVENTIONS:
        if name == own:
            continue
        try:
            values, scale = action.in_convention(name)
        except UserError as exc:
            rows.append(("", f"convention {name}: none, {exc}"))
            continue
        rows.append(("", f"convention {name}: {couplings(values)} (phi_{own} = {_number(scale)} phi_{name})"))
    return rows


def _formula_and_wells(action: Any) -> Rows:
    rows: Rows = []
    if isinstance(formula := getattr(action, "formula", None), str):
        rows.append(("", f"S = sum_x [ {formula} ]"))
    if (k := getattr(action, "modulation", 0.0)) > 0:
        rows.append(("", f"K(k) is least at components {_number(k)}, a period of {_number(2 * math.pi / k)} sites"))
    if callable(wells := getattr(action, "wells", None)):
        try:
            found = wells()
        except UserError as exc:
            return [*rows, ("", f"wells of a constant field: {exc}")]
        told = [
            f"phi = {_number(w.value)} (S/V = {_number(w.action)}, curvature {_number(w.curvature)})" for w in found
        ]
        more = f" and {len(told) - MOST_WELLS} more" if len(told) > MOST_WELLS else ""
        rows.append(("", f"wells of a constant field: {', '.join(told[:MOST_WELLS])}{more}"))
    return rows


def _ensemble_rows(ensemble: Ensemble) -> Rows:
    accepted, provenance = acceptance(ensemble), ensemble.provenance
    lattice = "x".join(map(str, ensemble.shape))
    rows = [
        ("file", f"{ensemble.path}, {'ensemble' if ensemble.is_complete else 'unfinished run of an ensemble'}"),
        *action_lines(ensemble.action),
        ("lattice", f"{lattice}, periodic, {ensemble.action.ndim}D"),
        ("algorithm", json.dumps(ensemble.algorithm)),
        ("configurations", f"{ensemble.n_cfg} of {ensemble.n_chains} chains, every {ensemble.thin}. update stored"),
        (
            "updates",
            f"{ensemble.n_updates} per chain recorded, first stored after {ensemble.first_update + ensemble.thin}",
        ),
        ("acceptance", "not recorded" if accepted is None else f"{accepted:.4f}"),
        ("written by", f"{provenance.program} {provenance.version}, commit {provenance.commit}, {provenance.created}"),
    ]
    rows += [("made from", f"{parent['file']}, fingerprint {parent['fingerprint']}") for parent in provenance.parents]
    if ensemble.is_complete:
        rows.append(("fingerprint", ensemble.fingerprint()))
    if not ensemble.is_sealed:
        rows.append(("note", UNSEALED))
    return rows


def _model_rows(path: Path) -> Rows:
    from ..model.storage import read_card

    card = read_card(path)
    rows = [
        ("model", f"{path}, hash {card.get('sha256', 'missing')}"),
        *action_lines(action_from_description(card["action"])),
        ("lattice", f"{'x'.join(map(str, card['shape']))}, periodic, {len(card['shape'])}D"),
        ("sites", SITES.get(card.get("sites", "all"), str(card.get("sites")))),
    ]
    rows += [
        (section, ", ".join(f"{key} = {value}" for key, value in card[section].items()))
        for section in ("network", "noise", "training", "finetune", "metrics", "ensemble", "program")
        if section in card
    ]
    return rows


def _run_rows(path: Path) -> Rows:
    from ..config import load_card

    card = load_card(path / "card.toml")
    wanted = read_identity(path / "run.json").get("card_sha256")
    if wanted is not None and fingerprint(path / "card.toml") != wanted:
        raise FileError(f"{path / 'card.toml'} is not the card of this run; it was changed, restore it")
    rows = [
        ("folder", f"{path}, run {card.run.name!r}, seed {card.run.seed}"),
        *action_lines(card.theory()),
        ("lattice", f"{'x'.join(map(str, card.shape))}, periodic, {len(card.shape)}D"),
    ]
    for file in sorted((path / "stages").glob("*.json"), key=lambda file: file.stat().st_mtime):
        stage = read_marker(file)
        rows.append((stage["stage"], f"{'finished' if stage['finished'] else 'unfinished'}, {stage['seconds']:.1f} s"))
    return rows

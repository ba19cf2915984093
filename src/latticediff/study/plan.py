"""What a card asks for, cell by cell: decided, refused or left out before anything runs, with estimates of time."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..action import action_from_description
from ..errors import CardError, UserError
from ..lattice import volume
from ..provenance import version
from .cell import Cell, read_result
from .models import model_of
from .samplers import SAMPLERS, lacking
from .timing import ROUND_SECONDS, ROUNDS

if TYPE_CHECKING:
    from ..types import Description, PathLikeStr
    from .card import StudyCard, Theory

__all__ = ["Plan", "describe_plan", "estimated", "is_done", "plan_study", "study_status"]

COPIES = 8  #: of the fields of all chains, that a cell may hold at once: a block, candidates, transforms
FILM_SECONDS = 5.0  #: of a film, for estimates: most of it is loading a network
MIXED, MIXES_SECONDS = 350_000.0, 5.0  #: gradients that the choice of a cluster mix takes, and seconds of its timing
GRADIENT_NS = 1.5  #: nanoseconds of a site and gradient, for estimates; Fourier acceleration takes four times as many


@dataclass(frozen=True)
class Plan:
    """What a card asks for, theory by theory."""

    card: StudyCard
    theories: tuple[Theory, ...]
    cells: dict[tuple[int, str], Cell]  #: by number of the theory and sampler
    skipped: tuple[str, ...]  #: what theories do not have, and what to do about it

    def timing(self, number: int, folder: PathLikeStr) -> Cell | None:
        """The cell that times all chains of a theory that are done; None where there is none."""
        done = [c for (at, _), c in self.cells.items() if at == number and is_done(read_result(folder, c))]
        if not done:
            return None
        settings = {"cells": {c.sampler: c.digest for c in done}, "rounds": ROUNDS, "seconds": ROUND_SECONDS}
        first = done[0]
        return Cell("timing", "", first.action, first.shape, first.seed, first.n_chains, settings, label=first.label)

    def film(self, folder: PathLikeStr) -> Cell | None:
        """The cell of the films: of the theory with learned chains that are done where |m| of the reference is slowest.

        None where there is none.
        """
        done = {key: found for key, c in self.cells.items() if is_done(found := read_result(folder, c))}
        learned = [key for key in done if SAMPLERS[key[1]].is_learned]
        if not learned:
            return None

        def slowness(number: int) -> float:
            theirs: Any = done.get((number, self.card.study.reference))
            return theirs["tau_int"]["abs_m"][0] if theirs else 0.0

        slow = max({number for number, _ in learned}, key=lambda number: (slowness(number), number))
        chains = {name: self.cells[number, name] for number, name in learned if number == slow}
        first = next(iter(chains.values()))
        settings = {"cells": {name: cell.digest for name, cell in chains.items()}}
        return Cell("film", "", first.action, first.shape, first.seed, 1, settings, label=first.label)


def plan_study(card: StudyCard, out: PathLikeStr | None = None) -> Plan:
    """Decide what runs; nothing does yet.

    Parameters
    ----------
    card : StudyCard
    out : path-like, optional
        Folder of the study, whose own models count.

    Returns
    -------
    Plan

    Raises
    ------
    CardError
        With ``missing = "refuse"``: a sampler that a theory does not have, or a theory without a model; all of them are
        named. In any case where nothing is left, or fields do not fit into memory.
    ModelError, FileError
        A model that the card names does not exist.
    """
    study, theories = card.study, card.theories()
    action_from_description(theories[0].action.describe())  # as every cell does, in a process of its own
    cells: dict[tuple[int, str], Cell] = {}
    skipped: list[str] = []
    for number, theory in enumerate(theories):
        n_chains = card.chains_of(theory.shape)
        _require_memory(theory, n_chains)
        for name in study.samplers:
            sampler, use = SAMPLERS[name], None
            settings: Description = {"precision": study.precision, "seconds": study.seconds, "version": version()}
            if sampler.is_learned:
                try:
                    use = model_of(sampler, theory, out)
                except UserError as exc:
                    if type(exc) is not UserError:
                        raise  # a model that is named, and is not there
                    if study.missing != "train":  # what is to be trained is told elsewhere, and so is what failed
                        skipped.append(str(exc))
                    continue
            elif reason := lacking(sampler, theory.action):
                skipped.append(f"{name} at {theory.label}: {reason}")
                continue
            if not sampler.is_learned and name != "hmc_unit":
                settings["budget"] = study.budget
            common = ("chain", name, theory.action.describe(), theory.shape, study.seed, n_chains, settings)
            paid = (0.0, 0.0, 0.0) if use is None else (use.training_seconds, use.data_seconds, use.ancestor_seconds)
            about = ("", "") if use is None else (use.fingerprint, use.name)
            cells[number, name] = Cell(*common, *about, theory.label, paid)
    if skipped and study.missing == "refuse":
        raise CardError(
            f'{"; ".join(skipped)}. Take them out of samplers, or say missing = "skip" in [study] to go on without them'
        )
    if not cells and study.missing != "train":
        raise CardError(f"nothing is left of the study: {'; '.join(skipped)}")
    return Plan(card, theories, cells, tuple(skipped))


def _require_memory(theory: Theory, n_chains: int) -> None:
    try:
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return  # the system does not say
    wanted = COPIES * 8 * n_chains * volume(theory.shape)
    if wanted > there:
        raise CardError(
            f"{n_chains} chains at {theory.label} take {wanted / 1e9:.0f} GB, this machine has {there / 1e9:.0f};"
            " lower study.n_chains, or take a smaller lattice"
        )


def estimated(cell: Cell) -> float:
    """Seconds that a cell takes at most, about: the chain's, and those of the search for its settings."""
    if cell.kind != "chain":
        each = (ROUNDS + 2) * ROUND_SECONDS if cell.kind == "timing" else FILM_SECONDS
        return float(len(cell.settings["cells"]) * each)
    sites = cell.n_chains * volume(cell.shape)
    budget = cell.settings.get("budget", 20_000)
    search = {"hmc": 1.5 * budget, "fourier_hmc": 6.0 * budget, "cluster": MIXED}.get(cell.sampler, 20_000.0)
    by_clock = MIXES_SECONDS if cell.sampler == "cluster" else 0.0
    return float(cell.settings["seconds"] + by_clock + 1e-9 * GRADIENT_NS * sites * search / (os.cpu_count() or 1))


def is_done(result: Mapping[str, Any] | None) -> bool:
    """Whether there is a result, and not that of a cell that failed."""
    return result is not None and "failed" not in result


def study_status(plan: Plan, folder: PathLikeStr) -> list[tuple[Cell, str]]:
    """Every cell and how it is: "done", "missing", or "failed: " and the reason."""
    rows: list[tuple[Cell, str]] = []
    for cell in plan.cells.values():
        rows.append((cell, _state(read_result(folder, cell))))
    for number in range(len(plan.theories)):
        timing = plan.timing(number, folder)
        if timing is not None:
            rows.append((timing, _state(read_result(folder, timing))))
    film = plan.film(folder)
    if film is not None:
        rows.append((film, _state(read_result(folder, film))))
    return rows


def _state(result: Mapping[str, Any] | None) -> str:
    if result is None:
        return "missing"
    return f"failed: {result['failed']}" if "failed" in result else "done"


def describe_plan(plan: Plan, folder: PathLikeStr, jobs: int = 1) -> str:
    """A table of the cells, how each is, and about how long it takes."""
    rows = study_status(plan, folder)
    lines = [f"{'cell':44}{'digest':22}{'at most':>9}  state"]
    for cell, state in rows:
        lines.append(f"{cell.title:44}{cell.digest:22}{estimated(cell):7.0f} s  {state}")
    left = sum(estimated(cell) for cell, state in rows if state != "done" and cell.kind == "chain") / jobs
    times = sum(len([1 for at, _ in plan.cells if at == n]) for n in range(len(plan.theories))) * (ROUNDS + 2)
    todo = any(state != "done" for _, state in rows) or all(cell.kind == "chain" for cell, _ in rows)
    left += times * ROUND_SECONDS if todo else 0.0
    lines += [f"skipped: {line}" for line in plan.skipped]
    count = sum(state == "done" for _, state in rows)
    lines.append(f"{count} of {len(rows)} cells are done; the rest takes {left / 60:.1f} minutes at most, about")
    return "\n".join(lines)

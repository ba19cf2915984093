"""Stage study: every cell of a study that is missing, timings and films, and the page of all of it."""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..atomic import claimed, entries_of, sealed_text
from ..digests import check_digest, with_digest
from ..errors import CardError, FileError, StopRequested, UserError
from ..job.processes import check_jobs
from ..job.progress import Progress
from ..report.study import write_study
from ..signals import StopReason
from ..study.cell import read_result
from ..study.expected import FILM, PAGE, expected_after, expected_of, timing_key
from ..study.gathered import gathered
from ..study.outlook import Outlook, Piece
from ..study.plan import Plan, is_done, plan_study
from ..untrusted import parse_json, printable, read_text, status
from .study_after import show_films, time_all
from .study_board import ahead_of
from .study_cells import run_all
from .study_models import Wanted, models_wanted, train_model

if TYPE_CHECKING:
    from ..study.card import StudyCard
    from ..types import Description, PathLikeStr
    from .contract import StopCheck

__all__ = ["require_own", "rewrite_page", "study"]

DOCUMENT = "study.json"


def study(
    card: StudyCard,
    out: PathLikeStr,
    *,
    jobs: int = 1,
    part: tuple[int, int] | None = None,
    models_alone: bool = False,
    progress: Progress | None = None,
    stop: StopCheck | None = None,
    command: str = "",
) -> Description:
    """Run what is missing of a study, and write ``study.json``, ``study.html`` and figures.

    Parameters
    ----------
    card : StudyCard
    out : path-like
        Folder of the study, made if missing. Results of other cards in it are left alone.
    jobs : int
        Processes that run chains at once; timing is always done alone.
    part : (int, int), optional
        ``(k, n)``: run every n-th cell from the k-th on, k from 1, and nothing else, as a job of an array does.
    models_alone : bool
        Train the models that are missing, and nothing else; parts of an array want them to be there.
    progress, stop
        See `latticediff.stages.generate.generate`; a stop waits for the cells that run.
    command : str
        What the page says that it was made by.

    Returns
    -------
    dict
        The document, as of `latticediff.study.gathered.gathered`.

    Raises
    ------
    CardError, FileError, ModelError
        As `plan_study`; a part wants a model that is still to be trained; the folder belongs to something else, or a
        result in it is damaged.
    UserError
        `jobs` or `part` make no sense.
    StopRequested
        `stop` gave a reason; finished cells are kept, and the page shows them.
    """
    progress, out = progress or Progress(), Path(out)
    check_jobs(jobs)
    if part is not None and not 1 <= part[0] <= part[1]:
        raise UserError(f"part is {part[0]}/{part[1]}; expected k/n with 1 <= k <= n")
    plan = plan_study(card, out)  # what it refuses, it refuses before anything is written
    require_own(out)
    wanted = models_wanted(card, out)
    if part is not None and wanted:
        raise CardError(
            f"{len(wanted)} models are still to be trained ({wanted[0].title} first), and parts of an array do not;"
            " run the command once with --models instead of --part"
        )
    with nullcontext() if part is not None else claimed(out):
        untrained, reason = _train(wanted, progress, stop)
        if wanted:  # what was trained has its cells now
            plan = plan_study(card, out)
        for line in plan.skipped:
            progress.say(f"skipped: {line}")
        if models_alone or reason:
            if reason:
                raise StopRequested(f"{reason}; what is trained is kept, run the same command again", reason.exit_code)
            return {}
        (out / "cells").mkdir(parents=True, exist_ok=True)
        todo = [cell for cell in plan.cells.values() if not is_done(read_result(out, cell))]
        if part is not None:
            mine = list(plan.cells.values())[part[0] - 1 :: part[1]]
            todo = [cell for cell in todo if cell in mine]
        after = [] if part is not None else _after(plan, out)
        threads = max(1, (os.cpu_count() or 1) // jobs)
        pieces = [*(expected_of(cell, threads) for cell in todo), *after]
        outlook = Outlook(pieces, min(jobs, max(1, len(todo))), time.monotonic())
        reason = run_all(out, todo, jobs, progress, stop, outlook)
        if part is None and not reason:
            reason = time_all(plan, out, progress, stop, outlook)
            if not reason:
                show_films(plan, out, progress, outlook)
        document: Description = {}
        if part is None:
            with progress.task("page", 1) as task:
                outlook.begin(PAGE, time.monotonic())
                task.advance(0, ahead=ahead_of(outlook))

                def tell(share: float) -> None:
                    outlook.reach(PAGE, PAGE, share, time.monotonic())
                    task.advance(0, ahead=ahead_of(outlook))

                document = _gather(plan, out, command, untrained, tell)
                outlook.end(PAGE, time.monotonic())
                task.advance(ahead=ahead_of(outlook))
    if reason:
        raise StopRequested(
            f"{reason}; {len(todo)} cells were to run, what is done is kept, run the same command again",
            reason.exit_code,
        )
    return document


def _after(plan: Plan, out: Path) -> list[Piece]:
    """What follows the chains that run, as far as it is not done: a theory with new chains is timed anew."""
    timings = {timing_key(n): plan.timing(n, out) for n in range(len(plan.theories))}
    chains = {n for (n, _), cell in plan.cells.items() if not is_done(read_result(out, cell))}
    film = plan.film(out)
    done = {
        key
        for n, (key, cell) in enumerate(timings.items())
        if n not in chains and cell is not None and is_done(read_result(out, cell))
    }
    if not chains and (film is None or is_done(read_result(out, film))):
        done.add(FILM)
    return [piece for piece in expected_after(plan) if piece.key not in done]


def require_own(out: PathLikeStr) -> None:
    """Refuse a folder that holds something else.

    Raises
    ------
    FileError
        It does.
    """
    out = Path(out)
    names = entries_of(out)
    if names and "cells" not in names and DOCUMENT not in names:
        raise FileError(
            f"{out} is no folder of a study, it holds {printable(sorted(names)[0], 80)}; choose another --out"
        )


def _train(wanted: list[Wanted], progress: Progress, stop: StopCheck | None) -> tuple[list[str], Any]:
    """Train what is wanted; gives what could not be trained, and the reason of a stop, or None."""
    failed: list[str] = []
    for model in wanted:
        if stop is not None and (reason := stop()):
            return failed, reason
        progress.say(f"training the {model.title}, in {model.folder}")
        try:
            train_model(model, progress, stop)
        except StopRequested as exc:
            return failed, StopReason(str(exc), exc.exit_code)
        except UserError as exc:  # the other cells go on
            failed.append(f"{model.title}: {' '.join(str(exc).split())}")
            progress.say(f"failed: {failed[-1]}")
    return failed, None


def _results(plan: Plan, out: Path) -> Iterator[tuple[tuple[int, str], Description]]:
    for key, cell in plan.cells.items():
        found = read_result(out, cell)
        if found is not None:
            yield key, {**found, "digest": cell.digest}


def _gather(plan: Plan, out: Path, command: str, untrained: list[str], tell: Callable[[float], object]) -> Description:
    """``study.json`` and the page of what is there."""
    timings: dict[int, Description] = {}
    for number in range(len(plan.theories)):
        timing = plan.timing(number, out)
        found = None if timing is None else read_result(out, timing)
        if found is not None:
            timings[number] = found
    command = command or f"latticediff study CARD --out {shlex.quote(out.name)}"
    film = plan.film(out)
    shown = None if film is None else read_result(out, film)
    document = gathered(
        plan.card, plan.theories, dict(_results(plan, out)), timings, plan.skipped, command, untrained, shown
    )
    sealed_text(out / "card.toml", plan.card.to_toml())
    sealed_text(out / DOCUMENT, json.dumps(with_digest(document), indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    write_study(document, out, tell)
    return document


def rewrite_page(folder: PathLikeStr, say: Callable[[str], object] | None = None) -> dict[str, Path]:
    """The page of a study once more, from its ``study.json`` alone.

    Raises
    ------
    FileError
        The folder holds no study, or one that has not come so far, or ``study.json`` is damaged.
    """
    folder = Path(folder)
    path = folder / DOCUMENT
    if status(path) is None:
        if status(folder / "cells") is not None:
            raise FileError(
                f"{folder} holds cells but no {DOCUMENT}; finish the study: latticediff study CARD --out {folder}"
            )
        raise FileError(
            f"{folder} holds no study; give the --out of `latticediff study` (a run writes its page itself,"
            " `latticediff compare` that of ensemble files)"
        )
    document = parse_json(read_text(path, "the document of a study"), path)
    if not isinstance(document, dict) or "study_version" not in document:
        raise FileError(f"{path} is no document of a study; restore it, or run the study again")
    written = write_study(check_digest(document, path, "run the study again, finished cells are kept"), folder)
    if say is not None:
        say(f"wrote {written['html']}")
    return written

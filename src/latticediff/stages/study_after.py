"""What a study does once its chains are there, alone on the machine: all samplers of a theory timed in turn, films."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..job.progress import Progress
from ..streams import Streams
from ..study.cell import Cell, read_result
from ..study.expected import FILM, timing_key
from ..study.films import films
from ..study.kernels import begin, rebuild
from ..study.outlook import Outlook
from ..study.plan import Plan, is_done
from ..study.samplers import SAMPLERS
from ..study.timing import APART, ROUND_SECONDS, ROUNDS, timed
from .study_board import ahead_of
from .study_cells import keep, tried

if TYPE_CHECKING:
    from ..types import Description
    from .contract import StopCheck

__all__ = ["show_films", "time_all"]

WARM = 50  #: updates before timing: clusters and proposals cost what they do in equilibrium


def time_all(plan: Plan, out: Path, progress: Progress, stop: StopCheck | None, outlook: Outlook) -> Any:
    """Time the chains of every theory in turn, where that is not done; gives the reason of a stop, or None."""
    with progress.task("timing", len(plan.theories)) as task:
        for number in range(len(plan.theories)):
            if stop is not None and (reason := stop()):
                return reason
            timing, key = plan.timing(number, out), timing_key(number)
            outlook.begin(key, time.monotonic())
            if timing is not None and not is_done(read_result(out, timing)):
                try:
                    found = _timed(plan, number, out, timing)
                except UserError as exc:
                    found = {"failed": " ".join(str(exc).split())}
                keep(out, timing, found, progress)
                for warning in found.get("warnings", ()):
                    progress.say(f"warning: {warning}")
            outlook.end(key, time.monotonic(), failed=timing is None)
            task.advance(ahead=ahead_of(outlook))
    return None


def _timed(plan: Plan, number: int, out: Path, timing: Cell) -> Description:
    chains: dict[str, Any] = {}
    streams = Streams(timing.seed).child("study").child("timing")
    for name in timing.settings["cells"]:
        cell = plan.cells[number, name]
        result: Any = read_result(out, cell)
        built = rebuild(cell, result)
        state = begin(cell, built, streams.child(name))
        warm = 2 if SAMPLERS[name].is_learned else WARM
        chains[name] = built.kernel, built.kernel.advance(state, streams.child(name), warm, warm)[0]
    began = time.perf_counter()
    prices = timed(chains, streams.child("in turn"), ROUND_SECONDS, ROUNDS)
    disturbed = [name for name, price in prices.items() if price.is_disturbed]
    warnings = [
        f"{timing.label}: processor and wall time of {', '.join(disturbed)} differ by more than {100 * APART:.0f} %,"
        f" the machine had other work; remove cells/{timing.digest}.json and run again on a quiet one"
    ]
    return {
        "kind": "timing",
        "seconds_per_update": {
            name: {"processor": list(price.processor), "wall": list(price.wall)} for name, price in prices.items()
        },
        "threads": 1,
        "rounds": ROUNDS,
        "warnings": warnings if disturbed else [],
        "seconds": time.perf_counter() - began,
    }


def show_films(plan: Plan, out: Path, progress: Progress, outlook: Outlook) -> None:
    """Show the ways from noise to field of one theory's learned samplers, where that is not done."""
    film = plan.film(out)
    if film is None or is_done(read_result(out, film)):
        return
    names = {cell.digest: cell for cell in plan.cells.values()}
    outlook.begin(FILM, time.monotonic())
    with progress.task("film", 1) as task:
        task.advance(0, ahead=ahead_of(outlook))
        chains = {name: names[digest] for name, digest in film.settings["cells"].items()}
        keep(out, film, tried(lambda: {"kind": "film", "films": films(chains)}), progress)
        outlook.end(FILM, time.monotonic())
        task.advance(ahead=ahead_of(outlook))

"""What became of each member, read from its files and compared with the queue: finished, at work, or lost.

The files say what is done, SLURM only who is still in the queue; a member is lost if it is not finished and nobody is
going to finish it. A whole file is there only when its member has ended (`latticediff.ensemble`): nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..ensemble import Ensemble, run_directory
from ..errors import FileError
from ..job.folder import read_marker
from ..untrusted import status

if TYPE_CHECKING:
    from ..types import PathLikeStr
    from .plan import Member, Plan

__all__ = ["MemberState", "ensembles_of", "member_states"]


@dataclass(frozen=True)
class MemberState:
    """What is known of a member."""

    member: Member
    finished: bool
    done: str  #: what there is, in words
    queue: str | None  #: its state in the queue; None: it is not there, or nobody could be asked

    @property
    def is_lost(self) -> bool:
        """Whether it is unfinished and nobody is going to finish it."""
        return not self.finished and self.queue is None

    def to_dict(self) -> dict[str, object]:
        """JSON-able."""
        return {
            "member": self.member.index,
            "seed": self.member.seed,
            "out": self.member.out,
            "finished": self.finished,
            "done": self.done,
            "queue": self.queue,
            "lost": self.is_lost,
        }


def member_states(plan: Plan, folder: PathLikeStr, queue: Mapping[int, str] | None = None) -> list[MemberState]:
    """What became of the members of a plan.

    Parameters
    ----------
    plan : Plan
    folder : path-like
        Where their files are.
    queue : mapping of int to str, optional
        See `latticediff.slurm.queue.queued`.

    Returns
    -------
    list of MemberState
        In the order of the members. A file that cannot be read is not finished, and `done` says why.
    """
    look = _run if plan.stage == "run" else _file
    found = []
    for member in plan.members:
        try:
            finished, done = look(Path(folder) / member.out)
        except FileError as exc:
            finished, done = False, str(exc)
        found.append(MemberState(member, finished, done, (queue or {}).get(member.index)))
    return found


def _file(path: Path) -> tuple[bool, str]:
    """Whether an ensemble file is finished, and how far it is."""
    unfinished = run_directory(path)
    if unfinished.is_dir():
        try:
            with Ensemble(unfinished) as ensemble:
                return False, f"{ensemble.n_updates} updates"
        except FileError:  # nothing stored yet; a damaged one is refused, in its own words, by the member itself
            return False, "begun"
    if status(path) is None:
        return False, "not begun"
    with Ensemble(path) as ensemble:
        return True, f"{ensemble.n_updates} updates"


def _run(path: Path) -> tuple[bool, str]:
    """Whether the folder of a whole run is finished, and how far it is."""
    if not (path / "run.json").exists():
        return False, "not begun"
    markers = [read_marker(marker) for marker in sorted((path / "stages").glob("*.json"))]
    done = [marker["stage"] for marker in markers if marker["finished"]]
    return "report" in done, f"{len(done)} stages"


def ensembles_of(plan: Plan, folder: PathLikeStr) -> dict[str, list[Path]]:
    """Ensemble files that every member has, by the name of the file that joins them.

    Of ``generate`` and ``sample`` it is one; of ``run`` the reference chains and each chain that is compared.
    """
    folder = Path(folder)
    if plan.stage != "run":
        name = "ensemble.h5" if plan.stage == "generate" else f"chain_{plan.route}.h5"
        return {name: [folder / member.out for member in plan.members]}
    names = [{path.name for path in (folder / member.out).glob("*.h5")} for member in plan.members]
    return {name: [folder / m.out / name for m in plan.members] for name in sorted(set.intersection(*names))}

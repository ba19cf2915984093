"""Hand scripts to SLURM, and ask it who is still in the queue; ``jobs.json`` remembers the numbers it gave.

Only the programs of SLURM itself are called: ``sbatch`` and ``squeue``.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..atomic import sealed_text
from ..digests import check_digest, with_digest
from ..errors import FileError, UserError
from ..untrusted import parse_json, printable, read_text
from .scripts import script_names

if TYPE_CHECKING:
    from ..types import PathLikeStr
    from .plan import Plan

__all__ = ["Jobs", "compact", "queued", "rerun", "sbatch", "sbatch_lines", "submit"]

SECONDS = 60  # in which a controller answers, or does not


@dataclass(frozen=True)
class Jobs:
    """Numbers of submitted jobs, by script, the latest last."""

    chains: tuple[str, ...] = ()
    merge: tuple[str, ...] = ()
    train: tuple[str, ...] = ()
    finetune: tuple[str, ...] = ()

    @classmethod
    def read(cls, folder: PathLikeStr) -> Jobs:
        """Those in ``jobs.json`` of a folder; none if nothing was submitted. Raises `FileError` if it is damaged."""
        path = Path(folder) / "jobs.json"
        if not path.exists():
            return cls()
        document = parse_json(read_text(path, "the numbers of jobs"), path)
        try:
            fields = check_digest(document, path, "remove it, if no job runs")
            return cls(**{name: tuple(str(int(number)) for number in numbers) for name, numbers in fields.items()})
        except (AttributeError, TypeError, ValueError) as exc:
            if isinstance(exc, FileError):
                raise
            raise FileError(f"{path} has no numbers of jobs; remove it, if no job runs") from None

    def added(self, name: str, number: str) -> Jobs:
        """These and one more, of script `name`."""
        return Jobs(**{**asdict(self), name: (*getattr(self, name), number)})


def submit(plan: Plan, folder: PathLikeStr, array: str | None = None) -> Jobs:
    """Submit the scripts of a plan, each to begin when the one before has ended well.

    Parameters
    ----------
    plan : Plan
    folder : path-like
    array : str, optional
        Members to run, as sbatch takes them (``"3,5-7"``); by default those of the script. ``""``: none, the members
        are all there.

    Returns
    -------
    Jobs
        Of all submissions so far.

    Raises
    ------
    UserError
        There is no SLURM here, or it refuses.
    """
    folder, jobs = Path(folder), Jobs.read(folder)
    # members that an earlier array is still at work on: what joins all of them waits for these, too
    others = sorted({job for job, _, _ in _waiting(folder)})
    before = f"--dependency=afterany:{':'.join(others)}" if others else ""
    for name, line in sbatch_lines(plan, folder, array):
        line = [before if word == "AFTER" else word for word in line]
        number = sbatch([word for word in line if word])
        jobs = jobs.added(name, number)
        sealed_text(folder / "jobs.json", json.dumps(with_digest(asdict(jobs)), indent=1) + "\n")
        before = f"--dependency=afterok:{number}"
        if name == "chains" and others:
            before += f",afterany:{':'.join(others)}"
    return jobs


def sbatch(line: Sequence[str]) -> str:
    """The number that SLURM gives the job of a command ``sbatch --parsable ...``; raises `UserError` if it refuses."""
    answer = _ask(line)
    number = answer.split(";")[0].strip()  # of a federation: number;cluster
    if not number.isdigit():
        raise UserError(f"sbatch answered {printable(answer, 80)!r}; expected the number of a job")
    return number


def sbatch_lines(plan: Plan, folder: PathLikeStr, array: str | None = None) -> list[tuple[str, list[str]]]:
    """Script and sbatch command of each job of a plan; the word AFTER stands for the dependency on the job before."""
    lines: list[tuple[str, list[str]]] = []
    for script in script_names(plan):
        name = script.removesuffix(".sbatch")
        if name == "chains" and array == "":
            continue
        chosen = [f"--array={array}"] if name == "chains" and array else []
        after = ["AFTER", "--kill-on-invalid-dep=yes"] if name != "chains" else []
        lines.append((name, ["sbatch", "--parsable", *chosen, *after, str(Path(folder) / script)]))
    return lines


def rerun(plan: Plan, folder: PathLikeStr, lost: Collection[int]) -> Jobs:
    """Submit the `lost` members alone, and after them what works on all of them."""
    return submit(plan, folder, compact(lost))


def compact(numbers: Iterable[int]) -> str:
    """``[0, 1, 2, 5]`` as sbatch takes it: ``"0-2,5"``."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in runs)


def queued(folder: PathLikeStr) -> dict[int, str] | None:
    """State of each member that waits or runs, as SLURM calls it; None if there is no SLURM to ask."""
    if not Jobs.read(folder).chains:
        return {}
    try:
        return {index: state for _, index, state in _waiting(folder)}
    except UserError:
        return None


def _waiting(folder: PathLikeStr) -> list[tuple[str, int, str]]:
    """Job, member and state of all that wait or run; raises `UserError` if nobody can be asked."""
    numbers = Jobs.read(folder).chains
    if not numbers:
        return []
    # all of this user's: a number that SLURM has forgotten would make it refuse the others, too
    text = _ask(["squeue", "--me", "--array", "--noheader", "--states=all", "--format=%F %K %T"])
    rows = [line.split() for line in text.splitlines()]
    return [
        (words[0], int(words[1]), words[2])
        for words in rows
        if len(words) == 3 and words[0] in numbers and words[1].isdigit() and words[2] in _ALIVE
    ]


#: of a job that runs, or will without anybody's help
_ALIVE = {
    *("PENDING", "RUNNING", "SUSPENDED", "CONFIGURING", "COMPLETING", "STAGE_OUT", "SIGNALING", "RESIZING", "STOPPED"),
    *("REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD", "SPECIAL_EXIT"),
}


def _ask(command: Sequence[str]) -> str:
    """What a program of SLURM answers."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, errors="replace")
    except FileNotFoundError:
        raise UserError(f"there is no {command[0]} here; submit where SLURM is") from None
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise UserError(f"{command[0]} did not answer ({type(exc).__name__}); try again") from None
    if done.returncode != 0:
        raise UserError(f"{command[0]} refuses: {printable(done.stderr.strip() or 'no reason given', 300)}")
    return done.stdout

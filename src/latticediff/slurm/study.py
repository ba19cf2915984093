"""A study as an array: a job that trains what is missing, an array of parts, and a job for timing and the page.

Parts share a folder and no cell: part K of N runs every N-th cell. A cell is one file, written whole or not at all, so
a part that died loses the cell it was at, and submitting everything once more runs only what is missing.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import tomli_w

from ..atomic import sealed_text
from ..errors import FileError, UserError
from .plan import MOST_MEMBERS
from .queue import sbatch
from .scripts import body, head, require_plain

if TYPE_CHECKING:
    from ..study.card import StudyCard
    from ..types import PathLikeStr
    from .scripts import Resources

__all__ = ["holds_study_scripts", "study_script_texts", "submit_study", "write_study_scripts"]

CARD = "study-card.toml"
NAMES = ("models", "cells", "page")


def study_script_texts(
    card: StudyCard,
    folder: PathLikeStr,
    n_parts: int,
    resources: Resources,
    directory: PathLikeStr = ".",
    python: str = sys.executable,
) -> dict[str, str]:
    """Text of each script by name, in the order in which the jobs depend on each other.

    Parameters
    ----------
    card : StudyCard
    folder : path-like
        Of the study; the scripts lie there, too.
    n_parts : int
        Members of the array.
    resources : Resources
        Of each part; training and timing get as much.
    directory : path-like
        Relative paths in the card start here.
    python : str
        Interpreter that runs the package on the nodes.

    Raises
    ------
    UserError
        A path with a character that SLURM reads as its own, or a number of parts out of range.
    """
    folder, directory = Path(folder).absolute(), str(Path(directory).absolute())
    require_plain(str(folder), directory)
    if not 1 <= n_parts <= MOST_MEMBERS:
        raise UserError(f"{n_parts} parts; expected from 1 to {MOST_MEMBERS}")
    limit = "" if resources.at_once is None else f"%{resources.at_once}"
    common = [
        (f"--cpus-per-task={resources.cpus}", ""),
        *([(f"--mem={resources.mem}", "")] if resources.mem else []),
    ]
    words = [python, "-m", "latticediff", "study", str(folder / CARD), "--out", str(folder), "-q"]
    command = shlex.join(words)
    cells = "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
    made = {
        "models.sbatch": (
            [*common],
            ["# The models that the theories of the card do not have; goes on where it was stopped."],
            f"{command} --models &",
            "$SLURM_JOB_ID",
        ),
        "cells.sbatch": (
            [(f"--array=1-{n_parts}{limit}", "parts of the study"), *common],
            [f"# Every {n_parts}th cell each. Done: latticediff study {folder / CARD} --out {folder} --status"],
            f'{command} --part "$SLURM_ARRAY_TASK_ID/{n_parts}" &',
            cells,
        ),
        "page.sbatch": (
            [("--exclusive", "prices are measured here: nothing else on the node"), *common],
            ["# What parts have left, prices of all samplers in turn, study.json, study.html and figures."],
            f"{command} &",
            "$SLURM_JOB_ID",
        ),
    }
    if card.study.missing != "train":
        del made["models.sbatch"]
    texts = {}
    for name, (own, comments, program, job) in made.items():
        stem = name.removesuffix(".sbatch")
        log = "cells-%a.log" if stem == "cells" else f"{stem}.log"
        lines = head(f"study-{stem}", log, directory, folder, resources, own)
        texts[name] = "\n".join([*lines, "#", *comments, *body(resources, program, job)])
    return texts


def write_study_scripts(
    card: StudyCard,
    folder: PathLikeStr,
    n_parts: int,
    resources: Resources,
    directory: PathLikeStr = ".",
    python: str = sys.executable,
) -> list[Path]:
    """Write card and scripts into the folder of the study, over earlier ones; returns where the scripts are.

    Raises
    ------
    FileError
        The folder holds the scripts of another card, or cannot be written.
    UserError
        As `study_script_texts`.
    """
    from ..study.card import load_study

    texts, folder = study_script_texts(card, folder, n_parts, resources, directory, python), Path(folder)
    text = tomli_w.dumps(card.to_dict())
    place = folder / CARD
    if place.exists() and load_study(place) != card:  # parsed: an older version wrote fewer keys
        raise FileError(f"{folder} holds the study of another card; choose another --out")
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    (folder / "cells").mkdir(exist_ok=True)  # by which `study` knows the folder for its own
    sealed_text(place, text)
    for name in (f"{stem}.sbatch" for stem in NAMES):
        (folder / name).unlink(missing_ok=True)
    for name, script in texts.items():
        sealed_text(folder / name, script)
    return [folder / name for name in texts]


def holds_study_scripts(folder: PathLikeStr) -> bool:
    """Whether `write_study_scripts` wrote into a folder."""
    return (Path(folder) / "cells.sbatch").is_file()


def submit_study(folder: PathLikeStr) -> dict[str, str]:
    """Submit the scripts of a study: parts after models, and the page after all parts, however these ended.

    Returns
    -------
    dict of str to str
        Number of each job.

    Raises
    ------
    UserError
        There is no SLURM here, or it refuses.
    """
    numbers: dict[str, str] = {}
    before = ""
    for stem in NAMES:
        script = Path(folder) / f"{stem}.sbatch"
        if not script.is_file():
            continue
        after = [before, "--kill-on-invalid-dep=yes"] if before else []
        numbers[stem] = sbatch(["sbatch", "--parsable", *after, str(script)])
        # a cell that failed is listed on the page, which is no reason not to have one
        before = f"--dependency={'afterany' if stem == 'cells' else 'afterok'}:{numbers[stem]}"
    return numbers

"""The sbatch scripts of a plan: commented shell that a reader of the cluster's manual can check and change.

Each script works the same way. SLURM sends USR1 to the script some time before the wall-time limit, and so may a person
or a site before preemption; the script asks the program to stop, which seals its state; then the job puts itself back
into the queue (``scontrol requeue``) and goes on with the same bits. TERM, from ``scancel`` or from SLURM's own
preemption, seals the state too, but whether the job runs again is then SLURM's decision.
"""

from __future__ import annotations

import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..atomic import sealed_text
from ..errors import UserError

if TYPE_CHECKING:
    from ..types import PathLikeStr
    from .plan import Plan

__all__ = [
    "MOST_REQUEUES",
    "Resources",
    "body",
    "head",
    "require_plain",
    "script_names",
    "script_texts",
    "write_scripts",
]

MOST_REQUEUES = 100  # a job whose wall time is too short for any progress must end some day
_TIME = re.compile(r"(?:\d+-)?\d{1,3}:[0-5]\d:[0-5]\d")
_WORD = re.compile(r"[\w.,:=+\-/\[\]*&|@]+")


@dataclass(frozen=True)
class Resources:
    """What a cluster is asked for; None leaves it to the site's defaults.

    Raises
    ------
    UserError
        A value that SLURM would not take, or that would break out of its line in the script.
    """

    time: str | None = None  #: wall-time limit, ``[D-]HH:MM:SS``
    partition: str | None = None
    account: str | None = None
    cpus: int = 1  #: processor cores of each member
    mem: str | None = None  #: of each member, e.g. ``4G``
    gpus: int = 0  #: of the training, on one node
    margin: int = 120  #: seconds before the limit at which the state is sealed
    at_once: int | None = None  #: members that run at the same time, at most
    further: tuple[str, ...] = ()  #: further options of sbatch, e.g. ``--constraint=rome``
    before: tuple[str, ...] = ()  #: lines of shell before the program, e.g. ``module load python``

    def __post_init__(self) -> None:
        if self.time is not None and not _TIME.fullmatch(self.time):
            raise UserError(f"--time is {self.time!r}; expected hours:minutes:seconds, or days-hours:minutes:seconds")
        for name, value in (("partition", self.partition), ("account", self.account), ("mem", self.mem)):
            if value is not None and not _WORD.fullmatch(value):
                raise UserError(f"--{name} is {value!r}; expected one word, without spaces")
        for option in self.further:
            if not option.startswith("--") or not _WORD.fullmatch(option):
                raise UserError(f"option of sbatch is {option!r}; expected e.g. --constraint=rome, one word")
        for line in self.before:
            if not line.isprintable():
                raise UserError(f"line of shell is {line!r}; expected one line of printable text")
        for name, number, least in (("cpus", self.cpus, 1), ("margin", self.margin, 1), ("gpus", self.gpus, 0)):
            if number < least:
                raise UserError(f"--{name} is {number}; expected at least {least}")
        if self.at_once is not None and self.at_once < 1:
            raise UserError(f"--at-once is {self.at_once}; expected at least 1")


def script_names(plan: Plan) -> tuple[str, ...]:
    """Names of the scripts of a plan, in the order in which they depend on each other."""
    networks = [*(["train.sbatch"] if plan.train else []), *(["finetune.sbatch"] if plan.finetune else [])]
    return ("chains.sbatch", "merge.sbatch", *networks)


def script_texts(plan: Plan, folder: PathLikeStr, resources: Resources, python: str = sys.executable) -> dict[str, str]:
    """Text of each script of a plan, by name, in the order in which the jobs depend on each other.

    Parameters
    ----------
    plan : Plan
    folder : path-like
    resources : Resources
    python : str
        Interpreter that runs the package on the nodes.

    Raises
    ------
    UserError
        A path with a character that would mean something else in a line for SLURM.
    """
    folder = Path(folder).absolute()
    require_plain(str(folder), plan.directory)
    makers = {"chains.sbatch": _chains, "merge.sbatch": _merge, "train.sbatch": _train, "finetune.sbatch": _finetune}
    return {name: makers[name](plan, folder, resources, python) for name in script_names(plan)}


def require_plain(*paths: str) -> None:
    """Raise `UserError` if a path has a character that would mean something else in a line for SLURM."""
    for path in paths:
        if not path.isprintable() or re.search(r'["\\%]', path):
            raise UserError(f"path {path!r} has a character that SLURM reads as its own; choose another one")


def write_scripts(plan: Plan, folder: PathLikeStr, resources: Resources, python: str = sys.executable) -> list[Path]:
    """Write the `script_texts` of a plan into its folder, over earlier ones; returns where they are."""
    texts = script_texts(plan, folder, resources, python)
    for name, text in texts.items():
        sealed_text(Path(folder) / name, text)
    return [Path(folder) / name for name in texts]


def head(
    name: str, log: str, directory: str, folder: Path, resources: Resources, own: list[tuple[str, str]]
) -> list[str]:
    """The first lines: what SLURM reads, each with what it is for."""
    options = [
        (f"--job-name=latticediff-{name}", ""),
        *own,
        (f'--chdir="{directory}"', "relative paths in the card start here"),
        (f'--output="{folder}/logs/{log}"', ""),
        ("--open-mode=append", "a requeued job goes on in the same log"),
        ("--requeue", "after preemption or the loss of a node the job runs again, and goes on"),
        (f"--signal=B:USR1@{resources.margin}", "so many seconds before the limit this script is told"),
        *((f"--{key}={value}", "") for key, value in _asked(resources)),
        *((option, "") for option in resources.further),
    ]
    return ["#!/usr/bin/env bash", *(f"#SBATCH {o:42} # {why}" if why else f"#SBATCH {o}" for o, why in options)]


def _asked(resources: Resources) -> list[tuple[str, str]]:
    given = {"time": resources.time, "partition": resources.partition, "account": resources.account}
    return [(key, value) for key, value in given.items() if value is not None]


def body(resources: Resources, program: str, job: str) -> list[str]:
    """Lines that run `program`, seal it when told to, and requeue the job, which SLURM knows as `job`."""
    return [
        "",
        "# USR1: the limit is near, or somebody wants the node. Seal the state, and run again.",
        "# TERM: cancelled, or preempted. Seal the state; whether the job runs again is SLURM's decision.",
        "warned= program=",
        'seal() { [ -z "$program" ] || kill -TERM "$program" 2>/dev/null; }',
        "trap 'warned=yes; seal' USR1",
        "trap seal TERM",
        "",
        *resources.before,
        "# threads as SLURM gave cores: no bit of a result depends on their number",
        'export OMP_NUM_THREADS="${SLURM_CPUS_PER_TASK:-1}" NUMBA_NUM_THREADS="${SLURM_CPUS_PER_TASK:-1}"',
        "",
        "# in the background, since the shell heeds signals only while it waits",
        program,
        "program=$!",
        '[ -z "$warned" ] || seal # told before there was anybody to tell',
        "while :; do",
        '  wait "$program"; code=$?',
        "  # a signal ends the waiting, not the program",
        '  [ "$code" -gt 128 ] && kill -0 "$program" 2>/dev/null || break',
        "done",
        "",
        '# 75 is "run me again", of a limit of the program\'s own',
        'if [ "$code" -ne 0 ] && { [ -n "$warned" ] || [ "$code" -eq 75 ]; }; then',
        f'  if [ "${{SLURM_RESTART_COUNT:-0}}" -ge {MOST_REQUEUES} ]; then',
        f'    echo "requeued {MOST_REQUEUES} times without an end: ask for more --time" >&2',
        '    exit "$code"',
        "  fi",
        f'  scontrol requeue "{job}" && exit 0',
        '  echo "SLURM would not requeue; the state is sealed: latticediff slurm FOLDER --rerun" >&2',
        "fi",
        'exit "$code"',
        "",
    ]


def _chains(plan: Plan, folder: Path, resources: Resources, python: str) -> str:
    """The array of members."""
    last, suffix = len(plan.members) - 1, "" if plan.stage == "run" else ".h5"
    limit = "" if resources.at_once is None else f"%{resources.at_once}"
    own = [
        (f"--array=0-{last}{limit}", "one independent run each"),
        (f"--cpus-per-task={resources.cpus}", ""),
        *([(f"--mem={resources.mem}", "")] if resources.mem else []),
    ]
    lines = head("chains", "chains-%a.log", plan.directory, folder, resources, own)
    lines += [
        "#",
        f"# {len(plan.members)} independent runs of {folder / 'card.toml'}, a file each.",
        "# Members lost: latticediff slurm FOLDER --status; run those again alone: --rerun; all in one file: --merge.",
        "",
        "# Seeds of the members, as in plan.json: two members never draw the same random numbers.",
        "SEEDS=(",
        *(f"  {member.seed} # {member.out}" for member in plan.members),
        ")",
        "seed=${SEEDS[$SLURM_ARRAY_TASK_ID]}",
        f'out={shlex.quote(str(folder))}/$(printf "member-%04d{suffix}" "$SLURM_ARRAY_TASK_ID")',
    ]
    words = [python, "-m", "latticediff", *plan.command(folder, "SEED", "OUT")]
    program = " ".join(_shell_word(word) for word in words) + " &"
    return "\n".join(lines + body(resources, program, "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"))


def _shell_word(word: str) -> str:
    """A word of the command as the shell reads it; the two that differ from member to member are its variables."""
    return {"OUT": '"$out"', "run.seed=SEED": '"run.seed=$seed"'}.get(word) or shlex.quote(word)


def _merge(plan: Plan, folder: Path, resources: Resources, python: str) -> str:
    """One file of all members, once they are there."""
    lines = head("merge", "merge.log", plan.directory, folder, resources, [("--cpus-per-task=1", "")])
    lines += ["#", "# One file of all members: each is a replica, its chains consecutive."]
    program = shlex.join([python, "-m", "latticediff", "slurm", str(folder), "--merge"]) + " &"
    return "\n".join(lines + body(resources, program, "$SLURM_JOB_ID"))


def _train(plan: Plan, folder: Path, resources: Resources, python: str) -> str:
    """One training on the merged ensemble."""
    words = ["train", str(folder / "card.toml"), "--ensemble", str(folder / "ensemble.h5")]
    words += ["--out", str(folder / ("score" if plan.finetune else "model"))]
    return _on_all("train", f"One network trained by {plan.train} processes", words, plan, folder, resources, python)


def _finetune(plan: Plan, folder: Path, resources: Resources, python: str) -> str:
    """The network of `_train`, fine-tuned through its flow."""
    words = ["finetune", str(folder / "card.toml"), "--model", str(folder / "score")]
    words += ["--ensemble", str(folder / "ensemble.h5"), "--out", str(folder / "model")]
    told = f"The network of train.sbatch, fine-tuned by {plan.train} processes"
    return _on_all("finetune", told, words, plan, folder, resources, python)


def _on_all(
    name: str, told: str, command: list[str], plan: Plan, folder: Path, resources: Resources, python: str
) -> str:
    """A command by torchrun on one node."""
    own = [
        ("--nodes=1", ""),
        ("--ntasks=1", "torchrun starts the processes"),
        (f"--cpus-per-task={plan.train * resources.cpus}", ""),
        *([(f"--gpus-per-node={resources.gpus}", "")] if resources.gpus else []),
    ]
    lines = head(name, f"{name}.log", plan.directory, folder, resources, own)
    lines += [
        "#",
        f"# {told}, which share each batch: the loss of one process.",
        "# torchrun passes TERM on to all of them, and they stop together, with one checkpoint.",
    ]
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={plan.train}", "-m", "latticediff"]
    rest = body(resources, shlex.join([python, *launch, *command, "--resume", "-q"]) + " &", "$SLURM_JOB_ID")
    rest = [line.replace("${SLURM_CPUS_PER_TASK:-1}", str(resources.cpus)) for line in rest]
    return "\n".join(lines + rest)

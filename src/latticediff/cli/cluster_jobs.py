r"""The subcommand for clusters: many independent runs of one card as an array of SLURM jobs.

``\b`` in a docstring keeps the lines that follow as they are in ``--help``.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import AsJson, Overrides, complain, say, say_line

if TYPE_CHECKING:
    from ..config import Card
    from ..slurm import MemberState, Plan, Resources

__all__ = ["add_commands"]


class Stage(StrEnum):
    """What each member of the array does: a command of the same name."""

    generate = "generate"
    run = "run"
    sample = "sample"


def slurm(
    card: Annotated[Path, typer.Argument(metavar="CARD|DIR", help="Run-card to plan; later, the folder of the plan.")],
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Folder of the plan and its runs.")] = None,
    chains: Annotated[
        int, typer.Option("--chains", metavar="N", help="Independent members of the array; parts of a study.")
    ] = 8,
    stage: Annotated[Stage, typer.Option("--stage", help="What each member does.")] = Stage.generate,
    model: Annotated[str | None, typer.Option("--model", help="Of --stage sample.")] = None,
    route: Annotated[str | None, typer.Option("--route", metavar="ROUTE", help="Of --stage sample.")] = None,
    train: Annotated[
        int, typer.Option("--train", metavar="N", help="Then train on all members with N processes (torchrun).")
    ] = 0,
    overrides: Overrides = None,
    time: Annotated[str | None, typer.Option("--time", metavar="[D-]HH:MM:SS", help="Wall-time limit.")] = None,
    partition: Annotated[str | None, typer.Option("--partition", metavar="P")] = None,
    account: Annotated[str | None, typer.Option("--account", metavar="A")] = None,
    cpus: Annotated[int, typer.Option("--cpus", metavar="N", help="Cores of each member.")] = 1,
    mem: Annotated[str | None, typer.Option("--mem", metavar="SIZE", help="Of each member, e.g. 4G.")] = None,
    margin: Annotated[
        int, typer.Option("--margin", metavar="SECONDS", help="Before the limit, when the state is sealed.")
    ] = 120,
    at_once: Annotated[int | None, typer.Option("--at-once", metavar="N", help="Members that run at a time.")] = None,
    further: Annotated[
        list[str] | None, typer.Option("--sbatch", metavar="OPTION", help="e.g. --sbatch=--qos=long; repeatable.")
    ] = None,
    before: Annotated[
        list[str] | None, typer.Option("--before", metavar="LINE", help="Shell line, e.g. 'module load python'.")
    ] = None,
    submit: Annotated[bool, typer.Option("--submit", help="Hand the scripts, or --rerun, to SLURM.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Of DIR: what is finished, at work, lost.")] = False,
    rerun: Annotated[bool, typer.Option("--rerun", help="Of DIR: run lost members again, alone.")] = False,
    merge: Annotated[bool, typer.Option("--merge", help="Of DIR: one file of all members.")] = False,
    json_output: AsJson = False,
) -> None:
    """Write sbatch scripts for N independent runs of a card; nothing is submitted without --submit.

    Before the wall-time limit the state is sealed, and the job requeues itself and goes on with the same bits.
    Members have a file and random numbers of their own.

    \b
    latticediff slurm configs/demo.toml --out runs/many --chains 8 --time 04:00:00
    latticediff slurm runs/many --submit
    latticediff slurm runs/many --status
    latticediff slurm runs/many --rerun --submit
    latticediff slurm runs/many --merge
    latticediff slurm configs/study-full.toml --out study --chains 16 --time 02:00:00
    """
    from ..errors import UserError

    of_folder = [name for name, asked in (("--status", status), ("--rerun", rerun), ("--merge", merge)) if asked]
    if len(of_folder) > 1:
        raise UserError(f"got {' and '.join(of_folder)}; give one of them")
    if card.is_dir():
        from ..slurm import holds_study_scripts, submit_study

        if holds_study_scripts(card) and not of_folder and out is None:
            if not submit:
                raise UserError(f"{card} holds scripts of a study; --submit hands them to SLURM, `study` has --status")
            for name, number in submit_study(card).items():
                say_line(f"{name}: job {number}")
            return
        if out is not None:
            raise UserError(f"{card} is a folder; --out goes with a run-card")
        _of_folder(card, of_folder, submit, json_output)
        return
    if of_folder:
        raise UserError(f"{of_folder[0]} is of the folder of a plan; {card} is none")
    if out is None:
        raise UserError("expected --out DIR, a folder for the plan and its runs")
    from ..slurm import Resources, make_plan

    resources = Resources(
        time, partition, account, cpus, mem, 0, margin, at_once, tuple(further or ()), tuple(before or ())
    )
    if _is_study(card):
        _write_study(card, out, chains, resources, overrides or (), submit)
        return
    from ..config import load_card

    loaded = load_card(card, overrides or (), complain)
    plan = make_plan(
        loaded, chains, stage.value, directory=Path.cwd(), model=_absolute(model), route=route, train=train
    )
    _write(plan, loaded, out, resources, submit)


def _is_study(card: Path) -> bool:
    """Whether a card is one of a study."""
    from ..untrusted import parse_toml, read_text, status

    return status(card) is not None and "study" in parse_toml(read_text(card, "the card"), str(card))


def _write_study(
    card: Path, out: Path, parts: int, resources: Resources, overrides: Sequence[str], submit: bool
) -> None:
    """Write the scripts of a study, and submit them if asked to."""
    from ..slurm import submit_study, write_study_scripts
    from ..study.card import load_study
    from ..study.plan import plan_study

    asked = load_study(card, overrides)
    plan_study(asked, out)  # what it refuses, it refuses before anything is written
    for script in write_study_scripts(asked, out, parts, resources, Path.cwd()):
        say_line(f"{script}")
    if not submit:
        say_line(f"nothing is submitted; read them, then: latticediff slurm {shlex.quote(str(out))} --submit")
        return
    for name, number in submit_study(out).items():
        say_line(f"{name}: job {number}")


def _absolute(model: str | None) -> str | None:
    """The folder of a model, from wherever a job starts; names of shipped models stay."""
    return str(Path(model).absolute()) if model is not None and Path(model).is_dir() else model


def _write(plan: Plan, card: Card, out: Path, resources: Resources, submit: bool) -> None:
    """Write plan and scripts, and submit them if asked to."""
    from dataclasses import replace

    from ..slurm import script_texts, write_plan, write_scripts
    from ..stages.recipe import is_bare

    if plan.train and card.training.device != "cpu":
        resources = replace(resources, gpus=plan.train)
    script_texts(plan, out, resources)  # what it refuses, it refuses before anything is written
    write_plan(plan, card, out, bare=plan.stage == "run" and is_bare(card))
    for script in write_scripts(plan, out, resources):
        say_line(f"{script}")
    if submit:
        _of_folder(out, [], True, False)
    else:
        say_line(f"nothing is submitted; read them, then: latticediff slurm {shlex.quote(str(out))} --submit")


def _of_folder(folder: Path, asked: Sequence[str], submit: bool, json_output: bool) -> None:
    """What there is to do with the folder of a plan."""
    from ..slurm import join_members, member_states, queued, read_plan

    plan = read_plan(folder)
    if asked == ["--merge"]:
        for path, found in join_members(plan, folder).items():
            say_line(f"{path}: {len(found)} members")
            for replica in found:
                say_line(f"  {replica}")
        return
    queue = queued(folder)
    if queue is None:
        complain("SLURM cannot be asked here who is in the queue; members at work are counted as lost")
    states = member_states(plan, folder, queue)
    if asked != ["--rerun"] and not submit:
        _say_states(states, json_output)
        return
    _rerun(plan, folder, states, submit, beginning=not asked)


def _say_states(states: Sequence[MemberState], json_output: bool) -> None:
    """Print what became of the members."""
    if json_output:
        say(json.dumps([state.to_dict() for state in states], indent=1))
        return
    for state in states:
        what = "finished" if state.finished else "LOST" if state.is_lost else str(state.queue).lower()
        say_line(f"{state.member.out:16} {what:12} {state.done}")
    lost = sum(state.is_lost for state in states)
    finished = sum(state.finished for state in states)
    say_line(f"{finished} of {len(states)} finished, {lost} lost" + ("; run them again: --rerun --submit" * (lost > 0)))


def _rerun(plan: Plan, folder: Path, states: Sequence[MemberState], submit: bool, beginning: bool) -> None:
    """Submit, or say how to submit, the members that are neither finished nor in the queue."""
    from ..slurm import queue

    lost = [state.member.index for state in states if state.is_lost]
    if not lost and (beginning or any(not state.finished for state in states)):
        say_line("every member is finished or in the queue; nothing is submitted")
        return
    if not submit:
        for _, line in queue.sbatch_lines(plan, folder, queue.compact(lost)):
            say_line(shlex.join(line).replace("AFTER", "--dependency=afterok:JOB"))
        return
    jobs = queue.rerun(plan, folder, lost)
    for name in ("chains", "merge", "train", "finetune"):
        if numbers := getattr(jobs, name):
            say_line(f"{name}: job {numbers[-1]}" + (f", members {queue.compact(lost)}" if name == "chains" else ""))


def add_commands(app: typer.Typer) -> None:
    """Declare the subcommand of this module on a `typer.Typer`."""
    app.command()(slurm)

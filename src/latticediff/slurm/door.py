"""Members of a plan as tasks of a Python program, for submitit: ``executor.map_array(MemberTask.run, tasks)``.

submitit (an extra of this package) hands callables to SLURM, or to processes of this machine, and asks a callable that
is stopped early for one to go on with. A member goes on from its own files, so that is the same task again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from .plan import read_plan

if TYPE_CHECKING:
    from ..types import PathLikeStr
    from .plan import Member, Plan

__all__ = ["MemberTask"]


class MemberTask:
    """One member of a plan, to be called on a node; the result is the name of its file or folder.

    Parameters
    ----------
    folder : path-like
        Where the plan is; the same for all nodes.
    index : int
        Number of the member.

    Raises
    ------
    FileError, UserError
        There is no plan, or it has no such member.
    """

    def __init__(self, folder: PathLikeStr, index: int) -> None:
        self.folder, self.index = Path(folder).absolute(), index
        n_members = len(read_plan(self.folder).members)
        if not 0 <= index < n_members:
            raise UserError(f"member {index}; the plan in {folder} has members 0 to {n_members - 1}")

    @classmethod
    def of_plan(cls, folder: PathLikeStr) -> Sequence[MemberTask]:
        """One task for each member of the plan in a folder."""
        return [cls(folder, member.index) for member in read_plan(folder).members]

    def __call__(self) -> str:
        """Run the member, or what is left of it; a finished one is left as it is."""
        plan = read_plan(self.folder)
        return str(_run(plan, self.folder, plan.members[self.index]))

    def checkpoint(self) -> Any:
        """What submitit puts into the queue instead of a task that it stopped: the same one, which goes on."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def _run(plan: Plan, folder: Path, member: Member) -> Path:
    """Run a member in this process; the stages are imported here, so that planning needs no torch."""
    out, card = folder / member.out, plan.card(folder, member)
    if plan.stage == "generate":
        from ..stages.generate import generate

        generate(card, out, resume=True).close()
    elif plan.stage == "sample":
        from ..stages.sample import sample

        assert plan.model is not None and plan.route is not None  # as `make_plan` wants
        sample(card, plan.model, plan.route, out, resume=True).close()
    else:
        from ..stages.recipe import is_bare, recipe
        from ..stages.run import run

        run(recipe(card).card if is_bare(card) else card, out, resume=True)
    return out

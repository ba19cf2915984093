"""Many independent runs of one card under SLURM: what is to run, as scripts, in the queue, and joined again.

There is no scheduler here: `plan` says which members there are and what random numbers each of them draws, `scripts`
writes that down for ``sbatch``, `queue` hands it over when asked to, `status` tells from the files what is finished and
what was lost, `joining` makes one file of all. `door` is the same for Python programs that use submitit. `study`
is the same for the cells of a study.
"""

from .door import MemberTask
from .joining import Replica, join_members, replicas
from .plan import STAGES, Member, Plan, make_plan, read_plan, write_plan
from .queue import Jobs, queued, rerun, sbatch_lines, submit
from .scripts import Resources, script_texts, write_scripts
from .status import MemberState, member_states
from .study import holds_study_scripts, study_script_texts, submit_study, write_study_scripts

__all__ = [
    "STAGES",
    "Jobs",
    "Member",
    "MemberState",
    "MemberTask",
    "Plan",
    "Replica",
    "Resources",
    "holds_study_scripts",
    "join_members",
    "make_plan",
    "member_states",
    "queued",
    "read_plan",
    "replicas",
    "rerun",
    "sbatch_lines",
    "script_texts",
    "study_script_texts",
    "submit",
    "submit_study",
    "write_plan",
    "write_scripts",
    "write_study_scripts",
]

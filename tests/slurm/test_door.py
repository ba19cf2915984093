"""Members as tasks of submitit: the example of the documentation, and a task that is stopped."""

import re
from pathlib import Path

import pytest
from slurm_toys import SHORT, planned
from warm import python

from latticediff.ensemble import Ensemble
from latticediff.errors import UserError
from latticediff.slurm import MemberTask

DOCS = Path(__file__).parents[2] / "docs" / "slurm.md"


def test_a_plan_has_no_other_members(tmp_path):
    planned(tmp_path / "plan", 2)
    with pytest.raises(UserError, match="has members 0 to 1"):
        MemberTask(tmp_path / "plan", 2)


def test_the_printed_example_runs_as_printed(tmp_path):
    """submitit's executor for this machine, in place of a cluster."""
    pytest.importorskip("submitit")
    code = re.search(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)[1]
    (tmp_path / "card.toml").write_text(SHORT)
    (tmp_path / "example.py").write_text(code.replace("configs/demo.toml", "card.toml"))
    done = python("example.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with Ensemble(tmp_path / "runs" / "many" / "ensemble.h5") as joined:
        assert joined.n_chains == 4 * 4


def test_a_stopped_task_comes_again_as_itself(tmp_path):
    pytest.importorskip("submitit")
    planned(tmp_path / "plan", 1)
    task = MemberTask(tmp_path / "plan", 0)
    again = task.checkpoint().function
    assert again() == str(tmp_path / "plan" / "member-0000.h5") == again()  # and a finished one is left as it is

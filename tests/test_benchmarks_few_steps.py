"""The benchmark of few-step proposals still runs and draws its figure; no ESS and no time is asserted."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.mark.slow
def test_few_steps_prints_its_rows_and_draws_its_figure(tmp_path):
    run = subprocess.run(
        [sys.executable, FOLDER / "few_steps.py", "phi4-A-L8", "--json", "--evaluations", "4", "--n", "40"]
        + ["--forward", "50", "--figure", tmp_path / "few.png"],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [json.loads(line) for line in run.stdout.splitlines()]
    wanted = {"route", "variant", "evaluations", "ess_reverse", "ess_forward", "acceptance", "doubling_median"}
    assert all(wanted <= row.keys() for row in rows)
    assert {"rk4, uniform grid", "adams5, optimised grid", "dressed, optimised ladder"} <= {
        row["variant"] for row in rows
    }
    assert (tmp_path / "few.png").stat().st_size > 10_000

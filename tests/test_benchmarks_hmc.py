"""The benchmarks of the classical side still run; no time is asserted."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"


def test_throughput_prints_its_rows():
    run = subprocess.run(
        [sys.executable, FOLDER / "hmc_throughput.py", "--json", "--L", "8", "--seconds", "0.05"]
        + ["--samplers", "latticediff", "numpy"],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [json.loads(line) for line in run.stdout.splitlines()]
    assert [row["sampler"] for row in rows] == ["latticediff", "numpy"]
    wanted = {"sampler", "L", "threads", "ns_per_site_step_core", "gradients_per_second", "ess_abs_m_per_second"}
    assert all(wanted <= row.keys() for row in rows)


def test_exponent_of_a_power_law():
    exponent = runpy.run_path(str(FOLDER / "critical_slowing_down.py"))["exponent"]
    rows = [{"L": L, "tau_int": {"m": [0.1 * L**2.0, 0.01 * L]}} for L in (6, 8, 16, 32)]
    fit = exponent(rows, "m", fit_from=8)
    np.testing.assert_allclose(fit["z"], 2.0, rtol=1e-10)
    assert 0 < fit["error"] < 0.1 and fit["chi2_per_dof"] < 1e-10
    assert exponent(rows, "m", fit_from=16) is None


@pytest.mark.slow
def test_slowing_down_table_has_every_row_and_goes_on_where_it_ended(capsys, tmp_path):
    script = runpy.run_path(str(FOLDER / "critical_slowing_down.py"))
    script["timed"].__globals__.update(ROUNDS=1, ROUND_SECONDS=0.01, SCAN=40)
    short = ["--json", "--precision", "0.5", "--seconds", "1", "--chains", "8", "--fit-from", "6"]
    short += ["--out", str(tmp_path / "rows.jsonl")]
    script["main"]([*short, "--L", "6", "8"])
    before = (tmp_path / "rows.jsonl").read_text()
    capsys.readouterr()
    table = script["main"]([*short, "--L", "6", "8", "12"])
    found = {name: len(rows) for name, rows in table.items()}
    # a model of L = 8 is shipped
    assert found == {"hmc": 3, "hmc_unit": 3, "fourier_hmc": 3, "cluster": 3, "learned": 1}
    assert (tmp_path / "rows.jsonl").read_text().startswith(before)
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row.get("L") for row in printed} == {12, None}
    assert {row["of"] for row in printed if "of" in row} == {"tau_int", "gradients"}
    row = table["hmc"][0]
    assert row["kernel"]["tuning"]["search"]["confirmed"]
    tau, gradients = row["tau_int"]["abs_m"][0], row["gradients"]["abs_m"][0]
    np.testing.assert_allclose(gradients, 2 * tau * row["evaluations_per_update"])
    cluster = table["cluster"][0]
    least = min(cluster["scan"], key=lambda name: cluster["scan"][name]["processor_seconds"])
    assert cluster["mix"] == least and len(cluster["scan"]) == 12

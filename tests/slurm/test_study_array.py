"""A study as an array of jobs, without a SLURM; with one: test_real_slurm.py."""

import subprocess

import pytest
from slurm_toys import command
from warm import latticediff

from latticediff.errors import FileError, UserError
from latticediff.slurm import Resources, submit_study, write_study_scripts
from latticediff.study.card import parse_study

CARD = """
[study]
samplers = ["hmc_unit", "fast"]
reference = "hmc_unit"
missing = "train"
[action]
convention = "A"
m2 = -4.0
[[line]]
shape = [6, 6]
couplings = { lam = 6.0 }
"""


def test_scripts_are_shell_and_every_part_is_run(tmp_path):
    folder = tmp_path / "it's a study"
    resources = Resources("1-02:00:00", "long", "qcd", 4, "2G", 0, 300, 5, ("--qos=low",), ("module load python",))
    scripts = write_study_scripts(parse_study(CARD), folder, 7, resources, tmp_path, "python3")
    assert [script.name for script in scripts] == ["models.sbatch", "cells.sbatch", "page.sbatch"]
    for script in scripts:
        subprocess.run(["bash", "-n", script], check=True)
        text = script.read_text()
        for line in ("--time=1-02:00:00", "--account=qcd", "--signal=B:USR1@300", "--cpus-per-task=4", "--mem=2G"):
            assert f"#SBATCH {line}" in text
        assert "scontrol requeue" in text
    models, cells, page = (script.read_text() for script in scripts)
    assert "--array=1-7%5" in cells
    assert '--part "$SLURM_ARRAY_TASK_ID/7"' in cells
    assert "--models" in models
    assert "--part " not in page
    # nothing is trained: no job for it, and none of an earlier call left
    scripts = write_study_scripts(
        parse_study(CARD.replace("train", "skip")), tmp_path / "skips", 2, resources, tmp_path
    )
    assert [script.name for script in scripts] == ["cells.sbatch", "page.sbatch"]


def test_another_card_in_the_same_folder_is_refused(tmp_path):
    write_study_scripts(parse_study(CARD), tmp_path / "s", 2, Resources())
    with pytest.raises(FileError, match="another card"):
        write_study_scripts(parse_study(CARD, ["study.seed=2"]), tmp_path / "s", 2, Resources())
    with pytest.raises(UserError, match="0 parts; expected from 1"):
        write_study_scripts(parse_study(CARD), tmp_path / "t", 0, Resources())
    with pytest.raises(UserError, match="SLURM reads as its own"):
        write_study_scripts(parse_study(CARD), tmp_path / "100%", 1, Resources())
    assert not (tmp_path / "t").exists()


def test_without_slurm_nothing_is_submitted(tmp_path, monkeypatch):
    write_study_scripts(parse_study(CARD), tmp_path / "s", 2, Resources())
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="there is no sbatch here"):
        submit_study(tmp_path / "s")


def test_the_command_writes_scripts_that_know_the_folder_for_a_study(tmp_path):
    (tmp_path / "card.toml").write_text(CARD.replace('"hmc_unit", "fast"', '"hmc_unit"'))
    out = tmp_path / "study"
    said = command(tmp_path / "card.toml", "--out", out, "--chains", 3)
    assert "cells.sbatch" in said
    assert "nothing is submitted" in said
    done = command(out, check=False)
    assert done.returncode == 2
    assert "holds scripts of a study; --submit" in done.stderr
    told = latticediff("study", out / "study-card.toml", "--out", out, "--status").stdout
    assert "0 of 1 cells are done" in told


def test_scripts_replace_those_of_an_older_version_and_of_no_other_card(tmp_path):
    """Which had no key for what has a default today."""
    folder = tmp_path / "study"
    write_study_scripts(parse_study(CARD), folder, 2, Resources())
    card = folder / "study-card.toml"
    text = card.read_text()
    assert "fit_from = 8\n" in text
    card.write_text(text.replace("fit_from = 8\n", ""))
    write_study_scripts(parse_study(CARD), folder, 2, Resources())
    assert card.read_text() == text
    with pytest.raises(FileError, match="holds the study of another card"):
        write_study_scripts(parse_study(CARD, ["study.seed=2"]), folder, 2, Resources())

"""Plans, scripts and what is told of members, without a SLURM."""

import itertools
import json
import subprocess

import numpy as np
import pytest
from slurm_toys import SHORT, command, planned

from latticediff.config import parse_card
from latticediff.ensemble import Ensemble
from latticediff.errors import FileError, UserError
from latticediff.slurm import (
    MemberTask,
    Resources,
    join_members,
    make_plan,
    member_states,
    read_plan,
    replicas,
    write_plan,
    write_scripts,
)
from latticediff.slurm.plan import member_seed
from latticediff.slurm.queue import compact
from latticediff.streams import Streams

BRANCHES = [(), ("hmc",), ("warmup",), ("ode",)]


def test_no_two_members_share_a_stream():
    """Keys of every branch differ between members, between cards of neighbouring seeds, and from the card's own."""
    seeds = [2024, 2025] + [member_seed(seed, k) for seed in (2024, 2025) for k in range(500)]
    assert len(set(seeds)) == len(seeds)
    keys = {tuple(Streams(s, path).key("update").tolist()) for s, path in itertools.product(seeds, BRANCHES)}
    assert len(keys) == len(seeds) * len(BRANCHES)


def test_the_streams_of_members_are_not_correlated():
    draws = np.array([Streams(member_seed(0, k)).generator("x").standard_normal(10_000) for k in range(40)])
    correlation = np.corrcoef(draws)[np.triu_indices(40, 1)]
    assert abs(correlation).max() < 5 / 100  # 780 pairs, each with an error of 1/100


def test_a_longer_plan_begins_with_the_shorter_one():
    card = parse_card(SHORT)
    assert make_plan(card, 9).members[:4] == make_plan(card, 4).members
    assert make_plan(card, 2).members != make_plan(parse_card(SHORT, ["run.seed=12"]), 2).members


def test_a_plan_that_a_full_disk_ended_is_written_again(tmp_path):
    """Its card and the folder of logs are no other files; those of another plan, or anything else, are."""
    plan = planned(tmp_path / "plan")
    for path in [p for p in (tmp_path / "plan").iterdir() if p.name not in ("card.toml", "logs")]:
        path.unlink()
    for other in ("notes.txt", "logs/chains-0.log"):
        (tmp_path / "plan" / other).touch()
        with pytest.raises(FileError, match="holds other files"):
            write_plan(plan, parse_card(SHORT), tmp_path / "plan")
        (tmp_path / "plan" / other).unlink()
    other = parse_card(SHORT, ["run.seed=12"])
    with pytest.raises(FileError, match="holds other files"):
        write_plan(make_plan(other, 4, directory=tmp_path), other, tmp_path / "plan")
    write_plan(plan, parse_card(SHORT), tmp_path / "plan")
    assert read_plan(tmp_path / "plan") == plan


def test_a_plan_is_read_as_it_was_written(tmp_path):
    plan = planned(tmp_path / "plan")
    assert read_plan(tmp_path / "plan") == plan
    assert plan.card(tmp_path / "plan", plan.members[1]).run.seed == plan.members[1].seed
    longer = make_plan(parse_card(SHORT), 5, directory=tmp_path)
    write_plan(longer, parse_card(SHORT), tmp_path / "plan")
    assert read_plan(tmp_path / "plan") == longer
    for wrong in (plan, make_plan(parse_card(SHORT), 5, "run", directory=tmp_path)):
        with pytest.raises(FileError, match=r"ask for as many or more|plan of other runs"):
            write_plan(wrong, parse_card(SHORT), tmp_path / "plan")
    other = parse_card(SHORT, ["hmc.n_chains=5"])
    with pytest.raises(FileError, match="plan of other runs"):
        write_plan(longer, other, tmp_path / "plan")


def test_a_changed_plan_is_refused(tmp_path):
    planned(tmp_path / "plan")
    path = tmp_path / "plan" / "plan.json"
    document = json.loads(path.read_text())
    document["members"][0]["seed"] += 1
    path.write_text(json.dumps(document))
    with pytest.raises(FileError, match="its digest does not match"):
        read_plan(tmp_path / "plan")
    del document["sha256"]
    for wrong in ([], {**document, "train": "x"}, {**document, "stage": "train"}, {**document, "more": 1}):
        path.write_text(json.dumps(wrong))
        with pytest.raises(FileError, match="restore it"):
            read_plan(tmp_path / "plan")
    path.write_text(json.dumps({**document, "members": [{"index": 0, "seed": 1, "out": "../x"}]}))
    with pytest.raises(FileError, match="names a stage or files"):
        read_plan(tmp_path / "plan")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"time": "90"}, "--time is '90'; expected hours:minutes:seconds"),
        ({"partition": "a b"}, "--partition is 'a b'; expected one word"),
        ({"account": "x\n#SBATCH --uid=0"}, "--account is"),
        ({"further": ("qos=long",)}, "option of sbatch is 'qos=long'"),
        ({"before": ("a\nb",)}, "line of shell is"),
        ({"cpus": 0}, "--cpus is 0; expected at least 1"),
        ({"at_once": 0}, "--at-once is 0"),
    ],
)
def test_what_slurm_would_not_take_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        Resources(**options)


def test_numbers_that_no_plan_has():
    card = parse_card(SHORT)
    for n, options in ((0, {}), (10_001, {}), (2, {"stage": "tune"}), (2, {"stage": "sample"}), (2, {"train": -1})):
        with pytest.raises(UserError, match=r"expected|go with"):
            make_plan(card, n, **options)


@pytest.mark.parametrize("stage", ["generate", "run"])
def test_scripts_are_shell_and_name_every_member(tmp_path, stage):
    folder = tmp_path / "it's a plan"
    plan = planned(folder, 12, stage=stage, train=2)
    resources = Resources("1-02:00:00", "long", "qcd", 4, "2G", 2, 300, 5, ("--qos=low",), ("module load python",))
    scripts = write_scripts(plan, folder, resources, "python3")
    assert [script.name for script in scripts] == ["chains.sbatch", "merge.sbatch", "train.sbatch"]
    for script in scripts:
        subprocess.run(["bash", "-n", script], check=True)
        text = script.read_text()
        for line in ("--time=1-02:00:00", "--partition=long", "--account=qcd", "--signal=B:USR1@300", "--qos=low"):
            assert f"#SBATCH {line}" in text
    text = scripts[0].read_text()
    assert "--array=0-11%5" in text and "--cpus-per-task=4" in text and "--mem=2G" in text
    assert all(f"  {member.seed} # {member.out}\n" in text for member in plan.members)
    assert "--nproc-per-node=2" in scripts[2].read_text() and "--gpus-per-node=2" in scripts[2].read_text()


def test_a_card_that_fine_tunes_has_a_job_for_it(tmp_path):
    text = f"{SHORT}[finetune]\nsteps = 5\n"
    plan = planned(tmp_path / "plan", 2, text, train=2)
    scripts = {path.name: path.read_text() for path in write_scripts(plan, tmp_path / "plan", Resources(), "python3")}
    assert list(scripts) == ["chains.sbatch", "merge.sbatch", "train.sbatch", "finetune.sbatch"]
    assert f"--out {tmp_path}/plan/score" in scripts["train.sbatch"]
    tune = scripts["finetune.sbatch"]
    assert f"--model {tmp_path}/plan/score" in tune and f"--out {tmp_path}/plan/model" in tune
    assert "--nproc-per-node=2" in tune
    subprocess.run(["bash", "-n", tmp_path / "plan" / "finetune.sbatch"], check=True)
    assert read_plan(tmp_path / "plan").finetune
    assert not make_plan(parse_card(text), 2).finetune  # nothing is trained


def test_a_path_that_slurm_would_read_otherwise(tmp_path):
    plan = planned(tmp_path / "100%")
    with pytest.raises(UserError, match="a character that SLURM reads as its own"):
        write_scripts(plan, tmp_path / "100%", Resources())


def test_members_are_found_lost_run_again_and_joined(tmp_path):
    folder = tmp_path / "plan"
    plan = planned(folder, 3)
    tasks = MemberTask.of_plan(folder)
    for task in (tasks[0], tasks[2]):
        task()
    found = member_states(plan, folder, {1: "PENDING"})
    assert [(s.finished, s.is_lost) for s in found] == [(True, False), (False, False), (True, False)]
    assert [s.is_lost for s in member_states(plan, folder)] == [False, True, False]
    with pytest.raises(FileError, match=r"1 of 3 members in .* member 1 the first \(not begun\)"):
        join_members(plan, folder)
    tasks[1]()
    ((path, joined),) = join_members(plan, folder).items()
    assert path == folder / "ensemble.h5" and join_members(plan, folder) == {path: joined}  # and it stays
    assert [(r.index, r.seed, r.chains) for r in joined] == [
        (m.index, m.seed, (4 * m.index, 4 * m.index + 4)) for m in plan.members
    ]
    with Ensemble(path) as whole, Ensemble(folder / "member-0002.h5") as member:
        assert replicas(whole) == joined
        last = whole.phis(0, whole.n_cfg).reshape(-1, 12, 8, 8)[:, 8:]
        assert np.array_equal(last.reshape(-1, 8, 8), member.phis(0, member.n_cfg))


def test_a_file_of_another_seed_is_not_joined(tmp_path):
    folder = tmp_path / "plan"
    plan = planned(folder, 2)
    first, second = MemberTask.of_plan(folder)
    first()
    second()
    (folder / "member-0001.h5").write_bytes((folder / "member-0000.h5").read_bytes())
    with pytest.raises(FileError, match="holds 1 runs of seeds"):
        join_members(plan, folder)


def test_the_command_plans_and_submits_nothing(tmp_path):
    (tmp_path / "card.toml").write_text(SHORT)
    told = command("card.toml", "--out", "plan", "--chains", 4, "--time", "01:00:00", cwd=tmp_path)
    assert "nothing is submitted" in told
    assert not (tmp_path / "plan" / "jobs.json").exists()
    rows = json.loads(command("plan", "--status", "--json", cwd=tmp_path))
    assert [row["lost"] for row in rows] == [True] * 4
    assert "sbatch --parsable --array=0-3 " in command("plan", "--rerun", cwd=tmp_path)
    for line, message in (
        (["card.toml"], "expected --out DIR"),
        (["card.toml", "--status"], "--status is of the folder of a plan"),
        (["plan", "--rerun", "--merge"], "give one of them"),
        (["plan", "--out", "x"], "--out goes with a run-card"),
        ([".", "--status"], "holds no plan.json"),
    ):
        done = command(*line, cwd=tmp_path, check=False)
        assert done.returncode == 2 and message in done.stderr


def test_numbers_as_sbatch_takes_them():
    assert compact([5, 0, 2, 1]) == "0-2,5" and compact([]) == ""


def test_members_that_sample(tmp_path):
    folder = tmp_path / "plan"
    plan = planned(folder, 2, stage="sample", model="phi4-A-L8-fast", route="ode")
    for task in MemberTask.of_plan(folder):
        task()
    ((path, found),) = join_members(plan, folder).items()
    assert path.name == "chain_ode.h5" and [r.seed for r in found] == [m.seed for m in plan.members]
    text = write_scripts(plan, folder, Resources())[0].read_text()
    assert " --model phi4-A-L8-fast --route ode " in text


@pytest.mark.slow
def test_members_that_run_everything(tmp_path):
    """The files that all members have are joined by name."""
    folder = tmp_path / "plan"
    text = SHORT.replace("[sampling]", '[sampling]\nmax_doubling = "any"')
    plan = planned(folder, 2, text, stage="run")
    assert [s.done for s in member_states(plan, folder)] == ["not begun"] * 2
    for task in MemberTask.of_plan(folder):
        task()
    assert all(state.finished for state in member_states(plan, folder))
    names = {path.name: [r.seed for r in found] for path, found in join_members(plan, folder).items()}
    seeds = [member.seed for member in plan.members]
    assert names == {f"{name}.h5": seeds for name in ("ensemble", "chain_hmc", "chain_ode", "chain_sde")}

"""The ensemble tools on the command line, and generate's ways of going on."""

import h5py
import numpy as np
import pytest
import tomli_w
from ensemble_toys import N_CHAINS, SHAPE, free_fields, make
from typer.testing import CliRunner

from latticediff.action import Phi4
from latticediff.cli.app import app
from latticediff.config import parse_card
from latticediff.ensemble import Ensemble, content_digest, save_ensemble, verify
from latticediff.errors import CardError, FileError, UserError

CARD = {
    "run": {"seed": 3},
    "action": {"convention": "A", "m2": -4.0, "lam": 6.975},
    "lattice": {"shape": [4, 4]},
    "hmc": {"n_chains": 8, "n_warmup": 50, "n_updates": 60, "thin": 5},
    "gate": {"enforce": False},
}
TOOLS = ("repair", "merge", "thin", "cut", "split", "convert", "export", "migrate")


def cli(*arguments):
    """Standard output of a command in this process; what it raises is raised here (`main` makes it one line)."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return make(tmp_path_factory.mktemp("cli") / "whole.h5").path  # 60 updates, every fifth stored


@pytest.fixture
def card(tmp_path):
    path = tmp_path / "card.toml"
    path.write_text(tomli_w.dumps(CARD))
    return path


def generate(card, out, *arguments):
    return cli("generate", card, "--out", out, "--quiet", *arguments)


@pytest.mark.parametrize("tool", TOOLS)
def test_every_tool_has_help_with_an_example(tool):
    assert f"latticediff {tool} " in cli(tool, "--help")
    assert tool in cli("--help")


def test_merge_of_split_is_the_whole(tmp_path, whole):
    text = cli("split", whole, "--pieces", 3, "--out", tmp_path / "part.h5")
    assert text.count("cannot be extended") == 2 and text.count("can be extended") == 1
    cli("merge", *(tmp_path / f"part-{i}.h5" for i in (2, 0, 1)), "--out", tmp_path / "joined.h5")
    assert content_digest(tmp_path / "joined.h5") == content_digest(whole)


def test_chains_are_split_and_merged(tmp_path, whole):
    cli("split", whole, "--pieces", N_CHAINS, "--along", "chains", "--out", tmp_path / "chain.h5")
    cli(
        "merge", *(tmp_path / f"chain-{i}.h5" for i in range(N_CHAINS)), "--along", "chains", "--out", tmp_path / "b.h5"
    )
    with Ensemble(whole) as a, Ensemble(tmp_path / "b.h5") as b:
        assert np.array_equal(a.phis(), b.phis())


def test_thin_and_cut_keep_what_they_say(tmp_path, whole):
    assert "thin 10" in cli("thin", whole, "--every", 2, "--out", tmp_path / "thin.h5")
    assert "updates 20 < u <= 40" in cli("cut", whole, "--start", 20, "--stop", 40, "--out", tmp_path / "cut.h5")
    with Ensemble(whole) as e, Ensemble(tmp_path / "cut.h5") as kept:
        update = e.read("update")
        assert np.array_equal(kept.phis(), e.phis()[(update > 20) & (update <= 40)])
        assert verify(kept.path).ok


def test_repair_saves_what_is_whole(tmp_path, whole):
    torn = tmp_path / "torn.h5"
    torn.write_bytes(whole.read_bytes())
    with h5py.File(torn, "r+") as file:
        file["configurations/phi"][4 * N_CHAINS, 1, 2] += 0.1
    assert f"{4 * N_CHAINS} configurations kept" in cli("repair", torn, "--out", tmp_path / "saved.h5")
    assert verify(tmp_path / "saved.h5").ok


def test_tools_never_overwrite_and_refuse_damage(tmp_path, whole):
    with pytest.raises(FileError, match="exists"):
        cli("thin", whole, "--every", 2, "--out", whole)
    damaged = tmp_path / "damaged.h5"
    damaged.write_bytes(whole.read_bytes())
    with h5py.File(damaged, "r+") as file:
        file["configurations/phi"][7, 1, 2] += 1e-3
    with pytest.raises(FileError, match="damaged"):
        cli("cut", damaged, "--start", 20, "--out", tmp_path / "cut.h5")
    assert not (tmp_path / "cut.h5").exists()
    with pytest.raises(FileError, match="nothing to do"):
        cli("migrate", whole, "--out", tmp_path / "new.h5")


def test_migrate_brings_a_draft_up(tmp_path, whole):
    old = tmp_path / "old.h5"
    old.write_bytes(whole.read_bytes())
    with h5py.File(old, "r+") as file:
        file.attrs["schema_version"] = 0
        file.move("configurations/series", "configurations/chain")
        del file["ensemble"].attrs["first_update"]
    cli("migrate", old, "--out", tmp_path / "new.h5")
    assert content_digest(tmp_path / "new.h5") == content_digest(whole)


def test_fields_go_out_and_come_back(tmp_path, card):
    whole, theory = tmp_path / "whole.h5", ("--set", "action.m2=0.5", "--set", "action.lam=0.0")
    action, lattice = Phi4.A(0.5, 0.0), ("--set", f"lattice.shape={list(SHAPE)}")
    save_ensemble(whole, free_fields(action, 120), action=action, n_chains=N_CHAINS, thin=5)
    for name in ("a.npy", "a.npz"):
        cli("export", whole, "--out", tmp_path / name)
        text = cli("convert", tmp_path / name, "--card", card, *lattice, *theory, "--out", tmp_path / f"{name}.h5",
                   "--n-chains", N_CHAINS, "--thin", 5)  # fmt: skip
        assert "<phi dS/dphi>/V = " in text and ("action is reproduced" in text) == (name == "a.npz")
        with Ensemble(whole) as there, Ensemble(tmp_path / f"{name}.h5") as back:
            assert np.array_equal(back.phis(), there.phis()) and back.thin == 5
    with Ensemble(whole) as e:
        e.phis().astype(">f4").tofile(tmp_path / "a.bin")
    cli(
        "convert",
        tmp_path / "a.bin",
        "--dtype",
        ">f4",
        "--card",
        card,
        *lattice,
        "--no-check",
        "--out",
        tmp_path / "r.h5",
    )
    with Ensemble(tmp_path / "r.h5") as raw, Ensemble(whole) as there:
        assert np.array_equal(raw.phis(), there.phis().astype("f4"))


def test_convert_refuses_another_lattice_and_another_theory(tmp_path, whole, card):
    cli("export", whole, "--out", tmp_path / "a.npz")
    with pytest.raises(FileError, match=r"expected \(n_cfg, 4, 4\)"):
        cli("convert", tmp_path / "a.npz", "--card", card, "--out", tmp_path / "o.h5")
    with pytest.raises(FileError, match="stored action is not that of"):
        cli("convert", tmp_path / "a.npz", "--card", card, "--set", "lattice.shape=[4, 6]", "--out", tmp_path / "o.h5")
    with pytest.raises(UserError, match=r"suffix '.txt'"):
        cli("export", whole, "--out", tmp_path / "a.txt")
    assert not (tmp_path / "o.h5").exists()


def test_convert_takes_an_axis_a_pattern_and_says_what_is_odd(tmp_path, card):
    action, theory = Phi4.A(0.5, 0.0), ("--set", "action.m2=0.5", "--set", "action.lam=0.0")
    lattice = ("--set", f"lattice.shape={list(SHAPE)}")
    phis = free_fields(action, 100)
    with h5py.File(tmp_path / "a.jld2", "w") as file:
        file["phi"] = phis.transpose(0, 2, 1)
        file.update({f"cfg_{i}": phi.T for i, phi in enumerate(phis)})
    for name, options in (("o.h5", ("--dataset", "phi", "--axis", "last")), ("p.h5", ("--dataset", "cfg_*"))):
        cli("convert", tmp_path / "a.jld2", *options, "--card", card, *lattice, *theory, "--out", tmp_path / name)
        with Ensemble(tmp_path / name) as back:
            assert np.array_equal(back.phis(), phis)
    np.save(tmp_path / "twice.npy", np.repeat(phis.reshape(50, 2, *SHAPE), 3, axis=0).reshape(-1, *SHAPE))
    arguments = ("convert", tmp_path / "twice.npy", "--card", card, *lattice, *theory, "--out", tmp_path / "q.h5")
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert "note: the autocorrelation is" in done.stderr and "--n-chains 2" in done.stderr


def test_pyerrors_reads_what_is_exported(tmp_path, whole):
    pytest.importorskip("pyerrors")
    from pyerrors.input.json import load_json_dict

    cli("export", whole, "--out", tmp_path / "a.json.gz")
    found = load_json_dict(str(tmp_path / "a.json.gz"), verbose=False)
    with Ensemble(whole) as e:
        assert found["action"].value == pytest.approx(e.read("action").mean(), rel=1e-12)
    assert {"m", "abs_m", "phi2"} <= set(found)
    assert found["m"].names == [f"whole|r{chain:03d}" for chain in range(N_CHAINS)]


def test_arviz_gets_every_primary_observable(tmp_path, whole):
    assert str(tmp_path / "a.nc") in cli("export", whole, "--out", tmp_path / "a.nc").replace("\n", "")
    with h5py.File(tmp_path / "a.nc") as file, Ensemble(whole) as ensemble:
        assert {"m", "abs_m", "phi2", "action"} <= set(file["posterior"])
        assert np.array_equal(file["posterior/action"][:], ensemble.series_array("action"))


def test_until_and_more_have_the_bits_of_one_run(tmp_path, card):
    generate(card, tmp_path / "whole.h5", "--until", 100)
    generate(card, tmp_path / "parts.h5")
    generate(card, tmp_path / "parts.h5", "--more", 20)
    assert Ensemble(tmp_path / "parts.h5").n_updates == 80
    generate(card, tmp_path / "parts.h5", "--until", 100)
    generate(card, tmp_path / "parts.h5", "--until", 90)  # has them already
    assert content_digest(tmp_path / "parts.h5") == content_digest(tmp_path / "whole.h5")


def test_lengths_that_make_no_sense_are_refused(tmp_path, card):
    with pytest.raises(FileError, match="does not exist"):
        generate(card, tmp_path / "a.h5", "--more", 10)
    with pytest.raises(UserError, match="give one of them"):
        generate(card, tmp_path / "a.h5", "--more", 10, "--until", 20)
    with pytest.raises(UserError, match="expected at least 1"):
        generate(card, tmp_path / "a.h5", "--until", 0)
    (tmp_path / "b.h5.run").mkdir()
    with pytest.raises(FileError, match="unfinished run"):
        generate(card, tmp_path / "b.h5", "--more", 10)


def test_a_run_starts_from_the_last_fields_of_a_file(tmp_path, card):
    """With a trajectory so short that nothing moves, the first fields are those of the file; it is a parent."""
    fields = np.random.default_rng(5).normal(scale=0.4, size=(20, 4, 4))
    save_ensemble(tmp_path / "first.h5", fields, action=parse_card(tomli_w.dumps(CARD)).theory())
    short = ("--set", "hmc.trajectory_length=1e-9", "--set", "hmc.n_updates=1", "--set", "hmc.thin=1")
    generate(card, tmp_path / "next.h5", "--start", tmp_path / "first.h5", *short)
    with Ensemble(tmp_path / "next.h5") as e, Ensemble(tmp_path / "first.h5") as first:
        assert np.allclose(e.phis(), fields[-8:], atol=1e-6)
        assert list(e.provenance.parents) == [first.parent()]
    with pytest.raises(CardError, match="expected hot, cold, a number, or the path"):
        generate(card, tmp_path / "x.h5", "--start", "warm")
    with pytest.raises(CardError, match=r"hmc\.start = '0\.9': is text; write the number without quotes, start = 0\.9"):
        generate(card, tmp_path / "x.h5", "--set", 'hmc.start="0.9"')
    generate(card, tmp_path / "at.h5", "--start", "-0.25", *short)
    with Ensemble(tmp_path / "at.h5") as e:
        assert np.allclose(e.phis(), -0.25, atol=1e-6)
    with pytest.raises(FileError, match="is of action"):
        generate(card, tmp_path / "x.h5", "--start", tmp_path / "first.h5", "--set", "action.lam=5.0")


@pytest.mark.parametrize("keys", [("hmc.mass=0.4",), ("hmc.cluster=1",), ("hmc.mass=0.4", "hmc.cluster=2")])
def test_other_kernels_are_made_from_the_card_and_from_the_file(tmp_path, card, keys):
    options = [word for key in keys for word in ("--set", key)]
    generate(card, tmp_path / "whole.h5", *options, "--until", 40)
    generate(card, tmp_path / "parts.h5", *options, "--until", 20)
    generate(card, tmp_path / "parts.h5", *options, "--until", 40)  # the kernel is the one that the file describes
    assert content_digest(tmp_path / "parts.h5") == content_digest(tmp_path / "whole.h5")
    with Ensemble(tmp_path / "whole.h5") as e:
        text = str(e.algorithm)
        assert ("'p_hat_squared_plus': 0.4" in text) == ("hmc.mass=0.4" in keys)
        assert ("swendsen-wang" in text) == any("cluster" in key for key in keys)
    assert "acceptance" in cli("info", tmp_path / "whole.h5")
    with pytest.raises(FileError, match=r"hmc\.(mass|cluster)"):
        generate(card, tmp_path / "whole.h5", "--until", 60)  # another card: plain HMC


def test_measure_says_how_much_more_a_short_chain_needs(tmp_path, card):
    generate(card, tmp_path / "short.h5", "--set", "hmc.n_updates=15")
    done = CliRunner().invoke(app, ["measure", str(tmp_path / "short.h5"), "--json"])
    assert "note: m: 24 entries" in done.stderr and "an entry is 5 updates" in done.stderr
    assert done.stdout.startswith("{") and "note" not in done.stdout

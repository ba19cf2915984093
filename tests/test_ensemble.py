"""Ensemble files: what is written is what is read, resumed runs have the bits of uninterrupted ones."""

import itertools
import json
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest
from ensemble_toys import ACTION, N_CHAINS, SHAPE, ToyChain, make, start

from latticediff.action import LocalAction, Phi4
from latticediff.ensemble import (
    Ensemble,
    RunWriter,
    content_digest,
    run_chain,
    run_directory,
    save_ensemble,
    start_fields,
    verify,
)
from latticediff.ensemble.files import _Disk
from latticediff.errors import FileError, StopRequested, UserError
from latticediff.markov import chain
from latticediff.streams import Streams


def stop_after(n):
    calls = iter(range(n))
    return lambda: None if next(calls, None) is not None else "enough"


def test_file_holds_what_the_kernel_gave(tmp_path):
    ensemble = make(tmp_path / "a.h5")
    first, streams = start()
    steps = list(itertools.islice(chain(ToyChain(), first, streams, block=20, thin=5), 3))
    blocks, state = [block for _, block in steps], steps[-1][0]
    phi = np.concatenate([block.phi for block in blocks])
    assert np.array_equal(ensemble.phis(), phi.reshape(-1, *SHAPE))
    assert np.array_equal(ensemble.by_chain(ensemble.phis()), phi.swapaxes(0, 1))
    assert np.array_equal(ensemble.series_array("action"), np.concatenate([b.action for b in blocks]).T)
    assert np.array_equal(ensemble.history("accepted"), np.concatenate([b.info["accepted"] for b in blocks]))
    assert np.array_equal(ensemble.history("delta_h", 7, 33), np.concatenate([b.info["delta_h"] for b in blocks])[7:33])
    assert ensemble.history("accepted").dtype == bool
    assert ensemble.history("seconds").shape == (60,)
    assert np.array_equal(ensemble.read("update"), np.repeat(np.arange(5, 61, 5), N_CHAINS))
    assert np.array_equal(ensemble.read("series"), np.tile(np.arange(N_CHAINS), 12))
    assert np.array_equal(ensemble.state().phi, state.phi)
    assert ensemble.streams().state() == streams.state()
    assert ensemble.action == ACTION
    assert np.array_equal(np.concatenate(list(ensemble.batches(5))), ensemble.phis())
    assert not run_directory(tmp_path / "a.h5").exists()


def test_block_length_does_not_change_a_bit(tmp_path):
    digests = {make(tmp_path / f"{block}.h5", block=block).fingerprint() for block in (1, 7, 60)}
    assert len(digests) == 1


def test_resume_equals_one_run(tmp_path):
    whole = content_digest(make(tmp_path / "whole.h5", n_updates=83).path)
    path = tmp_path / "cut.h5"
    for n in (2, 1, 3):
        with pytest.raises(StopRequested, match=r"of 83 updates of .*cut.h5 are saved; run .* --resume"):
            make(path, n_updates=83, resume=True, stop=stop_after(n))
        assert verify(path).ok  # the unfinished run is readable
    make(path, n_updates=None, start=None, resume=True)
    assert content_digest(path) == whole == Ensemble(path).fingerprint()
    assert verify(path).ok


def test_the_digest_sees_a_draw_that_was_not_restored(tmp_path):
    """Companion: if the checkpoint saved the streams of the beginning, digests would differ."""
    whole = make(tmp_path / "whole.h5").fingerprint()
    path = tmp_path / "a.h5"
    with RunWriter.open(path, action=ACTION, kernel=ToyChain(), start=start, n_updates=60, thin=5) as writer:
        state, block = ToyChain().advance(writer.state, writer.streams, 30, 5)
        writer.append(block, state, Streams(3), 0.0)
    assert make(path, resume=True).fingerprint() != whole


def test_an_interrupted_draw_leaves_no_trace(tmp_path):
    class Interrupted(ToyChain):
        def advance(self, state, rng, n_updates, thin=1):
            moved = super().advance(state, rng, n_updates, thin)
            if state.update >= 28:
                raise KeyboardInterrupt  # draws are consumed, their block never arrives
            return moved

    whole = make(tmp_path / "whole.h5").fingerprint()
    with pytest.raises(KeyboardInterrupt):
        run_chain(Interrupted(), start, tmp_path / "a.h5", 60, thin=5, block=7)
    assert Ensemble(tmp_path / "a.h5").n_updates == 28
    assert make(tmp_path / "a.h5", resume=True).fingerprint() == whole


def test_extension_equals_one_run(tmp_path):
    whole = make(tmp_path / "whole.h5", n_updates=83)
    first = make(tmp_path / "a.h5", n_updates=37)
    parent = first.parent()
    with pytest.raises(StopRequested):
        make(tmp_path / "a.h5", n_updates=83, start=None, resume=True, stop=stop_after(3))
    assert Ensemble(tmp_path / "a.h5").n_updates == 37  # the old file stays until the new one is whole
    assert Ensemble(run_directory(tmp_path / "a.h5")).n_updates == 65
    longer = make(tmp_path / "a.h5", n_updates=None, start=None, resume=True)
    assert longer.fingerprint() == whole.fingerprint()
    assert parent in longer.provenance.parents
    again = make(tmp_path / "a.h5", n_updates=83, start=None, resume=True)
    assert again.fingerprint() == whole.fingerprint() and again.run_id() == longer.run_id()


def test_torn_newest_checkpoint_falls_back_to_the_older(tmp_path):
    whole = make(tmp_path / "whole.h5").fingerprint()
    path = tmp_path / "a.h5"
    with pytest.raises(StopRequested):
        make(path, stop=stop_after(4), checkpoint_seconds=0)
    run = run_directory(path)
    generations = {}
    for file in run.glob("checkpoint-?.h5"):
        with h5py.File(file) as opened:
            generations[json.loads(opened["meta"][()].decode())["generation"]] = file
    newest = generations[max(generations)]
    data = bytearray(newest.read_bytes())
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    newest.write_bytes(data)
    assert Ensemble(path).n_updates == 28
    assert make(path, resume=True).fingerprint() == whole


def test_torn_newest_segment_is_computed_again(tmp_path):
    whole = make(tmp_path / "whole.h5").fingerprint()
    path = tmp_path / "a.h5"
    with pytest.raises(StopRequested):
        make(path, stop=stop_after(4), checkpoint_seconds=0)
    last = sorted(run_directory(path).glob("[0-9]*.h5"))[-1]
    with h5py.File(last, "r+") as file:
        file["configurations/phi"][0, 0, 0] += 1e-9
    assert make(path, resume=True).fingerprint() == whole


def test_damage_that_no_checkpoint_covers_is_refused(tmp_path):
    path = tmp_path / "a.h5"
    with pytest.raises(StopRequested):
        make(path, stop=stop_after(4), checkpoint_seconds=0)
    with h5py.File(run_directory(path) / "000000.h5", "r+") as file:
        file["configurations/phi"][0, 0, 0] += 1e-9
    with pytest.raises(FileError, match="match no checkpoint; `repair`"):
        make(path, resume=True)


def test_nothing_is_overwritten(tmp_path):
    path = tmp_path / "a.h5"
    make(path)
    before = path.read_bytes()
    with pytest.raises(FileError, match="already exists"):
        make(path)
    with pytest.raises(FileError, match="already exists"):
        save_ensemble(path, np.zeros((2, 4, 6)), action=ACTION)
    assert path.read_bytes() == before
    with pytest.raises(StopRequested):
        make(tmp_path / "b.h5", stop=stop_after(1))
    with pytest.raises(FileError, match="unfinished run; resume it, or remove"):
        make(tmp_path / "b.h5")


def test_two_writers_are_one_too_many(tmp_path):
    options = {"action": ACTION, "kernel": ToyChain(), "start": start, "n_updates": 60}
    with RunWriter.open(tmp_path / "a.h5", **options), pytest.raises(FileError, match="another process"):
        RunWriter.open(tmp_path / "a.h5", **options, resume=True)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"kernel": ToyChain(width=0.3)}, "algorithm"),
        ({"kernel": ToyChain(Phi4.A(-4.0, 5.0)), "action": Phi4.A(-4.0, 5.0)}, "action"),
        ({"thin": 4}, "thin"),
        ({"start": start(n_chains=2)}, "n_chains"),
        ({"start": start(shape=(4, 4))}, "shape"),
    ],
)
def test_another_run_is_not_resumed(tmp_path, change, word):
    path = tmp_path / "a.h5"
    options = {"action": ACTION, "kernel": ToyChain(), "start": start, "n_updates": 60, "thin": 5, "resume": True}
    with RunWriter.open(path, **options):
        pass
    with pytest.raises(FileError, match=f"has {word} "):
        RunWriter.open(path, **{**options, **change})
    assert make(path, resume=True).n_updates == 60


def test_expect_names_what_differs(tmp_path):
    ensemble = make(tmp_path / "a.h5")
    assert ensemble.expect(ACTION, SHAPE) is ensemble
    with pytest.raises(FileError, match=r"lattice \(4, 6\); expected \(6, 4\)"):
        ensemble.expect(shape=(6, 4))
    with pytest.raises(FileError, match="is of action"):
        ensemble.expect(Phi4.A(-4.0, 6.0))
    with pytest.raises(FileError, match="is of action"):
        Ensemble(tmp_path / "a.h5", Phi4.A(-4.0, 6.0))
    with pytest.raises(FileError, match="no history of log_weight; it has accepted, delta_h, seconds"):
        ensemble.history("log_weight")


def test_bad_files_are_one_clear_line(tmp_path):
    path = tmp_path / "a.h5"
    make(path)
    with pytest.raises(FileError, match="does not exist"):
        Ensemble(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("configurations")
    with pytest.raises(FileError, match="not an HDF5 file"):
        Ensemble(tmp_path / "text.h5")
    (tmp_path / "short.h5").write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(FileError, match="is truncated; `repair`"):
        Ensemble(tmp_path / "short.h5")
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["phi"] = np.zeros((3, 4, 6))
    with pytest.raises(FileError, match="no ensemble of ours; `convert`"):
        Ensemble(tmp_path / "foreign.h5")
    with h5py.File(path, "r+") as file:
        file.attrs["schema_version"] = 7
    with pytest.raises(FileError, match="schema version 7; this program reads version 2"):
        Ensemble(path)
    with pytest.raises(FileError, match=r"directory .* does not exist"):
        save_ensemble(tmp_path / "no" / "a.h5", np.zeros((2, 4, 6)), action=ACTION)
    with pytest.raises(FileError, match=r"directory .* does not exist"):
        make(tmp_path / "no" / "a.h5")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("configurations/phi", "stored action differs"),
        ("configurations/action", "stored action differs"),
        ("configurations/update", "checksum"),
        ("history/delta_h", "checksum"),
        ("state/phi", "final state"),
    ],
)
def test_verify_finds_a_changed_number(tmp_path, name, problem):
    path = tmp_path / "a.h5"
    make(path)
    assert verify(path).ok
    digest = content_digest(path)
    with h5py.File(path, "r+") as file:
        flat = file[name][()]
        flat.flat[5] += 1
        file[name][()] = flat
    report = verify(path)
    assert not report.ok
    assert any(problem in line for line in report.problems)
    assert content_digest(path) != digest


def test_one_flipped_bit_fails_the_checksum(tmp_path):
    """The action cannot see the last bit of one site; the checksum does."""
    path = tmp_path / "a.h5"
    make(path)
    with h5py.File(path, "r+") as file:
        value = file["configurations/phi"][3, 2, 1]
        file["configurations/phi"][3, 2, 1] = np.nextafter(value, 9)
    assert verify(path).problems == [
        "/configurations/phi: rows 0 to 35 are not what was written",
        "configurations/phi: checksum does not match the data",
    ]


def test_seconds_and_dates_do_not_enter_the_digest(tmp_path):
    path = tmp_path / "a.h5"
    digest = make(path).fingerprint()
    with h5py.File(path, "r+") as file:
        file["history/seconds"][()] = 7.0
        file["provenance"].attrs["created"] = "2001-01-01"
    assert content_digest(path) == digest
    assert verify(path).problems == [
        "/provenance is not what was written",
        "/history/seconds: rows 0 to 59 are not what was written",
    ]


def test_non_finite_values_are_refused_at_the_door(tmp_path):
    phis = np.zeros((4, *SHAPE))
    phis[2, 1, 1] = np.nan
    with pytest.raises(UserError, match="configurations 0 to 3 hold a value that is not finite"):
        save_ensemble(tmp_path / "a.h5", phis, action=ACTION)
    assert os.listdir(tmp_path) == []
    with RunWriter.open(tmp_path / "b.h5", action=ACTION, kernel=ToyChain(), start=start, n_updates=60) as writer:
        state, block = ToyChain().advance(writer.state, writer.streams, 4)
        block.action[1, 0] = np.nan
        with pytest.raises(UserError, match="not finite"):
            writer.append(block, state, writer.streams, 0.0)


def test_blocks_must_fit_the_run(tmp_path):
    with RunWriter.open(tmp_path / "b.h5", action=ACTION, kernel=ToyChain(), start=start, n_updates=60) as writer:
        state, block = ToyChain().advance(writer.state, writer.streams, 4)
        with pytest.raises(UserError, match="phi of shape"):
            writer.append(block._replace(phi=block.phi[1:]), state, writer.streams, 0.0)
        with pytest.raises(UserError, match="history of accepted"):
            writer.append(block._replace(info={"accepted": np.ones(4, bool)}), state, writer.streams, 0.0)
    with pytest.raises(UserError, match="n_updates = 0"):
        make(tmp_path / "c.h5", n_updates=0)


def test_user_arrays_round_trip(tmp_path):
    phis = np.random.default_rng(5).normal(size=(6, *SHAPE))
    save_ensemble(
        tmp_path / "a.h5", phis, action=ACTION, n_chains=2, thin=3, history={"accepted": np.ones((9, 2), bool)}
    )
    ensemble = Ensemble(tmp_path / "a.h5")
    assert np.array_equal(ensemble.phis(), phis)
    assert np.array_equal(ensemble.read("action"), ACTION(phis))
    assert ensemble.read("update").tolist() == [3, 3, 6, 6, 9, 9]
    assert ensemble.state() is None and verify(tmp_path / "a.h5").ok
    with pytest.raises(FileError, match="cannot be extended"):
        RunWriter.open(tmp_path / "a.h5", action=ACTION, kernel=_External(), n_updates=20, thin=3, resume=True)
    with pytest.raises(UserError, match="multiple of n_chains"):
        save_ensemble(tmp_path / "b.h5", phis, action=ACTION, n_chains=4)
    with pytest.raises(UserError, match=r"expected \(n_cfg, \*lattice\)"):
        save_ensemble(tmp_path / "b.h5", phis[0], action=ACTION)


class _External:
    def describe(self):
        return {"name": "external"}


class Sextic(LocalAction):
    def potential(self, phi):
        return phi**6

    def potential_derivative(self, phi):
        return 6 * phi**5

    def describe(self):
        return {"name": "sextic of nobody", "ndim": self.ndim}


def test_own_actions_are_passed_or_registered(tmp_path):
    action = Sextic(0.5, 2)
    save_ensemble(tmp_path / "a.h5", np.ones((2, *SHAPE)), action=action)
    assert verify(tmp_path / "a.h5", action).ok
    with pytest.raises(UserError, match="sextic of nobody"):
        _ = Ensemble(tmp_path / "a.h5").action


def test_starts(tmp_path):
    hot = start_fields("hot", 5, (4, 6), Streams(1))
    assert hot.shape == (5, 4, 6) and np.array_equal(hot, start_fields("hot", 5, (4, 6), Streams(1)))
    gaussian = Phi4.H(kappa=0.1, lam=0.0)  # V = phi^2: variance 1/2
    narrow = start_fields("hot", 5, (4, 6), Streams(1), gaussian)
    np.testing.assert_allclose(narrow, hot / np.sqrt(2), rtol=1e-6)
    cold = start_fields("cold", 3, (4, 6), Streams(1))
    assert cold[:, 0, 0].tolist() == [1, -1, 1]
    ensemble = make(tmp_path / "a.h5")
    assert np.array_equal(start_fields(tmp_path / "a.h5", 3, SHAPE, Streams(1), ACTION), ensemble.phis(33))
    with pytest.raises(FileError, match="36 configurations; 40 chains"):
        start_fields(tmp_path / "a.h5", 40, SHAPE, Streams(1))
    with pytest.raises(FileError, match="expected"):
        start_fields(tmp_path / "a.h5", 3, (6, 6), Streams(1))
    with pytest.raises(UserError, match="n_chains"):
        start_fields("hot", 0, SHAPE, Streams(1))


FULL_DISK = """
import resource, sys
from ensemble_toys import make
from latticediff.errors import FileError
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    make(sys.argv[1], n_updates=400, thin=1, block=50, resume=True, checkpoint_seconds=float(sys.argv[3]))
except FileError as exc:
    print(exc)
    sys.exit(2)
"""


@pytest.mark.parametrize(("limit", "every"), [(20_000, 0), (100_000, 0), (100_000, 60)])
def test_full_disk_is_a_clear_error_and_loses_nothing_saved(tmp_path, limit, every):
    """A file-size limit fails a write in the middle, as a full disk does: in a segment, or in the final file."""
    path = tmp_path / "a.h5"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path])}
    command = [sys.executable, "-c", FULL_DISK, str(path), str(limit), str(every)]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "cannot write" in done.stdout and "file too large" in done.stdout
    assert len(done.stdout.splitlines()) == 1 and done.stderr == ""
    assert not path.exists() and not list(tmp_path.rglob("*.part"))
    options = {"n_updates": 400, "thin": 1, "block": 50}
    assert make(path, **options, resume=True).fingerprint() == make(tmp_path / "whole.h5", **options).fingerprint()


def test_the_file_under_hdf5_is_cut_where_it_stands(tmp_path):
    with open(tmp_path / "a", "wb+", 0) as file:
        file.write(b"abc")
        disk = _Disk(file)
        disk.seek(1)
        assert disk.truncate() == 1 and disk.truncate(2) == 2
    assert (tmp_path / "a").read_bytes() == b"a\0"


def test_one_chain_that_never_accepts_is_noticed_beside_others_that_move(tmp_path):
    class OneStands(ToyChain):
        def advance(self, state, rng, n_updates, thin=1):
            after, block = super().advance(state, rng, n_updates, thin)
            block.info["accepted"][:, 1] = False
            return after, block

    with pytest.raises(UserError, match=r"all of the last 1[0-9]{3} trajectories of chain 1 were rejected") as error:
        run_chain(OneStands(), start, tmp_path / "a.h5", 3000, thin=50, block=100)
    assert "\n" not in str(error.value) and "1000 updates of" in str(error.value)
    with Ensemble(tmp_path / "a.h5") as saved:
        assert saved.n_updates == 1000
    assert make(tmp_path / "sound.h5", n_updates=1200, thin=50, block=100).n_updates == 1200

"""Cut, thin, split, merge, repair, migrate: new files whose content is known exactly."""

import json

import h5py
import numpy as np
import pytest
from ensemble_toys import ACTION, N_CHAINS, SHAPE, make, start

from latticediff.ensemble import (
    Ensemble,
    cut,
    merge,
    migrate,
    repair,
    run_directory,
    save_ensemble,
    split,
    thin,
    verify,
)
from latticediff.errors import FileError, StopRequested, UserError


@pytest.fixture
def whole(tmp_path):
    make(tmp_path / "a.h5", n_updates=62)
    return tmp_path / "a.h5"


def test_merging_what_split_gave_restores_the_digest(tmp_path, whole):
    pieces = split(whole, tmp_path / "piece.h5", 5)
    assert [p.name for p in pieces] == [f"piece-{i}.h5" for i in range(5)]
    assert all(verify(piece).ok for piece in pieces)
    joined = merge(pieces[::-1], tmp_path / "joined.h5")
    assert joined.fingerprint() == Ensemble(whole).fingerprint() and verify(joined.path).ok
    assert len(joined.provenance.parents) == 5
    longer = make(joined.path, n_updates=80, resume=True)
    assert longer.fingerprint() == make(tmp_path / "long.h5", n_updates=80).fingerprint()


def test_chains_split_and_merged_are_the_same_chains(tmp_path, whole):
    pieces = split(whole, tmp_path / "chain.h5", 2, along="chains")
    assert [Ensemble(piece).n_chains for piece in pieces] == [2, 1]
    joined, old = merge(pieces, tmp_path / "joined.h5", along="chains"), Ensemble(whole)
    for name in ("phi", "action", "update", "series"):
        assert np.array_equal(joined.read(name), old.read(name))
    assert np.array_equal(joined.history("delta_h"), old.history("delta_h"))
    assert joined.state() is None and verify(joined.path).ok


def test_replicas_merge_side_by_side(tmp_path, whole):
    make(tmp_path / "b.h5", n_updates=62, start=lambda: start(seed=9))
    joined = merge([whole, tmp_path / "b.h5"], tmp_path / "both.h5")
    first, second = Ensemble(whole), Ensemble(tmp_path / "b.h5")
    assert joined.n_chains == 2 * N_CHAINS
    assert np.array_equal(joined.series_array(), np.concatenate([first.series_array(), second.series_array()]))
    assert np.array_equal(joined.history("accepted")[:, 3:], second.history("accepted"))
    assert np.array_equal(joined.phis().reshape(-1, 6, *SHAPE)[:, 3:].reshape(-1, *SHAPE), second.phis())
    assert verify(joined.path).ok


def test_merge_refuses_what_does_not_belong_together(tmp_path, whole):
    make(tmp_path / "copy.h5", n_updates=62)
    with pytest.raises(FileError, match=r"same configurations as .*a\.h5; was the seed the same"):
        merge([whole, tmp_path / "copy.h5"], tmp_path / "o.h5")
    make(tmp_path / "short.h5", n_updates=30, start=lambda: start(seed=9))
    with pytest.raises(FileError, match="`cut` them first"):
        merge([whole, tmp_path / "short.h5"], tmp_path / "o.h5")
    with pytest.raises(FileError, match=r"do not join along updates \(a.h5: 0 < u <= 62, short.h5: 0 < u <= 30\)"):
        merge([whole, tmp_path / "short.h5"], tmp_path / "o.h5", along="updates")
    make(tmp_path / "thin.h5", n_updates=62, thin=2)
    with pytest.raises(FileError, match="has thin 2"):
        merge([whole, tmp_path / "thin.h5"], tmp_path / "o.h5")
    with pytest.raises(UserError, match="two or more"):
        merge([whole], tmp_path / "o.h5")
    with pytest.raises(FileError, match="already exists"):
        cut(whole, tmp_path / "short.h5")
    assert not (tmp_path / "o.h5").exists()


def test_cut_keeps_the_stretch_between(tmp_path, whole):
    old, short = Ensemble(whole), cut(whole, tmp_path / "c.h5", 12, 41)
    assert short.read("update").tolist() == np.repeat([15, 20, 25, 30, 35, 40], N_CHAINS).tolist()
    assert np.array_equal(short.phis(), old.phis(2 * N_CHAINS, 8 * N_CHAINS))
    assert np.array_equal(short.history("accepted"), old.history("accepted", 12, 41))
    assert (short.first_update, short.last_update, short.state()) == (12, 41, None)
    assert verify(short.path).ok
    with pytest.raises(UserError, match="leaves no configuration"):
        cut(whole, tmp_path / "d.h5", 61)


def test_a_cut_thermalisation_can_still_be_extended(tmp_path, whole):
    short = cut(whole, tmp_path / "c.h5", 20)
    longer = make(short.path, n_updates=60, resume=True, start=None)
    expected = make(tmp_path / "long.h5", n_updates=80)
    assert np.array_equal(longer.phis(), expected.phis(4 * N_CHAINS))


def test_thin_keeps_multiples_and_the_whole_history(tmp_path, whole):
    old, new = Ensemble(whole), thin(whole, tmp_path / "t.h5", 3)
    assert new.series_array("update")[0].tolist() == [15, 30, 45, 60]
    assert np.array_equal(new.by_chain(new.phis()), old.by_chain(old.phis())[:, 2::3])
    assert np.array_equal(new.history("delta_h"), old.history("delta_h"))
    assert verify(new.path).ok
    longer = make(new.path, n_updates=80, thin=15, resume=True, start=None)
    assert longer.fingerprint() == make(tmp_path / "long.h5", n_updates=80, thin=15).fingerprint()
    for every in (0, 100, 10**30):
        with pytest.raises(UserError, match="expected 1 to 12"):
            thin(whole, tmp_path / "u.h5", every)


@pytest.mark.parametrize("lost", [10, 1000, 3000])
def test_repair_keeps_what_a_truncated_file_still_holds(tmp_path, whole, lost):
    old, torn = Ensemble(whole), tmp_path / "torn.h5"
    data = whole.read_bytes()
    torn.write_bytes(data[:-lost])
    row = 8 * np.prod(SHAPE) * N_CHAINS
    rows = 12 - int(np.ceil(lost / row))
    report = repair(torn, tmp_path / "r.h5")
    assert (report.kept, report.lost) == (rows * N_CHAINS, (12 - rows) * N_CHAINS)
    saved = Ensemble(tmp_path / "r.h5")
    assert np.array_equal(saved.phis(), old.phis(0, report.kept)) and verify(saved.path).ok
    assert saved.n_updates == 5 * rows and np.array_equal(saved.history("delta_h"), old.history("delta_h", 0, 5 * rows))
    assert torn.read_bytes() == data[:-lost] and not list(tmp_path.glob("*.part"))


def test_repair_stops_at_the_first_damaged_field(tmp_path, whole):
    with h5py.File(whole, "r+") as file:
        file["configurations/phi"][20] = 0.5
    report = repair(whole, tmp_path / "r.h5")
    assert report.kept == 18 and "does not match" in report.reason
    assert verify(tmp_path / "r.h5").ok


def test_repair_says_when_nothing_is_left(tmp_path, whole):
    torn = tmp_path / "torn.h5"
    torn.write_bytes(whole.read_bytes()[:4000])
    with pytest.raises(FileError):
        repair(torn, tmp_path / "r.h5")
    torn.write_bytes(b"nothing of ours")
    with pytest.raises(FileError, match="beginning is damaged"):
        repair(torn, tmp_path / "r.h5")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.h5", "torn.h5"]


def test_repair_saves_a_run_that_cannot_be_resumed(tmp_path):
    path, calls = tmp_path / "a.h5", iter(range(4))
    with pytest.raises(StopRequested):
        make(path, checkpoint_seconds=0, stop=lambda: None if next(calls, None) is not None else "enough")
    run = run_directory(path)
    for file in run.glob("checkpoint-*"):
        file.write_bytes(b"torn")
    with pytest.raises(FileError, match="no whole checkpoint; `repair`"):
        make(path, resume=True)
    with h5py.File(run / "000003.h5", "r+") as file:
        file["configurations/phi"][0] = 0.5
    report = repair(run, tmp_path / "r.h5")
    saved, reference = Ensemble(tmp_path / "r.h5"), make(tmp_path / "whole.h5")
    assert report.kept == saved.n_cfg == 4 * N_CHAINS and saved.n_updates == 21
    assert np.array_equal(saved.phis(), reference.phis(0, saved.n_cfg)) and verify(saved.path).ok


def test_version_0_is_migrated(tmp_path, whole):
    old = tmp_path / "old.h5"
    old.write_bytes(whole.read_bytes())
    with h5py.File(old, "r+") as file:  # what the drafts before the first release wrote
        file.attrs["schema_version"] = 0
        file.move("configurations/series", "configurations/chain")
        del file["ensemble"].attrs["first_update"], file["checksums"], file["seal"]
        for data in file["history"].values():
            del data.attrs["is_bool"]
    with pytest.raises(FileError, match="schema version 0; bring it to version 2 with `migrate`"):
        Ensemble(old)
    new = migrate(old, tmp_path / "new.h5")
    assert new.fingerprint() == Ensemble(whole).fingerprint() and verify(new.path).ok
    assert make(new.path, n_updates=70, resume=True).n_updates == 70
    with pytest.raises(FileError, match="version 2 already"):
        migrate(whole, tmp_path / "other.h5")
    with h5py.File(old, "r+") as file:
        file.attrs["schema_version"] = 9
    with pytest.raises(FileError, match="schema version 9"):
        migrate(old, tmp_path / "other.h5")
    assert not list(tmp_path.glob("*.part"))


def test_damage_is_not_passed_on_under_fresh_checksums(tmp_path, whole):
    make(tmp_path / "b.h5", n_updates=62, start=lambda: start(seed=9))
    with h5py.File(whole, "r+") as file:
        file["configurations/phi"][3, 2, 1] = np.nextafter(file["configurations/phi"][3, 2, 1], 9)
    for attempt in (
        lambda: cut(whole, tmp_path / "o.h5", 20),
        lambda: thin(whole, tmp_path / "o.h5", 2),
        lambda: split(whole, tmp_path / "o.h5", 2),
        lambda: merge([tmp_path / "b.h5", whole], tmp_path / "o.h5"),
        lambda: make(whole, n_updates=80, resume=True),
    ):
        with pytest.raises(FileError, match=r"a\.h5 is damaged"):
            attempt()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.h5", "b.h5"]


def test_files_without_history_are_edited_too(tmp_path, whole):
    phis = np.random.default_rng(5).normal(size=(12, *SHAPE))
    save_ensemble(tmp_path / "u.h5", phis, action=ACTION, n_chains=2)
    pieces = split(tmp_path / "u.h5", tmp_path / "v.h5", 3)
    joined = merge(pieces, tmp_path / "w.h5")
    assert joined.fingerprint() == Ensemble(tmp_path / "u.h5").fingerprint()
    assert np.array_equal(
        thin(tmp_path / "u.h5", tmp_path / "x.h5", 2).phis(), phis.reshape(6, 2, *SHAPE)[1::2].reshape(6, *SHAPE)
    )


def test_provenance_names_the_parents_and_no_machine(tmp_path, whole):
    short = cut(whole, tmp_path / "c.h5", 12)
    assert short.provenance.parents == [{"file": "a.h5", "fingerprint": Ensemble(whole).fingerprint()}]
    with h5py.File(whole) as file:
        text = json.dumps({k: str(v) for k, v in file["provenance"].attrs.items()})
    assert str(tmp_path) not in text


def test_sources_are_closed_whether_merge_and_repair_succeed_or_not(tmp_path, whole, monkeypatch):
    pieces, closed, close = split(whole, tmp_path / "piece.h5", 3), [], Ensemble.close

    def noted(self):
        closed.append(self.path)
        close(self)

    monkeypatch.setattr(Ensemble, "close", noted)
    merge(pieces, tmp_path / "joined.h5")
    assert set(pieces) <= set(closed)
    closed.clear()
    with pytest.raises(FileError, match="do not join"):
        merge(pieces[::2], tmp_path / "gap.h5", along="updates")
    assert set(pieces[::2]) <= set(closed)
    closed.clear()
    with pytest.raises(FileError):
        merge([pieces[0], tmp_path / "missing.h5"], tmp_path / "none.h5")
    assert pieces[0] in closed
    calls = iter(range(3))
    with pytest.raises(StopRequested):
        stop = lambda: None if next(calls, None) is not None else "enough"  # noqa: E731
        make(tmp_path / "b.h5", checkpoint_seconds=0, stop=stop)
    run = run_directory(tmp_path / "b.h5")
    closed.clear()
    with pytest.raises(FileError, match="does not exist"):
        repair(run, tmp_path / "no folder" / "saved.h5")
    assert set(run.glob("[0-9]*.h5")) <= set(closed)

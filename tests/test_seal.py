"""The seal of an ensemble file: whatever decides a number is compared before it is believed, by every reader."""

import zlib

import h5py
import numpy as np
import pytest
from ensemble_toys import ACTION, N_CHAINS, make, start

from latticediff.action import Phi4
from latticediff.ensemble import (
    Ensemble,
    convert,
    cut,
    export_npy,
    export_npz,
    merge,
    migrate,
    repair,
    run_directory,
    save_ensemble,
    split,
    start_fields,
    thin,
    verify,
)
from latticediff.ensemble.seal import BlockSums, damaged_parts
from latticediff.ensemble.stored import Store, open_h5
from latticediff.ensemble.writer import write_ensemble
from latticediff.errors import FileError, StopRequested
from latticediff.streams import Streams


def version_1(path):
    """Make a file what version 0.1 wrote: the same without a seal."""
    with h5py.File(path, "r+") as file:
        del file["seal"]
        file.attrs["schema_version"] = 1
    return path


@pytest.fixture
def whole(tmp_path):
    make(tmp_path / "a.h5")
    return tmp_path / "a.h5"


def attribute(group, name, value):
    def change(file):
        file[group].attrs[name] = value

    return change


def last_bit(name, index=7):
    """Flip the last bit of one number of a data set: no action or tolerance can see that."""

    def change(file):
        rows = file[name][()]
        flat = rows.reshape(-1).view(np.uint8)
        flat[index * rows.itemsize] ^= 1
        file[name][()] = rows

    return change


def text(name, old, new):
    def change(file):
        content = file[name][()]
        del file[name]
        file[name] = content.replace(old, new)

    return change


def swap(first, second):
    def change(file):
        file.move(first, "held")
        file.move(second, first)
        file.move("held", second)

    return change


def not_a_number(file):
    file["state/phi"][1, 2, 3] = np.nan


#: what nothing looked at before there was a seal
UNSEEN = {
    "thin": attribute("ensemble", "thin", 20),
    "shape": attribute("ensemble", "shape", [6, 4]),
    "couplings": lambda file: file["ensemble"].attrs.__setitem__(
        "action", file["ensemble"].attrs["action"].replace("6.008", "6.009")
    ),
    "first_update": attribute("ensemble", "first_update", 5),
    "n_chains": attribute("ensemble", "n_chains", 6),
    "state/phi": last_bit("state/phi"),
    "state/action": last_bit("state/action", 1),
    "NaN in state/phi": not_a_number,
    "rng": text("rng", b'"update": 60', b'"update": 61'),
    "seed": text("rng", b"3", b"4"),
    "created": attribute("provenance", "created", "2001-01-01"),
    "parents": text("provenance/parents", b"[]", b'[{"file": "x", "fingerprint": "y"}]'),
    "is_bool": attribute("history/accepted", "is_bool", False),
}
#: what the checksums of version 1 would have shown, had a reader looked
ROWS = {
    "phi": last_bit("configurations/phi"),
    "update": last_bit("configurations/update"),
    "series": last_bit("configurations/series"),
    "action": last_bit("configurations/action"),
    "delta_h": last_bit("history/delta_h"),
    "accepted": last_bit("history/accepted"),
    "swapped": swap("configurations/action", "history/seconds"),
    "exchanged": swap("history/accepted", "history/delta_h"),
}


@pytest.mark.parametrize("change", UNSEEN.values(), ids=UNSEEN)
def test_what_decides_a_number_is_refused_when_the_file_is_opened(whole, change):
    with h5py.File(whole, "r+") as file:
        change(file)
    with pytest.raises(FileError, match=r"damaged|expected|no multiple"):
        Ensemble(whole)
    with pytest.raises(FileError):
        make(whole, n_updates=80, resume=True)


def readers(path, out):
    """Every function that takes an ensemble file and gives numbers of it, by name."""
    return {
        "fields": lambda: Ensemble(path).phis(),
        "batches": lambda: list(Ensemble(path).batches()),
        "take": lambda: Ensemble(path).take([0, 7, 35]),
        "start": lambda: start_fields(path, 36, (4, 6), Streams(1)),
        "thin": lambda: thin(path, out, 2),
        "cut": lambda: cut(path, out, 5),
        "split": lambda: split(path, out, 2),
        "npy": lambda: export_npy(path, out),
        "npz": lambda: export_npz(path, out),
        "extend": lambda: make(path, n_updates=80, resume=True),
    }


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize("reader", readers(None, None))
def test_every_reader_refuses_a_flipped_bit(whole, tmp_path, reader, sealed):
    whole = whole if sealed else version_1(whole)
    before = whole.read_bytes()
    with h5py.File(whole, "r+") as file:
        last_bit("configurations/phi")(file)
    damaged = whole.read_bytes()
    with pytest.raises(FileError, match="damaged"):
        readers(whole, tmp_path / "out.h5")[reader]()
    assert whole.read_bytes() == damaged != before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.h5"]


@pytest.mark.parametrize("change", ROWS.values(), ids=ROWS)
def test_every_data_set_is_compared_when_it_is_read(whole, tmp_path, change):
    with h5py.File(whole, "r+") as file:
        change(file)
    with pytest.raises(FileError, match=r"damaged|holds|expected"), Ensemble(whole) as ensemble:
        list(ensemble.pieces())


@pytest.mark.parametrize("change", ROWS.values(), ids=ROWS)
def test_files_of_version_1_are_compared_with_their_checksums(whole, change):
    with h5py.File(version_1(whole), "r+") as file:
        change(file)
    with pytest.raises(FileError, match=r"damaged|holds|expected"), Ensemble(whole) as ensemble:
        list(ensemble.pieces())


def test_the_state_of_version_1_must_fit_its_configurations(whole):
    version_1(whole)
    assert make(whole, n_updates=65, resume=True).n_updates == 65  # extended, and sealed
    for name, index, found in (("phi", 7, "last configuration"), ("action", 1, "damaged")):
        path = whole.with_name(f"{name}.h5")
        make(path)
        with h5py.File(version_1(path), "r+") as file:
            if name == "action":
                file["state/action"][index] += 1e-3
            else:
                last_bit("state/phi", index)(file)
        with pytest.raises(FileError, match=found):
            make(path, n_updates=80, resume=True)


def test_version_1_is_said_once_and_migrated(whole, tmp_path):
    fingerprint = Ensemble(whole).fingerprint()
    old = version_1(whole)
    report = verify(old)
    assert report.ok and report.notes and "migrate" in report.notes[0] and not Ensemble(old).is_sealed
    new = migrate(old, tmp_path / "new.h5")
    assert new.is_sealed and new.fingerprint() == fingerprint and verify(new.path).notes == ()
    assert make(new.path, n_updates=70, resume=True).fingerprint() == make(tmp_path / "b.h5", 70).fingerprint()


def test_migration_does_not_pass_damage_on(whole, tmp_path):
    with h5py.File(version_1(whole), "r+") as file:
        last_bit("configurations/phi")(file)
    with pytest.raises(FileError, match="damaged"):
        migrate(whole, tmp_path / "new.h5")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.h5"]


def test_a_file_without_its_seal_is_refused(whole):
    with h5py.File(whole, "r+") as file:
        del file["seal"]
    with pytest.raises(FileError, match="seal is missing"):
        Ensemble(whole)


def test_a_damaged_seal_is_no_excuse(whole):
    with h5py.File(whole, "r+") as file:
        file["seal/configurations/phi"][0] ^= 1
    with open_h5(whole) as file:
        assert damaged_parts(file) == ["blocks"]
    with pytest.raises(FileError, match="/seal"):
        Ensemble(whole)


def test_a_seal_says_nothing_of_layout_or_of_foreign_additions(whole, tmp_path):
    """`h5repack` may chunk and compress, and a user may add notes: no number changes."""
    copy = tmp_path / "copy.h5"
    with h5py.File(whole) as old, h5py.File(copy, "w") as new:
        for name in ("ensemble", "history", "provenance", "rng", "checksums", "seal", "state"):
            old.copy(name, new)
        new.attrs.update(old.attrs)
        new.attrs["notes"] = "kept on the blue disk"
        for name, data in old["configurations"].items():
            packed = {"chunks": (5, *data.shape[1:]), "compression": 4}
            new.create_dataset(f"configurations/{name}", data=data[()], **packed)
    ensemble = Ensemble(copy)
    assert np.array_equal(ensemble.phis(), Ensemble(whole).phis()) and verify(copy).ok
    assert np.array_equal(ensemble.take([3, 9]), ensemble.phis()[[3, 9]])


def test_only_what_is_read_is_compared(tmp_path):
    """Damage in the first block of a long file does not stand in the way of its last fields."""
    rng = np.random.default_rng(5)
    path, n = tmp_path / "long.h5", 1024
    save_ensemble(path, rng.standard_normal((n, 4, 6)), action=ACTION, n_chains=2)
    with h5py.File(path, "r+") as file:
        last_bit("configurations/phi")(file)
    with Ensemble(path) as ensemble:
        rows = 65536 // (8 * 24)
        assert ensemble.phis(rows).shape == (n - rows, 4, 6)
        assert len(ensemble.take([rows, n - 1])) == 2
        for damaged in (
            lambda: ensemble.phis(rows - 1),
            lambda: ensemble.phis(0, 1),
            lambda: ensemble.take([rows - 1]),
        ):
            with pytest.raises(FileError, match=f"rows 0 to {rows - 1} of /configurations/phi"):
                damaged()
    save_ensemble(tmp_path / "late.h5", rng.standard_normal((n, 4, 6)), action=ACTION, n_chains=2)
    with h5py.File(tmp_path / "late.h5", "r+") as file:
        last_bit("configurations/phi", 24 * 700)(file)
    report = repair(tmp_path / "late.h5", tmp_path / "saved.h5")
    assert report.kept == 2 * rows  # the last bit: no action shows which row of the third block it is


def test_block_sums_do_not_depend_on_how_rows_are_cut():
    rows = np.random.default_rng(3).standard_normal((3000, 7))
    reference = [zlib.crc32(rows[start : start + 1170].tobytes()) for start in range(0, 3000, 1170)]
    for cut_at in (1, 1169, 1170, 1171, 2999, 3000):
        sums = BlockSums(56)
        sums.update(rows[:cut_at])
        sums.update(rows[cut_at:])
        assert sums.rows == 1170 and sums.result().tolist() == reference


def test_a_run_is_refused_or_computed_again_when_its_parts_were_changed(tmp_path):
    def interrupted(path, **options):
        calls = iter(range(4))
        options |= {"checkpoint_seconds": 0, "stop": lambda: None if next(calls, None) is not None else "enough"}
        with pytest.raises(StopRequested):
            make(path, **options)
        return run_directory(path)

    reference = make(tmp_path / "whole.h5").fingerprint()
    run = interrupted(tmp_path / "a.h5")
    header = run / "run.json"
    sound = header.read_text()
    header.write_text(sound.replace('"thin": 5', '"thin": 6'))
    for read in (lambda: Ensemble(run), lambda: make(tmp_path / "a.h5", resume=True)):
        with pytest.raises(FileError, match="changed by hand"):
            read()
    header.write_text(sound)
    other = interrupted(tmp_path / "other.h5", start=lambda: start(seed=9))
    segments = [(run / f"00000{number}.h5") for number in (1, 2)]
    kept = [segment.read_bytes() for segment in segments]
    segments[0].write_bytes((other / "000001.h5").read_bytes())  # whole, with a sound seal, of another run
    with pytest.raises(FileError, match="another run"):
        Ensemble(run)
    for segment, content in zip(segments, reversed(kept), strict=True):
        segment.write_bytes(content)
    with pytest.raises(FileError, match="does not follow"):
        Ensemble(run)
    for segment, content in zip(segments, kept, strict=True):
        segment.write_bytes(content)
    assert Ensemble(run).n_cfg
    with h5py.File(run / "000004.h5", "r+") as file:  # the newest segment: the older checkpoint does without it
        file["ensemble"].attrs["thin"] = 6
    with pytest.raises(FileError, match="header"):
        Ensemble(run)
    assert make(tmp_path / "a.h5", resume=True).fingerprint() == reference
    run = interrupted(tmp_path / "b.h5")
    with h5py.File(run / "checkpoint-1.h5", "r+") as file:
        file["state/phi"][0, 0, 0] = np.nan
    assert make(tmp_path / "b.h5", resume=True).fingerprint() == reference


def test_the_file_that_a_run_extends_must_be_what_it_was(whole, tmp_path):
    calls = iter(range(2))
    with pytest.raises(StopRequested):
        stop = lambda: None if next(calls, None) is not None else "enough"  # noqa: E731
        make(whole, n_updates=100, resume=True, checkpoint_seconds=0, stop=stop)
    assert Ensemble(run_directory(whole)).n_updates > 60
    whole.write_bytes((make(tmp_path / "b.h5", start=lambda: start(seed=9)).path).read_bytes())
    for read in (lambda: Ensemble(run_directory(whole)), lambda: make(whole, n_updates=100, resume=True)):
        with pytest.raises(FileError, match="changed since"):
            read()


def test_repair_keeps_no_row_that_is_not_what_was_written(whole, tmp_path):
    with h5py.File(whole, "r+") as file:
        last_bit("history/delta_h")(file)
    report = repair(whole, tmp_path / "r.h5")
    assert report.kept == 12 * N_CHAINS and "delta_h" in report.reason
    assert "delta_h" not in Ensemble(tmp_path / "r.h5").history_names and verify(tmp_path / "r.h5").ok
    with h5py.File(whole, "r+") as file:
        last_bit("configurations/phi")(file)
    with pytest.raises(FileError, match="no whole configuration"):  # one block: nothing shows which row it is
        repair(whole, tmp_path / "s.h5")
    make(tmp_path / "c.h5")
    with h5py.File(tmp_path / "c.h5", "r+") as file:
        file["ensemble"].attrs["thin"] = 20
    with pytest.raises(FileError, match="what says how to read it is damaged"):
        repair(tmp_path / "c.h5", tmp_path / "t.h5")


def test_merge_compares_both(whole, tmp_path):
    make(tmp_path / "b.h5", start=lambda: start(seed=9))
    with h5py.File(tmp_path / "b.h5", "r+") as file:
        last_bit("configurations/phi")(file)
    with pytest.raises(FileError, match="damaged"):
        merge([whole, tmp_path / "b.h5"], tmp_path / "m.h5")


def test_convert_reads_the_fields_of_our_own_file_and_not_its_seal(tmp_path):
    phis = np.random.default_rng(2).standard_normal((6, 4, 6))
    save_ensemble(tmp_path / "a.h5", phis, action=ACTION)
    # noise is no ensemble of the theory
    convert(tmp_path / "a.h5", tmp_path / "b.h5", ACTION, lattice=(4, 6), check=False)
    assert np.array_equal(Ensemble(tmp_path / "b.h5").phis(), phis)
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        last_bit("configurations/phi")(file)
    with pytest.raises(FileError, match="damaged"):
        convert(tmp_path / "a.h5", tmp_path / "c.h5", ACTION, lattice=(4, 6), check=False)


def test_a_part_after_one_without_history_has_to_follow_the_last_that_has_one(tmp_path):
    calls = iter(range(4))
    with pytest.raises(StopRequested):
        stop = lambda: None if next(calls, None) is not None else "enough"  # noqa: E731
        make(tmp_path / "a.h5", checkpoint_seconds=0, stop=stop)
    run = run_directory(tmp_path / "a.h5")
    second = run / "000001.h5"
    with Ensemble(second) as part:
        header, provenance, run_id = part.header, part.provenance, part.run_id()
        configurations = [(fields, {}) for fields, _ in part.pieces() if fields]
        n_cfg = part.n_cfg
    columns = {"n_updates": 0, "columns": {}}
    write_ensemble(second, header, n_cfg=n_cfg, pieces=configurations, provenance=provenance, run_id=run_id, **columns)
    (run / "000003.h5").replace(run / "000002.h5")  # whole and of this run, but seven updates later
    with pytest.raises(FileError, match=r"000002.h5 does not follow"):
        Ensemble(run)


def test_a_file_that_is_refused_is_closed(tmp_path, monkeypatch):
    make(tmp_path / "a.h5")
    (tmp_path / "b.h5").write_bytes((tmp_path / "a.h5").read_bytes())
    with h5py.File(tmp_path / "b.h5", "r+") as file:
        file["ensemble"].attrs["thin"] = 7
    closed, close = [], Store.close

    def noted(self):
        closed.append(self.path)
        close(self)

    monkeypatch.setattr(Store, "close", noted)
    with pytest.raises(FileError, match="is of action"):
        Ensemble(tmp_path / "a.h5", Phi4.A(-4.0, 6.1))
    with pytest.raises(FileError, match="changed by hand"):
        Ensemble(tmp_path / "b.h5")
    assert closed == [tmp_path / "a.h5", tmp_path / "b.h5"]

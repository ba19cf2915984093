"""A merge counts every configuration once: by content, by seed, and by what was recorded of the parents."""

import json

import h5py
import numpy as np
import pytest
from ensemble_toys import ACTION, N_CHAINS, SHAPE, make, start

from latticediff.cli import main
from latticediff.ensemble import Ensemble, cut, merge, save_ensemble, split, thin, verify
from latticediff.ensemble.lineage import lineage
from latticediff.errors import FileError


def run(tmp_path, name, seed, n_updates=40, **options):
    n_chains = options.pop("n_chains", N_CHAINS)
    return make(tmp_path / name, n_updates=n_updates, start=lambda: start(seed, n_chains), **options).path


@pytest.fixture
def p(tmp_path):
    return run(tmp_path, "p.h5", 3)


@pytest.fixture
def q(tmp_path):
    return run(tmp_path, "q.h5", 9)


def nameless(path):
    """The configurations alone, as arrays of unknown origin: nothing is recorded of them."""
    out = path.with_name(f"nameless-{path.name}")
    with Ensemble(path) as source:
        options = {"n_chains": source.n_chains, "thin": source.thin, "first_update": source.first_update}
        save_ensemble(out, source.phis(), action=ACTION, **options)
    return out


def test_a_file_and_one_that_holds_it_already(tmp_path, p, q):
    both = merge([p, q], tmp_path / "both.h5").path
    with pytest.raises(FileError, match=r"share 3 chains of seed 3, updates 0 < u <= 40 in both"):
        merge([both, p], tmp_path / "o.h5")
    with pytest.raises(FileError, match=r"share 3 chains of seed 9"):
        merge([run(tmp_path, "r.h5", 4), q, both], tmp_path / "o.h5")
    distinct = len(np.unique(Ensemble(p).read("action")))  # rejected steps repeat some
    with pytest.raises(
        FileError, match=rf"holds {distinct} configurations that other files hold too, the first of them as"
    ) as e:
        merge([nameless(both), nameless(p)], tmp_path / "o.h5")
    assert str(e.value).count("of chain") == 2
    assert not (tmp_path / "o.h5").exists()
    with pytest.raises(SystemExit) as left:
        main(["merge", str(both), str(p), "--out", str(tmp_path / "o.h5")])
    assert left.value.code == 2 and not (tmp_path / "o.h5").exists()


def test_overlapping_cuts_are_not_independent_chains(tmp_path, p):
    cuts = [cut(p, tmp_path / f"c{a}.h5", a, a + 25).path for a in (0, 5, 15)]
    for along in (None, "chains"):
        with pytest.raises(FileError, match=r"share 3 chains of seed 3, updates 5 < u <= 25 in both"):
            merge(cuts, tmp_path / "o.h5", along)
    with pytest.raises(FileError, match="configurations that other files hold too"):
        merge([nameless(path) for path in cuts], tmp_path / "o.h5", "chains")
    # one after the other they are one run; beside one another they are no more chains than there were
    early, late = cut(p, tmp_path / "e.h5", 0, 20).path, cut(p, tmp_path / "l.h5", 20).path
    with pytest.raises(FileError, match=r"in different updates: not independent chains; `merge` them along updates"):
        merge([early, late], tmp_path / "o.h5", "chains")
    assert merge([late, early], tmp_path / "o.h5").fingerprint() == Ensemble(p).fingerprint()


def test_one_seed_with_more_chains_is_the_same_run(tmp_path, p):
    more = run(tmp_path, "more.h5", 3, n_chains=5)
    with pytest.raises(FileError, match=r"share 3 chains of seed 3.*run another seed"):
        merge([p, more], tmp_path / "o.h5")
    # the chains that only the longer file has draw other numbers of a counter-based stream
    rest = split(more, tmp_path / "piece.h5", 5, along="chains")[4]
    assert merge([p, rest], tmp_path / "o.h5").n_chains == 4


def test_branches_of_one_seed_are_independent(tmp_path, p):
    def branch():
        state, streams = start(3)
        return state, streams.child("other")

    other = make(tmp_path / "branch.h5", n_updates=40, start=branch).path
    # both begin with the fields of seed 3, and have left them before the first is stored, or do so later
    assert merge([p, other], tmp_path / "o.h5").n_chains == 2 * N_CHAINS


def test_a_history_of_two_seeds_is_none(tmp_path, p, q):
    early, late = cut(p, tmp_path / "e.h5", 0, 20).path, cut(q, tmp_path / "l.h5", 20).path
    with pytest.raises(FileError, match=r"does not go on with the chains of .*e\.h5: chains 0 to 2 of seed 9 after"):
        merge([early, late], tmp_path / "o.h5")
    parts = [split(path, tmp_path / f"{path.stem}-s.h5", 2)[i] for i, path in enumerate((p, q))]
    with pytest.raises(FileError, match="does not go on"):
        merge(parts, tmp_path / "o.h5", "updates")
    # other chains of the same run
    chains = split(late, tmp_path / "lc.h5", 3, along="chains")
    with pytest.raises(FileError, match=r"chains 1 to 1 of seed 9 after chains 0 to 0 of seed 9"):
        merge(
            [split(cut(q, tmp_path / "qe.h5", 0, 20).path, tmp_path / "qc.h5", 3, along="chains")[0], chains[1]],
            tmp_path / "o.h5",
        )


def test_lineage_survives_every_edit_and_is_sealed(tmp_path, p, q):
    both = merge([cut(p, tmp_path / "a.h5", 10).path, cut(q, tmp_path / "b.h5", 0, 30).path], tmp_path / "both.h5").path
    held = {(s.seed, s.chains, s.updates, s.at, s.shift) for s in lineage(Ensemble(both))}
    assert held == {(3, (0, 3), (10, 40), 0, 0), (9, (0, 3), (0, 30), 3, -10)}
    last = split(both, tmp_path / "s.h5", 2, along="chains")[1]
    late = cut(thin(last, tmp_path / "t.h5", 2).path, tmp_path / "late.h5", 20).path
    assert [(s.seed, s.chains, s.updates, s.at) for s in lineage(Ensemble(late))] == [(9, (0, 3), (10, 30), 0)]
    with pytest.raises(FileError, match="share 3 chains of seed 9, updates 10 < u <= 20"):
        merge(
            [cut(thin(q, tmp_path / "qt.h5", 2).path, tmp_path / "x.h5", 0, 20).path, late], tmp_path / "o.h5", "chains"
        )
    halves = split(both, tmp_path / "h.h5", 2)
    assert merge(halves[::-1], tmp_path / "again.h5").fingerprint() == Ensemble(both).fingerprint()
    assert lineage(Ensemble(tmp_path / "again.h5")) == lineage(Ensemble(both))
    assert verify(both).ok
    with h5py.File(both, "r+") as file:
        text = json.loads(file["provenance/lineage"][()])
        text[0]["seed"] = 4
        del file["provenance/lineage"]
        file["provenance/lineage"] = json.dumps(text)
    with pytest.raises(FileError, match="provenance"):
        merge([both, p], tmp_path / "o.h5")


def test_a_cut_that_is_extended_is_a_run_again(tmp_path, p):
    late = cut(p, tmp_path / "l.h5", 20).path
    longer = make(late, n_updates=40, resume=True, start=None)
    assert [(s.seed, s.updates) for s in lineage(longer)] == [(3, (20, 60))]


def test_repeats_of_rejected_steps_stay_possible(tmp_path):
    """A chain that stands still across a cut, or at the start that two runs share."""
    generator = np.random.default_rng(8)
    a, b = generator.normal(size=(2, 12, 1, *SHAPE))
    a[4:9] = a[4]  # rejections from the fifth to the ninth, and the cut lies between
    b[:3] = a[:1]  # both begin at one field; one leaves it later
    files = [tmp_path / f"{name}.h5" for name in "abcd"]
    for file, phis, first in zip(files, (a[:6], a[6:], b, a), (0, 6, 0, 0), strict=True):
        save_ensemble(file, phis.reshape(-1, *SHAPE), action=ACTION, first_update=first)
    assert np.array_equal(merge(files[:2], tmp_path / "joined.h5").phis(), a[:, 0])
    assert merge([files[3], files[2]], tmp_path / "beside.h5", "chains").n_chains == 2
    # the same repeats do not excuse a field that comes back elsewhere
    b[7] = a[10]
    save_ensemble(tmp_path / "e.h5", b.reshape(-1, *SHAPE), action=ACTION)
    with pytest.raises(FileError, match=r"holds 2 configurations|holds 1 configurations"):
        merge([files[3], tmp_path / "e.h5"], tmp_path / "o.h5", "chains")
    again = a[6:].copy()
    again[3] = a[1]
    save_ensemble(tmp_path / "f.h5", again.reshape(-1, *SHAPE), action=ACTION, first_update=6)
    with pytest.raises(FileError, match=r"update 10 of chain 0, in .*a\.h5 update 2 of chain 0"):
        merge([files[0], tmp_path / "f.h5"], tmp_path / "o.h5")

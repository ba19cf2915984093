"""Foreign configurations: read in every form, refused in the wrong convention."""

from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from ensemble_toys import ACTION, N_CHAINS, SHAPE, make

from latticediff.action import Phi4
from latticediff.ensemble import Ensemble, convert, export_npy, export_npz, save_ensemble, to_pyerrors, verify
from latticediff.ensemble.readers import Foreign
from latticediff.errors import FileError, UserError


@pytest.fixture(scope="module")
def free_fields():
    """Exact draws of the free field in convention N: 4000 independent configurations, no chain needed."""
    action = Phi4.N(0.5, 0.0)
    k = [2 * np.pi * np.arange(extent) / extent for extent in SHAPE]
    inverse = 2 * action.a - 2 * action.hopping * (np.cos(k[0])[:, None] + np.cos(k[1])[None, :])
    noise = np.fft.fft2(np.random.default_rng(8).normal(size=(4000, *SHAPE)))
    return action, np.fft.ifft2(noise / np.sqrt(inverse)).real


def test_every_format_gives_the_same_ensemble(tmp_path, free_fields):
    action, phis = free_fields
    np.save(tmp_path / "a.npy", phis)
    np.savez(tmp_path / "a.npz", phi=phis, S=action(phis))
    phis.tofile(tmp_path / "a.bin")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["run/cfgs"], file["run/action"], file["run/plaquette"] = phis, action(phis), np.zeros((4000, 2))
    for name, options in (("a.npy", {}), ("a.npz", {}), ("a.bin", {"shape": SHAPE}), ("a.h5", {})):
        out = tmp_path / f"{name}.out"
        report = convert(tmp_path / name, out, action, **options)
        assert report.n_cfg == 4000
        assert report.check == ("action" if name in ("a.npz", "a.h5") else "schwinger_dyson")
        assert np.array_equal(Ensemble(out).phis(), phis) and verify(out).ok


def test_single_precision_passes(tmp_path, free_fields):
    action, phis = free_fields
    phis = phis.astype("f4")
    np.savez(tmp_path / "a.npz", phi=phis, action=action(phis).astype("f4"))
    assert convert(tmp_path / "a.npz", tmp_path / "o.h5", action).check == "action"


def test_a_constant_in_the_action_is_the_same_theory(tmp_path):
    """lam (phi^2 - 1)^2 differs from lam phi^4 - 2 lam phi^2 by lam per site."""
    action = Phi4.H(0.2, 0.1)
    phis = np.random.default_rng(3).normal(size=(50, *SHAPE))
    np.savez(tmp_path / "a.npz", phi=phis, action=action(phis) + 0.1 * np.prod(SHAPE))
    assert "larger by 0.1 per site" in convert(tmp_path / "a.npz", tmp_path / "o.h5", action).note


@pytest.mark.parametrize("with_action", [True, False])
def test_a_wrong_normalisation_is_named(tmp_path, free_fields, with_action):
    """The same free theory in convention A has fields smaller by sqrt(2)."""
    action, phis = free_fields
    couplings, scale = action.in_convention("A")
    theirs = phis / scale
    np.savez(tmp_path / "a.npz", phi=theirs, **({"action": action(phis)} if with_action else {}))
    with pytest.raises(FileError, match="field_convention='A'"):
        convert(tmp_path / "a.npz", tmp_path / "o.h5", action)
    assert not (tmp_path / "o.h5").exists()
    convert(tmp_path / "a.npz", tmp_path / "o.h5", action, field_convention="A")
    assert np.allclose(Ensemble(tmp_path / "o.h5").phis(), phis, atol=1e-14)
    convert(tmp_path / "a.npz", tmp_path / "p.h5", Phi4.A(**couplings))
    assert np.array_equal(Ensemble(tmp_path / "p.h5").phis(), theirs)


def test_couplings_of_another_convention_are_named(tmp_path):
    """m2 and lam exist in conventions A and N and mean different theories."""
    phis = np.random.default_rng(3).normal(size=(50, *SHAPE))
    np.savez(tmp_path / "a.npz", phi=phis, action=Phi4.N(0.5, 3.0)(phis))
    with pytest.raises(FileError, match="couplings are those of convention N"):
        convert(tmp_path / "a.npz", tmp_path / "o.h5", Phi4.A(0.5, 3.0))


def test_another_theory_is_refused(tmp_path, free_fields):
    action, phis = free_fields
    np.save(tmp_path / "a.npy", phis)
    with pytest.raises(FileError, match=r"<phi dS/dphi>/V = .* expected 1; .*not an equilibrium ensemble"):
        convert(tmp_path / "a.npy", tmp_path / "o.h5", Phi4.H(0.21, 0.022))
    np.savez(tmp_path / "a.npz", phi=phis, action=action(phis) * 1.1)
    with pytest.raises(FileError, match="stored action is not that of"):
        convert(tmp_path / "a.npz", tmp_path / "o.h5", action)
    options = {"lattice": (4, 6), "check": False}
    assert convert(tmp_path / "a.npy", tmp_path / "o.h5", Phi4.H(0.21, 0.022), **options).check == "none"


def test_bad_foreign_files_are_one_clear_line(tmp_path, free_fields):
    action, phis = free_fields
    out = tmp_path / "o.h5"

    def refused(name, match, error=FileError, **options):
        with pytest.raises(error, match=match):
            convert(tmp_path / name, out, action, **options)
        assert not out.exists()

    refused("none.npy", "does not exist")
    (tmp_path / "a.txt").write_text("1 2 3")
    refused("a.txt", "suffix '.txt'; name a reader: hdf5, npy, npz, raw")
    refused("a.txt", "'nyp'", UserError, reader="nyp")
    (tmp_path / "bad.npy").write_bytes(b"no numpy")
    refused("bad.npy", "cannot be read")
    phis[:3].tofile(tmp_path / "a.bin")
    refused("a.bin", "give the lattice shape", UserError)
    refused("a.bin", r"configurations of \(5, 5\) float64 take 200", shape=(5, 5))
    refused("a.bin", "dtype is 'flaot'", UserError, shape=SHAPE, dtype="flaot")
    refused("a.bin", "unexpected keyword", UserError, shapes=SHAPE)
    np.savez(tmp_path / "two.npz", x=phis[:3], y=phis[:3])
    refused("two.npz", "say which `dataset`")
    refused("two.npz", "no dataset 'z'; it has x, y", dataset="z")
    np.save(tmp_path / "flat.npy", phis[0])
    refused("flat.npy", "lattice axes", UserError)
    np.save(tmp_path / "complex.npy", phis[:3] * 1j)
    refused("complex.npy", "expected real numbers", UserError)
    nan = phis[:40].copy()
    nan[7, 1, 1] = np.nan
    np.save(tmp_path / "nan.npy", nan)
    refused("nan.npy", "not finite", UserError)
    np.savez(tmp_path / "short.npz", phi=phis, action=np.zeros(3))
    refused("short.npz", "4000 configurations and 3 values")


def test_own_reader(tmp_path, free_fields):
    action, phis = free_fields
    (tmp_path / "a.own").write_bytes(b"")
    report = convert(tmp_path / "a.own", tmp_path / "o.h5", action, reader=lambda path: Foreign(phis, action(phis)))
    assert report.check == "action" and report.value < 1e-12


def test_exports_hold_the_same_numbers(tmp_path):
    ensemble = make(tmp_path / "a.h5")
    assert np.array_equal(np.load(export_npy(ensemble.path, tmp_path / "a.npy")), ensemble.phis())
    archive = np.load(export_npz(ensemble.path, tmp_path / "a.npz"))
    assert np.array_equal(archive["action"], ensemble.read("action"))
    report = convert(tmp_path / "a.npz", tmp_path / "b.h5", ACTION, n_chains=N_CHAINS, thin=5)
    assert report.check == "action" and np.array_equal(Ensemble(tmp_path / "b.h5").phis(), ensemble.phis())
    with pytest.raises(FileError, match="already exists"):
        export_npy(ensemble.path, tmp_path / "a.npy")


def test_pyerrors_sees_chains_as_replica(tmp_path):
    pytest.importorskip("pyerrors")
    phis = np.random.default_rng(2).normal(size=(400, *SHAPE))
    save_ensemble(tmp_path / "a.h5", phis, action=ACTION, n_chains=2, thin=3)
    ensemble = Ensemble(tmp_path / "a.h5")
    values = ensemble.series_array("action")
    obs = to_pyerrors(ensemble, {"action": values})["action"]
    obs.gamma_method()
    assert obs.value == pytest.approx(values.mean(), rel=1e-12)
    assert obs.dvalue == pytest.approx(values.std() / 20, rel=0.2)
    assert obs.names == ["ensemble|r000", "ensemble|r001"]
    assert list(obs.idl["ensemble|r001"])[:2] == [3, 6]
    with pytest.raises(UserError, match="has shape"):
        to_pyerrors(ensemble, {"action": values.T})


def test_an_array_without_a_name_is_read(tmp_path, free_fields):
    """NumPy writes such an array as the member ``.npy``."""
    action, phis = free_fields
    np.savez(tmp_path / "a.npz", **{"": phis})
    convert(tmp_path / "a.npz", tmp_path / "o.h5", action)
    assert np.array_equal(Ensemble(tmp_path / "o.h5").phis(), phis)


def test_a_field_convention_wants_an_action_that_has_conventions(tmp_path, free_fields):
    _, phis = free_fields
    np.save(tmp_path / "a.npy", phis)
    with pytest.raises(UserError, match="no named conventions"):
        convert(tmp_path / "a.npy", tmp_path / "o.h5", SimpleNamespace(ndim=len(SHAPE)), field_convention="A")
    assert not (tmp_path / "o.h5").exists()


def test_an_action_that_is_no_column_is_refused(tmp_path):
    fields = np.random.default_rng(2).normal(size=(20, 4, 4))
    np.savez(tmp_path / "two.npz", phi=fields, s=fields)
    options = {"lattice": (4, 4), "dataset": "phi", "action_dataset": "s"}
    with pytest.raises(FileError, match=r"the action has shape \(20, 4, 4\); expected one number"):
        convert(tmp_path / "two.npz", tmp_path / "out.h5", Phi4.A(-1.0, 1.0), **options)

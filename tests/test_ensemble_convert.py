"""Foreign configurations: read in every form, refused in the wrong convention."""

from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from ensemble_toys import N_CHAINS, SHAPE
from ensemble_toys import free_fields as exact_fields

from latticediff.action import Phi4
from latticediff.ensemble import (
    Ensemble,
    convert,
    export_netcdf,
    export_npy,
    export_npz,
    save_ensemble,
    to_pyerrors,
    verify,
)
from latticediff.ensemble.convert_checks import check_identity
from latticediff.ensemble.readers import Foreign
from latticediff.errors import FileError, UserError


@pytest.fixture(scope="module")
def free_fields():
    """Exact draws of the free field in convention N: 4000 independent configurations."""
    action = Phi4.N(0.5, 0.0)
    return action, exact_fields(action, 4000)


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


def test_a_constant_in_the_action_is_the_same_theory(tmp_path, free_fields):
    """lam (phi^2 - 1)^2 differs from lam phi^4 - 2 lam phi^2 by lam per site."""
    action, phis = free_fields
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
    np.savez(tmp_path / "complex.npz", cfgs=phis[:3] * 1j)
    refused("complex.npz", "expected real numbers", UserError)
    np.savez(tmp_path / "complex_s.npz", cfgs=phis[:3], S=np.zeros(3, complex))
    refused("complex_s.npz", "the action in .* holds complex numbers", UserError)
    nan = phis[:40].copy()
    nan[7, 1, 1] = np.nan
    np.save(tmp_path / "nan.npy", nan)
    refused("nan.npy", "not finite", UserError)
    np.savez(tmp_path / "short.npz", phi=phis, action=np.zeros(3))
    refused("short.npz", r"4000 configurations and values of the action of shape \(3,\)")


def test_own_reader(tmp_path, free_fields):
    action, phis = free_fields
    (tmp_path / "a.own").write_bytes(b"")
    report = convert(tmp_path / "a.own", tmp_path / "o.h5", action, reader=lambda path: Foreign(phis, action(phis)))
    assert report.check == "action" and report.value < 1e-12


def fail(*_, **__):
    return 1 / 0


def lack(*_, **__):
    import package_that_is_nowhere  # noqa: F401


def test_a_reader_that_fails_is_named(tmp_path):
    (tmp_path / "a.own").write_bytes(b"")
    for reader, said in (
        (fail, r"reader test_ensemble_convert.fail: call for .*a.own raised ZeroDivisionError"),
        (lack, r"reader test_ensemble_convert.lack: call for .* needs a package that is missing \(No module"),
        (lambda path: Foreign(np.zeros((3, 4, 4)), np.zeros(2)), r"3 configurations and values of the action of shape"),
    ):
        refused(tmp_path, "a.own", Phi4.A(1.0, 1.0), said, UserError, reader=reader)


def test_exports_hold_the_same_numbers(tmp_path, free_fields):
    action, phis = free_fields
    save_ensemble(tmp_path / "a.h5", phis[:600], action=action, n_chains=N_CHAINS, thin=5)
    ensemble = Ensemble(tmp_path / "a.h5")
    assert np.array_equal(np.load(export_npy(ensemble.path, tmp_path / "a.npy")), ensemble.phis())
    archive = np.load(export_npz(ensemble.path, tmp_path / "a.npz"))
    assert np.array_equal(archive["action"], ensemble.read("action"))
    report = convert(tmp_path / "a.npz", tmp_path / "b.h5", action, n_chains=N_CHAINS, thin=5)
    assert report.check == "action" and np.array_equal(Ensemble(tmp_path / "b.h5").phis(), ensemble.phis())
    with pytest.raises(FileError, match="already exists"):
        export_npy(ensemble.path, tmp_path / "a.npy")


def test_pyerrors_sees_chains_as_replica(tmp_path):
    pytest.importorskip("pyerrors")
    phis = np.random.default_rng(2).normal(size=(400, *SHAPE))
    save_ensemble(tmp_path / "a.h5", phis, action=Phi4.A(-4.0, 6.008), n_chains=2, thin=3)
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


def test_two_ensembles_are_independent_in_pyerrors_only_by_their_names(tmp_path):
    """Of one name, the deviations of two files would be subtracted configuration by configuration."""
    pytest.importorskip("pyerrors")
    found = {}
    for name, seed in (("one", 1), ("two", 2)):
        phis = np.random.default_rng(seed).normal(size=(400, *SHAPE))
        save_ensemble(tmp_path / f"{name}.h5", phis, action=Phi4.A(-4.0, 6.008), n_chains=2)
        with Ensemble(tmp_path / f"{name}.h5") as ensemble:
            found[name] = to_pyerrors(ensemble, {"S": ensemble.series_array("action")}, name)["S"]
            for bad in ("", "one|r0"):
                with pytest.raises(UserError, match=r"without \|"):
                    to_pyerrors(ensemble, {}, bad)
    both = found["one"] - found["two"]
    for obs in (both, *found.values()):
        obs.gamma_method()
    assert both.names == ["one|r000", "one|r001", "two|r000", "two|r001"]
    assert both.dvalue == pytest.approx(np.hypot(found["one"].dvalue, found["two"].dvalue), rel=1e-9)


def test_arviz_finds_chains_and_draws(tmp_path, free_fields):
    """As netCDF-4 says it: every variable has the axes chain and draw, which are coordinates."""
    action, phis = free_fields
    save_ensemble(tmp_path / "a.h5", phis[:600], action=action, n_chains=3, thin=5)
    with Ensemble(tmp_path / "a.h5") as ensemble:
        series = {"m": ensemble.by_chain(phis[:600].mean(axis=(1, 2))), "S": ensemble.series_array("action")}
        export_netcdf(ensemble, series, tmp_path / "a.nc")
        with h5py.File(tmp_path / "a.nc") as file:
            assert set(file) == {"posterior", "sample_stats"} and set(file["posterior"]) == {"m", "S", "chain", "draw"}
            for group, name, values in (("posterior", "m", series["m"]), ("sample_stats", "lp", -series["S"])):
                data = file[group][name]
                assert np.array_equal(data[:], values) and data.shape == (3, 200)
                assert [data.dims[axis][0].name for axis in (0, 1)] == [f"/{group}/chain", f"/{group}/draw"]
            assert list(file["posterior/draw"][:2]) == [5, 10] and list(file["posterior/chain"]) == [0, 1, 2]
        with pytest.raises(FileError, match="exists"):
            export_netcdf(ensemble, series, tmp_path / "a.nc")
        for bad, said in (
            ({"m": series["m"].T}, r"m has shape \(200, 3\); expected \(3, 200\)"),
            ({"draw": series["m"]}, "called 'draw'"),
            ({"a/b": series["m"]}, "called 'a/b'"),
        ):
            with pytest.raises(UserError, match=said):
                export_netcdf(ensemble, bad, tmp_path / "b.nc")
    arviz = pytest.importorskip("arviz")
    found = arviz.from_netcdf(tmp_path / "a.nc")
    assert found.posterior.m.dims == ("chain", "draw") and np.array_equal(found.posterior.m, series["m"])


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
    with pytest.raises(FileError, match=r"values of the action of shape \(20, 4, 4\); expected one"):
        convert(tmp_path / "two.npz", tmp_path / "out.h5", Phi4.A(-1.0, 1.0), **options)


def refused(tmp_path, name, action, match, error=FileError, **options):
    with pytest.raises(error, match=match):
        convert(tmp_path / name, tmp_path / "no.h5", action, **options)
    assert not (tmp_path / "no.h5").exists()


@pytest.mark.parametrize("n", [1, 3, 40, 400])
def test_noise_is_never_taken_for_fields(tmp_path, n):
    action = Phi4.A(-1.0, 1.0)
    np.save(tmp_path / "a.npy", np.random.default_rng(1).standard_normal((n, 16, 16)))
    refused(tmp_path, "a.npy", action, r"<phi dS/dphi>/V = .* \+- .*, expected 1; .*--no-check", lattice=(16, 16))


def test_fields_that_are_a_tenth_too_large_are_refused(tmp_path, free_fields):
    action, phis = free_fields
    np.save(tmp_path / "a.npy", 1.1 * phis)
    refused(tmp_path, "a.npy", action, r"V = 1\.2.*, expected 1; the fields are not an equilibrium ensemble")


def test_few_configurations_are_checked_as_far_as_they_go(tmp_path, free_fields):
    """One field of 24 sites is off 1 by sqrt(2 / 24) = 0.29 at one standard error: A is twice S of a Gaussian."""
    action, phis = free_fields
    np.save(tmp_path / "a.npy", phis[:12])
    report = convert(tmp_path / "a.npy", tmp_path / "o.h5", action, lattice=SHAPE)
    assert report.check == "schwinger_dyson" and "too few" in report.note
    assert report.identity[1] == pytest.approx(np.sqrt(2 / 24), rel=0.3)
    refused(tmp_path, "a.npy", action, "give the lattice", UserError)


@pytest.mark.parametrize("shape", [(2, 2), (4, 6)])
def test_single_exact_fields_are_not_refused(shape):
    """A thousand of them, each alone, on lattices so small that A / V is far from 1 now and then."""
    action = Phi4.N(0.5, 0.0)
    for phi in exact_fields(action, 1000, shape):
        assert check_identity("a", phi[None], action, 1)[0] == "schwinger_dyson"


def test_a_right_action_of_fields_out_of_equilibrium_is_not_enough(tmp_path, free_fields):
    action, phis = free_fields
    np.savez(tmp_path / "a.npz", phi=1.1 * phis, S=action(1.1 * phis))
    refused(tmp_path, "a.npz", action, "S is right, so the fields are not in equilibrium")


@pytest.mark.parametrize("axis", ["last", "-1", 2])
@pytest.mark.parametrize("suffix", ["h5", "npy", "npz"])
def test_configurations_along_the_last_axis(tmp_path, free_fields, axis, suffix):
    action, phis = free_fields
    last = np.moveaxis(phis, 0, -1)
    path = tmp_path / f"a.{suffix}"
    if suffix == "h5":
        with h5py.File(path, "w") as file:
            file["cfgs"] = last
    else:
        np.save(path, last) if suffix == "npy" else np.savez(path, phi=last)
    refused(tmp_path, path.name, action, "axis='last'", lattice=SHAPE)
    refused(
        tmp_path, path.name, action, "axis is 'lst'; expected 'last' or a number from 0 to 2", UserError, axis="lst"
    )
    convert(path, tmp_path / "o.h5", action, axis=axis)
    assert np.array_equal(Ensemble(tmp_path / "o.h5").phis(), phis)


def test_axes_of_julia_are_those_that_julia_shows(tmp_path, free_fields):
    """An array (L_1, L_2, n_cfg) of Julia is a data set (n_cfg, L_2, L_1), behind a user block of 512 bytes."""
    action, phis = free_fields
    with h5py.File(tmp_path / "a.jld2", "w", userblock_size=512) as file:
        file["phi"] = phis.transpose(0, 2, 1)
    refused(tmp_path, "a.jld2", action, "axis='last'", lattice=SHAPE)
    convert(tmp_path / "a.jld2", tmp_path / "o.h5", action, axis="last")
    assert np.array_equal(Ensemble(tmp_path / "o.h5").phis(), phis)
    with h5py.File(tmp_path / "b.jld2", "w", userblock_size=512) as file:
        file["phi"] = phis.transpose(2, 1, 0)  # (n_cfg, L_1, L_2) in Julia
    convert(tmp_path / "b.jld2", tmp_path / "p.h5", action)
    assert np.array_equal(Ensemble(tmp_path / "p.h5").phis(), phis)


@pytest.mark.parametrize("suffix", ["h5", "npz", "jld2"])
def test_one_data_set_for_each_configuration(tmp_path, free_fields, suffix):
    action, phis = free_fields
    phis = phis[:300]
    path, turn = tmp_path / f"a.{suffix}", -1 if suffix == "jld2" else 1
    arrays = {f"run/cfg_{i}": phi.transpose((0, 1)[::turn]) for i, phi in enumerate(phis)}
    arrays |= {f"run/S_{i}": action(phi) for i, phi in enumerate(phis)} | {"run/cfg": np.zeros(3)}
    if suffix == "npz":
        np.savez(path, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                file[name] = array
    refused(tmp_path, path.name, action, "by a pattern such as 'cfg_")
    refused(tmp_path, path.name, action, "has no dataset 'cfg_", dataset="cfg_*")  # a wild card stays in its folder
    refused(tmp_path, path.name, action, "leave axis out", UserError, dataset="run/cfg_*", axis="last")
    refused(tmp_path, path.name, action, "expected configurations of one shape", dataset="run/cfg*")
    report = convert(path, tmp_path / "o.h5", action, dataset="run/cfg_*", action_dataset="run/S_*")
    assert report.check == "action" and report.identity[0] == pytest.approx(1, abs=0.1)
    assert np.array_equal(Ensemble(tmp_path / "o.h5").phis(), phis)


def test_chains_that_take_turns_are_noticed(tmp_path):
    """Four slow chains in one file; the free field is kept by phi -> c phi + sqrt(1 - c^2) phi'."""
    action, c, n_chains, n = Phi4.N(0.5, 0.0), 0.9, 4, 500
    fresh = exact_fields(action, n_chains * n).reshape(n, n_chains, *SHAPE)
    for i in range(1, n):
        fresh[i] = c * fresh[i - 1] + np.sqrt(1 - c**2) * fresh[i]
    np.save(tmp_path / "a.npy", fresh.reshape(-1, *SHAPE))
    warning = convert(tmp_path / "a.npy", tmp_path / "o.h5", action).warning
    assert "as of 4 chains that take turns, not 1" in warning and "\n" not in warning
    assert not convert(tmp_path / "a.npy", tmp_path / "p.h5", action, n_chains=4).warning
    np.save(tmp_path / "b.npy", fresh[:, 0])
    assert not convert(tmp_path / "b.npy", tmp_path / "q.h5", action).warning
    report = convert(tmp_path / "b.npy", tmp_path / "r.h5", action, n_chains=50, lattice=SHAPE)
    assert "as of one chain," in report.warning

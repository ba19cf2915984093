"""Published layouts of phi^4 ensembles: read by name, with the theory that the file or its name tells."""

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from latticediff import registry
from latticediff.action import Phi4, free_propagator
from latticediff.cli.app import app
from latticediff.config import load_card
from latticediff.ensemble import Ensemble, verify
from latticediff.ensemble.layouts import LAYOUTS, Published, choose_layout
from latticediff.ensemble.readers import Foreign
from latticediff.errors import FileError, UserError
from latticediff.fourier import basis_from_momenta, transform
from latticediff.stages.transfer import import_foreign

N, L, KAPPA = 600, 6, 0.2


def exact_fields(ndim=2):
    """Independent fields of the free theory in convention H."""
    action, shape = Phi4.H(KAPPA if ndim == 2 else 0.15, 0.0, ndim), (L,) * ndim
    root = np.sqrt(basis_from_momenta(free_propagator(action, shape), shape))
    return transform(root * np.random.default_rng(1).standard_normal((N, *shape)), shape, inverse=True)


def jld2(path, arrays):
    """HDF5 as Julia writes it: the axes of every array in the opposite order."""
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = np.transpose(array)


def npz_2d_phi4_configs(folder, phi):
    path = folder / "cfgs_wolff_fahmc_k=0.2_l=0.0_6^2.npz"
    np.savez(path, cfgs=phi, **{"\u03ba": KAPPA, "\u03bb": 0.0, "N": L, "n_samples": N, "acc_rate": 0.8})
    return path


def npz_without_couplings(folder, phi):
    path = folder / "cfgs_wolff_fahmc_k=0.2_l=0.0_6^2.npz"
    np.savez(path, cfgs=phi, N=L)
    return path


def npy_critical(folder, phi):
    np.save(folder / "phi4_2D_L6_kappa0.2_lambda0.0.npy", phi)
    return folder / "phi4_2D_L6_kappa0.2_lambda0.0.npy"


def npy_dmassq(folder, phi):
    np.save(folder / "cfgs_L6_k0.2_l0.0_1k.npy", phi)
    return folder / "cfgs_L6_k0.2_l0.0_1k.npy"


def npz_2d_phi4(folder, phi):
    np.savez_compressed(
        folder / "configs.npz", phi=phi.astype("f4"), kappa=KAPPA, L=L, generator="x", **{"lambda": 0.0}
    )
    return folder / "configs.npz"


def jld2_of_one_array(folder, phi):
    path = folder / "cfgs_wolff_fahmc_k=0.2_l=0.0_6^2.jld2"
    jld2(path, {"cfgs": np.moveaxis(phi, 0, -1)})
    return path


def jld2_of_one_each(folder, phi):
    numbers = {"D": 2, "N": L, "kappa": KAPPA, "lambda": 0.0, "abs_mag": np.zeros(N)}
    jld2(folder / "run.jld2", {f"cfgs/{i + 1:06d}": field for i, field in enumerate(phi)} | numbers)
    return folder / "run.jld2"


WRITERS = [
    ("2d-phi4-configs", npz_2d_phi4_configs),
    ("2d-phi4-configs", npz_without_couplings),
    ("phi4-critical-configs", npy_critical),
    ("dmassq", npy_dmassq),
    ("2d-phi4", npz_2d_phi4),
    ("dm-for-phi4", jld2_of_one_array),
    ("dm-for-phi4", jld2_of_one_each),
]


@pytest.mark.parametrize(("name", "write"), WRITERS, ids=[write.__name__ for _, write in WRITERS])
def test_a_published_file_needs_no_card(name, write, tmp_path):
    phi = exact_fields()
    path = write(tmp_path, phi)
    report = import_foreign(path, tmp_path / "o.h5", None, layout=name)
    assert report.check == "schwinger_dyson" and report.n_cfg == N
    with Ensemble(tmp_path / "o.h5") as found:
        assert found.action == Phi4.H(KAPPA, 0.0) and np.allclose(found.phis(), phi, rtol=0, atol=1e-6)
    assert verify(tmp_path / "o.h5").ok
    wrong = write(tmp_path, 1.1 * phi)  # in no normalisation that is told
    with pytest.raises(FileError, match="phi dS/dphi"):
        import_foreign(wrong, tmp_path / "p.h5", None, layout=name)


def test_every_layout_is_tried():
    assert {name for name, _ in WRITERS} == set(LAYOUTS)


def test_three_dimensions(tmp_path):
    path = tmp_path / "phi4_3D_L6_kappa0.15_lambda0.0.npy"
    np.save(path, exact_fields(3))
    import_foreign(path, tmp_path / "o.h5", None, layout="phi4-critical-configs")
    assert Ensemble(tmp_path / "o.h5").action == Phi4.H(0.15, 0.0, 3)
    np.save(tmp_path / "phi4_2D_L6_kappa0.15_lambda0.0.npy", exact_fields(3))
    with pytest.raises(FileError, match="its name says 2 dimensions"):
        import_foreign(
            tmp_path / "phi4_2D_L6_kappa0.15_lambda0.0.npy", tmp_path / "p.h5", None, layout="phi4-critical-configs"
        )


def card_of(tmp_path, action):
    couplings = "\n".join(f"{name} = {value!r}" for name, value in action.couplings.items())
    text = f'[action]\nconvention = "{action.convention}"\n{couplings}\n[lattice]\nshape = [6, 6]\n'
    (tmp_path / "card.toml").write_text(text)
    return load_card(tmp_path / "card.toml")


def test_a_card_in_another_convention_rescales_and_one_of_another_theory_is_refused(tmp_path):
    phi, theory = exact_fields(), Phi4.H(KAPPA, 0.0)
    path = npy_dmassq(tmp_path, phi)
    couplings, scale = theory.in_convention("A")
    import_foreign(path, tmp_path / "a.h5", card_of(tmp_path, Phi4.A(**couplings)), layout="dmassq")
    assert np.allclose(Ensemble(tmp_path / "a.h5").phis(), phi / scale, rtol=1e-12)
    with pytest.raises(FileError, match="leave --card out, or correct it"):
        import_foreign(path, tmp_path / "b.h5", card_of(tmp_path, Phi4.H(0.21, 0.0)), layout="dmassq")
    assert not (tmp_path / "b.h5").exists()


def test_what_is_refused(tmp_path):
    phi = exact_fields()

    def refused(error, match, path, layout, card=None, **options):
        with pytest.raises(error, match=match):
            import_foreign(path, tmp_path / "o.h5", card, layout=layout, **options)
        assert not (tmp_path / "o.h5").exists()

    path = npy_dmassq(tmp_path, phi)
    refused(UserError, "no layout is called 'dmasq'", path, "dmasq")
    refused(UserError, "--no-check does not go with --layout", path, "dmassq", check=False)
    refused(UserError, "--field-convention does not go with --layout dmassq", path, "dmassq", field_convention="A")
    refused(UserError, "--reader does not go", path, "dmassq", reader="npy")
    refused(FileError, "does not exist", tmp_path / "none.npy", "dmassq")
    refused(UserError, "neither --card nor --layout", path, None)
    np.save(tmp_path / "mine.npy", phi)
    refused(FileError, r"mine.npy does not tell its couplings; .* such as cfgs_L16", tmp_path / "mine.npy", "dmassq")
    np.save(tmp_path / "cfgs_L8_k0.2_l0.0_1k.npy", phi)
    refused(FileError, "its name says L = 8", tmp_path / "cfgs_L8_k0.2_l0.0_1k.npy", "dmassq")
    np.savez(tmp_path / "configs.npz", phi=phi)
    refused(FileError, "no numbers kappa and lambda beside phi", tmp_path / "configs.npz", "2d-phi4")
    np.savez(tmp_path / "two.npz", phi=phi, kappa=[0.2, 0.2], **{"lambda": 0.0})
    refused(FileError, "no numbers kappa and lambda", tmp_path / "two.npz", "2d-phi4")
    np.save(tmp_path / "cfgs_L6_k0.2_l2e-1_1k.npy", phi)
    refused(FileError, "not an equilibrium ensemble of .*lam=0.2", tmp_path / "cfgs_L6_k0.2_l2e-1_1k.npy", "dmassq")
    (tmp_path / "configs.npz").write_bytes(b"junk")
    refused(FileError, "cannot be read", tmp_path / "configs.npz", "2d-phi4")


def fail(path):
    return 1 / 0


def test_a_layout_of_another_package_and_one_that_breaks_the_contract(tmp_path, monkeypatch):
    phi = exact_fields()
    found = {"theirs": lambda path: Published(Foreign(phi), Phi4.H(KAPPA, 0.0)), "bad": lambda path: phi}
    found["failing"] = fail
    load = registry.load
    monkeypatch.setattr(registry, "load", lambda group, name: found[name] if group == "layouts" else load(group, name))
    path = npy_dmassq(tmp_path, phi)
    assert import_foreign(path, tmp_path / "o.h5", None, layout="theirs").n_cfg == N
    with pytest.raises(UserError, match=r"layout test_layouts.fail: 'failing' of .* raised ZeroDivisionError"):
        choose_layout("failing")(path)
    with pytest.raises(UserError, match="layout 'bad' returned a ndarray; the contract"):
        choose_layout("bad")(path)


def test_the_command(tmp_path):
    path = npy_dmassq(tmp_path, exact_fields())
    done = CliRunner().invoke(app, ["convert", str(path), "--layout", "dmassq", "--out", str(tmp_path / "o.h5")])
    assert done.exit_code == 0 and "<phi dS/dphi>/V" in done.output
    arguments = ["convert", str(path), "--layout", "dmassq", "--out", str(tmp_path / "p.h5"), "--set", "action.kappa=1"]
    assert "no --card is given" in str(CliRunner().invoke(app, arguments).exception)

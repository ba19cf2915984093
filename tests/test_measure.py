"""`latticediff measure`: observables that others install, a choice of names, correlator and effective masses."""

import json

import numpy as np
import pytest
from metropolis_toys import free_fields
from warm import python

from latticediff.action import Phi4, free_propagator
from latticediff.analysis import mean
from latticediff.ensemble import save_ensemble
from latticediff.errors import UserError
from latticediff.stages.measure import measure

ACTION = Phi4.A(0.4, 0.0)
SHAPE = (6, 12)
N_CHAINS = 8

PLUGIN = """
import numpy as np

def kurtosis(phis, action):
    flat = phis.reshape(len(phis), -1)
    return (flat**4).mean(axis=1) / (flat**2).mean(axis=1) ** 2

def winding(phis, action):
    return np.full(len(phis), 3.0)

def complex_slice(phis, action):
    return np.fft.fft(phis.sum(axis=1), axis=1)[:, 1]
"""


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory):
    path = tmp_path_factory.mktemp("free") / "free.h5"
    save_ensemble(path, free_fields(ACTION, SHAPE, 4000, 11), action=ACTION, n_chains=N_CHAINS)
    return path


def install(folder, points):
    """What pip leaves behind of a package `lattice_extras`: its module and its metadata."""
    (folder / "lattice_extras.py").write_text(PLUGIN)
    info = folder / "lattice_extras-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lattice-extras\nVersion: 1.0\n")
    lines = "\n".join(f"{name} = {value}" for name, value in points.items())
    (info / "entry_points.txt").write_text(f"[latticediff.observables]\n{lines}\n")
    return folder


def cli(folder, *arguments):
    """The command where the package of `folder` is installed."""
    text = f"import sys; sys.path.insert(0, {str(folder)!r}); from latticediff.cli import main; main()"
    return python("-c", text, "measure", *arguments)


def test_an_installed_observable_is_measured(ensemble, tmp_path):
    folder = install(tmp_path, {"kurtosis": "lattice_extras:kurtosis", "winding": "lattice_extras:winding"})
    done = cli(folder, ensemble, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert {"abs_m", "chi", "kurtosis", "winding"} <= set(told["observables"])
    flat = free_fields(ACTION, SHAPE, 4000, 11).reshape(-1, N_CHAINS, 72)
    values = (flat**4).mean(axis=2).T / (flat**2).mean(axis=2).T ** 2
    expected = mean(values)
    assert told["observables"]["kurtosis"] == pytest.approx([expected.value, expected.error])
    assert told["tau_int"]["kurtosis"][0] == pytest.approx(expected.tau_int)
    # never moving is no fault of the chains there: a value without error, and a word
    assert told["observables"]["winding"] == [3.0, None] and "winding" not in told["tau_int"]
    assert "note: winding is constant" in done.stderr
    only = cli(folder, ensemble, "--observable", "kurtosis", "--observable", "fourth_cumulant", "--json")
    told = json.loads(only.stdout)
    assert set(told["observables"]) == {"kurtosis", "fourth_cumulant"} == set(told["tau_int"])


def test_an_installed_observable_that_fails_is_named(ensemble, tmp_path):
    points = {
        "lost": "no_such_module:f",
        "kurtosis": "lattice_extras:kurtosis",
        "slice": "lattice_extras:complex_slice",
    }
    folder = install(tmp_path, points)
    for names, message in (
        ([], "observable 'lost', lattice-extras (no_such_module:f), cannot be imported"),
        (["slice"], "observable 'slice' holds complex numbers"),
        (["curtosis"], "observable is 'curtosis'"),
    ):
        done = cli(folder, ensemble, *(word for name in names for word in ("--observable", name)))
        assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert cli(folder, ensemble, "--observable", "kurtosis").returncode == 0


def test_names_choose_the_rows(ensemble):
    found = measure(ensemble, names=["schwinger_dyson", "m4", "binder"])
    assert list(found.observables) == ["schwinger_dyson", "m4", "binder"] == list(found.tau_int)
    assert abs(found.observables["schwinger_dyson"].value - 1) < 4 * found.observables["schwinger_dyson"].error
    with pytest.raises(UserError, match="observable is 'mass'"):
        measure(ensemble, names=["mass"])


@pytest.mark.parametrize("axis", [None, 0])
def test_correlator_and_masses_are_those_of_the_free_field(ensemble, axis):
    found = measure(ensemble, correlator=True, axis=axis)
    time = 1 if axis is None else axis
    extent = SHAPE[time]
    # C(t) = (1/T) sum_k G(k, p = 0) cos(k t)
    line = np.moveaxis(free_propagator(ACTION, SHAPE), time, 0)[:, 0]
    t = np.arange(extent // 2 + 1)
    exact = np.array([(line * np.cos(2 * np.pi * np.arange(extent) * s / extent)).mean() for s in t])
    told = json.loads(found.to_json())["spectrum"]
    assert (told["axis"], told["extent"]) == (time, extent)
    for (value, error), wanted in zip(told["correlator"], exact, strict=True):
        assert abs(value - wanted) < 4.5 * error  # 13 values: a false alarm in 1e4
    mass = np.arccosh(1 + 0.4 / 2)  # the pole: m2 / 2 = cosh m - 1 in convention A, c = 2
    near = [pair for pair in told["effective_mass"] if pair[1] is not None]
    assert len(near) >= 2 and all(abs(value - mass) < 4.5 * error for value, error in near)
    assert all(pair[0] == pytest.approx(0.5, abs=0.2) for pair in told["tau_int"])
    text = found.to_text()
    assert f"time slices along axis {time} (T = {extent})" in text
    assert str(found.spectrum.masses[0]) in text and str(found.spectrum.correlator[1]) in text
    assert "spectrum" not in json.loads(measure(ensemble).to_json())


def test_times_of_the_correlator_are_in_updates(ensemble, tmp_path):
    save_ensemble(tmp_path / "thin.h5", free_fields(ACTION, SHAPE, 4000, 11), action=ACTION, n_chains=N_CHAINS, thin=3)
    once, thrice = (measure(path, correlator=True).spectrum.to_dict() for path in (ensemble, tmp_path / "thin.h5"))
    for name in ("tau_int", "effective_mass_tau_int"):
        assert np.array(thrice[name], float) == pytest.approx(3 * np.array(once[name], float), nan_ok=True)
    assert thrice["correlator"] == once["correlator"]


def test_the_command_prints_the_masses(ensemble, tmp_path):
    done = cli(tmp_path, ensemble, "--correlator")
    assert done.returncode == 0 and "m_eff(t)" in done.stdout, done.stderr
    for words, message in (
        (["--correlator", "--axis", "2"], "time axis is 2; the lattice 6x12 has axes 0 to 1"),
        (["--axis", "1"], "say --correlator too"),
    ):
        done = cli(tmp_path, ensemble, *words)
        assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1

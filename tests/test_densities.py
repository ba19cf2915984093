"""Free energies and reweighting as commands, on theories whose answers are closed forms.

Statistical tests use five standard errors: a correct code fails one number with probability 6e-7.
"""

import json
import math
import shutil

import h5py
import numpy as np
import pytest
from learned_toys import FREE, SHAPE, model

from latticediff import Streams
from latticediff.action import Phi4, free_log_z, free_propagator
from latticediff.cli import main
from latticediff.ensemble import run_chain
from latticediff.errors import FileError, UserError
from latticediff.hmc import HMC
from latticediff.model.storage import load_model, save_model
from latticediff.proposal import OdeProposal
from latticediff.proposal.grid import with_grid
from latticediff.report.numbers import scheme_text
from latticediff.stages.densities import measure_free_energy, reweight, target_action
from latticediff.stages.diagnose import diagnosis_of

N_SIGMA = 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A bad model of the free field."""
    return save_model(model(FREE, SHAPE, 0.2), tmp_path_factory.mktemp("densities") / "model")


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory):
    """HMC of the free field, 64 chains of 60 configurations."""
    kernel, streams = HMC(FREE, 0.25, 6), Streams(1)
    state = kernel.start(0.3 * streams.generator("start").standard_normal((64, *SHAPE)))
    state, _ = kernel.advance(state, streams.child("warmup"), 50, 50)
    path = tmp_path_factory.mktemp("densities") / "free.h5"
    run_chain(kernel, (state._replace(update=0), streams.child("hmc")), path, 180, thin=3)
    return path


def sigmas(estimate, exact):
    return abs(estimate.value - exact) / estimate.error


@pytest.mark.parametrize("options", [{}, {"rungs": 2}, {"route": "sde", "steps": 6}, {"to": ["m2=0.9"]}])
def test_free_energy_of_the_free_field(folder, options):
    """The ODE's eight steps leave a few 1e-4; sources, rungs, paths and neighbours agree with the closed form."""
    found = measure_free_energy(folder, n=800, seed=2, **{"steps": 8, **options})
    exact = free_log_z(target_action(FREE, options.get("to")), SHAPE)
    estimates = found.estimates
    for estimate in (estimates.reverse, estimates.forward, estimates.bridge):
        assert sigmas(estimate, exact) < N_SIGMA + 1e-3 / estimate.error
    assert estimates.bridge.error < 0.03
    assert (found.integration_error is None) == (options.get("route") == "sde")
    assert found.reach.log_weight_std > 0.05
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert told["log_z_bridge"][0] == estimates.bridge.value
    assert str(estimates.bridge) in found.to_text()


def test_free_energy_from_a_file_of_configurations(folder, ensemble):
    found = measure_free_energy(folder, ensemble, n=600, steps=8)
    assert found.n_configurations == 576  # 64 chains, every sixth time
    assert sigmas(found.estimates.bridge, free_log_z(FREE, SHAPE)) < N_SIGMA + 0.05


def test_reweighting_a_file_to_another_mass(ensemble, folder):
    found = reweight(ensemble, ["m2=1.0"], folder, n=1500, steps=8)
    target = Phi4.A(1.0, 0.0)
    exact = {"phi2": free_propagator(target, SHAPE).mean(), "chi": free_propagator(target, SHAPE)[0, 0]}
    for name, value in exact.items():
        assert sigmas(found.observables[name], value) < N_SIGMA
        assert sigmas(found.model_observables[name], value) < N_SIGMA
        assert sigmas(found.plain[name], free_propagator(FREE, SHAPE).mean() if name == "phi2" else 1 / 1.6) < N_SIGMA
    assert sigmas(found.log_z_ratio, free_log_z(target, SHAPE) - free_log_z(FREE, SHAPE)) < N_SIGMA
    assert sigmas(found.plain["phi2"], exact["phi2"]) > N_SIGMA  # unweighted it is another theory's
    assert not found.warnings


def test_out_of_reach_is_said_on_the_command_line(ensemble, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["reweight", str(ensemble), "--to", "m2=6", "--json"])
    assert not stopped.value.code
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert told["weights"]["expected_ess"] == pytest.approx(math.exp(-(told["weights"]["log_weight_std"] ** 2)))
    assert "out of reach" in told["warnings"][0]
    assert err.startswith("warning: free.h5: the target is out of reach")


def test_what_does_not_fit_is_refused(folder, ensemble):
    with pytest.raises(UserError, match=r"--to got 'kappa=1'; expected one of m2, lam"):
        reweight(ensemble, ["kappa=1"])
    with pytest.raises(UserError, match="--to got 'm2'"):
        target_action(FREE, ["m2"])
    with pytest.raises(FileError, match="expected"):
        measure_free_energy(folder, ensemble, to=["m2=0.9"], n=100)
    with pytest.raises(UserError, match="at least 8"):
        measure_free_energy(folder, n=2)
    with pytest.raises(UserError, match=r"sde got 'rk4'; method and grid are those of the ODE"):
        measure_free_energy(folder, n=100, route="sde", method="rk4")
    with pytest.raises(UserError, match=r"no density to the accuracy .* \(--steps 4, or --max-doubling\)"):
        measure_free_energy(folder, n=100, steps=2, max_doubling=1e-3)
    with pytest.raises(UserError, match=r"\(--steps 4, or --max-doubling\)"):
        reweight(ensemble, ["m2=1.0"], folder, n=100, steps=2, max_doubling=1e-3)
    with pytest.raises(UserError, match="route is 'sideways'"):
        measure_free_energy(folder, ensemble, n=100, route="sideways")


def test_a_field_that_is_not_finite_is_told_with_its_file(folder, ensemble, tmp_path, capsys):
    """Whoever reads it says the same, in one line, with exit code 2."""
    torn, card = tmp_path / "nan.h5", tmp_path / "card.toml"
    shutil.copy(ensemble, torn)
    with h5py.File(torn, "r+") as file:
        file["configurations/phi"][64, 1, 2] = math.nan
    card.write_text('[action]\nconvention = "A"\nm2 = 0.8\nlam = 0.0\n[lattice]\nshape = [4, 6]\n')
    weigh = ["weigh", str(card), "--model", str(folder), "--route", "ode", "--ensemble", str(torn), "--all"]
    for words in (
        ["measure", str(torn)],
        ["reweight", str(torn), "--to", "m2=0.9"],
        ["free-energy", "--model", str(folder), "--ensemble", str(torn), "--n", "4000", "--quiet"],
        ["diagnose", str(folder), "--ensemble", str(torn), "--out", str(tmp_path / "page"), "--n", "4000", "--quiet"],
        ["compare", str(torn), "--out", str(tmp_path / "report"), "--quiet"],
        [*weigh, "--out", str(tmp_path / "w.npz"), "--quiet"],
    ):
        with pytest.raises(SystemExit) as stopped:
            main(words)
        err = capsys.readouterr().err
        assert stopped.value.code == 2
        assert err.startswith(f"error: {torn} is damaged: rows 0 to 340 of /configurations/phi are not what")
        assert err.count("\n") == 1
    assert not (tmp_path / "w.npz").exists()


def test_every_command_takes_the_integrator_that_the_model_brings(ensemble, tmp_path):
    """Trained with a time grid: all three use it and say so; without it, they use what is asked for."""
    made = model(FREE, SHAPE, 0.2)
    grid = OdeProposal(made, 8, "adams5", grid="optimised").grid
    made.card = with_grid(made.card, 8, "adams5", grid)
    folder = save_model(made, tmp_path / "model")
    told = (
        measure_free_energy(folder, ensemble, n=100),
        reweight(ensemble, ["m2=0.9"], folder, n=100),
        diagnosis_of(load_model(folder), "own", ensemble, n=60, levels=0),
    )
    for found in told:
        about = found.to_dict()["proposal"]
        assert (about["method"], about["steps"], about["grid"]) == ("adams5", 8, grid.inner())
        assert scheme_text(about) == "ode, adams5, 8 steps, optimised grid"
    for found in told[:2]:
        assert "(ode, adams5, 8 steps, optimised grid)" in found.to_text()
    other = measure_free_energy(folder, ensemble, n=100, method="rk4", steps=8)
    assert "(ode, rk4, 8 steps, uniform grid)" in other.to_text()
    assert abs(other.estimates.bridge.value - told[0].estimates.bridge.value) < 0.02


def test_same_seed_same_bits(folder, ensemble):
    one, other = (measure_free_energy(folder, ensemble, n=100, steps=4, rungs=2).to_dict() for _ in range(2))
    assert one == other
    assert np.isfinite(one["log_z_bridge"]).all()

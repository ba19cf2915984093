"""Models that come with the package: found by name, whole, and as good as their cards say."""

import json
import subprocess
import sys

import numpy as np
import pytest
from warm import latticediff

from latticediff.action import Phi4
from latticediff.analysis import ess_reverse
from latticediff.ensemble import Ensemble
from latticediff.errors import ModelError
from latticediff.model.shipped import cheapest_model, describe_models, model_folder, model_names
from latticediff.model.storage import load_model
from latticediff.proposal import OdeProposal
from latticediff.stages.made import made_model


def test_a_path_that_exists_comes_before_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "phi4-A-L8").mkdir()
    assert model_folder("phi4-A-L8").resolve() == tmp_path / "phi4-A-L8"


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ModelError, match="phi4-A-L8"):
        load_model("phi4-A-L9")


@pytest.mark.parametrize("name", model_names())
def test_a_shipped_model_is_whole_and_as_good_as_its_card_says(name):
    """500 draws, fewer above 32x32, against the card: 5 sigma, and 0.01 more since errors of an ESS are skewed."""
    model = load_model(name)  # checks the hash
    value, error = model.card["metrics"]["ess_reverse"]
    scheme = {key: model.card["metrics"][key] for key in ("steps", "method", "grid") if key in model.card["metrics"]}
    n = max(64, min(500, 2**20 // int(np.prod(model.shape))))
    draw = OdeProposal(model, **scheme).draw(n, np.random.default_rng(8))
    found = ess_reverse(-model.action(draw.phi) - draw.log_q)
    assert abs(found.value - value) < 5 * np.hypot(found.error, error) + 0.01


@pytest.mark.parametrize(
    ("name", "action", "value"),
    [("phi4-A-line", Phi4.A(-4.0, 5.0), 0.9948), ("phi4-H-line", Phi4.H(0.275, 0.022), 0.987)],
)
def test_a_line_serves_a_coupling_that_it_was_never_trained_at(name, action, value):
    """500 draws against what docs/records.md says: 5 sigma, and 0.01 as above."""
    model = load_model(name, action=action)
    assert not any(member.is_of(action, model.shape) for member in load_model(name).theories())
    draw = OdeProposal(model, steps=14).draw(500, np.random.default_rng(8))
    found = ess_reverse(-action(draw.phi) - draw.log_q)
    assert abs(found.value - value) < 5 * found.error + 0.01


def test_a_line_is_listed_with_its_range():
    rows = {row["name"]: row for row in describe_models()}
    assert rows["phi4-A-line"]["coupling_ranges"] == {"m2": [-4.0, -4.0], "lam": [4.0, 6.5]}
    assert rows["phi4-A-L8"]["coupling_ranges"]["lam"] == [6.008, 6.008]


def test_models_command_lists_them_without_torch():
    code = """
import sys
from latticediff.cli import main
try:
    main(["models", "--json"])
except SystemExit:
    pass
assert "torch" not in sys.modules and "numba" not in sys.modules
"""
    lines = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.splitlines()
    assert [json.loads(line) for line in lines] == describe_models()
    assert [json.loads(line)["name"] for line in lines] == model_names()


@pytest.mark.parametrize(("end", "told"), [("", "8x8"), ("-fast", "8x8, odd sites"), ("-coarse", "8x8, coarse sites")])
def test_what_was_made_names_the_sites_of_a_model(end, told):
    assert f" on {told}" in made_model(load_model(f"phi4-A-L8{end}"), "model")


def test_the_cheapest_model_of_a_theory_is_the_coarse_or_the_fast_one():
    assert cheapest_model(Phi4.A(-4.0, 6.008).describe(), (8, 8)) == "phi4-A-L8-coarse"
    assert cheapest_model(Phi4.A(-4.0, 4.32).describe(), (128, 128)) == "phi4-A-L128-coarse"
    assert cheapest_model(Phi4.H(0.27, 0.022).describe(), (16, 16)) == "phi4-H-L16"
    assert cheapest_model(Phi4.A(-4.0, 6.008).describe(), (8, 8), all_sites=True) == "phi4-A-L8"
    assert {row["name"] for row in describe_models() if row["sites"] == "odd"} == {
        *(f"phi4-A-L{extent}-{family}" for extent in (8, 16, 32, 64, 128) for family in ("fast", "odd")),
    }
    assert {row["name"] for row in describe_models() if row["sites"] == "coarse"} == {
        f"phi4-A-L{extent}-coarse" for extent in (8, 16, 32, 64, 128)
    }
    families = {row["name"]: row["family"] for row in describe_models()}
    assert families["phi4-A-L8-fast"] == "fast" and families["phi4-A-L8"] == "accurate"
    with pytest.raises(
        ModelError, match=r"just this theory, in this convention, on 8x8; on this lattice there are .*--model"
    ):
        cheapest_model(Phi4.A(-4.0, 6.5).describe(), (8, 8))
    with pytest.raises(ModelError, match="in this convention, on 10x10; give one, --model"):
        cheapest_model(Phi4.A(-4.0, 6.008).describe(), (10, 10))


def test_sample_takes_the_cheapest_model_by_itself(tmp_path):
    card = tmp_path / "card.toml"
    card.write_text(
        '[action]\nconvention = "A"\nm2 = -4.0\nlam = 6.008\n[lattice]\nshape = [8, 8]\n'
        "[sampling.ode]\nn_chains = 4\nn_updates = 5\nn_warmup = 1\nsteps = 14\nmethod = 'adams5'\ngrid = 'optimised'\n"
    )
    command = ("sample", card, "--out", tmp_path / "ode.h5", "--route")
    done = latticediff(*command, "ode")
    assert done.returncode == 0, done.stderr
    assert "model: phi4-A-L8-coarse, which comes with the package" in done.stderr
    done = latticediff(*command, "sde")
    assert done.returncode == 2 and done.stderr == (
        "error: --route sde wants a --model: shipped ones are tuned for --route ode\n"
    )
    done = latticediff(*command, "nope")
    assert done.returncode == 2 and done.stderr == "error: route is 'nope'; expected one of ode, sde\n"


@pytest.mark.parametrize(("given", "evaluations"), [((), 10), (("--set", "sampling.ode.steps=16"), 16)])
def test_the_cheapest_model_brings_its_integrator(tmp_path, given, evaluations):
    """Whatever the card says, which was not written for it; what is said on the command line counts."""
    card, out = tmp_path / "card.toml", tmp_path / "ode.h5"
    card.write_text(
        '[action]\nconvention = "A"\nm2 = -4.0\nlam = 6.008\n[lattice]\nshape = [8, 8]\n'
        "[sampling.ode]\nn_chains = 4\nn_updates = 5\nn_warmup = 1\nsteps = 20\nmethod = 'adams5'\ngrid = 'uniform'\n"
    )
    done = latticediff("sample", card, "--out", out, "--route", "ode", *given)
    assert done.returncode == 0, done.stderr
    with Ensemble(out) as ensemble:
        assert ensemble.algorithm["evaluations_per_update"] == evaluations

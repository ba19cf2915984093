"""Ensembles along a line of couplings: exact at every coupling, seen in training or not, in files that survive a stop.

Free fields, whose susceptibility is a closed form. Statistical tests use five standard errors: a correct code fails one
number with probability 6e-7.
"""

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
from learned_toys import SHAPE, model
from training_toys import stopping_after

from latticediff.action import Phi4, free_propagator
from latticediff.cli import main
from latticediff.config import parse_card
from latticediff.ensemble import Ensemble, content_digest
from latticediff.errors import CardError, FileError, ModelError, StopRequested, UserError
from latticediff.model.couplings import Member
from latticediff.model.storage import load_model, save_model
from latticediff.proposal import OdeProposal
from latticediff.proposal.grid import own_scheme
from latticediff.stages.line import card_of, draw_line, parse_values
from latticediff.stages.sample import sample

N_SIGMA = 5
MASSES = (0.6, 1.4)
SHORT = ("sampling.ode.n_chains=20", "sampling.ode.steps=6", "sampling.ode.n_warmup=20")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A bad model of two free fields."""
    own, other = (Phi4.A(mass, 0.0) for mass in MASSES)
    made = model(own, SHAPE, 0.2)
    members = (Member(other, free_propagator(other, SHAPE), made.power.copy()),)
    return save_model(replace(made, members=members), tmp_path_factory.mktemp("line") / "model")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("lam=4:6.5:6", (4, 4.5, 5, 5.5, 6, 6.5)),
        ("lam=0.1:0.3:3", (0.1, 0.2, 0.3)),
        ("lam=6:4:3", (4, 5, 6)),
        ("lam = 5, 4,5", (4, 5)),
        ("lam=-1e-1", (-0.1,)),
    ],
)
def test_values_of_a_line(text, values):
    assert parse_values(text) == ("lam", values)


@pytest.mark.parametrize(
    "text",
    ["lam", "lam=", "=4", "lam=4:5", "lam=4:5:1", "lam=4:5:2.5", "lam=a,b", "lam=inf", "lam=1:2,3", "lam=4:5:2:1"],
)
def test_what_is_no_line_is_refused(text):
    with pytest.raises(UserError, match="--along"):
        parse_values(text)


def test_chains_are_exact_at_couplings_trained_interpolated_and_outside(folder, tmp_path):
    found = draw_line(folder, "m2=0.6,0.9,3", tmp_path, SHORT, n=8000, outside=True)
    assert [(point.trained, point.outside) for point in found.points] == [(True, False), (False, False), (False, True)]
    for point in found.points:
        value, error = point.observables["chi"]
        assert abs(value - 1 / (2 * point.value)) < N_SIGMA * error
        assert error < 0.1 * value
        assert point.n == 8000
    # without the Metropolis step the chain far outside would be off
    action = Phi4.A(3.0, 0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        proposal = OdeProposal(load_model(folder).at(action, outside=True), 6)
    draws = proposal.draw(8000, np.random.default_rng(1)).phi
    m2 = np.prod(SHAPE) * draws.mean(axis=(1, 2)) ** 2
    assert abs(m2.mean() - 1 / 6) > N_SIGMA * m2.std() / np.sqrt(len(m2))


def test_every_file_has_the_bits_of_sample_and_other_couplings_may_be_added_later(folder, tmp_path):
    first = draw_line(folder, "m2=0.6,1", tmp_path / "line", SHORT, n=200)
    card = parse_card(Ensemble(tmp_path / "line" / "m2=1.h5").provenance.config_toml)
    sample(card, folder, "ode", tmp_path / "alone.h5")
    assert content_digest(tmp_path / "alone.h5") == content_digest(tmp_path / "line" / "m2=1.h5")
    second = draw_line(folder, "m2=0.6:1.4:5", tmp_path / "line", SHORT, n=200, resume=True)
    assert second.points[0] == first.points[0]
    assert second.points[2] == first.points[1]
    assert len({point.fingerprint for point in second.points}) == 5
    assert json.loads((tmp_path / "line" / "line.json").read_text())["points"][4]["file"] == "m2=1.4.h5"
    for kind in ("png", "pdf", "csv"):
        assert (tmp_path / "line" / "figures" / f"line.{kind}").stat().st_size > 100
    # couplings are independent: the same noise would make the magnetisations go up and down together
    m = [Ensemble(tmp_path / "line" / f"m2={value}.h5").phis().mean(axis=(1, 2)) for value in ("0.6", "1")]
    assert abs(np.corrcoef(*m)[0, 1]) < N_SIGMA / np.sqrt(200)


def test_a_stopped_line_resumes_to_the_same_bits(folder, tmp_path):
    overrides = [*SHORT, "sampling.batch=20"]
    whole = draw_line(folder, "m2=0.6:1.4:3", tmp_path / "whole", overrides, n=200)
    with pytest.raises(StopRequested, match="resume"):
        draw_line(folder, "m2=0.6:1.4:3", tmp_path / "parts", overrides, n=200, stop=stopping_after(15))
    assert (tmp_path / "parts" / "m2=0.6.h5").exists()
    assert not (tmp_path / "parts" / "m2=1.h5").exists()
    assert draw_line(folder, "m2=0.6:1.4:3", tmp_path / "parts", overrides, n=200, resume=True) == whole


def test_more_proposals_extend_the_files(folder, tmp_path):
    draw_line(folder, "m2=1", tmp_path / "short", SHORT, n=100)
    extended = draw_line(folder, "m2=1", tmp_path / "short", SHORT, n=200, resume=True)
    assert extended.points == draw_line(folder, "m2=1", tmp_path / "long", SHORT, n=200).points


def test_what_is_in_the_way_or_damaged_is_refused(folder, tmp_path):
    draw_line(folder, "m2=0.6,1", tmp_path, SHORT, n=100)
    with pytest.raises(FileError, match=r"m2=0.6.h5 is there already; go on with --resume"):
        draw_line(folder, "m2=0.6,1", tmp_path, SHORT, n=100)
    path = tmp_path / "m2=1.h5"
    data = bytearray(path.read_bytes())
    at = data.find(Ensemble(path).phis(0, 1).tobytes())
    data[at + 8] ^= 1
    path.write_bytes(data)
    with pytest.raises(FileError, match=r"m2=1.h5 is damaged"):
        draw_line(folder, "m2=0.6,1", tmp_path, SHORT, n=100, resume=True)


def test_what_does_not_fit_is_refused_before_anything_is_drawn(folder, tmp_path):
    with pytest.raises(ModelError, match=r"not trained at m2 = 1.5, 2 on 4x6, only at 0.6 to 1.4; .*--outside"):
        draw_line(folder, "m2=1,1.5,2", tmp_path / "line", SHORT)
    with pytest.raises(ModelError, match="on 8x8"):
        draw_line(folder, "m2=1", tmp_path / "line", ["lattice.shape=[8,8]"])
    with pytest.raises(UserError, match="--along got the coupling 'kappa'; expected one of m2, lam"):
        draw_line(folder, "kappa=1", tmp_path / "line")
    with pytest.raises(CardError, match="did you mean 'steps'"):
        draw_line(folder, "m2=1", tmp_path / "line", ["sampling.ode.step=3"])
    with pytest.raises(UserError, match="route is 'sideways'"):
        draw_line(folder, "m2=1", tmp_path / "line", route="sideways")
    assert not (tmp_path / "line").exists()


def test_card_takes_the_integrator_of_the_model():
    made = model(Phi4.A(1.0, 0.0), SHAPE, 0.0)
    made.card["metrics"] = {"proposal": "ode", "steps": 7, "method": "dopri5", "grid": "uniform", "n": 10}
    card = card_of(made, ["sampling.ode.method=rk4"])
    assert (card.sampling.ode.steps, card.sampling.ode.method) == (7, "rk4")
    assert card.theory() == made.action
    made.card = {}  # as every command that has no card, see own_scheme
    assert card_of(made).sampling.ode.steps == own_scheme(made)["steps"] == 16


def test_command_prints_table_or_json_and_warns_outside(folder, tmp_path, capsys):
    options = ["--n", "200", *(word for text in SHORT for word in ("--set", text))]
    out = ["--out", str(tmp_path / "line")]
    with pytest.raises(SystemExit) as stopped:
        main(["line", str(folder), "--along", "m2=1,2", *out, "--outside", *options])
    assert not stopped.value.code
    table, said = capsys.readouterr()
    assert "expected ESS" in said
    assert [line.split()[0] for line in table.splitlines()[1:]] == ["m2", "1", "2"]
    assert table.splitlines()[3].endswith("outside")
    with pytest.raises(SystemExit):
        main(["line", str(folder), "--along", "m2=1", *out, "--resume", "--json", "-q", *options])
    told = json.loads(capsys.readouterr().out)
    assert told["coupling"] == "m2"
    assert told["trained"] == [0.6, 1.4]
    assert 0 < told["points"][0]["ess"][0] <= 1


def test_correlated_moves_have_no_ess(folder, tmp_path):
    partial = [*SHORT, "sampling.kernel.move=partial", "sampling.kernel.eps=0.5"]
    found = draw_line(folder, "m2=1", tmp_path, partial, n=400)
    assert found.points[0].ess is None
    assert found.to_text().splitlines()[2].split()[2] == "-"

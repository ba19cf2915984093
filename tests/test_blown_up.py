"""Networks that blew up, draws without a density, and no draws at all: refused in one line, or left out."""

import numpy as np
import pytest
import torch
from learned_toys import QUARTIC, model
from metropolis_toys import Changed
from training_toys import SHAPE, THEORY

from latticediff.config import parse_card
from latticediff.errors import UserError
from latticediff.metropolis import IndependenceMetropolis, LatentMetropolis, check_doubling
from latticediff.metropolis.checks import sound_draw
from latticediff.metropolis.contract import Draw
from latticediff.metropolis.moves import Coloured
from latticediff.model.storage import load_model, save_model
from latticediff.proposal import OdeProposal, PathProposal, SdeProposal
from latticediff.stages.sample import sample
from latticediff.streams import Streams

ROUTES = {"ode": OdeProposal, "sde": SdeProposal}


def ruined(factor, **options):
    """A network whose amplitudes are multiplied by 1e30, or by NaN."""
    made = model(QUARTIC, SHAPE, 0.3, **options)
    with torch.no_grad():
        made.network.amplitude.weight.mul_(factor)
    return made


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("kernel", [IndependenceMetropolis, lambda p, a: LatentMetropolis(p, a, Coloured(0.5))])
@pytest.mark.parametrize(("factor", "ordered"), [(1e30, False), (float("nan"), False), (float("nan"), True)])
def test_no_chain_starts_from_a_network_that_blew_up(route, kernel, factor, ordered):
    make = {"ode": OdeProposal, "sde": PathProposal}[route]
    proposal = make(ruined(factor, ordered=ordered), 4)
    with np.errstate(all="ignore"), pytest.raises(UserError, match="all of 5 draws of the model blew up"):
        kernel(proposal, QUARTIC).hot_start(5, Streams(1))


@pytest.mark.parametrize("route", ROUTES)
def test_a_run_of_such_a_model_leaves_no_file(route, tmp_path):
    save_model(ruined(1e30), tmp_path / "model")
    with np.errstate(all="ignore"), pytest.raises(UserError, match="draws of the model blew up"):
        sample(parse_card(THEORY), tmp_path / "model", route, tmp_path / "chain.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_chains_start_from_the_draws_that_are_sound():
    """A field of zeros, which stands for one that blew up, is no draw."""
    inner = OdeProposal(load_model("phi4-A-L8"), 4)
    proposal = Changed(inner, lambda phi, log_q: np.where(phi[:, 0, 0] > 0, np.inf, log_q))
    state = IndependenceMetropolis(proposal, QUARTIC).hot_start(40, Streams(1))
    assert np.isfinite(state.log_q).all() and (state.phi[:, 0, 0] <= 0).all()
    whole = Draw(np.ones((2, 4)), np.zeros(2))
    assert sound_draw(whole) is whole


@pytest.mark.parametrize("route", ROUTES.values())
def test_no_draws_are_no_fault(route):
    draw = route(model(QUARTIC, SHAPE, 0.3), 3).draw(0, np.random.default_rng(1))
    assert draw.phi.shape == (0, *SHAPE) and draw.log_q.shape == (0,)


def test_a_density_is_not_checked_on_nothing():
    with pytest.raises(UserError, match="no field to weigh"):
        check_doubling(OdeProposal(model(QUARTIC, SHAPE, 0.3), 3), np.empty((0, *SHAPE)), 0.1)


def test_the_batch_follows_the_volume_of_the_noise():
    """2^22 values at once: 256 fields of 128 x 128, and 33 paths of 31 fields of 64 x 64."""
    large = load_model("phi4-A-L128")
    assert OdeProposal(large, 4, batch=500).batch == 256
    assert OdeProposal(large, 4, batch=100).batch == 100
    assert OdeProposal(load_model("phi4-A-L8"), 4, batch=500).batch == 500
    assert SdeProposal(model(QUARTIC, (64, 64), 0.0), 30, batch=500, kernel="gaussian", ladder="geometric").batch == 33

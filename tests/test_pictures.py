"""The fields on the page: which configurations, their histogram, and the way of one draw from noise to field."""

import csv
import io
import types

import numpy as np
import pytest
from learned_toys import FREE, QUARTIC, SHAPE, model
from test_report import make_chain, make_run

from latticediff.action.checkerboard import split
from latticediff.errors import UserError
from latticediff.lattice import planes
from latticediff.report import Film, Histogram
from latticediff.report.figures import draw
from latticediff.stages.pictures import denoised, histogram_edges, pictures, site_histogram

CARD = types.SimpleNamespace(run=types.SimpleNamespace(seed=5))


class Stored:
    """An ensemble of white noise, as far as `pictures` looks at one."""

    path, shape, n_chains = "ens.h5", (4, 6), 8

    def __init__(self, rows=500):
        self.phis = np.random.default_rng(2).standard_normal((rows * self.n_chains, *self.shape))

    def __len__(self):
        return len(self.phis)

    def take(self, numbers):
        assert (np.diff(numbers) > 0).all()
        return self.phis[numbers]


def test_planes_are_windows_of_two_dimensions():
    phis = np.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    np.testing.assert_array_equal(planes(phis), phis[:, 0])
    assert planes(phis[:, 0, 0]).shape == (2, 1, 5)
    assert planes(np.zeros((1, 100, 70))).shape == (1, 64, 64)


def test_configurations_are_far_apart_and_of_different_chains():
    stored = Stored(rows=100)
    shown = pictures(stored)
    numbers = [int(np.flatnonzero((stored.phis == plane).all(axis=(1, 2)))[0]) for plane in shown]
    assert [n % 8 for n in numbers] == [0, 1, 2, 3]
    assert np.diff([n // 8 for n in numbers]).tolist() == [25, 25, 25]
    assert len(pictures(Stored(rows=1))) == 4


def test_a_histogram_of_sites_is_their_density():
    """White noise: 60 bins at four standard errors, one false alarm in 250 runs; errors of independent sites."""
    stored = Stored()
    found = site_histogram(stored, histogram_edges(stored))
    centres, width = 0.5 * (found.edges[1:] + found.edges[:-1]), found.edges[1] - found.edges[0]
    exact = np.exp(-0.5 * centres**2) / np.sqrt(2 * np.pi)
    counted = exact > 0.01
    spread = np.sqrt(exact / width / stored.phis.size)
    assert (np.abs(found.density - exact) / spread)[counted].max() < 4
    assert 0.5 < np.median((found.error / spread)[counted]) < 2
    assert (found.density * width).sum() == pytest.approx(1, abs=3e-4)


def test_a_film_of_a_free_field_is_its_whitened_noise():
    """Without a residual the flow leaves the whitened field where it is: x_sigma = (G + sigma^2)^(1/2) * noise."""
    made = model(FREE, SHAPE, 0.0, sigmas=(0.02, 4.0))
    film = denoised(CARD, made, "ODE")
    assert film.sigma[0] == pytest.approx(4.0)
    assert film.sigma[-1] == 0
    assert (np.diff(film.sigma) < 0).all()
    white = []
    for sigma, field in zip(np.append(film.sigma[:-1], 0.02), film.fields, strict=True):
        G = made.gaussian.propagator_full.numpy()
        white.append(np.fft.ifftn(np.fft.fftn(field) / np.sqrt(G + sigma**2)).real)
    np.testing.assert_allclose(white, np.broadcast_to(white[0], film.fields.shape), atol=1e-4)
    again = denoised(CARD, made, "ODE")
    np.testing.assert_array_equal(again.fields, film.fields)


def test_a_film_ends_where_the_proposal_does():
    from latticediff.proposal import OdeProposal
    from latticediff.streams import Streams

    made = model(QUARTIC, SHAPE, 0.2, sigmas=(0.02, 4.0))
    noise = Streams(5).child("pictures").generator("film").standard_normal((1, *SHAPE))
    np.testing.assert_allclose(
        denoised(CARD, made, "ODE").fields[-1], OdeProposal(made, 40).transport(noise).phi[0], atol=2e-3
    )


def test_even_sites_come_last():
    from latticediff.model.storage import load_model

    film = denoised(CARD, load_model("phi4-A-L8-fast"), "fast")
    odd, even = split(film.fields)
    assert film.fields.shape[1:] == (8, 8)
    assert np.isfinite(odd).all()
    assert np.isnan(even[:-1]).all()
    assert np.isfinite(even[-1]).all()


def test_a_film_along_a_path_ends_where_the_draw_does_and_shows_the_levels_of_its_ladder():
    from latticediff.proposal import SdeProposal
    from latticediff.proposal.film import flow_frames, path_frames

    made = model(QUARTIC, SHAPE, 0.2, sigmas=(0.02, 4.0))
    proposal = SdeProposal(made)
    flow = flow_frames(made, np.random.default_rng(5))
    found = path_frames(made, np.random.default_rng(5))
    noise = np.random.default_rng(5).standard_normal((1, *proposal.noise_shape))
    np.testing.assert_array_equal(found.fields[-1], proposal.transport(noise).phi[0])
    assert found.sigma[-1] == flow.sigma[-1] == 0
    ladder = np.sqrt(proposal.process.variances[1:])
    for shown, wanted in zip(found.sigma[:-1], flow.sigma[:-1], strict=True):
        assert shown == ladder[np.abs(np.log(ladder / wanted)).argmin()]
    again = path_frames(made, np.random.default_rng(5))
    np.testing.assert_array_equal(again.fields, found.fields)


@pytest.mark.parametrize(("name", "share"), [("phi4-A-L8-fast", 1 / 2), ("phi4-A-L8-coarse", 1 / 4)])
def test_sites_that_follow_from_others_come_last_along_a_path_too(name, share):
    from latticediff.model.storage import load_model
    from latticediff.proposal.film import path_frames

    found = path_frames(load_model(name), np.random.default_rng(1))
    assert (np.isfinite(found.fields[:-1]).mean(axis=(1, 2)) == share).all()
    assert np.isnan(split(found.fields[:-1])[1]).all()
    assert np.isfinite(found.fields[-1]).all()


def test_figures_of_fields_say_what_they_show():
    rng, edges = np.random.default_rng(3), np.linspace(-1, 1, 11)
    chains = [
        make_chain(
            rng,
            name,
            configurations=rng.standard_normal((3, 4, 6)),
            site_values=Histogram(edges, np.full(10, 0.5), np.full(10, 0.01)),
        )
        for name in ("hmc", "ode")
    ]
    film = Film("ODE", np.array([2.0, 0.1, 0.0]), rng.standard_normal((3, 4, 6)))
    records = {r.name: r for r in draw(make_run(chains=chains, film=film, shape=(4, 6)))}
    assert {"configurations", "site_values", "film"} <= set(records)
    table = list(csv.reader(io.StringIO(records["configurations"].csv)))
    assert len(table) == 1 + 2 * 3 * 24
    assert "HMC" in records["configurations"].alt
    assert "3 configurations of 4×6" in records["configurations"].caption
    assert "3 images" in records["film"].alt
    assert all(r.png.startswith(b"\x89PNG") and b"<svg" in r.svg for r in records.values())
    plain = {r.name for r in draw(make_run())}
    assert not {"configurations", "site_values", "film"} & plain


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Film("ODE", [1.0], np.zeros((2, 4, 4))), "expected"),
        (lambda: Histogram([0, 1, 2], [1.0, np.nan], [0.1, 0.1]), "finite"),
        (lambda: make_chain(np.random.default_rng(1), "hmc", configurations=np.zeros((4, 4))), "configurations"),
        (lambda: make_chain(np.random.default_rng(1), "hmc", configurations=np.full((1, 4, 4), np.nan)), "finite"),
    ],
)
def test_damaged_pictures_are_refused(make, words):
    with pytest.raises(UserError, match=words):
        make()


def test_a_plane_of_a_larger_lattice_is_called_one():
    chain = make_chain(np.random.default_rng(1), "hmc", configurations=np.zeros((1, 64, 64)))
    record = next(r for r in draw(make_run(chains=[chain], shape=(128, 128))) if r.name == "configurations")
    assert "A plane of 64×64 sites" in record.caption

"""`latticediff info`: what a model folder is, also where its theory is not phi^4."""

import sys

import pytest

from latticediff import registry
from latticediff.errors import UserError
from latticediff.stages.info import info

WELL = """
from latticediff.action import LocalAction

class Well(LocalAction):
    def __init__(self, depth, ndim):
        super().__init__(1.0, ndim)
        self.depth = depth

    def potential(self, phi):
        return self.depth * (phi**2 - 1) ** 2

    def potential_derivative(self, phi):
        return 4 * self.depth * phi * (phi**2 - 1)

    def describe(self):
        return {"name": "well", "depth": self.depth, "ndim": self.ndim}

    @classmethod
    def from_description(cls, description):
        return cls(description["depth"], description["ndim"])
"""

CARD = """
shape = [4, 6]
[action]
name = "well"
depth = 0.5
ndim = 2
[network]
name = "ridge"
[noise]
sigma_max = 3.0
"""


@pytest.fixture
def well(tmp_path, monkeypatch):
    """A package that adds the action `well`, as pip would install it."""
    (tmp_path / "lattice_well.py").write_text(WELL)
    about = tmp_path / "lattice_well-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: lattice-well\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[latticediff.actions]\nwell = lattice_well:Well\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry._entry_points.cache_clear()
    yield
    monkeypatch.undo()
    registry._entry_points.cache_clear()
    sys.modules.pop("lattice_well", None)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    (path / "card.toml").write_text(CARD)
    (path / "weights.safetensors").write_bytes(b"")  # info reads no weights
    return path


def test_the_model_of_another_action_is_described_by_it(well, folder):
    lines = info(folder).splitlines()
    assert 'action          {"name": "well", "depth": 0.5, "ndim": 2}' in lines
    assert "lattice         4x6, periodic, 2D" in lines


def test_the_model_of_an_action_that_is_not_installed_is_refused_by_name(folder):
    with pytest.raises(UserError, match="well"):
        info(folder)

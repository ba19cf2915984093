"""Cards of the theories beside phi^4: keys, refusals, and the commands of the classical side."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from latticediff import registry
from latticediff.action import Modulated, Phi4, Polynomial, SineGordon
from latticediff.action.contract import action_from_description
from latticediff.config import load_card, parse_card
from latticediff.ensemble import Ensemble
from latticediff.errors import CardError, UserError
from latticediff.observables.primary import schwinger_dyson
from latticediff.report.verdict import describe_action
from latticediff.stages.generate import generate
from latticediff.stages.info import info
from latticediff.stages.measure import measure_ensemble
from latticediff.stages.targets import target_action
from latticediff.stages.transfer import import_foreign
from latticediff.stages.verify import verify

CONFIGS = Path(__file__).parents[1] / "configs"
CARDS = ("phi6-first-order", "tilted-well", "modulated")
SINE = 'name = "sine_gordon"\nm2 = 0.2\nalpha = 1.5\nbeta = 2.0\ntheta = 0.3'
POLYNOMIAL = 'name = "polynomial"\nhopping = 0.5\na2 = 1\na4 = 0.25'


def card_of(action, shape="[4, 4]", overrides=()):
    return parse_card(f"[action]\n{action}\n[lattice]\nshape = {shape}\n", overrides)


@pytest.mark.parametrize("name", CARDS)
def test_the_effective_card_is_the_card(name):
    card = load_card(CONFIGS / f"{name}.toml")
    again = parse_card(card.to_toml())
    assert again == card and again.digest() == card.digest() and again.theory() == card.theory()
    action = card.theory()
    assert action_from_description(json.loads(json.dumps(action.describe()))) == action
    assert describe_action(action.describe()).startswith("the action ")


def test_what_the_keys_mean():
    assert card_of(SINE).theory() == SineGordon(0.2, 1.5, 2.0, 0.3)
    assert card_of(POLYNOMIAL).theory() == Polynomial(0.5, (0, 1, 0, 0.25))
    assert card_of(POLYNOMIAL) == card_of(POLYNOMIAL.replace("a2 = 1\n", "a2 = 1.0\n"))  # -4 and -4.0 are one theory
    far = ["action.links=[[[2, 0], -0.1]]", "action.hopping=[0.5, 0.25]", "action.a1=0.1"]
    wanted = Polynomial([0.5, 0.25], (0.1, 1, 0, 0.25), 2, [((2, 0), -0.1)])
    card = card_of(POLYNOMIAL, overrides=far)
    assert card.theory() == wanted and parse_card(card.to_toml()).theory() == wanted
    one = 'name = "modulated"\nnext_nearest = -0.4\na = 0.5\nb = 0.25\naxes = [1]'
    assert card_of(one).theory() == Modulated(1.0, -0.4, 0.5, 0.25, 2, [1])


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (POLYNOMIAL + "\na13 = 1", "[action] has no key 'a13'"),
        (POLYNOMIAL + '\nconvention = "A"', "[action] has no key 'convention'"),
        (POLYNOMIAL.replace("0.25", '"x"'), "action.a4 = 'x'"),
        (POLYNOMIAL.replace("0.25", "-0.25"), "[action] the highest term of the potential is a_4 = -0.25"),
        (POLYNOMIAL.replace("0.25", "nan"), "action.a4 = nan"),
        (POLYNOMIAL.replace("0.5", '"x"'), "action.hopping = 'x'"),
        (POLYNOMIAL + "\nlinks = [[[1, 0], 0.1]]", "a nearest neighbour"),
        (POLYNOMIAL + "\nlinks = 3", "action.links = 3"),
        (SINE.replace("m2 = 0.2\n", ""), "action.m2 is missing"),
        (SINE.replace("m2 = 0.2", "m2 = 0"), "expected m2 > 0"),
        ('name = "modulated"\na = 1.0\nb = 1.0', "action.next_nearest is missing"),
        ('name = "polynomal"', "did you mean 'polynomial'"),
    ],
)
def test_a_wrong_card_is_refused_in_one_line(action, words):
    with pytest.raises(CardError) as caught:
        card_of(action)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", CARDS)
def test_the_commands_of_the_classical_side(name, tmp_path):
    few = ["lattice.shape=[8, 8]", "hmc.n_chains=16", "hmc.n_warmup=50", "hmc.n_updates=100"]
    card, out = load_card(CONFIGS / f"{name}.toml", few), tmp_path / "ens.h5"
    generate(card, out)
    verify(out)
    told = info(out)
    assert "wells of a constant field" in told and "S = sum_x" in told
    assert ("a period of 6.3" in told) == (name == "modulated")
    with Ensemble(out) as ensemble:
        assert np.isfinite(measure_ensemble(ensemble, 1.5).observables["abs_m"].value)
        identity = schwinger_dyson(np.concatenate(list(ensemble.batches())), ensemble.action)
        assert abs(identity.mean() - 1) < 0.2
        phi = np.concatenate(list(ensemble.batches()))
        assert ensemble.action == card.theory()
    np.save(tmp_path / "there.npy", phi)
    import_foreign(tmp_path / "there.npy", tmp_path / "back.h5", card, n_chains=16)
    verify(tmp_path / "back.h5")


def test_clusters_are_refused_before_anything_is_tuned(tmp_path):
    card = load_card(CONFIGS / "modulated.toml", ["hmc.cluster=1"])
    with pytest.raises(UserError, match="couples more than nearest neighbours"):
        generate(card, tmp_path / "ens.h5")


def test_other_couplings_of_the_same_theory():
    action = Polynomial(0.5, (0, 1, 0, 0.25), 2, [((2, 0), -0.1)])
    assert target_action(action, ["a2=0.9", "a4 = 0.3"]) == Polynomial(0.5, (0, 0.9, 0, 0.3), 2, [((2, 0), -0.1)])
    assert target_action(action, ["a1=0.1"]) == Polynomial(0.5, (0.1, 1, 0, 0.25), 2, [((2, 0), -0.1)])
    assert target_action(SineGordon(0.2, 1, 2), ["theta=0.1"]) == SineGordon(0.2, 1, 2, 0.1)
    assert target_action(Modulated(1, -0.4, 1, 1, 3, [0]), ["b=2"]) == Modulated(1, -0.4, 1, 2, 3, [0])
    assert target_action(Phi4.A(-1.0, 1.0), ["lam=2"]) == Phi4.A(-1.0, 2.0)
    for text, words in (("a7=1", "expected one of hopping, a1, a2, a3, a4"), ("a2=x", "expected a number")):
        with pytest.raises(UserError, match=words):
            target_action(action, [text])


PLUGIN = """
import numpy as np
from latticediff.action import Polynomial
from latticediff.config.sections import Section
class Options(Section):
    g: float = 0.5
class Mine(Polynomial):
    name = "mine"
    def __init__(self, g, ndim):
        super().__init__(0.5, (0, 1.2, 0, g), ndim)
    @property
    def couplings(self): return {"g": self.powers[3]}
    @classmethod
    def from_options(cls, options, ndim): return cls(options["g"], ndim)
"""


def test_options_of_an_installed_action_are_checked_with_the_card(tmp_path, monkeypatch):
    site = tmp_path / "site"
    meta = site / "mine_plugin-1.0.dist-info"
    meta.mkdir(parents=True)
    (site / "mine_plugin.py").write_text(PLUGIN)
    (meta / "METADATA").write_text("Metadata-Version: 2.1\nName: mine_plugin\nVersion: 1.0\n")
    points = (
        "[latticediff.actions]\nmine = mine_plugin:Mine\n[latticediff.action_options]\nmine = mine_plugin:Options\n"
    )
    (meta / "entry_points.txt").write_text(points)
    monkeypatch.syspath_prepend(site)
    registry._entry_points.cache_clear()
    try:
        card = card_of('name = "mine"\ng = 2')
        assert card.theory().describe() == {"name": "mine", "couplings": {"g": 2.0}, "ndim": 2}
        assert card_of('name = "mine"').to_dict()["action"] == {"name": "mine", "g": 0.5}
        assert action_from_description(card.theory().describe()) == card.theory()
        with pytest.raises(CardError, match="has no key 'h'"):
            card_of('name = "mine"\nh = 2')
    finally:
        monkeypatch.undo()
        registry._entry_points.cache_clear()
        sys.modules.pop("mine_plugin", None)

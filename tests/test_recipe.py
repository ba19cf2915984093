"""The recipe for a card that names a theory and a lattice alone. What it chooses is no matter of exactness."""

import pytest

from latticediff.action import Polynomial, SineGordon
from latticediff.cli import main
from latticediff.config import load_card, parse_card
from latticediff.errors import UserError
from latticediff.stages.recipe import _starts, is_bare, recipe

PHI4 = 'convention = "H"\nkappa = {}\nlam = 0.5'


def card(action, shape="[6, 6]", more=""):
    return parse_card(f"[run]\nseed = 3\n[action]\n{action}\n[lattice]\nshape = {shape}\n{more}")


def test_a_card_of_three_sections_is_bare():
    assert is_bare(card(PHI4.format(0.2)))
    for more in (
        "[hmc]\nthin = 5",
        "[network]\nfeatures = 8",
        "[finetune]\nsteps = 10",
        '[network]\nname = "residual"',
    ):
        assert not is_bare(card(PHI4.format(0.2), more=more))


@pytest.mark.parametrize(
    ("action", "shape", "phase", "sites", "clusters"),
    [
        (PHI4.format(0.2), "[6, 6]", "symmetric", "odd", False),
        (PHI4.format(0.2), "[6, 5]", "symmetric", "all", False),
        (PHI4.format(0.45), "[8, 8]", "broken", "all", True),
        ('name = "polynomial"\nhopping = 0.5\na2 = 1.0\na4 = 0.2\na6 = 0.1', "[12]", "symmetric", "all", None),
        ('name = "polynomial"\nhopping = 0.5\na1 = 0.3\na2 = 1.0\na4 = 0.2', "[4, 4]", "single", "all", False),
    ],
)
def test_phase_and_sites_follow_the_theory(action, shape, phase, sites, clusters):
    bare = card(action, shape)
    chosen = recipe(bare)
    training = chosen.card.training
    assert (training.phase, training.sites) == (phase, sites)
    assert clusters is None or (chosen.card.hmc.cluster is not None) is clusters
    assert len(chosen.reasons) == 4 and chosen.reasons[0].startswith("phase: ")
    assert not chosen.card.difference(bare.to_dict(), ("run", "action", "lattice"))
    assert parse_card(chosen.card.to_toml()) == chosen.card  # an ordinary card
    assert recipe(bare) == chosen  # same seed, same choice


@pytest.mark.parametrize("a2", [0.932, 0.85])
def test_kinks_are_not_taken_for_phases(a2):
    """Double wells of quantum mechanics: trajectories move no kink, or make none; clusters do: there is one phase."""
    chosen = recipe(card(f'name = "polynomial"\nhopping = 2.5\na2 = {a2}\na4 = 0.4', "[64]"))
    assert chosen.card.training.phase == "symmetric" and chosen.card.hmc.cluster == 1


MODULATED = 'name = "modulated"\nhopping = 1.0\nnext_nearest = -0.9\na = {}\nb = 0.5'


def test_stripes_are_not_taken_for_a_uniform_phase():
    """K(k) is least at k > 0: a constant field of large |m| would be metastable."""
    with pytest.raises(UserError, match=r"orders at another momentum than zero, .* write a whole card"):
        recipe(card(MODULATED.format(-5.0), "[6, 6]"))
    chosen = recipe(card(MODULATED.format(2.0), "[6, 6]"))
    assert chosen.card.training.phase == "symmetric" and chosen.card.training.sites == "all"
    assert chosen.card.hmc.start == "hot" and chosen.card.gate.enforce


def test_chains_begin_in_the_wells_of_least_action():
    many = SineGordon(0.01, 20.0, 2.0, 0.6)
    starts = _starts(many, (6, 6))
    assert len(starts) <= 32 and abs(starts[0]) < 3 and max(map(abs, starts)) < 30
    first_order = sorted(_starts(Polynomial(8.0, [0.0, 18.22, 0.0, -4.8, 0.0, 2.4]), (12, 12)))
    assert len(first_order) == 3 and first_order[1] == 0.0


def test_few_sites_get_small_steps():
    chosen = recipe(card('convention = "A"\nm2 = 1.0\nlam = 1.0', "[1]"))
    assert chosen.card.hmc.target_acceptance == 0.97


def test_overrides_lie_on_top_of_what_was_chosen(tmp_path, capsys, short_probes):
    (tmp_path / "card.toml").write_text(card(PHI4.format(0.2)).to_toml().split("[hmc]")[0])
    line = ["run", str(tmp_path / "card.toml"), "--out", str(tmp_path / "run"), "--dry-run"]
    main_ends([*line, "--set", "sampling.n_forward=500", "--set", "run.seed=4"])
    told = capsys.readouterr()
    assert "phase: |m| = " in told.err and "n_forward = 500" in told.out and 'sites = "odd"' in told.out
    assert "seed = 4" in told.out


def test_phases_that_no_symmetry_relates_are_named():
    leaning = 'name = "polynomial"\nhopping = 1.0\na1 = 0.002\na2 = 1.0\na4 = 0.25'
    with pytest.raises(UserError, match=r"phases around m = -1\.\d+ and 1\.\d+ .*latticediff mix"):
        recipe(card(leaning, "[16, 16]"))
    first_order = 'name = "polynomial"\nhopping = 8.0\na2 = 18.22\na4 = -4.8\na6 = 2.4'
    with pytest.raises(UserError, match=r"phases around \|m\| = 0\.0\d+ and 0\.8\d+ "):
        recipe(card(first_order, "[12, 12]"))


def test_the_command_says_what_it_chose_and_goes_on_with_it(tmp_path, capsys, short_probes):
    (tmp_path / "card.toml").write_text(card(PHI4.format(0.2)).to_toml().split("[hmc]")[0])
    main_ends(["run", str(tmp_path / "card.toml"), "--out", str(tmp_path / "run"), "--dry-run"])
    told = capsys.readouterr()
    assert "phase: |m| = " in told.err and "ODE: 16 steps" in told.err and 'sites = "odd"' in told.out
    assert not (tmp_path / "run").exists()
    # a run that was begun keeps its own card, whatever a recipe would say today
    (tmp_path / "run").mkdir()
    text = recipe(load_card(tmp_path / "card.toml")).card.to_toml().replace("features = 24", "features = 12")
    (tmp_path / "run" / "card.toml").write_text(text)
    main_ends(["run", str(tmp_path / "card.toml"), "--out", str(tmp_path / "run"), "--dry-run", "--resume"])
    told = capsys.readouterr()
    assert "features = 12" in told.out and "phase: |m|" not in told.err


def main_ends(arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert not ended.value.code

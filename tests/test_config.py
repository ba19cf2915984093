"""Run-cards: what is written is what is read, and what is wrong is named."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latticediff.config import load_card, parse_card
from latticediff.config.card import Card
from latticediff.errors import CardError, FileError

MINIMAL = """
[action]
convention = "A"
m2 = -4.0
lam = 6.008
[lattice]
shape = [8, 8]
"""

COUPLINGS = {
    "A": {"m2": -4.0, "lam": 6.008},
    "H": {"kappa": 0.27, "lam": 0.022},
    "B": {"beta": 0.54, "lam": 0.022},
    "SL": {"mu0_sq": -0.5, "lam": 0.5},
    "N": {"m2": -0.5, "lam": 3.0},
}


@st.composite
def cards(draw):
    """Cards with every kind of value changed from its default."""
    convention = draw(st.sampled_from(sorted(COUPLINGS)))
    positive = st.floats(1e-300, 1e300)
    updates = draw(st.integers(1, 10**12))
    return Card.model_validate(
        {
            "run": {"name": draw(st.text(min_size=1)), "seed": draw(st.integers(0, 2**63 - 1))},
            "action": {"convention": convention, **COUPLINGS[convention]},
            "lattice": {"shape": draw(st.lists(st.integers(1, 512), min_size=1, max_size=4))},
            "hmc": {
                "n_updates": updates,
                "thin": draw(st.integers(1, updates)),
                "trajectory_length": draw(positive),
                "target_acceptance": draw(st.floats(0.01, 0.99)),
                "start": draw(st.sampled_from(["hot", "cold"])),
            },
            "network": {
                "name": "ridge",
                "features": 8,
                "kernel_size": 5,
                "hidden": 16,
                "conditioned": draw(st.booleans()),
                "ordered": draw(st.booleans()),
                "screened": draw(st.booleans()),
                "inputs": draw(st.sampled_from([2, 3])),
                "outputs": draw(st.sampled_from([1, 2])),
            },
            "training": {"learning_rate": draw(positive), "device": draw(st.sampled_from(["auto", "cpu", "cuda:1"]))},
            "sampling": {"sde": {"refresh": draw(st.booleans())}},
        }
    )


@settings(max_examples=60, deadline=None)
@given(cards())
def test_card_round_trip(card):
    again = parse_card(card.to_toml())
    assert again == card
    assert again.digest() == card.digest()


def test_effective_card_holds_every_default():
    data = parse_card(MINIMAL).to_dict()
    assert data["hmc"]["thin"] and data["network"]["features"] and data["sampling"]["sde"]["refresh"] is True
    assert parse_card(MINIMAL.replace("-4.0", "-4")).digest() == parse_card(MINIMAL).digest()


def test_digest_changes_with_any_key():
    card = parse_card(MINIMAL)
    for override in ("run.seed=1", "action.lam=6.0", "lattice.shape=[8, 10]", "sampling.ode.steps=9"):
        assert parse_card(MINIMAL, [override]).digest() != card.digest()


@pytest.mark.parametrize("convention", sorted(COUPLINGS))
def test_card_builds_its_action(convention):
    lines = "\n".join(f"{key} = {value}" for key, value in COUPLINGS[convention].items())
    text = f'[lattice]\nshape = [4, 6, 3]\n[action]\nconvention = "{convention}"\n{lines}\n'
    action = parse_card(text).theory()
    assert (action.convention, action.couplings, action.ndim) == (convention, COUPLINGS[convention], 3)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("hmc.n_chain=3", r"\[hmc\] has no key 'n_chain' \(did you mean 'n_chains'\?\)"),
        ("hmcc.n_chains=3", r"no section \[hmcc\] \(did you mean 'hmc'\?\)"),
        ("sampling.ode.step=3", r"\[sampling.ode\] has no key 'step' \(did you mean 'steps'\?\)"),
        ("hmc.learning_rate=1.0", r"\[hmc\] has no key 'learning_rate' \(it belongs in \[training\]\)"),
        ("action.lamb=1.0", r"\[action\] has no key 'lamb' \(did you mean 'lam'\?\)"),
        ("network.feature=3", r"\[network\] has no key 'feature' \(did you mean 'features'\?\)"),
        ("network.name=ridg", r"no network is called 'ridg' \(did you mean 'ridge'\?\)"),
        ("action.name=phi5", r"no action is called 'phi5' \(did you mean 'phi4'\?\)"),
    ],
)
def test_unknown_key_names_the_nearest(override, message):
    with pytest.raises(CardError, match=message):
        parse_card(MINIMAL, [override])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("hmc.n_chains=0", "hmc.n_chains = 0: .*greater than or equal to 1"),
        ("hmc.n_chains=true", "hmc.n_chains = True"),
        ("hmc.n_chains=4.5", "hmc.n_chains = 4.5"),
        ("hmc.target_acceptance=1.0", "hmc.target_acceptance"),
        ("hmc.thin=1000000", "keeps nothing"),
        ("training.learning_rate=nan", "training.learning_rate"),
        ("training.sigma_min=inf", "training.sigma_min"),
        ("training.device=tpu", "training.device"),
        ("training.steps=0", "untrained; give init"),
        ("network.kernel_size=4", "network.kernel_size = 4: .*odd"),
        ("lattice.shape=[8, 0]", "extent 0"),
        ("lattice.shape=[]", "0 extents"),
        ("lattice.shape=[2,2,2,2,2]", "5 extents"),
        ("action.lam=-1.0", "diverges"),
        ("action.lam=nan", "finite"),
        ("action.lam=many", "expected a number"),
        ("action.convention=Q", "expected one of A, H, B, SL, N"),
        ("run.seed=-1", "run.seed = -1"),
    ],
)
def test_impossible_value_is_one_clear_line(override, message):
    with pytest.raises(CardError, match=message) as caught:
        parse_card(MINIMAL, [override], source="demo.toml")
    assert str(caught.value).startswith("demo.toml: ") and "\n" not in str(caught.value)


def test_missing_parts_are_named():
    with pytest.raises(CardError, match=r"section \[action\] is missing"):
        parse_card("[lattice]\nshape = [4]")
    with pytest.raises(CardError, match=r"lattice.shape is missing"):
        parse_card('[lattice]\n[action]\nconvention = "A"\nm2 = 1.0\nlam = 1.0')
    with pytest.raises(CardError, match=r"lacks lam; convention A has m2, lam"):
        parse_card('[lattice]\nshape = [4]\n[action]\nconvention = "A"\nm2 = 1.0')
    with pytest.raises(CardError, match="names no convention"):
        parse_card("[lattice]\nshape = [4]\n[action]\nm2 = 1.0\nlam = 1.0")


@pytest.mark.parametrize("override", ["hmc.n_chains", "n_chains=3", "=3", ".n=3", "hmc.=3", "lattice.shape.x=3"])
def test_malformed_override_is_refused(override):
    with pytest.raises(CardError, match="--set got"):
        parse_card(MINIMAL, [override])


def test_overrides_take_toml_values_and_bare_words():
    card = parse_card(MINIMAL, ["hmc.start=cold", "lattice.shape=[4, 6]", "sampling.sde.refresh=false", "action.lam=7"])
    assert card.hmc.start == "cold" and card.shape == (4, 6) and card.sampling.sde.refresh is False
    assert card.theory().couplings["lam"] == 7.0 and math.isclose(card.theory().b, 7.0)


def test_unreadable_card_is_a_file_error(tmp_path):
    with pytest.raises(FileError, match="no run-card"):
        load_card(tmp_path / "absent.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FileError, match="cannot read run-card"):
        load_card(tmp_path / "binary.toml")
    (tmp_path / "torn.toml").write_text("[action\n")
    with pytest.raises(CardError, match="is no TOML"):
        load_card(tmp_path / "torn.toml")


def test_byte_order_mark_is_no_part_of_a_card(tmp_path):
    (tmp_path / "card.toml").write_bytes(b"\xef\xbb\xbf" + MINIMAL.encode())
    assert load_card(tmp_path / "card.toml") == parse_card(MINIMAL)


@pytest.mark.parametrize(
    "text",
    [
        "training = 5\n" + MINIMAL,
        "x = " + "[" * 5000 + "]" * 5000,
        "lattice.shape" + ".a" * 3000 + " = 1",
        MINIMAL.replace("6.008", "9" * 400),
        MINIMAL.replace("6.008", "9" * 5000),
        MINIMAL.replace("6.008", "0x" + "f" * 9000),
        MINIMAL.replace("6.008", "1e308"),
        MINIMAL.replace("[8, 8]", "[4294967296, 4294967296]"),
        MINIMAL + f"[training]\nsteps = {2**63}",
        MINIMAL + f"[sampling.kernel]\ntries = {10**400}",
        MINIMAL.replace("[8, 8]", "[65536, 65536]") + f"[hmc]\nn_chains = {10**12}",
    ],
)
def test_card_beyond_all_bounds_is_one_line(text):
    with pytest.raises(CardError) as caught:
        parse_card(text, source="demo.toml").theory()
    assert "demo.toml" in str(caught.value)[:30] and "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_section_is_set_as_a_whole():
    card = parse_card(MINIMAL, ['action={convention="H", kappa=0.25, lam=0.02}'])
    assert card.theory().describe()["couplings"] == {"kappa": 0.25, "lam": 0.02}
    # nothing of the old section is left, and a later key goes into the new one
    card = parse_card(MINIMAL + "[hmc]\nn_chains = 3", ["hmc={thin=2}", "hmc.n_warmup=7"])
    assert (card.hmc.n_chains, card.hmc.thin, card.hmc.n_warmup) == (64, 2, 7)
    with pytest.raises(CardError, match="a section wants a TOML table"):
        parse_card(MINIMAL, ["action={convention=H"])


@pytest.mark.parametrize("turned", [False, True])
def test_couplings_of_the_old_convention_give_way(turned):
    said = []
    overrides = ['action.convention="H"', "action.kappa=0.25", "action.lam=0.02"]
    card = parse_card(MINIMAL, overrides[::-1] if turned else overrides, say=said.append)
    assert card.theory().describe()["couplings"] == {"kappa": 0.25, "lam": 0.02}
    assert len(said) == 1 and "m2 = -4.0" in said[0] and "gave way" in said[0]


def test_coupling_of_the_same_name_in_another_convention_is_not_taken_over():
    # lam of A is no lam of H, nor of N, whose names are those of A
    with pytest.raises(CardError, match=r"give lam too: --set action\.lam="):
        parse_card(MINIMAL, ["action.convention=H", "action.kappa=0.25"])
    with pytest.raises(CardError, match=r"give m2, lam too"):
        parse_card(MINIMAL, ["action.convention=N"])
    said = []
    parse_card(MINIMAL, ["action.convention=A", "action.lam=5"], say=said.append)
    assert not said

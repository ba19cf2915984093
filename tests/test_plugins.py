"""Plug-ins that lack a part of their contract: one line that names the plug-in, the contract and what is missing.

Packages are real ones, as pip would install them: a module and a ``.dist-info`` folder on the path.
"""

import functools

import numpy as np
import pytest
import torch
from learned_toys import network, normal, some_propagator
from plugin_toys import installer

from latticediff import registry
from latticediff.action import LocalAction, Phi4
from latticediff.action.contract import action_from_description, action_from_options
from latticediff.build.learned import build_kernel, build_proposal
from latticediff.build.network import build_network
from latticediff.config import parse_card
from latticediff.ensemble.convert import convert
from latticediff.errors import UserError
from latticediff.gaussian.contract import Expandable, Quartic
from latticediff.gaussian.reference import GaussianReference
from latticediff.lattice import cos_sum
from latticediff.markov import kernel_from_description
from latticediff.model.storage import load_model
from latticediff.observables import measure_primary
from latticediff.stages.propose import propose
from latticediff.stages.sample import sample
from latticediff.stages.sources import Source, gaussian_of
from latticediff.targets.control_variates import three_targets
from latticediff.training.data import TrainingData
from latticediff.training.likelihood import action_of

CARD = """
[action]
convention = "A"
m2 = -4.0
lam = 6.008
[lattice]
shape = [8, 8]
"""


install = installer("bad_plugin")


def refusal(function, *arguments):
    """The one line with which a call is refused."""
    with pytest.raises(UserError) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_two_packages_of_one_name_are_told_apart(install):
    install("def mine(phis, action): return phis", {"observables": {"mine": "mine"}})
    install("def mine(phis, action): return phis", {"observables": {"mine": "mine"}}, "bad_plugin_too")
    said = refusal(registry.load, "observables", "mine")
    assert "'mine'" in said and "bad_plugin (bad_plugin:mine)" in said and "bad_plugin_too" in said


def test_a_package_that_is_found_twice_is_one(install, monkeypatch, tmp_path):
    install("def mine(phis, action): return phis[:, 0, 0]", {"observables": {"mine": "mine"}})
    monkeypatch.syspath_prepend(f"{tmp_path}/../{tmp_path.name}/bad_plugin")
    registry._entry_points.cache_clear()
    assert callable(registry.load("observables", "mine"))


@pytest.mark.parametrize("group", registry.GROUPS)
def test_what_is_no_class_or_function_is_refused_in_every_group(install, group):
    install("thing = 5", {group: {"mine": "thing"}})
    said = refusal(registry.load, group, "mine")
    assert "'mine'" in said and "bad_plugin" in said and "is a int; expected a class or a function" in said


@pytest.mark.parametrize(
    ("source", "reason"),
    [("import nowhere_to_be_found", "nowhere_to_be_found"), ("1 / 0", "ZeroDivisionError"), ("x = (", "SyntaxError")],
)
def test_a_module_that_fails_says_how(install, source, reason):
    install(source, {"actions": {"mine": "Mine"}})
    said = refusal(parse_card, CARD.replace('convention = "A"', 'name = "mine"'))
    assert "action 'mine', bad_plugin (bad_plugin:Mine), cannot be imported" in said and reason in said


def test_an_action_without_a_force(install):
    source = """
class Mine:
    hopping = 1.0
    def __init__(self, m2, lam, ndim): self.ndim = ndim
    def __call__(self, phi): return phi.sum()
    def potential(self, phi): return phi
    def potential_derivative(self, phi): return phi
    def describe(self): return {"name": "mine"}
"""
    install(source, {"actions": {"mine": "Mine"}})
    said = refusal(parse_card, CARD.replace('convention = "A"', 'name = "mine"'))
    assert "action 'mine' has no force, numba_potential" in said and "latticediff.action.contract.Action" in said
    assert "description" in refusal(action_from_description, {"name": "mine"})


def test_a_network_without_describe(install):
    source = """
import torch
class Mine(torch.nn.Module):
    name = "mine"
    def __init__(self, ndim):
        super().__init__()
        self.ndim = ndim
"""
    install(source, {"networks": {"mine": "Mine"}})
    said = refusal(build_network, parse_card(CARD + '[network]\nname = "mine"\n'))
    assert "network 'mine' has no describe" in said and "latticediff.networks.contract.Network" in said


@pytest.mark.parametrize("group", ["network_options", "route_options"])
def test_options_that_are_no_model(install, group):
    points = {"networks": {"mine": "Mine"}, "routes": {"mine": "Mine"}, group: {"mine": "Mine"}}
    install("class Mine: pass", points)
    text = '[network]\nname = "mine"\n' if group == "network_options" else "[sampling.mine]\nn_chains = 4\n"
    said = refusal(parse_card, CARD + text)
    assert f"{group.replace('_', ' ')} 'mine'" in said and "is no pydantic model" in said


ROUTE = """
from latticediff.config.sections import Section
class Options(Section):
    n_chains: int = 4
    n_warmup: int = 0
    n_updates: int = 4
class Mine:
    label = "mine"
    weights = "flow"
    def proposal(self, model, options, batch): return object()
class Unnamed:
    def proposal(self, model, options, batch): return object()
class Noiseless(Mine):
    has_path = False
    def latent(self, model, options, batch, sigma=None): return object()
class Wanting(Mine):
    def __init__(self, model): pass
"""


@pytest.mark.parametrize(
    ("thing", "words"),
    [
        ("Unnamed", ("route 'mine' has no label, weights", "latticediff.build.contract.Route")),
        ("Wanting", ("route 'mine' cannot be made without arguments",)),
        ("Mine", ("the proposal of route 'mine' has no draw", "latticediff.metropolis.contract.Proposal")),
    ],
)
def test_a_route_that_lacks_something(install, thing, words):
    install(ROUTE, {"routes": {"mine": thing}, "route_options": {"mine": "Options"}})
    card = parse_card(CARD + "[sampling.mine]\n")
    said = refusal(build_proposal, card, load_model("phi4-A-L8"), "mine")
    assert all(word in said for word in words)


def test_a_move_that_the_route_has_no_noise_for(install):
    install(ROUTE, {"routes": {"mine": "Mine"}, "route_options": {"mine": "Options"}})
    card = parse_card(CARD + '[sampling.kernel]\nmove = "partial"\n[sampling.mine]\n')
    said = refusal(build_kernel, card, load_model("phi4-A-L8"), "mine")
    assert "route 'mine' has no has_path, latent" in said and "latticediff.build.contract.LatentRoute" in said


def test_a_latent_proposal_without_noise(install):
    install(ROUTE, {"routes": {"mine": "Noiseless"}, "route_options": {"mine": "Options"}})
    card = parse_card(CARD + '[sampling.kernel]\nmove = "partial"\nnoise = "coloured"\neps = 0.5\n[sampling.mine]\n')
    said = refusal(build_kernel, card, load_model("phi4-A-L8"), "mine")
    assert "the proposal of route 'mine' has no" in said and "noise_shape" in said and "LatentProposal" in said


def test_an_observable_of_another_shape(install):
    install("def mine(phis, action): return phis", {"observables": {"mine": "mine"}})
    card = parse_card(CARD)
    said = refusal(measure_primary, np.zeros((3, 2, 8, 8)), card.theory(), ["mine"])
    assert "observable 'mine' has shape (6, 8, 8); expected (6,)" in said


def test_a_kernel_that_cannot_be_built_again(install):
    install("class Mine: pass", {"kernels": {"mine": "Mine"}})
    said = refusal(kernel_from_description, parse_card(CARD).theory(), {"name": "mine"})
    assert "'mine'" in said and "from_description" in said


def test_a_reader_that_returns_an_array(install, tmp_path):
    install("import numpy\ndef mine(path): return numpy.zeros((2, 8, 8))", {"readers": {"mine": "mine"}})
    (tmp_path / "fields.x").write_bytes(b"1")
    with pytest.raises(UserError, match=r"returned a ndarray; the contract .*Reader wants a Foreign") as caught:
        convert(tmp_path / "fields.x", tmp_path / "out.h5", parse_card(CARD).theory(), reader="mine")
    assert "\n" not in str(caught.value)


class Well:
    """A quartic theory of one's own, which knows its expansion: what the learned side asks for, and nothing of Phi4."""

    ndim, is_symmetric, unit_vectors, minima = 2, True, None, (0.0,)
    hopping, b = 2.0, 6.008

    def __call__(self, phi):
        return Phi4.A(-4.0, self.b)(phi)

    def force(self, phi):
        return Phi4.A(-4.0, self.b).force(phi)

    def quadratic_form(self, shape):
        return -2 * self.hopping * cos_sum(shape)

    def local_force(self, phi, variance=0.0, vacuum=0.0):
        return 4 * self.b * phi * (phi * phi + 3 * (variance - vacuum**2))

    def local_curvature(self, phi, variance=0.0):
        return 12 * self.b * (phi * phi + variance)

    def describe(self):
        return {"name": "well"}


def test_the_learned_side_asks_for_an_expansion_and_not_for_phi4():
    """Proposals, targets and gradients of a theory of one's own are those of the same phi^4."""
    own, known = Well(), Phi4.A(-4.0, Well.b)
    references = [GaussianReference(action, some_propagator((4, 6)), dtype=torch.float64) for action in (own, known)]
    made, phi, z = network(2, 0.3).double(), normal((3, 4, 6), 1), normal((3, 4, 6), 2)
    v = torch.full((3, 1, 1), 0.3, dtype=torch.float64)
    for evaluate in (
        lambda gaussian: gaussian.delta_force(phi),
        lambda gaussian: torch.stack(three_targets(gaussian, phi, z, v)),
        lambda gaussian: made(gaussian, phi, torch.tensor([-0.3], dtype=torch.float64), True)[0].detach(),
        lambda gaussian: action_of(gaussian, phi),
    ):
        mine, theirs = (evaluate(gaussian) for gaussian in references)
        np.testing.assert_allclose(mine, theirs, rtol=1e-12, atol=1e-12)
    free = phi.clone().requires_grad_()
    action_of(references[0], free).sum().backward()
    np.testing.assert_allclose(free.grad, -known.force(phi.numpy()), rtol=1e-12)


def test_a_theory_without_an_expansion_is_refused_by_name():
    class Sextic(LocalAction):
        def __repr__(self):
            return "Sextic()"

    line = refusal(GaussianReference, Sextic(1.0, 2), np.ones((4, 4)))
    for word in ("Sextic(), which the learned side cannot expand", "quadratic_form", "local_force", "Expandable"):
        assert word in line


def test_a_local_force_of_any_kind_has_a_baseline():
    class Bent(Well):
        @property
        def b(self):
            raise AttributeError("no quartic term")

        def local_force(self, phi, variance=0.0, vacuum=0.0):
            return phi**5

        def local_curvature(self, phi, variance=0.0):
            return 5 * phi**4

    gaussian = GaussianReference(Bent(), some_propagator((4, 6)))
    assert not gaussian.is_cubic and gaussian.quartic > 0
    R, trace = network(2, 0.1)(gaussian, 0.5 * normal((1, 4, 6), 2, torch.float32), torch.zeros(1), trace=True)
    assert bool(torch.isfinite(R).all()) and bool(torch.isfinite(trace).all())


def test_two_vacua_want_a_symmetric_theory():
    class Tilted(Well):
        is_symmetric = False

    phis = 0.3 * np.random.default_rng(1).standard_normal((64, 4, 6)) - 0.5
    source = Source(Tilted(), TrainingData(phis, 8, 0.125))
    line = refusal(gaussian_of, source, "broken")
    assert "is not symmetric under phi -> -phi" in line and "training.phase = broken wants two equal vacua" in line
    single = gaussian_of(source)  # whatever the card says by default
    assert single.phase == "single" and abs(single.vacuum + 0.5) < 0.1


@pytest.mark.parametrize("couplings", [(-4.0, 6.0), (0.5, 1.0), (-4.0, 2.0)])
def test_the_expansion_of_phi4_is_its_derivative(couplings):
    action = Phi4.A(*couplings)
    phi = np.random.default_rng(3).normal(size=(2, 4, 6))
    linear = np.fft.ifft2(np.fft.fft2(phi) * action.quadratic_form((4, 6))).real
    np.testing.assert_allclose(linear + action.local_force(phi), -action.force(phi), rtol=1e-10, atol=1e-10)
    # averages over a Gaussian, by quadrature
    nodes, weights = np.polynomial.hermite_e.hermegauss(9)
    around = phi[..., None] + np.sqrt(0.3) * nodes
    weights = weights / weights.sum()
    np.testing.assert_allclose(action.local_force(phi, 0.3), action.local_force(around) @ weights, rtol=1e-10)
    np.testing.assert_allclose(action.local_curvature(phi, 0.3), action.local_curvature(around) @ weights, rtol=1e-10)
    slope = action.local_curvature(0.7)
    np.testing.assert_allclose(action.local_force(phi, 0.3, 0.7), action.local_force(phi, 0.3) - slope * phi, rtol=1e-9)
    for value in action.minima:  # of the constant field
        constant = np.full((1, 4, 6), value)
        assert np.abs(action.force(constant)).max() < 1e-12
        assert action(constant)[0] <= action(np.zeros((1, 4, 6)))[0]


SAMPLER = """
import numpy as np
from latticediff.metropolis import Draw
class Sound:
    is_deterministic, evaluations_per_draw = True, 0
    def __init__(self, model): self.lattice_shape, self.asked = tuple(model.lattice), 0
    def draw(self, n, rng):
        phi = rng.standard_normal((n, *self.lattice_shape))
        return Draw(phi, self.weigh(phi))
    def weigh(self, phi, rng=None): return -0.5 * (phi**2).sum(axis=(1, 2)) - phi[0].size * np.log(2 * np.pi) / 2
    def fingerprint(self): return "same"
class Failing(Sound):
    def __init__(self, model): raise RuntimeError("no licence")
class Lacking(Sound):
    def __init__(self, model): import package_that_is_nowhere
class Unnamed(Sound):
    def fingerprint(self): return 1 / 0
class Untold(Sound):
    def describe(self): return {"width": np.ones(3)}
class Drifting(Sound):
    def fingerprint(self):
        self.asked += 1
        return str(self.asked)
class Shifted(Sound):
    def draw(self, n, rng):
        draw = super().draw(n, rng)
        return Draw(draw.phi, draw.log_q + 1)
class Correlated(Sound):
    def draw(self, n, rng):
        draw = super().draw(n, rng)
        phi = 0.6 * draw.phi[:1] + 0.8 * draw.phi
        return Draw(phi, self.weigh(phi))
"""


@pytest.mark.parametrize(
    ("thing", "words"),
    [
        ("Failing", "proposal bad_plugin.Failing: 'mine' of a model raised RuntimeError: no licence"),
        ("Lacking", "proposal bad_plugin.Lacking: 'mine' of a model needs a package that is missing"),
        ("Unnamed", "proposal bad_plugin.Unnamed: fingerprint() raised ZeroDivisionError"),
        ("Untold", "proposal bad_plugin.Untold: describe() for a file raised TypeError"),
        ("Drifting", "proposal bad_plugin.Drifting breaks its contract: its fingerprint changes from call to call"),
        ("Shifted", "proposal bad_plugin.Shifted breaks its contract: weigh and draw give one field log_q that differ"),
        ("Correlated", "proposal bad_plugin.Correlated breaks its contract: draws of 1, 4 and 7 are not those of 12"),
    ],
)
def test_no_pool_and_no_chain_is_made_of_a_proposal_that_breaks_its_contract(install, thing, words, tmp_path):
    install(SAMPLER, {"proposals": {"mine": thing}})
    said = refusal(functools.partial(propose, route="mine"), "phi4-A-L8", 20, tmp_path / "pool.h5")
    assert said.startswith(words) and not (tmp_path / "pool.h5").exists()
    card = parse_card(CARD + "[sampling.mine]\nn_chains = 4\nn_updates = 4\n")
    assert refusal(sample, card, "phi4-A-L8", "mine", tmp_path / "chain.h5").startswith(words)
    assert not (tmp_path / "chain.h5").exists()


def test_a_sound_proposal_fills_a_pool_and_drives_a_chain(install, tmp_path):
    install(SAMPLER, {"proposals": {"mine": "Sound"}})
    assert propose("phi4-A-L8", 20, tmp_path / "pool.bin", route="mine").n == 20
    card = parse_card(CARD + "[sampling.mine]\nn_chains = 4\nn_updates = 4\n")
    with sample(card, "phi4-A-L8", "mine", tmp_path / "chain.h5") as chain:
        assert chain.n_updates == 4


def test_an_observable_that_fails_is_named(install):
    install(
        "def broken(phi, action): return 1 / 0\ndef lacking(phi, action): import package_that_is_nowhere\n",
        {"observables": {"broken": "broken", "lacking": "lacking"}},
    )
    phi, action = np.zeros((3, 4, 4)), Phi4.A(1.0, 1.0)
    said = refusal(measure_primary, phi, action, ["broken"])
    assert said.startswith("observable bad_plugin.broken: 'broken' of 3 fields raised ZeroDivisionError")
    said = refusal(measure_primary, phi, action, ["lacking"])
    assert "observable bad_plugin.lacking: 'lacking' of 3 fields needs a package that is missing" in said


def test_actions_kernels_and_networks_that_cannot_be_made_are_named(install):
    install(
        """
class Made:
    def __init__(self, **given): raise RuntimeError("no licence")
    @classmethod
    def from_options(cls, options, ndim): raise RuntimeError("no licence")
    @classmethod
    def from_description(cls, *given): raise RuntimeError("no licence")
""",
        {group: {"mine": "Made"} for group in ("actions", "kernels", "networks")},
    )
    said = refusal(action_from_options, "mine", {}, 2, (4, 4))
    assert said.startswith("action bad_plugin.Made: from_options raised RuntimeError: no licence; mend it")
    said = refusal(kernel_from_description, Phi4.A(1.0, 1.0), {"name": "mine"})
    assert said.startswith("kernel bad_plugin.Made: from_description raised RuntimeError: no licence; mend it")
    said = refusal(build_network, parse_card(CARD + '[network]\nname = "mine"\n'))
    assert "network bad_plugin.Made: call raised RuntimeError: no licence; mend it" in said


class Passing:
    """Every part by ``__getattr__``, as a module of torch has its layers; what it refuses is not there."""

    def __init__(self, inner, refused=()):
        self._inner, self._refused = inner, refused

    def __getattr__(self, name):
        if name.startswith("_") or name in self._refused:
            raise AttributeError(name)
        return getattr(self._inner, name)

    def __call__(self, phi):
        return self._inner(phi)


def test_a_contract_is_asked_for_each_part_with_every_python():
    """Whether a part is there is what the thing answers, and not what is written in its class."""

    class Denied(Well):
        local_curvature = None

    class Inherited(Quartic):
        """It keeps the contract by its name."""

        describe = minima = None

    assert isinstance(Well(), Quartic) and isinstance(Passing(Well()), Quartic)
    for part in ("b", "local_force", "is_symmetric"):
        assert not isinstance(Passing(Well(), {part}), Quartic)
    assert isinstance(Passing(Well(), {"b"}), Expandable)
    assert not isinstance(Denied(), Expandable)
    assert isinstance(Inherited(), Quartic) and not isinstance(Well(), Inherited)
    reference = GaussianReference(Passing(Well()), some_propagator((4, 6)))
    assert reference.is_cubic and reference.quartic == GaussianReference(Well(), some_propagator((4, 6))).quartic

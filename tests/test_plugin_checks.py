"""`latticediff plugins check`: a plug-in of each kind that is wrong in one way is found to be so, by a line."""

import numpy as np
import pytest
from plugin_toys import installer

from latticediff import HMC, Phi4, Streams
from latticediff.cli import main
from latticediff.composite import Sequence
from latticediff.ensemble import Ensemble, run_chain, verify
from latticediff.errors import UserError
from latticediff.stages.plugins import check_plugins, list_plugins

install = installer("wrong_plugin")


ACTION = """
import numba, numpy as np
from latticediff.action import LocalAction
@numba.njit
def v(phi, p): return p[0] * phi ** 2 + p[1] * phi ** 4
@numba.njit
def dv(phi, p): return 2 * p[0] * phi + 4 * p[1] * phi ** 3
class Mine(LocalAction):
    example = {"c": 0.7, "a": 1.0, "b": 0.5}
    def __init__(self, c, a, b):
        super().__init__(c, 2)
        self.p = np.array([a, b])
    def potential(self, phi): return v.py_func(phi, self.p)
    def potential_derivative(self, phi): return dv.py_func(phi, self.p)
    def numba_potential(self): return v, dv, self.p
    def describe(self): return {"name": "mine", "c": self.hopping, "a": float(self.p[0]), "b": float(self.p[1])}
    @classmethod
    def from_description(cls, d): return cls(d["c"], d["a"], d["b"])
"""
NEXT = """
    def __call__(self, phi):
        phi = np.asarray(phi)
        return super().__call__(phi) - 0.1 * (phi * np.roll(phi, 2, -1)).sum(axis=(-1, -2))
"""
KERNEL = """
import numpy as np
from latticediff.markov import Block, ChainState
class Mine:
    def __init__(self, action): self.action = action
    def start(self, phi): return ChainState(np.array(phi), np.asarray(self.action(phi)), 0)
    def advance(self, state, rng, n_updates, thin=1):
        signs = rng.generator("sign").choice([-1.0, 1.0], (n_updates, len(state.phi)))
        phi = state.phi * np.cumprod(signs, axis=0)[..., None, None]
        info = {"accepted": signs > 0}
        keep = slice(thin - 1 - state.update % thin, None, thin)
        action = np.asarray(self.action(phi))
        return state._replace(phi=phi[-1], update=state.update + n_updates), Block(phi[keep], action[keep], info)
    def describe(self): return {"name": "mine"}
    @classmethod
    def from_description(cls, action, description): return cls(action)
"""
PROPOSAL = """
import numpy as np
from latticediff.metropolis import Draw
from latticediff.config.sections import Section
class Proposal:
    is_deterministic, evaluations_per_draw, lattice_shape = True, 0, (8, 8)
    def draw(self, n, rng):
        phi = rng.standard_normal((n, 8, 8))
        return Draw(phi, self.weigh(phi))
    def weigh(self, phi, rng=None): return -0.5 * (phi ** 2).sum(axis=(1, 2)) - 32 * np.log(2 * np.pi)
    def fingerprint(self): return "mine"
def make(model): return Proposal()
class Route:
    label, weights = "mine", "score"
    def proposal(self, model, options, batch): return Proposal()
class Options(Section):
    n_chains: int = 1
    n_warmup: int = 1
    n_updates: int = 1
    steps: int = 1
"""
NETWORK = """
import torch
class Mine(torch.nn.Module):
    name, closed_form_trace = "mine", True
    def __init__(self, ndim=2):
        super().__init__()
        self.ndim = ndim
        self.weight = torch.nn.Parameter(torch.tensor(0.3))
    def describe(self): return {"name": self.name}
    def forward(self, gaussian, x, log_sigma, trace=False):
        R = self.weight * x
        C = gaussian.posterior(gaussian.expand((2 * log_sigma).exp()))[1]
        total = self.weight * gaussian.at_origin(C) * gaussian.volume
        return R, total.double().expand(len(x)) if trace else None
"""
ALL = {"routes": {"mine": "Route"}, "route_options": {"mine": "Options"}}


@pytest.mark.parametrize(
    ("source", "points"),
    [
        (ACTION, {"actions": {"mine": "Mine"}}),
        (KERNEL, {"kernels": {"mine": "Mine"}}),
        (PROPOSAL, {"proposals": {"mine": "make"}, **ALL}),
        (NETWORK, {"networks": {"mine": "Mine"}}),
        ("def mine(phis, action): return phis.mean(axis=(1, 2))", {"observables": {"mine": "mine"}}),
        ("def mine(path, *, shape=None): pass", {"readers": {"mine": "mine"}}),
        ("def mine(run): pass", {"figures": {"mine": "mine"}}),
    ],
)
def test_what_is_right_passes(install, source, points):
    install(source, points)
    found = check_plugins("mine")
    assert [plugin.faults for plugin in found.plugins] == [()] * len(points), found.to_text()
    found.require_passed()


WRONG = [
    ("actions", ACTION, "2 * p[0] * phi", "3 * p[0] * phi", "force is not -dS/dphi"),
    ("actions", ACTION, "    def describe", NEXT + "    def describe", "S is not -c sum phi phi'"),
    (
        "actions",
        ACTION,
        "return v.py_func(phi, self.p)",
        "return 1.01 * v.py_func(phi, self.p)",
        "numba_potential is not",
    ),
    ("actions", ACTION, 'return cls(d["c"]', 'return cls(2 * d["c"]', "from_description(describe()) is another theory"),
    ("actions", ACTION, "from_description", "from_text", "from_description"),
    ("actions", ACTION, '"c": 0.7', '"d": 0.7', "c"),
    ("kernels", KERNEL, "    def describe", "    def tell", "has no describe"),
    ("kernels", KERNEL, "phi=phi[-1]", "phi=state.phi", "cut into 2 and 3"),
    ("kernels", KERNEL, "state.update + n_updates", "state.update + 1", "counts 1 updates after 5"),
    (
        "kernels",
        KERNEL,
        "np.asarray(self.action(phi))\n        return",
        "np.zeros(phi.shape[:2])\n        return",
        "is not that of",
    ),
    ("kernels", KERNEL, "Block(phi[keep],", "Block(phi[keep][1:],", "Block.phi of 5 updates"),
    ("kernels", KERNEL, '{"name": "mine"}', '{"name": "other"}', "gives the name 'other'"),
    ("kernels", KERNEL, "signs = rng", "1 / 0; signs = rng", "raised ZeroDivisionError"),
    ("proposals", PROPOSAL, "Draw(phi, self.weigh(phi))", "Draw(phi, self.weigh(phi) + 1)", "differ by 1"),
    ("proposals", PROPOSAL, "Draw(phi, self", "Draw(phi[:, :4], self", "phi of shape"),
    ("proposals", PROPOSAL, "rng.standard_normal((n, 8, 8))", "rng.standard_normal((8, 8, n)).T.copy()", "1, 4 and 7"),
    ("proposals", PROPOSAL, 'return "mine"', "return str(np.random.default_rng().random())", "fingerprint changes"),
    ("proposals", PROPOSAL, "    def fingerprint", "    def hash", "has no fingerprint"),
    ("routes", PROPOSAL, '"mine", "score"', '"mine", "best"', "weights is 'best'"),
    ("routes", PROPOSAL, "def proposal(self", "def propose(self", "has no proposal"),
    ("route_options", PROPOSAL, "    steps: int = 1\n", "", "has no steps"),
    ("route_options", PROPOSAL, "(Section)", "", "no pydantic model"),
    ("networks", NETWORK, "* gaussian.volume", "* gaussian.volume * 2", "closed-form trace"),
    ("networks", NETWORK, "R = self.weight * x", "R = self.weight * x[:, :2]", "R of (3, 4, 6) has shape"),
    ("networks", NETWORK, "    def describe", "    def tell", "has no describe"),
]


@pytest.mark.parametrize(("group", "source", "right", "wrong", "said"), WRONG)
def test_what_is_wrong_is_found(install, group, source, right, wrong, said):
    assert right in source
    points = {"actions": {"mine": "Mine"}, "kernels": {"mine": "Mine"}, "networks": {"mine": "Mine"}}
    points = {group: points[group]} if group in points else {"proposals": {"mine": "make"}, **ALL}
    install(source.replace(right, wrong), points)
    faults = [fault for plugin in check_plugins("mine").plugins if plugin.group == group for fault in plugin.faults]
    assert len(faults) >= 1 and said in " ".join(faults) and not any("\n" in fault for fault in faults)


@pytest.mark.parametrize(
    ("group", "source", "said"),
    [
        ("observables", "def mine(phis, action): return phis.mean()", "mine"),
        ("observables", "def mine(phis, action): return phis.mean(axis=(1, 2)) + len(phis)", "depend on the batch"),
        ("readers", "def mine(path, shape): pass", "takes (path, shape)"),
        ("figures", "def mine(): pass", "takes ()"),
        ("readers", "import nowhere_to_be_found", "cannot be imported"),
        ("network_options", "from pydantic import BaseModel\nclass mine(BaseModel): pass", "unknown keys in silence"),
        ("reader", "def mine(path): pass", "no group is called 'reader' (did you mean 'readers'?)"),
    ],
)
def test_small_ones_that_are_wrong(install, group, source, said):
    install(source, {group: {"mine": "mine"}})
    (plugin,) = check_plugins("mine").plugins
    assert said in plugin.faults[0]


def test_the_command(install, capsys):
    install("def mine(): pass", {"figures": {"mine": "mine"}})
    for words, code in ((("list", "mine"), 0), (("check", "mine"), 2), (("check", "min"), 2), (("chek",), 2)):
        with pytest.raises(SystemExit) as caught:
            main(["plugins", *words])
        assert (caught.value.code or 0) == code
    found = capsys.readouterr()
    assert "FAULTY  figures" in found.out and "    fault: takes ()" in found.out
    assert "plug-ins break their contract: figures 'mine'" in found.err
    assert "did you mean 'mine'" in found.err and "did you mean 'check'" in found.err
    assert list_plugins("list", "wrong_plugin").to_dict()["plugins"][0]["group"] == "figures"


def test_what_comes_with_the_package_passes():
    for name in ("raw", "npy", "ridge", "sde"):
        check_plugins(name).require_passed()


def test_without_plugins_of_others_it_says_so():
    if not [plugin for plugin in list_plugins().plugins if plugin.package != "latticediff"]:
        with pytest.raises(UserError, match="no plug-ins of other packages are installed"):
            check_plugins()


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("signs = rng", "1 / 0; signs = rng", "raised ZeroDivisionError: division by zero; mend it"),
        ("signs = rng", "import nowhere_at_all; signs = rng", "needs a package that is missing"),
        ("return state._replace(phi=phi[-1], update=state.update + n_updates), Block", "return Block", "gave a Block"),
        ("Block(phi[keep],", "Block(phi[keep][:, :3],", "gave block.phi of shape"),
        ("Block(phi[keep],", "Block(phi[keep].astype(np.float32),", "block.phi as ndarray of float32"),
        ("Block(phi[keep],", "Block(phi[keep] * np.nan,", "block.phi that is not finite"),
        ("Block(phi[keep],", "Block(-phi[keep],", "not where the chains stand"),
        ("phi=phi[-1]", "phi=phi[-1] * np.nan", "state.phi that is not finite"),
        ("state.update + n_updates", "0", "gave state.update = 0"),
        ("action = np.asarray(self.action(phi))", "action = np.zeros(phi.shape[:2])", "not where the chains stand"),
        ("phi = state.phi *", "phi = 1.001 * state.phi *", "state.action off by"),
    ],
)
@pytest.mark.parametrize("alone", [True, False])
def test_a_kernel_that_breaks_its_contract_during_a_chain_is_named(tmp_path, right, wrong, said, alone):
    """By itself and in a composite; what was done before stays, valid."""
    assert right in KERNEL
    action = Phi4.A(-1.0, 1.0)

    def kernel(source):
        found = {"__name__": "their.package"}
        exec(source, found)
        mine = found["Mine"](action)
        return mine if alone else Sequence([HMC(action, 0.1, 3), mine])

    path, options = tmp_path / "chain.h5", {"block": 5, "checkpoint_seconds": 0.0}
    sound = kernel(KERNEL)
    start = sound.start(np.random.default_rng(1).standard_normal((4, 4, 4)))
    broken = kernel(KERNEL.replace(right, wrong))
    advance, calls = broken.advance, []

    def late(state, rng, n, thin=1):
        calls.append(1)
        return (advance if len(calls) > 2 else sound.advance)(state, rng, n, thin)

    broken.advance = late
    with pytest.raises(UserError, match=r"kernel their\.package\.Mine: advance of") as caught:
        run_chain(broken, (start, Streams(1)), path, 20, **options)
    assert said in str(caught.value) and "\n" not in str(caught.value)
    with Ensemble(path) as part:
        assert part.n_updates == 10
    run_chain(sound, (start, Streams(1)), path, 20, resume=True, **options).close()
    verify(path)

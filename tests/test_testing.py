"""The conformance kit: what keeps its contract passes, and one of each kind that is wrong in one way is told so."""

import subprocess
import sys

import numba
import numpy as np
import pytest
from ensemble_toys import free_fields

from latticediff.action import LocalAction, Phi4, SineGordon
from latticediff.hmc import HMC
from latticediff.local_updates import LocalMetropolis
from latticediff.markov import Block, ChainState
from latticediff.metropolis import Draw
from latticediff.observables import Observable
from latticediff.testing import ContractError, check_action, check_kernel, check_observable, check_proposal

FREE = Phi4.A(0.5, 0.0)


def faults(check, *arguments, **options):
    """The lines of what must fail; the message has all of them, and the name of the thing."""
    with pytest.raises(ContractError, match="breaks its contract") as caught:
        check(*arguments, **options)
    assert isinstance(caught.value, AssertionError)
    assert all(f"- {line}" in str(caught.value) and "\n" not in line for line in caught.value.faults)
    return " | ".join(caught.value.faults)


def test_the_kit_needs_neither_pytest_nor_torch():
    code = """
import sys
sys.modules["pytest"] = None
from latticediff.testing import check_action
from latticediff.action import Phi4
check_action(Phi4.A(-1.0, 1.0))
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@numba.njit
def value(phi, p):
    return p[0] * phi**2 + p[1] * phi**4


@numba.njit
def slope(phi, p):
    return 2 * p[0] * phi + 4 * p[1] * phi**3


class Own(LocalAction):
    def __init__(self, links=()):
        super().__init__(0.7, 2, links)
        self.p = np.array([1.0, 0.5])

    def potential(self, phi):
        return value.py_func(phi, self.p)

    def potential_derivative(self, phi):
        return slope.py_func(phi, self.p)

    def numba_potential(self):
        return value, slope, self.p

    def describe(self):
        return {"name": "own", "links": [[list(offset), c] for offset, c in self._further]}

    @classmethod
    def from_description(cls, description):
        return cls(description["links"])


ACTIONS_OF_OURS = [Phi4.A(-4.0, 6.0), Phi4.A(-4.0, 6.0, ndim=3), SineGordon(0.5, 1.0, 0.5), Own(), Own([((1, 1), 0.2)])]


@pytest.mark.parametrize("action", ACTIONS_OF_OURS)
def test_sound_actions_pass(action):
    check_action(action)
    check_action(action, (5, 3, 4)[: action.ndim])


def changed(**parts):
    return type("Changed", (Own,), parts)()


def unbounded(self):
    Own.__init__(self)
    self.p = np.array([1.0, -0.5])


ACTIONS = {
    "force is not -dS/dphi": {"force": lambda self, phi: 1.01 * Own.force(self, phi)},
    "S is not -c sum phi phi'": {"__call__": lambda self, phi: Own.__call__(self, phi) + (phi**2).sum(axis=(-1, -2))},
    "potential_derivative is not the derivative": {"potential_derivative": lambda self, phi: 1.01 * 2 * phi},
    "numba_potential is not": {"numba_potential": lambda self: (value, slope, np.array([1.0, 0.6]))},
    "the integral of exp(-S) diverges": {"__init__": unbounded},
    "describe() gives what no file can hold": {"describe": lambda self: {"name": "own", "p": self.p}},
    "describe() gives 'own'; expected a dict": {"describe": lambda self: "own"},
    "is another theory": {"from_description": classmethod(lambda cls, told: Own([((1, 1), 0.1)]))},
    "float32": {"force": lambda self, phi: Own.force(self, phi).astype("f4")},
    "has shape (3, 4, 6) and force": {"__call__": lambda self, phi: self.potential(phi)},
    "depends on the batch": {"__call__": lambda self, phi: Own.__call__(self, phi) + (0.1 if np.ndim(phi) == 2 else 0)},
    "writes into the fields": {"force": lambda self, phi: np.negative(phi, out=phi)},
    "has no describe": {"describe": property(lambda self: self.nothing)},
}


@pytest.mark.parametrize("said", ACTIONS)
def test_wrong_actions_fail(said):
    assert said in faults(check_action, changed(**ACTIONS[said]))


class Gaussian:
    """exp(-phi^2 / 2 width^2) at every site, of its own width for what it says."""

    is_deterministic, evaluations_per_draw = True, 0

    def __init__(self, shape=(4, 4), width=1.3, said=None):
        self.lattice_shape, self.width, self.said = shape, width, width if said is None else said

    def draw(self, n, rng):
        phi = self.width * rng.standard_normal((n, *self.lattice_shape))
        return Draw(phi, self.weigh(phi))

    def weigh(self, phi, rng=None):
        normal = -0.5 * (phi / self.said) ** 2 - np.log(self.said) - 0.5 * np.log(2 * np.pi)
        return normal.reshape(len(phi), -1).sum(axis=1)

    def fingerprint(self):
        return f"{self.width} {self.said}"


class Walk(Gaussian):
    """phi = y + e, y being hidden; log_q = log q(y) q(phi | y) - log r(y | phi), with an r wider than the true one."""

    is_deterministic, off, back = False, 0.0, 0.8

    def _log_q(self, y, phi):
        forth = -0.5 * y**2 - 0.5 * (phi - y) ** 2 - np.log(2 * np.pi)
        z = (y - phi / 2) / self.back
        return (forth + 0.5 * z**2 + np.log(self.back) + 0.5 * np.log(2 * np.pi)).reshape(len(phi), -1).sum(axis=1)

    def draw(self, n, rng):
        both = rng.standard_normal((n, 2, *self.lattice_shape))
        return Draw(both.sum(axis=1), self._log_q(both[:, 0], both.sum(axis=1)))

    def weigh(self, phi, rng):
        return self._log_q(phi / 2 + self.back * rng.standard_normal(phi.shape), phi) + self.off


class Latent(Gaussian):
    """The bijection phi = width u."""

    noise_basis, bend = "sites", 0.0

    @property
    def noise_shape(self):
        return self.lattice_shape

    def transport(self, noise):
        return Draw(self.width * noise + self.bend, self.weigh(self.width * noise))

    def invert(self, phi, rng):
        return phi / self.width, self.weigh(phi)


@pytest.mark.parametrize("shape", [(4, 4), (1, 1), (1,)])
@pytest.mark.parametrize("kind", [Gaussian, Walk, Latent])
def test_sound_proposals_pass(kind, shape):
    proposal = kind(shape)
    check_proposal(proposal)
    check_proposal(proposal, np.random.default_rng(1).standard_normal((7, *shape)))


def made(kind=Gaussian, shape=(4, 4), width=1.3, said=None, **parts):
    return type("Made", (kind,), parts)(shape, width, said)


def constant(self, phi, rng=None):
    return Gaussian.weigh(self, phi) + 1


def writing(self, phi, rng=None):
    phi *= 2
    return np.zeros(len(phi))


PROPOSALS = {
    "differ by 1": made(draw=lambda self, n, rng: Draw(phi := rng.standard_normal((n, 4, 4)), constant(self, phi) - 2)),
    "1, 4 and 7 are not those of 12": made(
        draw=lambda self, n, rng: Draw(phi := 1.3 * rng.standard_normal((4, 4, n)).T.copy(), self.weigh(phi))
    ),
    "fingerprint changes": made(fingerprint=lambda self: str(np.random.default_rng().random())),
    "fingerprint() gave bytes; expected text": made(fingerprint=lambda self: b"1"),
    "has no evaluations_per_draw, fingerprint": type("Made", (), {"draw": None})(),
    "another log_q alone": made(weigh=lambda self, phi, rng=None: Gaussian.weigh(self, phi) + 0.1 * (len(phi) == 20)),
    "writes into the fields": made(
        weigh=writing, draw=lambda self, n, rng: Draw(rng.standard_normal((n, 4, 4)), np.zeros(n))
    ),
    "not normalised: exp(log_q) integrates to 2.71": made(shape=(1, 1), weigh=constant),
    "draws do not follow": made(shape=(1, 1), said=3.0),
    "weigh and draw are of two densities": made(Walk, off=0.5),
    "transport(invert(phi)) is off phi by 0.5": made(Latent, bend=0.5),
    "gave log_q of shape (12, 4)": made(weigh=lambda self, phi, rng=None: np.zeros((len(phi), 4))),
    "describe() for a file raised TypeError": made(describe=lambda self: {"width": np.ones(2)}),
    "describe() gave list; expected a dict": made(describe=lambda self: [1]),
    "log_q = nan": made(draw=lambda self, n, rng: Draw(rng.standard_normal((n, 4, 4)), np.full(n, np.nan))),
}


@pytest.mark.parametrize("said", PROPOSALS)
def test_wrong_proposals_fail(said):
    assert said in faults(check_proposal, PROPOSALS[said])


def test_a_path_whose_density_is_wrong_is_seen_on_one_site():
    """Both directions agree, as the constant is in both; only the integral can tell."""
    both = made(Walk, (1,), _log_q=lambda self, y, phi: Walk._log_q(self, y, phi) + 0.5)
    assert "integrates to 1.6" in faults(check_proposal, both, n=2000)


@pytest.fixture(scope="module")
def exact():
    return free_fields(FREE, 4000, (4, 4))


class Metropolis:
    """One site of all at a time would take a loop; here a global step, in NumPy, with a fault that is asked for."""

    factor, scale = 1.0, 0.15

    def __init__(self, action):
        self.action = action

    def start(self, phi):
        return ChainState(np.array(phi, np.float64), np.asarray(self.action(phi)), 0)

    def advance(self, state, rng, n_updates, thin=1):
        generator, (phi, action, update, *_) = rng.generator("step"), state
        phis, actions, accepted = [], [], []
        for update in range(state.update + 1, state.update + n_updates + 1):
            trial = phi + self.scale * generator.standard_normal(phi.shape)
            other = self.action(trial)
            yes = np.log(generator.random(len(phi))) < self.factor * (action - other)
            phi, action = np.where(yes[:, None, None], trial, phi), np.where(yes, other, action)
            accepted.append(yes)
            if update % thin == 0:
                phis.append(phi)
                actions.append(action)
        block = Block(np.array(phis).reshape(-1, *phi.shape), np.array(actions), {"accepted": np.array(accepted)})
        return ChainState(phi, action, update), block

    def describe(self):
        return {"name": "metropolis"}

    @classmethod
    def from_description(cls, action, description):
        return cls(action)


@pytest.mark.parametrize("kernel", [Metropolis(FREE), HMC(FREE, 0.2, 5), LocalMetropolis(FREE, 1.0)])
def test_sound_kernels_pass(exact, kernel):
    check_kernel(kernel, exact)


class Remembers(Metropolis):
    """Its step grows from call to call, and no file holds it."""

    def advance(self, state, rng, n_updates, thin=1):
        self.scale = 0.15 if state.update == 0 else self.scale + (state.update == 2) * 1e-3 * (n_updates == 9)
        return super().advance(state, rng, n_updates, thin)


class Unsaved(Metropolis):
    """Options that its description leaves out."""

    scale = 0.2

    @classmethod
    def from_description(cls, action, description):
        return Metropolis(action)


class Writes(Metropolis):
    def advance(self, state, rng, n_updates, thin=1):
        after, block = super().advance(state, rng, n_updates, thin)
        state.phi[:] = after.phi
        return after, block


class Global(Metropolis):
    """Draws of a generator of its own go on where a resumed run begins again."""

    def __init__(self, action):
        super().__init__(action)
        self.own = np.random.default_rng(1)

    def advance(self, state, rng, n_updates, thin=1):
        return super().advance(state, type("Rng", (), {"generator": lambda _, name: self.own})(), n_updates, thin)


def wrong(**parts):
    return type("Wrong", (Metropolis,), parts)(FREE)


KERNELS = {
    "not stationary: the mean of": wrong(factor=0.8),
    "the action that it gives is not": wrong(start=lambda self, phi: ChainState(phi, self.action(phi) + 1, 0)),
    "from_description(describe()) it has other bits": Unsaved(FREE),
    "writes into the state": Writes(FREE),
    "cut into 2 and 3": Global(FREE),
    "with thin=2 it keeps 5 of 5": wrong(advance=lambda self, s, rng, n, thin=1: Metropolis.advance(self, s, rng, n)),
    "describe() gives {}": wrong(describe=lambda self: {}),
    "has no advance": type("Wrong", (), {})(),
}


@pytest.mark.parametrize("said", KERNELS)
def test_wrong_kernels_fail(exact, said):
    assert said in faults(check_kernel, KERNELS[said], exact, 30)


def test_too_few_exact_fields_are_refused(exact):
    with pytest.raises(ValueError, match="at least 100 finite fields"):
        check_kernel(Metropolis(FREE), exact[:50])


def phi_squared(phis, action):
    return (phis**2).mean(axis=(1, 2))


def centred(phis, action):
    return phi_squared(phis - phis.mean(axis=0), action)


def scaled(phis, action):
    phis *= 2
    return phi_squared(phis, action)


def noisy(phis, action):
    return phi_squared(phis, action) + np.random.default_rng().random()


def logarithm(phis, action):
    with np.errstate(invalid="ignore"):
        return np.log(phis.mean(axis=(1, 2)))


def total(phis, action):
    return (phis**2).mean()


def test_observables_pass_and_fail(exact):
    check_observable(phi_squared)
    check_observable(Observable(np.abs, ("m",)))
    check_observable(phi_squared, FREE, exact[:10])
    for function, said in (
        (centred, "depend on the batch"),
        (scaled, "writes into the arrays"),
        (noisy, "change from call to call"),
        (logarithm, "observable 'logarithm' is nan"),
        (total, "has shape ()"),
        (Observable(phi_squared, ("m2",), derived=True), "derived from means"),
    ):
        assert said in faults(check_observable, function)

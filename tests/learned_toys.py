"""Small score models for the tests of the learned side: untrained networks with random weights, bad on purpose."""

import numpy as np
import torch

from latticediff.action import Phi4, free_propagator
from latticediff.diffusion.ladder import NoiseRange
from latticediff.gaussian.reference import GaussianReference
from latticediff.model.score_model import ScoreModel
from latticediff.networks.ridge.network import RidgeNetwork

torch.set_num_threads(1)  # fields this small only lose by threads, and the order of sums stays fixed

FREE = Phi4.A(0.8, 0.0)
QUARTIC = Phi4.A(-4.0, 6.008)
SHAPE = (4, 6)
#: `FREE` on `SHAPE` as the beginning of a card
FREE_CARD = """
[run]
seed = 4
[action]
convention = "A"
m2 = 0.8
lam = 0.0
[lattice]
shape = [4, 6]
"""


def some_propagator(shape, mass=2.0):
    """A positive, symmetric function of k that is nobody's measured propagator."""
    return free_propagator(Phi4.A(mass, 0.0, len(shape)), shape)


def network(ndim, strength, seed=0, **options):
    """A ridge network with random amplitudes of size `strength`; 0 leaves the baseline."""
    options = {"features": 6, "hidden": 8, **options}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = RidgeNetwork(ndim, **options)
        if strength:
            torch.nn.init.normal_(made.amplitude.weight, std=strength)
            torch.nn.init.normal_(made.amplitude.bias, std=strength)
    return made


def model(action, shape, strength, sigmas=(0.05, 4.0), propagator=None, seed=0, **options):
    """A score model of such a network; covariances of its SDE steps are those of a Gaussian theory."""
    if propagator is None:
        propagator = free_propagator(action, shape) if action.b == 0 else some_propagator(shape)
    noise = NoiseRange(*sigmas)
    made = network(action.ndim, strength, seed, **options)
    return ScoreModel(
        made, GaussianReference(action, propagator), noise, np.array(noise.log_range), np.ones((2, *shape))
    )


def normal(shape, seed, dtype=torch.float64):
    """A standard normal tensor."""
    return torch.as_tensor(np.random.default_rng(seed).normal(size=shape), dtype=dtype)


def card_of_part(training, finetune_steps):
    """A small card of 8x8 whose network learns a part of the sites, both routes included."""
    return f"""
[run]
seed = 5
[action]
convention = "A"
m2 = -4.0
lam = 6.008
[lattice]
shape = [8, 8]
[hmc]
n_chains = 8
n_warmup = 100
n_updates = 400
thin = 2
[gate]
enforce = false
[network]
features = 4
hidden = 8
[training]
{training}
batch = 32
[finetune]
steps = {finetune_steps}
batch = 8
[sampling]
batch = 64
n_forward = 64
max_doubling = "any"
[sampling.ode]
n_chains = 4
n_warmup = 2
n_updates = 40
steps = 6
[sampling.sde]
n_chains = 4
n_warmup = 2
n_updates = 20
steps = 8
"""

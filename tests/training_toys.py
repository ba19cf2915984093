"""A small trainer for the tests of training: normal fields for data, a few features, a few steps."""

import itertools

import numpy as np
import torch
from learned_toys import QUARTIC, network

from latticediff.diffusion.ladder import NoiseRange
from latticediff.gaussian.propagator import measured_propagator
from latticediff.gaussian.reference import GaussianReference
from latticediff.training import Task, Trainer, TrainingData, TrainingPlan

SHAPE = (4, 4)
#: Theory and lattice of `phis` in a card; too few configurations for a gate
THEORY = """
[action]
convention = "A"
m2 = -4.0
lam = 6.008
[lattice]
shape = [4, 4]
[gate]
enforce = false
"""
PLAN = {"steps": 24, "batch": 16, "warmup": 4}


def phis(n=64, shape=SHAPE):
    return 0.4 * np.random.default_rng(1).normal(size=(n, *shape))


def trainer(data=None, seed=0, features=6, action=QUARTIC, sigmas=(0.05, 4.0), strength=0.0, **plan):
    data = data or TrainingData(phis(), n_chains=8)
    G = measured_propagator([phis()], SHAPE)
    made = network(2, strength, seed, features=features)
    return Trainer(
        made, Task(GaussianReference(action, G), data), NoiseRange(*sigmas), TrainingPlan(**{**PLAN, **plan})
    )


def weights(made):
    return [t.clone() for t in (*made.network.state_dict().values(), *made.ema.state_dict().values())]


def assert_same(one, other):
    for a, b in zip(weights(one), weights(other), strict=True):
        assert torch.equal(a, b)


def stopping_after(calls):
    """A `stop` that gives its reason at the call with that number."""
    counter = itertools.count(1)
    return lambda: "told to" if next(counter) == calls else None

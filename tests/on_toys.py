"""What the tests of the learned side of O(N) theories share: references, networks with random weights, rotations."""

import numpy as np
import torch
from learned_toys import normal, some_propagator

from latticediff.action import ON
from latticediff.diffusion.ladder import NoiseRange
from latticediff.gaussian.reference import GaussianReference
from latticediff.model.score_model import ScoreModel
from latticediff.networks.ridge.vector import VectorRidgeNetwork


def theory(n, ndim, m2=-1.0, lam=1.5):
    return ON("A", {"m2": m2, "lam": lam}, n, ndim)


def reference(n, lattice, dtype=torch.float64, **couplings):
    propagator = np.broadcast_to(some_propagator(lattice), (n, *lattice)).copy()
    return GaussianReference(theory(n, len(lattice), **couplings), propagator, dtype=dtype)


def network(ndim, seed=0, strength=0.3, kind=VectorRidgeNetwork, **options):
    """A network whose weights are all random."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = kind(ndim, features=5, hidden=8, **options).double()
        for weights in made.parameters():
            torch.nn.init.normal_(weights, std=strength)
    return made.requires_grad_(False)


def vector_model(n=2, lattice=(4, 4), strength=0.1, sigmas=(0.05, 3.0), **couplings):
    """A score model whose network has random amplitudes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        made = VectorRidgeNetwork(len(lattice) + 1, features=4, hidden=8, ordered=True, screened=True)
        torch.nn.init.normal_(made.amplitude.bias, std=strength)
    gaussian, noise = reference(n, lattice, torch.float32, **couplings), NoiseRange(*sigmas)
    return ScoreModel(made, gaussian, noise, np.array(noise.log_range), np.ones((2, n, *lattice)))


def rotation(n, seed=0):
    return torch.linalg.qr(normal((n, n), seed))[0]


def rotated(x, matrix):
    return torch.einsum("ab,nb...->na...", matrix, x)

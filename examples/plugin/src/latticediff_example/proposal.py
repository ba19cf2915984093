"""A route from a score model to a proposal: here a Gaussian with the model's propagator, and no network at all."""

import hashlib

import numpy as np

from latticediff.fourier import basis_from_momenta, transform
from latticediff.metropolis import Draw


class GaussianProposal:
    is_deterministic, evaluations_per_draw = True, 0

    def __init__(self, propagator, width=1.0):
        self.lattice_shape, self.width = propagator.shape, width
        self.root = width * np.sqrt(basis_from_momenta(propagator, propagator.shape))

    def draw(self, n, rng):
        phi = transform(self.root * rng.standard_normal((n, *self.lattice_shape)), self.lattice_shape, inverse=True)
        return Draw(phi, self.weigh(phi))

    def weigh(self, phi, rng=None):
        noise = transform(phi, self.lattice_shape) / self.root
        normal = -0.5 * noise**2 - np.log(self.root) - 0.5 * np.log(2 * np.pi)
        return normal.reshape(len(phi), -1).sum(axis=1)

    def describe(self):
        return {"name": "gaussian", "width": self.width}

    def fingerprint(self):
        return hashlib.sha256(self.root.tobytes()).hexdigest()


def gaussian(model, width=1.0):
    """Without a route: ``[sampling.propagator]``, or ``latticediff.load(name).proposal("propagator", width=1.1)``."""
    return GaussianProposal(model.gaussian.propagator_full.numpy(), width)


class GaussianRoute:
    label, weights = "Gaussian", "score"

    def proposal(self, model, options, batch):
        return gaussian(model, options.width)

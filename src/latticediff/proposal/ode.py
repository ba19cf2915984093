"""Probability-flow ODE as a proposal: a deterministic map from noise, so any field can be weighed."""

import hashlib
import json

import numpy as np
import torch

from ..diffusion.flow import ProbabilityFlow
from ..diffusion.runge_kutta import scheme
from ..errors import UserError
from ..metropolis import Draw

__all__ = ["OdeProposal"]


class OdeProposal:
    """Proposals from the probability-flow ODE of a score model.

    Parameters
    ----------
    model : latticediff.score.model.ScoreModel
    steps : int
        Runge-Kutta steps from sigma_max to sigma_min.
    method : str
        Scheme; see `latticediff.diffusion.runge_kutta`.
    batch : int
        Fields integrated at once; memory, not results, depends on it.
    """

    is_deterministic = True

    def __init__(self, model, steps=12, method="rk4", batch=256):
        self.model, self.steps, self.batch = model, int(steps), int(batch)
        self.method = scheme(method)
        self.flow = ProbabilityFlow(model.network, model.background, model.noise.grid(steps), self.method)
        self.lattice_shape = model.shape
        self.evaluations_per_draw = self.flow.evaluations

    def describe(self):
        """JSON-able parameters."""
        return {"name": "ode", "steps": self.steps, "method": self.method.name, "model": self.model.fingerprint()}

    def fingerprint(self):
        """Hex SHA-256 of model and integrator."""
        return hashlib.sha256(json.dumps(self.describe(), sort_keys=True).encode()).hexdigest()

    def doubled(self):
        """The same proposal with twice the steps, to measure the integration error."""
        return OdeProposal(self.model, 2 * self.steps, self.method.name, self.batch)

    def draw(self, n, rng):
        """`Draw` of `n` proposals; a draw that blows up has ``log_q = +inf``, hence weight zero."""
        phi, log_q = np.empty((n, *self.lattice_shape)), np.empty(n)
        for part in self._parts(n):
            noise = rng.standard_normal((part.stop - part.start, *self.lattice_shape))
            field, density = self.flow.down(self._tensor(noise))
            phi[part], log_q[part] = field.double().cpu().numpy(), density.cpu().numpy()
        diverged = ~(np.isfinite(log_q) & np.isfinite(phi).reshape(n, -1).all(axis=1))
        phi[diverged], log_q[diverged] = 0.0, np.inf
        return Draw(phi, log_q)

    def weigh(self, phi, rng=None):
        """log_q of given fields, (n,) float64: the flow integrated upwards; `rng` is not used."""
        return self.invert(phi)[1]

    def invert(self, phi):
        """The noise that leads to `phi`, (n, *lattice), and its log_q, (n,); float64."""
        phi = np.asarray(phi, np.float64)
        if phi.shape[1:] != tuple(self.lattice_shape):
            raise UserError(f"phi has shape {phi.shape}; expected (n, {', '.join(map(str, self.lattice_shape))})")
        if not np.all(np.isfinite(phi)):
            raise UserError("phi holds values that are not finite")
        y, log_q = np.empty(phi.shape), np.empty(len(phi))
        for part in self._parts(len(phi)):
            noise, density = self.flow.up(self._tensor(phi[part]))
            y[part], log_q[part] = noise.double().cpu().numpy(), density.cpu().numpy()
        return y, log_q

    def _parts(self, n):
        return [slice(a, min(a + self.batch, n)) for a in range(0, n, self.batch)]

    def _tensor(self, array):
        background = self.model.background
        return torch.as_tensor(array).to(background.device, background.dtype)

"""Reverse SDE as a proposal: N Gaussian steps, weighed by the density of the whole path."""

import hashlib
import json

import numpy as np
import torch

from ..diffusion.reverse import ReverseProcess
from ..errors import UserError
from ..metropolis import Draw

__all__ = ["SdeProposal"]


class SdeProposal:
    """Proposals from the reverse SDE of a score model; ``log_q`` is that of field and path together.

    Parameters
    ----------
    model : latticediff.score.model.ScoreModel
    steps : int
        Reverse steps N.
    batch : int
        Fields moved at once; memory, not results, depends on it.
    """

    is_deterministic = False

    def __init__(self, model, steps=60, batch=256):
        self.model, self.steps, self.batch = model, int(steps), int(batch)
        variances = model.noise.variances(self.steps)
        powers = model.score_power(variances[1:])
        self.process = ReverseProcess(model.network, model.background, variances, powers)
        self.lattice_shape = model.shape
        self.evaluations_per_draw = self.steps

    def describe(self):
        """JSON-able parameters."""
        return {"name": "sde", "steps": self.steps, "model": self.model.fingerprint()}

    def fingerprint(self):
        """Hex SHA-256 of model and ladder."""
        return hashlib.sha256(json.dumps(self.describe(), sort_keys=True).encode()).hexdigest()

    def draw(self, n, rng):
        """`Draw` of `n` proposals; a draw that blows up has ``log_q = +inf``, hence weight zero."""
        phi, log_q = np.empty((n, *self.lattice_shape)), np.empty(n)
        for part in self._parts(n):
            noise = rng.standard_normal((part.stop - part.start, self.steps + 1, *self.lattice_shape))
            field, density = self.process.down(self._tensor(noise))
            phi[part], log_q[part] = field.cpu().numpy(), density.cpu().numpy()
        diverged = ~(np.isfinite(log_q) & np.isfinite(phi).reshape(n, -1).all(axis=1))
        phi[diverged], log_q[diverged] = 0.0, np.inf
        return Draw(phi, log_q)

    def weigh(self, phi, rng):
        """log_q of given fields with a forward path drawn from `rng`, (n,) float64."""
        phi = np.asarray(phi, np.float64)
        if phi.shape[1:] != tuple(self.lattice_shape):
            raise UserError(f"phi has shape {phi.shape}; expected (n, {', '.join(map(str, self.lattice_shape))})")
        if not np.all(np.isfinite(phi)):
            raise UserError("phi holds values that are not finite")
        log_q = np.empty(len(phi))
        for part in self._parts(len(phi)):
            noise = rng.standard_normal((part.stop - part.start, self.steps, *self.lattice_shape))
            log_q[part] = self.process.up(self._tensor(phi[part]), self._tensor(noise)).cpu().numpy()
        return log_q

    def _parts(self, n):
        return [slice(a, min(a + self.batch, n)) for a in range(0, n, self.batch)]

    def _tensor(self, array):
        return torch.as_tensor(array, dtype=torch.float64, device=self.model.background.device)

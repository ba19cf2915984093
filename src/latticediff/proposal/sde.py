"""Reverse SDE as a proposal: N Gaussian steps, weighed by the density of the whole path."""

import hashlib
import json
import math

import numpy as np
import torch

from ..diffusion.reverse import FourierModes, ReverseProcess, step_covariances
from ..fourier import basis_from_momenta
from ..metropolis import Draw
from .fields import checked_batch, checked_fields, padded, parts, without_diverged
from .ode import can_compile

__all__ = ["SdeProposal"]

#: Lowest noise level of the ladder, in units of the site's width <phi^2>^(1/2). At L = 8, lam = 6.008 and
#: 60 steps the ESS was 0.62, 0.66, 0.66, 0.53 for 0.02, 0.07, 0.14, 0.23.
FIRST = 0.1


class SdeProposal:
    """Proposals from the reverse SDE of a score model; ``log_q`` is that of field and path together.

    Parameters
    ----------
    model : latticediff.score.model.ScoreModel
    steps : int
        Reverse steps N.
    batch : int
        Fields moved at once; memory, not results, depends on it.
    compiled : bool, optional
        Use the network's compiled CPU version. Default: if there is one and the model is on the CPU.
    """

    is_deterministic = False

    def __init__(self, model, steps=60, batch=256, compiled=None):
        self.model, self.steps, self.batch = model, int(steps), checked_batch(batch)
        self.lattice_shape = model.shape
        self.compiled = can_compile(model) if compiled is None else bool(compiled)
        self.process = self._process()
        self.evaluations_per_draw = self.steps
        # standard normal noise is standard normal in the Fourier basis too
        layout = (model.background.volume,) if self.compiled else model.shape
        self.noise_shape = (self.steps + 1, *layout)

    def _process(self):
        model = self.model
        variances = model.noise.variances(self.steps, FIRST * math.sqrt(model.background.g_mean))
        G = model.background.propagator_full.numpy()
        functions = [*step_covariances(G, variances, model.score_power(variances[1:])), G + variances[-1]]
        functions = [basis_from_momenta(f, model.shape) for f in functions]
        if self.compiled:
            modes = model.network.compiled().CompiledModes(model.network, model.background, variances)
            functions = [f.ravel() for f in functions]
        else:
            modes = FourierModes(model.network, model.background, variances)
            device = model.background.device
            functions = [torch.as_tensor(f, dtype=torch.float64, device=device) for f in functions]
        return ReverseProcess(modes, variances, functions[:-1], functions[-1])

    def describe(self):
        """JSON-able parameters."""
        return {"name": "sde", "steps": self.steps, "first": FIRST, "model": self.model.fingerprint()}

    def fingerprint(self):
        """Hex SHA-256 of model and ladder."""
        return hashlib.sha256(json.dumps(self.describe(), sort_keys=True).encode()).hexdigest()

    def draw(self, n, rng):
        """`Draw` of `n` proposals; a draw that blows up has ``log_q = +inf``, hence weight zero."""
        phi, log_q = np.empty((n, *self.lattice_shape)), np.empty(n)
        for part in parts(n, self.batch):
            phi[part], log_q[part] = self._down(rng.standard_normal((part.stop - part.start, *self.noise_shape)))
        return Draw(*without_diverged(phi, log_q))

    def transport(self, noise):
        """`Draw` that standard normal `noise`, (n, *noise_shape), is carried to: the prior's, then each step's."""
        phi, log_q = np.empty((len(noise), *self.lattice_shape)), np.empty(len(noise))
        for part in parts(len(noise), self.batch):
            phi[part], log_q[part] = self._down(noise[part])
        return Draw(*without_diverged(phi, log_q))

    def weigh(self, phi, rng):
        """log_q of given fields with a forward path drawn from `rng`, (n,) float64."""
        return self.invert(phi, rng)[1]

    def invert(self, phi, rng):
        """Noise (n, *noise_shape) that leads to `phi` along a forward path drawn from `rng`, and its log_q, (n,)."""
        phi = checked_fields(phi, self.lattice_shape)
        noise, log_q = np.empty((len(phi), *self.noise_shape)), np.empty(len(phi))
        for part in parts(len(phi), self.batch):
            fields = self.process.modes.ridge.transform(phi[part]) if self.compiled else self._fields(phi[part])
            steps = rng.standard_normal((part.stop - part.start, self.steps, *self.noise_shape[1:]))
            back = self.process.retrace(fields, steps if self.compiled else self._fields(steps))
            noise[part], log_q[part] = back if self.compiled else self._arrays(back, len(steps))
        return noise, log_q

    def _down(self, noise):
        if self.compiled:
            fields, log_q = self.process.down(noise)
            return self.process.modes.ridge.transform(fields, inverse=True), log_q
        return self._arrays(self.process.down(self._fields(noise)), len(noise))

    def _fields(self, array):
        return torch.as_tensor(padded(array), dtype=torch.float64, device=self.model.background.device)

    def _arrays(self, tensors, n):
        """The reverse of `_fields` for several tensors."""
        return tuple(tensor[:n].cpu().numpy() for tensor in tensors)

"""Reverse SDE as a proposal: N steps of known density, weighed by the density of the whole path."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import ArrayLike

from ..defaults import SDE_STEPS
from ..host import torch_defaults
from ..metropolis import Draw
from ..types import Description, FloatArray
from .fields import checked_batch, checked_fields, padded, parts, without_diverged
from .ode import can_compile
from .plan import ReversePlan

if TYPE_CHECKING:
    from torch import Tensor

    from ..diffusion.compiled_sites import CompiledSites
    from ..model.score_model import ScoreModel


__all__ = ["SdeProposal"]


class SdeProposal:
    """Proposals from the reverse SDE of a score model; ``log_q`` is that of field and path together.

    Parameters
    ----------
    model : latticediff.model.score_model.ScoreModel
    steps : int
        Reverse steps N, each with one network evaluation.
    batch : int
        Fields moved at once; memory, not results, depends on it.
    compiled : bool, optional
        Use the network's compiled CPU version. Default: if there is one and the model is on the CPU.
    ladder, kernel, process : str
        Levels, densities of the steps, and coordinates; see `latticediff.proposal.plan.ReversePlan`.
    """

    is_deterministic = False

    @torch_defaults()
    def __init__(
        self,
        model: ScoreModel,
        steps: int = SDE_STEPS,
        batch: int = 256,
        compiled: bool | None = None,
        ladder: str = "optimised",
        kernel: str = "dressed",
        process: str = "variance_exploding",
    ) -> None:
        self.model, self.steps = model, int(steps)
        self.batch = checked_batch(batch, (self.steps + 1) * model.gaussian.volume)
        self.lattice_shape = model.shape
        self.compiled = can_compile(model) if compiled is None else bool(compiled)
        self.plan = ReversePlan(model, self.steps, ladder, kernel, process, self.compiled)
        self.process = self.plan.build()
        self.evaluations_per_draw = self.steps
        # standard normal noise is standard normal in the Fourier basis too
        layout = (model.gaussian.volume,) if self.compiled else model.shape
        self.noise_shape = (self.steps + 1, *layout)

    def describe(self) -> Description:
        """JSON-able parameters."""
        return {"name": "sde", "steps": self.steps, **self.plan.describe(), "model": self.model.fingerprint()}

    def fingerprint(self) -> str:
        """Hex SHA-256 of model and ladder."""
        return hashlib.sha256(json.dumps(self.describe(), sort_keys=True).encode()).hexdigest()

    @torch_defaults()
    def draw(self, n: int, rng: np.random.Generator) -> Draw:
        """`Draw` of `n` proposals; a draw that blows up has ``log_q = +inf``, hence weight zero."""
        phi, log_q = np.empty((n, *self.lattice_shape)), np.empty(n)
        for part in parts(n, self.batch):
            phi[part], log_q[part] = self._down(rng.standard_normal((part.stop - part.start, *self.noise_shape)))
        return Draw(*without_diverged(phi, log_q))

    @torch_defaults()
    def transport(self, noise: FloatArray) -> Draw:
        """`Draw` that standard normal `noise`, (n, *noise_shape), is carried to: the prior's, then each step's."""
        phi, log_q = np.empty((len(noise), *self.lattice_shape)), np.empty(len(noise))
        for part in parts(len(noise), self.batch):
            phi[part], log_q[part] = self._down(noise[part])
        return Draw(*without_diverged(phi, log_q))

    @torch_defaults()
    def path(self, noise: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The way of `transport`, at every level of the ladder.

        Parameters
        ----------
        noise : ndarray, shape (n, *noise_shape), float64
            All of it at once; memory is that of N + 1 fields for each.

        Returns
        -------
        sigma : ndarray, shape (N + 1,), float64
            Descending to 0.
        fields : ndarray, shape (N + 1, n, *lattice), float64
            x_sigma, field and noise of that width; the last are the fields.
        """
        walk = self.process.walk(noise if self.compiled else self._fields(noise))
        levels = zip(reversed(self.process.alphas), walk, strict=True)
        fields = [self._on_lattice(x / alpha)[: len(noise)] for alpha, (x, _) in levels]
        return np.sqrt(self.process.variances[::-1]), np.array(fields)

    def _on_lattice(self, x: Any) -> FloatArray:
        return self._sites().fields(x) if self.compiled else x.cpu().numpy()

    @torch_defaults()
    def weigh(self, phi: ArrayLike, rng: np.random.Generator) -> FloatArray:
        """log_q of given fields with a forward path drawn from `rng`, (n,) float64."""
        return self.invert(phi, rng)[1]

    @torch_defaults()
    def invert(self, phi: ArrayLike, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Noise (n, *noise_shape) that leads to `phi` along a forward path drawn from `rng`, and its log_q, (n,)."""
        given = checked_fields(phi, self.lattice_shape)
        noise, log_q = np.empty((len(given), *self.noise_shape)), np.empty(len(given))
        for part in parts(len(given), self.batch):
            fields: Any = self._sites().coefficients(given[part]) if self.compiled else self._fields(given[part])
            steps = rng.standard_normal((part.stop - part.start, self.steps, *self.noise_shape[1:]))
            back = self.process.retrace(fields, steps if self.compiled else self._fields(steps))
            noise[part], log_q[part] = back if self.compiled else self._arrays(back, len(steps))
        return noise, log_q

    def _down(self, noise: FloatArray) -> tuple[FloatArray, FloatArray]:
        if self.compiled:
            fields, log_q = self.process.down(noise)
            return self._sites().fields(fields), log_q
        return self._arrays(self.process.down(self._fields(noise)), len(noise))

    def _sites(self) -> CompiledSites:
        """The compiled layout of the fields."""
        return cast("CompiledSites", self.process.modes)  # so `ReversePlan` builds it where it is asked for

    def _fields(self, array: FloatArray) -> Tensor:
        return torch.as_tensor(padded(array), dtype=torch.float64, device=self.model.gaussian.device)

    def _arrays(self, tensors: tuple[Tensor, Tensor], n: int) -> tuple[FloatArray, FloatArray]:
        """The reverse of `_fields`, for two tensors of which the first `n` rows count."""
        first, second = (tensor[:n].cpu().numpy() for tensor in tensors)
        return first, second

"""Probability-flow ODE as a proposal: a deterministic map from noise, so any field can be weighed."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import ArrayLike

from ..contracts import require
from ..diffusion.between import FineRidge, InterpolatedFlow
from ..diffusion.compiled import CompiledFlow
from ..diffusion.flow import ProbabilityFlow
from ..diffusion.runge_kutta import Method, scheme
from ..diffusion.time_grid import GRIDS, TimeGrid
from ..errors import UserError
from ..host import torch_defaults
from ..metropolis import Draw
from ..networks.contract import BackwardTrace, ClosedFormTrace, Compiled
from ..types import Description, FloatArray
from .fields import checked_batch, checked_fields, padded, parts, without_diverged
from .grid import calibrated_grid, stored_grid
from .inversion import invert_passage

if TYPE_CHECKING:
    from torch import Tensor

    from ..gaussian.reference import GaussianReference
    from ..model.score_model import ScoreModel
    from ..networks.contract import Network, Residual
    from .grid import Passage, Passages


__all__ = ["MAX_PASSES", "OdeProposal", "exact_divergence"]

#: Backward passes through the network, for one evaluation, that are made without being asked for: 8x8, 4x4x4.
MAX_PASSES = 64


class OdeProposal:
    """Proposals from the probability-flow ODE of a score model.

    Parameters
    ----------
    model : latticediff.model.score_model.ScoreModel
    steps : int
        Integration steps from sigma_max to sigma_min.
    method : str
        Scheme; see `latticediff.diffusion.runge_kutta`.
    batch : int
        Fields integrated at once; memory, not results, depends on it.
    compiled : bool, optional
        Use the network's compiled CPU version. Default: if there is one and the model is on the CPU.
    trace : str
        How a network without a closed-form divergence gets it: `exact_divergence`.
    grid : {"uniform", "optimised"} or TimeGrid
        Where the steps end. ``"optimised"``: the grid of the model's card, or one calibrated now, which takes as long
        as some thousand draws; see `latticediff.diffusion.time_grid`.

    Raises
    ------
    UserError
        An unknown grid, a divergence too dear to be asked for by default, or an impossible number.
    """

    is_deterministic = True
    noise_basis = "sites"

    @torch_defaults()
    def __init__(
        self,
        model: ScoreModel,
        steps: int = 16,
        method: str = "rk4",
        batch: int = 256,
        compiled: bool | None = None,
        trace: str = "auto",
        grid: str | TimeGrid = "uniform",
    ) -> None:
        self.model, self.steps, self.batch = model, int(steps), checked_batch(batch, model.gaussian.volume)
        self.method = scheme(method)
        self.lattice_shape = self.noise_shape = model.shape
        self.compiled = can_compile(model) if compiled is None else bool(compiled)
        network: Any = model.network  # a `Network`, which torch.nn.Module does not say
        self._network, self.trace = exact_divergence(network, model.gaussian, trace)
        # of the state: what it rounds to, `weigh` cannot resolve, and asks for up to twelve passages in vain
        self._precision = torch.float64 if getattr(network, "double_state", False) else model.gaussian.dtype
        self.is_uniform = isinstance(grid, str) and grid == "uniform"
        self.grid = self._time_grid(grid)
        self.flow = self._flow(self.grid, self.method)
        self.evaluations_per_draw = self.flow.evaluations
        # up, down, and up again; two passages more for the few fields whose first round leaves too much
        self.evaluations_per_weigh = 3 * self.flow.evaluations

    def _time_grid(self, grid: str | TimeGrid) -> TimeGrid:
        uniform = TimeGrid.uniform(self.model.noise, self.steps)
        if isinstance(grid, TimeGrid):
            if grid.n_steps != self.steps or not np.allclose(grid.down[[0, -1]], uniform.down[[0, -1]]):
                raise UserError(
                    f"the time grid leads from {grid.down[0]:.6g} to {grid.down[-1]:.6g} in {grid.n_steps} steps;"
                    f" expected {uniform.down[0]:.6g} to {uniform.down[-1]:.6g} in {self.steps}"
                )
            return grid
        if grid not in GRIDS:
            raise UserError(f"grid is {grid!r}; expected one of {', '.join(GRIDS)}")
        if grid == "uniform":
            return uniform
        found = stored_grid(self.model, self.steps, self.method.name)
        return found or calibrated_grid(self.model, self.steps, self.method.name, self.passages(), self.batch)

    def _flow(self, grid: TimeGrid, method: Method) -> CompiledFlow | ProbabilityFlow:
        flow: Any = CompiledFlow if self.compiled else ProbabilityFlow
        return flow(self._network, self.model.gaussian, grid.down, method, up_grid=grid.up)

    def passages(self) -> Passages:
        """Ways down and up along other grids, as functions of NumPy fields; one set of tables for a compiled flow."""

        @functools.cache  # made when they are first asked for: a grid may be known already
        def fine() -> FineRidge:
            network: Any = self._network  # `Compiled`, since the flow is
            return FineRidge(network, self.model.gaussian, self.model.noise.log_range)

        def passages(grid: TimeGrid, method: Method) -> tuple[Passage, Passage]:
            flow: Any
            if self.compiled:
                flow = InterpolatedFlow(fine(), grid.down, method, grid.up)
            else:
                flow = self._flow(grid, method)
            return (lambda noise: self._pass(flow.down, noise)), (lambda phi: self._pass(flow.up, phi))

        return passages

    def describe(self) -> Description:
        """JSON-able parameters."""
        told = {"name": "ode", "steps": self.steps, "method": self.method.name, "model": self.model.fingerprint()}
        if not self.is_uniform:
            told["grid"] = self.grid.inner()
        return told if self.trace is None else {**told, "trace": self.trace}

    def fingerprint(self) -> str:
        """Hex SHA-256 of model and integrator."""
        return hashlib.sha256(json.dumps(self.describe(), sort_keys=True).encode()).hexdigest()

    @torch_defaults()
    def doubled(self) -> OdeProposal:
        """The same proposal with every step cut into halves, to measure the integration error."""
        trace, grid = self.trace or "auto", "uniform" if self.is_uniform else self.grid.bisected()
        return OdeProposal(self.model, 2 * self.steps, self.method.name, self.batch, self.compiled, trace, grid)

    @torch_defaults()
    def draw(self, n: int, rng: np.random.Generator) -> Draw:
        """`Draw` of `n` proposals; a draw that blows up has ``log_q = +inf``, hence weight zero."""
        phi, log_q = np.empty((n, *self.lattice_shape)), np.empty(n)
        for part in parts(n, self.batch):
            noise = rng.standard_normal((part.stop - part.start, *self.lattice_shape))
            phi[part], log_q[part] = self._down(noise)
        return Draw(*without_diverged(phi, log_q))

    @torch_defaults()
    def transport(self, noise: FloatArray) -> Draw:
        """`Draw` that standard normal `noise`, (n, *lattice), is carried to."""
        phi, log_q = np.empty(noise.shape), np.empty(len(noise))
        for part in parts(len(noise), self.batch):
            phi[part], log_q[part] = self._down(noise[part])
        return Draw(*without_diverged(phi, log_q))

    @torch_defaults()
    def weigh(self, phi: ArrayLike, rng: np.random.Generator | None = None) -> FloatArray:
        """log_q of given fields, (n,) float64: what a draw that ends there is given, to the rounding of the passages.

        NaN where no noise leads to a field, as far as `inversion` can find; `rng` is not used.
        """
        return self.invert(phi)[1]

    @torch_defaults()
    def invert(self, phi: ArrayLike, rng: np.random.Generator | None = None) -> tuple[FloatArray, FloatArray]:
        """The noise that a draw makes `phi` from, (n, *lattice), and its log_q, (n,); float64. `rng` is not used.

        NaN for the log_q of fields that no draw reaches.
        """
        return self._of_fields(phi, lambda part: invert_passage(self._down, self._up, part))

    @torch_defaults()
    def estimate(self, phi: ArrayLike) -> FloatArray:
        """log_q of given fields by one integration upwards, (n,) float64: a third of the price of `weigh`.

        It is off by the difference of two integrations, by a constant in the main: good enough to watch a training, not
        to be mixed with the log_q of draws.
        """
        return self._of_fields(phi, self._up)[1]

    def _of_fields(self, phi: ArrayLike, function: Passage) -> tuple[FloatArray, FloatArray]:
        phi = checked_fields(phi, self.lattice_shape)
        y, log_q = np.empty(phi.shape), np.empty(len(phi))
        for part in parts(len(phi), self.batch):
            y[part], log_q[part] = function(phi[part])
        return y, log_q

    def _down(self, noise: FloatArray) -> tuple[FloatArray, FloatArray]:
        return self._pass(self.flow.down, noise)

    def _up(self, phi: FloatArray) -> tuple[FloatArray, FloatArray]:
        return self._pass(self.flow.up, phi)

    def _pass(self, passage: Callable[[Any], tuple[Any, Any]], fields: FloatArray) -> tuple[FloatArray, FloatArray]:
        if self.compiled:
            return passage(fields)
        gaussian, n = self.model.gaussian, len(fields)
        ends, log_q = passage(torch.as_tensor(padded(fields)).to(gaussian.device, self._precision))
        return ends[:n].double().cpu().numpy(), log_q[:n].cpu().numpy()


def can_compile(model: ScoreModel) -> bool:
    """Whether the model's network has a compiled version that may be used where the model lives."""
    return isinstance(model.network, Compiled) and model.gaussian.device.type == "cpu"


def exact_divergence(network: Network, gaussian: GaussianReference, trace: str = "auto") -> tuple[Residual, str | None]:
    """A network with an exact divergence, and how that is computed.

    Parameters
    ----------
    network : torch.nn.Module
        `ClosedFormTrace` or `BackwardTrace` of `latticediff.networks.contract`.
    gaussian : GaussianReference
    trace : str
        ``"auto"``: the closed form, or the method with fewest backward passes if `MAX_PASSES` of them are enough;
        a method of the network, such as ``"full"`` or ``"coloured"``: that one, whatever it costs.

    Returns
    -------
    network : callable
        ``network(gaussian, x, log_sigma, trace=False)``.
    method : str or None
        None for a closed form.

    Raises
    ------
    UserError
        A method that the network does not have, or ``"auto"`` where all of them are dear.
    """
    name = network.describe()["name"]
    if isinstance(network, ClosedFormTrace):
        if trace != "auto":
            raise UserError(f"trace = {trace!r}, but network {name!r} has a closed-form divergence; leave trace out")
        return network, None
    require(network, BackwardTrace, f"network {name!r} has no closed-form divergence for the ODE route, and")
    passes = cast("BackwardTrace", network).passes(gaussian)  # as `require` has found
    method = min(passes, key=lambda name: passes[name]) if trace == "auto" else trace
    if method not in passes:
        raise UserError(f"trace = {trace!r}; network {name!r} knows auto, {', '.join(passes)}")
    if trace == "auto" and passes[method] > MAX_PASSES:
        lattice = "x".join(map(str, gaussian.shape))
        raise UserError(
            f"network {name!r} has no closed-form divergence: on {lattice} an exact one costs {passes[method]} backward"
            f" passes each time; use route sde or network ridge, or ask for it with trace = {method!r}"
        )

    by_method: Any = network  # a `BackwardTrace` takes the name of a method in place of True

    def with_trace(
        gaussian: GaussianReference, x: Tensor, log_sigma: Tensor, trace: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        return by_method(gaussian, x, log_sigma, method if trace else False)

    return with_trace, method

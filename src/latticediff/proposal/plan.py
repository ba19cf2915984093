"""From a score model to its reverse process: which levels, which steps, in which coordinates.

Everything is a deterministic function of the model and of the names given: the response table is measured at fields
that the model draws itself, from a fixed seed, and all numbers in use are rounded, so that they can be written down.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import ArrayLike

from ..diffusion.calibration import N_LEVELS, ResponseTable, measure_response
from ..diffusion.compiled import CompiledModes
from ..diffusion.ladder import LADDERS, equal_cost
from ..diffusion.process import process
from ..diffusion.reverse import FourierModes, ReverseProcess, step_covariances
from ..diffusion.steps import STEPS, DressedStep, GaussianStep, SiteStep, curvature
from ..diffusion.threads import one_torch_thread
from ..errors import UserError
from ..fourier import basis_from_momenta
from ..types import Description, FloatArray

if TYPE_CHECKING:
    from ..diffusion.steps import Array, Layout
    from ..model.score_model import ScoreModel
    from ..networks.contract import Compiled, Residual


__all__ = ["FIRST", "ReversePlan"]

#: Lowest noise level of the geometric and cosine ladders, in units of the site's width <phi^2>^(1/2). At L = 8,
#: lam = 6.008 and 60 steps the ESS was 0.62, 0.66, 0.66, 0.53 for 0.02, 0.07, 0.14, 0.23.
FIRST = 0.1
DIGITS = 5  #: of levels and response in use
KEPT = 8  #: response tables kept in memory


class ReversePlan:
    """Levels and steps of the reverse SDE of one model.

    Parameters
    ----------
    model : latticediff.model.score_model.ScoreModel
    n_steps : int
    ladder : str
        ``geometric``, ``cosine`` or ``optimised``; see `latticediff.diffusion.ladder`.
    kernel : str
        ``gaussian``, ``site`` or ``dressed``; see `latticediff.diffusion.steps`.
    coordinates : str
        ``variance_exploding`` or ``variance_preserving``; see `latticediff.diffusion.process`.
    compiled : bool
        Whether to use the network's compiled CPU version.

    Raises
    ------
    UserError
        An unknown name, or too few steps.
    """

    def __init__(
        self,
        model: ScoreModel,
        n_steps: int,
        ladder: str = "optimised",
        kernel: str = "dressed",
        coordinates: str = "variance_exploding",
        compiled: bool = True,
    ) -> None:
        for what, name, known in (("ladder", ladder, LADDERS), ("kernel", kernel, STEPS)):
            if name not in known:
                raise UserError(f"{what} is {name!r}; expected one of {', '.join(known)}")
        self.model, self.compiled = model, compiled
        self.unit = math.sqrt(model.gaussian.g_mean)
        self.process = process(coordinates, self.unit)
        self.ladder, self.kernel = ladder, kernel
        self.variances = self._variances(int(n_steps))
        strength, f_mean = (0.0, 0.5) if kernel == "gaussian" else self.table.at(kernel, self.variances[1:])
        self.strength, self.f_mean = _rounded(strength), _rounded(f_mean)

    @functools.cached_property
    def table(self) -> ResponseTable:
        """The model's `ResponseTable`, measured once for all plans of it."""
        key = self.model.fingerprint(), self.compiled, str(self.model.gaussian.device)
        if key not in _tables:
            variances = np.concatenate([[0.0], np.exp(2 * np.linspace(*self.model.noise.log_range, N_LEVELS))])
            modes, covariances, prior = self._filters(variances)
            while len(_tables) >= KEPT:
                _tables.pop(next(iter(_tables)))
            # one order of additions; and a network that blows up is dealt with in there
            with one_torch_thread(self.model.gaussian.device), np.errstate(all="ignore"):
                _tables[key] = measure_response(modes, variances, covariances, prior, self.model.gaussian.quartic)
        return _tables[key]

    def _variances(self, n_steps: int) -> FloatArray:
        noise, first = self.model.noise, FIRST * self.unit
        if self.ladder == "geometric":
            variances = noise.variances(n_steps, first)
        elif self.ladder == "cosine":
            variances = noise.cosine_variances(n_steps, self.unit, first)
        else:
            table = self.table
            variances = equal_cost(table.log_sigma, table.second[self.kernel], table.third[self.kernel], n_steps)
        return _rounded(np.sqrt(variances)) ** 2

    def _filters(self, variances: FloatArray) -> tuple[Layout, list[Array], Array]:
        """Fields with the score at these levels; step covariances and prior in their layout."""
        model, G = self.model, self.model.gaussian.propagator_full.numpy()
        functions = [*step_covariances(G, variances, model.score_power(variances[1:])), G + variances[-1]]
        functions = [basis_from_momenta(f, model.shape, model.gaussian.is_oblique) for f in functions]
        if self.compiled:
            from ..diffusion.compiled_sites import CompiledSites

            network = cast("Compiled", model.network)  # or nobody asks for the compiled version
            modes: Any = CompiledSites(
                CompiledModes(network, model.gaussian, variances), model.shape, model.gaussian.is_oblique
            )
            rows: list[Any] = [f.ravel() for f in functions]
        else:
            modes = FourierModes(cast("Residual", model.network), model.gaussian, variances)  # not said by Module
            rows = [torch.as_tensor(f, dtype=torch.float64, device=model.gaussian.device) for f in functions]
        return modes, rows[:-1], rows[-1]

    def build(self) -> ReverseProcess:
        """The `ReverseProcess`."""
        modes, covariances, prior = self._filters(self.variances)
        make = functools.partial(_step, self.kernel, modes, self.model.gaussian.quartic)
        levels = zip(covariances, self.variances[1:], np.diff(self.variances), self.strength, self.f_mean, strict=True)
        steps = (
            [GaussianStep(modes, a) for a in covariances] if self.kernel == "gaussian" else [make(*x) for x in levels]
        )
        return ReverseProcess(modes, self.variances, steps, prior, self.process, modes.vacua)

    def describe(self) -> Description:
        """JSON-able: names and the levels in use."""
        return {
            "ladder": self.ladder,
            "kernel": self.kernel,
            "process": self.process.name,
            "sigmas": np.sqrt(self.variances[1:]).round(12).tolist(),
            "response": np.array([self.strength, self.f_mean]).tolist(),
        }


def _step(
    kernel: str, modes: Layout, b: float, covariance: Array, v: float, delta: float, strength: float, f_mean: float
) -> SiteStep:
    W = modes.G / (modes.G + v)
    kappa = curvature(b, v * float(W.mean()))
    if kernel == "site":
        tau = strength * float((delta**2 / covariance).mean())
        return SiteStep(modes, covariance, v, delta, kappa, tau, f_mean)
    tau = strength * float((delta**2 * W * W / covariance).mean())
    return DressedStep(modes, covariance, v, delta, kappa, tau, f_mean, W / covariance**0.5)


def _rounded(values: ArrayLike) -> FloatArray:
    """`values` rounded to `DIGITS` significant digits, float64, at least one-dimensional."""
    return np.array([float(f"{value:.{DIGITS - 1}e}") for value in np.atleast_1d(values)])


_tables: dict[tuple[str, bool, str], ResponseTable] = {}

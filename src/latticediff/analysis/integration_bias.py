r"""What the integration error of a density does to an exact chain.

A chain that weighs with :math:`\tilde q = q\,e^{\epsilon(\phi)}` instead of the density q it draws from is
exact for :math:`\tilde\pi \propto \pi\,e^{-\epsilon}`. With :math:`\delta = e^{-\epsilon}/E_\pi[e^{-\epsilon}] - 1`,

.. math::
    \langle O \rangle_{\tilde\pi} - \langle O \rangle_\pi = \mathrm{cov}_\pi(O, \delta), \qquad
    |\mathrm{cov}_\pi(O, \delta)| \le \sigma_O\,\sigma_\delta, \qquad
    TV(\tilde\pi, \pi) = \tfrac12 E_\pi|\delta| ,

by Cauchy and Schwarz, whatever the observable. A constant epsilon does nothing to a chain and shifts log Z.
That constant cancels because a field has one log_q, whether it was drawn or given (`latticediff.proposal.inversion`).
Since min(1, e^x) changes no faster than x, the acceptance moves by at most :math:`E|\epsilon - \epsilon'|
\le \sqrt2\,\sigma_\epsilon` (the same spread over draws taken for granted) for its rule and by TV for the
ensemble that it is averaged over. A statistical error is :math:`\sigma_O / \sqrt{N}` for N independent samples, so
the bias stays below it up to :math:`N = \sigma_\delta^{-2}`.

epsilon is estimated by doubling the integrator's steps (`latticediff.metropolis.doubling`; at order four a sixteenth
remains), on draws and on given fields. What a chain meets is log_q against the density of the *discrete* map, which the
full Jacobian gives on small lattices: of the same size (``docs/densities.md``, `test_diagnose`), and another
function of the field, so epsilon is a size and no correction.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..action import Action
from ..arrays import real_array
from ..errors import UserError
from ..host import numpy_defaults
from ..observables import measure_primary
from ..types import FloatArray

__all__ = ["IntegrationBias", "field_series", "integration_bias"]

COMPARED = ("action", "abs_m", "m2", "phi2")  #: even observables, whose correlations with epsilon are told


@dataclass(frozen=True)
class IntegrationBias:
    """Size of epsilon and what it can do; biases in units of the observable's standard deviation."""

    median: float  #: of ``|epsilon|``
    max: float  #: of ``|epsilon|``
    mean: float  #: signed; its size is that of the shift of log Z
    std: float  #: of epsilon: all that a chain can notice
    bias_bound: float  #: sigma_delta; no observable is off by more standard deviations than this
    total_variation: float  #: half of E|delta|; no probability is off by more
    acceptance_bound: float  #: on the change of the acceptance
    independent_samples: float  #: from how many on the bias bound exceeds the statistical error
    #: name -> (bias, its error), in standard deviations
    observables: dict[str, tuple[float, float]] = field(default_factory=dict)
    #: name -> (correlation of epsilon with it, its error)
    correlations: dict[str, tuple[float, float]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; infinity as None."""
        names = ("median", "max", "mean", "std", "bias_bound", "total_variation", "acceptance_bound")
        samples = self.independent_samples
        return {
            **{name: getattr(self, name) for name in names},
            "independent_samples": samples if math.isfinite(samples) else None,
            "observables": {name: list(pair) for name, pair in self.observables.items()},
            "correlations": {name: list(pair) for name, pair in self.correlations.items()},
        }


@numpy_defaults()
def field_series(phis: FloatArray, action: Action) -> dict[str, FloatArray]:
    """Observables with which epsilon is compared: S, ``|m|``, ``m^2`` and ``<phi^2>_x`` of fields, by name.

    Parameters
    ----------
    phis : ndarray, shape (n, *lattice), float64
    action : Action

    Returns
    -------
    dict of str to ndarray, shape (n,), float64
        `COMPARED`.
    """
    return {name: rows[0] for name, rows in measure_primary(phis, action, COMPARED).items()}


@numpy_defaults()
def integration_bias(error: ArrayLike, series: Mapping[str, ArrayLike] | None = None) -> IntegrationBias:
    r"""Bias of averages and acceptance from the integration error of log_q.

    Parameters
    ----------
    error : array_like, shape (n,)
        ``epsilon = log_q - log_q(twice the steps)`` on configurations of the target, or on draws.
    series : dict of str to ndarray, shape (n,), optional
        Observables of the same configurations: their biases are measured, ``cov(O, delta) / sigma_O``, and the
        correlations of epsilon with them, with errors for independent configurations.

    Returns
    -------
    IntegrationBias

    Raises
    ------
    UserError
        Fewer than two entries, values that are not finite, or a series of another length.
    """
    error = real_array(error, "error").ravel()
    if error.size < 2:
        raise UserError(f"error has {error.size} entries; expected at least 2")
    if not np.isfinite(error).all():
        raise UserError("the change of log_q under doubling is not finite somewhere: take more integration steps")
    tilt = np.exp(-(error - error.mean()))
    delta = tilt / tilt.mean() - 1
    spread = float(delta.std())
    biases, correlations = {}, {}
    for name, values in (series or {}).items():
        values = real_array(values, name, booleans=True).ravel()
        if values.size != error.size:
            raise UserError(f"{name} has {values.size} entries, error {error.size}; expected the same configurations")
        if values.std() > 0:
            products = (values - values.mean()) / values.std() * delta
            biases[name] = (float(products.mean()), float(products.std() / math.sqrt(products.size)))
            if error.std() > 0:
                r = float(np.corrcoef(values, error)[0, 1])
                correlations[name] = (r, (1 - r * r) / math.sqrt(error.size))
    return IntegrationBias(
        median=float(np.median(np.abs(error))),
        max=float(np.abs(error).max()),
        mean=float(error.mean()),
        std=float(error.std()),
        bias_bound=spread,
        total_variation=float(0.5 * np.abs(delta).mean()),
        acceptance_bound=min(1.0, math.sqrt(2) * float(error.std()) + float(0.5 * np.abs(delta).mean())),
        independent_samples=spread**-2 if spread > 0 else math.inf,
        observables=biases,
        correlations=correlations,
    )

"""Correlator and effective masses of one ensemble file, for `measure` and the report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..analysis import correlator_table, effective_masses
from ..analysis.gamma import format_error
from ..errors import UserError
from ..observables import measure_array, timeslice_correlator

if TYPE_CHECKING:
    from ..action import Action
    from ..analysis import Estimate
    from ..types import Description, Extents, FloatArray

    Curve = tuple[FloatArray, FloatArray, FloatArray]

__all__ = ["Spectrum", "measure_spectrum"]


@dataclass(frozen=True)
class Spectrum:
    """C(t) between time slices at zero momentum and the effective mass of neighbouring ones, lattice units."""

    axis: int  #: the lattice axis that is time
    extent: int  #: sites along it
    thin: int  #: updates between stored configurations
    correlator: list[Estimate]  #: of t = 0 .. extent // 2
    masses: list[Estimate]  #: of t = 0 .. extent // 2 - 1, from C(t) / C(t + 1) by the cosh of one state

    def to_dict(self) -> Description:
        """JSON-able; null for what is not defined. tau_int in updates."""
        return {
            "axis": self.axis,
            "extent": self.extent,
            "correlator": [c.pair() for c in self.correlator],
            "tau_int": [list(self._tau(c)) for c in self.correlator],
            "effective_mass": [m.pair() for m in self.masses],
            "effective_mass_tau_int": [list(self._tau(m)) for m in self.masses],
        }

    def to_text(self) -> str:
        """A table for people."""
        lines = [
            f"time slices along axis {self.axis} (T = {self.extent}), zero momentum, nothing subtracted;"
            " m_eff(t) from C(t) / C(t + 1) = cosh m (T/2 - t) / cosh m (T/2 - t - 1):",
            f"  {'t':>3}  {'C(t)':20} {'tau_int':14} m_eff(t)",
        ]
        for t, c in enumerate(self.correlator):
            tau = format_error(*(np.nan if x is None else x for x in self._tau(c)))
            mass = str(self.masses[t]) if t < len(self.masses) else ""
            lines.append(f"  {t:3d}  {c!s:20} {tau:14} {'-' if mass == 'nan' else mass}".rstrip())
        return "\n".join(lines)

    def _tau(self, estimate: Estimate) -> tuple[float | None, float | None]:
        """tau_int in updates and its error; None where it is not finite."""
        tau, error = (
            float(x) if np.isfinite(x) else None
            for x in (estimate.tau_int * self.thin, estimate.tau_int_error * self.thin)
        )
        return tau, error

    def curves(self) -> tuple[Curve | None, Curve | None]:
        """Arrays ``(timeslice, value, error)`` of the correlator and of the effective masses, where they are defined.

        None for a curve without a single point.
        """
        return _curve(self.correlator), _curve(self.masses)


def _curve(table: Sequence[Estimate]) -> Curve | None:
    rows = [(t, e.value, e.error) for t, e in enumerate(table) if np.isfinite([e.value, e.error]).all()]
    if not rows:
        return None
    t, value, error = (np.array(column, np.float64) for column in zip(*rows, strict=True))
    return t, value, error


def measure_spectrum(
    batches: Iterable[FloatArray],
    action: Action,
    shape: Extents,
    thin: int = 1,
    axis: int | None = None,
    s_tau: float = 1.5,
) -> Spectrum:
    """Correlator and effective masses with Gamma-method errors.

    Parameters
    ----------
    batches : iterable of ndarray, shape (n, n_chains, *lattice), float64
        As `latticediff.observables.measure_primary` takes them.
    action : Action
    shape : tuple of int
    thin : int
        Updates between stored configurations.
    axis : int, optional
        The lattice axis that is time; the first of the longest by default.
    s_tau : float
        S of the automatic window.

    Returns
    -------
    Spectrum

    Raises
    ------
    UserError
        No such axis, one of a single site, or a constant correlator.
    """
    if hasattr(action, "components"):
        raise UserError(f"{action!r}: the correlator is one of fields of one component; leave it out")
    axis = int(np.argmax(shape)) if axis is None else axis
    if not 0 <= axis < len(shape):
        raise UserError(f"time axis is {axis}; the lattice {'x'.join(map(str, shape))} has axes 0 to {len(shape) - 1}")
    if shape[axis] < 2:
        raise UserError(f"time axis {axis} has extent {shape[axis]}; a correlator needs at least 2 sites along it")
    series = measure_array(batches, action, lambda phis: timeslice_correlator(phis, axis=axis))
    found = correlator_table(series, s_tau), effective_masses(series, shape[axis], s_tau=s_tau)
    return Spectrum(axis, shape[axis], thin, *found)

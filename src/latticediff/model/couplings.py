r"""A model of several theories: what each of them brings, and what lies between them.

A network trained on several ensembles needs one thing more of a theory that is not among them: its
propagator, and for the reverse SDE its score power. Both only shape the proposal, so a guess costs
acceptance and never exactness. Every member is first brought to the wanted lattice, where
:math:`G^{-1}` is a polynomial in :math:`\hat p^2 = \sum_\mu 4 \sin^2(k_\mu/2)`, then :math:`\log G` is
interpolated in the couplings at equal momenta. NumPy only, float64.
"""

import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.interpolate import LinearNDInterpolator, PchipInterpolator
from scipy.spatial import QhullError

from ..errors import ModelError
from ..lattice import check_shape, p_hat_squared
from ..types import Extents, FloatArray, Shape

__all__ = ["Member", "interpolate", "propagator_on"]

DEGREE = 4  # of G^-1 in p_hat^2
TOLERANCE = 1e-9  # of couplings, relative to the range they span


class Member(NamedTuple):
    """One theory of a model.

    Attributes
    ----------
    action : Expandable
        With `coefficients`, to lie between others.
    propagator : ndarray, shape (*lattice), float64
    power : ndarray, shape (n_levels, *lattice), float64
        See `latticediff.model.score_model.ScoreModel`.
    """

    action: Any
    propagator: FloatArray
    power: FloatArray

    @property
    def shape(self) -> Shape:
        """Lattice extents."""
        return self.propagator.shape

    def is_of(self, action: Any, shape: Extents) -> bool:
        """Whether the member is of this theory (the same internal coefficients, if it has any) and this lattice."""
        if self.shape != tuple(shape):
            return False
        if not (hasattr(self.action, "coefficients") and hasattr(action, "coefficients")):
            return bool(self.action.describe() == action.describe())
        return type(self.action) is type(action) and self.action.coefficients == action.coefficients


def interpolate(members: Sequence[Member], action: Any, shape: Extents, outside: bool = False) -> Member:
    """A `Member` for any theory and lattice within the range of given ones; one of them where it fits as it is.

    Parameters
    ----------
    members : sequence of Member
    action : Expandable
    shape : tuple of int
    outside : bool
        Go beyond the range with a warning instead of refusing.

    Raises
    ------
    ModelError
        Another dimension, or couplings or extents outside the range of the members.
    """
    shape = check_shape(shape)
    for member in members:
        if member.is_of(action, shape):
            return member
    if len(shape) != len(members[0].shape) or action.ndim != len(shape):
        raise ModelError(f"the model is of {len(members[0].shape)} dimensions; wanted {action!r} on {shape}")
    if not all(hasattr(theory, "coefficients") for theory in (action, *(member.action for member in members))):
        raise ModelError(
            f"the model is of {members[0].action!r}, which has no couplings to go between; wanted {action!r}"
        )
    problems = [*_extents_outside(members, shape)]
    nearest = _nearest_of_each_theory(members, shape)
    couplings = np.array([member.action.coefficients for member in nearest])
    place = _Place(couplings, np.array(action.coefficients))
    if place.is_outside:
        known = ", ".join(repr(member.action) for member in nearest)
        problems.append(f"{action!r} is {'not' if len(nearest) == 1 else 'no theory between'} {known}")
    if problems:
        message = f"the model was not trained there: {'; '.join(problems)}"
        if not outside:
            remedy = "train on more ensembles, or sample with it all the same (--outside, in Python outside=True)"
            raise ModelError(f"{message}; {remedy}: chains stay exact")
        warnings.warn(f"{message}; chains stay exact, acceptance may be low", stacklevel=4)
    log_G = place([np.log(propagator_on(m.propagator, shape)) for m in nearest])
    power = place([_power_on(m.power, m.shape, shape) for m in nearest])
    return Member(action, np.exp(log_G), power)


def _extents_outside(members: Sequence[Member], shape: Extents) -> Iterator[str]:
    extents = [extent for member in members for extent in member.shape]
    low, high = min(extents), max(extents)
    if not all(low <= extent <= high for extent in shape):
        known = f"of extent {low}" if low == high else f"of extents {low} to {high}"
        yield f"lattice {'x'.join(map(str, shape))} for lattices {known}"


def _nearest_of_each_theory(members: Sequence[Member], shape: Extents) -> list[Member]:
    """For every coupling the member whose lattice is nearest in volume, the wanted one if it is there."""
    found: dict[tuple[float, float, float], tuple[float, Member]] = {}
    for member in members:
        distance = abs(np.log(np.prod(member.shape) / np.prod(shape))) + (member.shape != tuple(shape)) * 1e-3
        key = member.action.coefficients
        if key not in found or distance < found[key][0]:
            found[key] = (distance, member)
    return [member for _, member in found.values()]


class _Place:
    """Where a point of coupling space lies among some nodes, to interpolate functions of the couplings.

    Nodes on a line: monotone cubic; nodes that span more: linear on a triangulation. Beyond the nodes:
    a linear fit.
    """

    def __init__(self, nodes: FloatArray, point: FloatArray) -> None:
        centre, scale = nodes.mean(0), np.ptp(nodes, axis=0).max()
        self.scale = max(scale, TOLERANCE * np.abs(nodes).max())
        moved = (nodes - centre) / self.scale
        _, singular, axes = np.linalg.svd(moved)
        self.rank = int((singular > TOLERANCE * max(1.0, len(nodes))).sum())
        axes = axes[: self.rank]
        offset = (point - centre) / self.scale
        self.nodes, self.point = moved @ axes.T, offset @ axes.T
        self.is_off = np.abs(offset - self.point @ axes).max() > 1e3 * TOLERANCE
        self.is_outside = self.is_off or not self._is_within()

    def _is_within(self) -> bool:
        if self.rank == 0:
            return True
        if self.rank == 1:
            low, high = self.nodes.min() - TOLERANCE, self.nodes.max() + TOLERANCE
            return bool(low <= self.point[0] <= high)
        return bool(np.isfinite(self._triangulated(np.zeros((len(self.nodes), 1)))).all())

    def _triangulated(self, values: Any) -> FloatArray:
        try:
            return LinearNDInterpolator(self.nodes, values)(self.point[None])[0]
        except QhullError:  # too few nodes for a simplex
            return np.full(values.shape[1:], np.nan)

    def __call__(self, values: Any) -> FloatArray:
        """The values (arrays, one for each node) at the point."""
        values = np.stack(values)
        if self.rank == 0:
            return values.mean(0)
        if not self._is_within():
            design = np.column_stack([np.ones(len(self.nodes)), self.nodes])
            slopes, *_ = np.linalg.lstsq(design, values.reshape(len(values), -1), rcond=None)
            return (np.concatenate([[1.0], self.point]) @ slopes).reshape(values.shape[1:])
        if self.rank == 1:
            order = np.argsort(self.nodes[:, 0])
            at = np.clip(self.point[0], self.nodes.min(), self.nodes.max())
            return PchipInterpolator(self.nodes[order, 0], values[order])(at)
        flat = values.reshape(len(values), -1)
        return self._triangulated(flat).reshape(values.shape[1:])


def propagator_on(propagator: FloatArray, shape: Extents) -> FloatArray:
    r"""A propagator on another lattice: :math:`G^{-1} = \sum_n c_n \hat p^{2n}` fitted with equal relative errors.

    Parameters
    ----------
    propagator : ndarray, shape (*lattice)
    shape : tuple of int

    Returns
    -------
    ndarray, shape `shape`, float64
        Positive; `propagator` itself on its own lattice. On a larger lattice the zero mode is that of the
        smaller one: what a finite volume does to it is not known.
    """
    if propagator.shape == tuple(shape):
        return propagator
    p2, scale = p_hat_squared(propagator.shape).ravel(), 4.0 * len(shape)
    G = propagator.ravel()
    degree = min(DEGREE, len(np.unique(np.round(p2, 9))) - 1)
    design = np.vander(p2 / scale, degree + 1, increasing=True)
    coefficients, *_ = np.linalg.lstsq(design * G[:, None], np.ones(len(G)), rcond=None)
    inverse = np.vander(p_hat_squared(shape).ravel() / scale, degree + 1, increasing=True) @ coefficients
    # a fit may dip below what was ever seen, a propagator may not become negative
    return (1 / np.clip(inverse, 0.5 / G.max(), 2 / G.min())).reshape(shape)


def _power_on(power: FloatArray, old: Shape, shape: Extents) -> FloatArray:
    """Score power on another lattice, linear in p_hat^2 between the momenta of the old one."""
    if old == tuple(shape):
        return power
    levels, which = np.unique(np.round(p_hat_squared(old).ravel(), 9), return_inverse=True)
    counts = np.bincount(which)
    wanted = p_hat_squared(shape).ravel()
    rows = [np.interp(wanted, levels, np.bincount(which, row.ravel()) / counts) for row in power]
    return np.array(rows).reshape(len(power), *shape)

r"""Fourier acceleration: one frequency for all modes, and the harmonic part of the action integrated exactly.

The splitting of arXiv:2404.09723. With masses :math:`M(k) = \hat p^2 + m_{eff}^2` (Batrouni et al., Phys. Rev. D 32
(1985) 2736) and c the hopping coefficient,

.. math:: H = H_0 + U, \qquad H_0 = \frac{1}{2V} \sum_k \Big[ \frac{|p_k|^2}{M(k)} + c\, M(k)\, |\phi_k|^2 \Big],
          \qquad U = \sum_x \Big[ V(\phi_x) - \frac{c}{2} (2d + m_{eff}^2)\, \phi_x^2 \Big] .

Under H_0 every mode turns by one angle, :math:`\sqrt c\, t`, whatever its momentum: that is the drift, and it has no
step-size error. What is left of the action, U, is local: it gives the kicks. Of a free field with
:math:`m_{eff}^2 = m^2` nothing is left, and a trajectory of any step is exact. A quarter period is a time of
:math:`\pi / (2 \sqrt c)`.

For any links c is `latticediff.action.links.coupling_scale`, and with :math:`W(k) = -2 \sum_r c_r \cos(k \cdot r)` the
masses are :math:`M(k) = (W(k) - \min W) / c + m_{eff}^2`: with nearest
neighbours alone W = c p_hat^2 - 2dc, and they are those above.

Where c < 0 the momenta are counted from the corner of the Brillouin zone, :math:`4 \cos^2(k/2)` for
:math:`4 \sin^2(k/2)`, and |c| stands for c; where c = 0 the drift is a free motion and U the whole action.
"""

import math
from typing import Any

import numpy as np

from ..action import Action
from ..action.links import are_mirrored, coupling_form, coupling_scale, links_of, only_nearest
from ..errors import UserError
from ..fourier import basis_from_momenta
from ..lattice import momenta
from ..types import FloatArray, Shape

__all__ = ["check_links", "masses", "plan"]


def check_links(action: Action) -> None:
    """Refuse links whose K(k) is no function of the moduli of k's components.

    The modes are products of sines and cosines, one for each axis; K is one number for each of them if it is even in
    every component.

    Raises
    ------
    UserError
        A link along a diagonal without its mirror image.
    """
    if not are_mirrored(links_of(action)):
        raise UserError(
            f"{action!r} has a link without its mirror image; Fourier acceleration (mass) wants links alike in every"
            " direction, such as (1, 1) and (1, -1) with one coefficient: leave the mass out"
        )


def masses(action: Action, shape: Shape, mass: float) -> FloatArray:
    """``M(k)`` on the full momentum grid, (*lattice), float64, a sum of terms that are not negative."""
    if not only_nearest(action):
        scale = coupling_scale(action)
        form = coupling_form(links_of(action), shape)
        # least over all momenta, to a rounding that must not make it negative on those of this lattice
        return np.asarray(mass + np.maximum(form + 2 * len(shape) * scale, 0.0) / (scale or 1.0), np.float64)
    wave = np.sin if action.hopping >= 0 else np.cos
    waves: Any = sum(4 * wave(k / 2) ** 2 for k in momenta(shape))
    return np.asarray(waves + mass, np.float64)


def plan(action: Action, shape: Shape, mass: float) -> tuple[Any, tuple[Any, ...]]:
    """Compiled functions for an action on a lattice, and their arguments that belong to both.

    Parameters
    ----------
    action : Action
    shape : tuple of int
        Lattice extents.
    mass : float
        m_eff^2, positive.

    Returns
    -------
    compiled : tuple
        `latticediff._kernels.harmonic.Compiled`.
    arguments : tuple
        ``(basis, params, bend, omega)``: what H_0 takes from the force at a site is ``-bend phi``, its frequency omega.
    """
    from .._kernels import folded, harmonic
    from .._kernels.compile import callable_potential

    value, derivative, params = callable_potential(action)
    # the loops join the first axis with modes and the last one with sites: two axes at least
    extents = shape if len(shape) > 1 else (*shape, 1)
    sizes, order, forth, back = folded.tables(extents, np.float64)
    by_mode = basis_from_momenta(masses(action, shape, mass), shape)
    inverse_root = np.moveaxis(1 / np.sqrt(by_mode), 0, -1).ravel()  # the kernel has the first axis innermost
    basis = harmonic.Basis(np.array(extents), sizes, order, np.arange(order.shape[1]), forth, back, inverse_root)
    coupling = coupling_scale(action)
    bend = coupling * (2 * len(shape) + mass)
    return harmonic.build(value, derivative), (basis, params, bend, math.sqrt(coupling))

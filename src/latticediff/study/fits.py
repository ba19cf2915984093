r"""Exponents: :math:`\tau \propto L^z` by a weighted straight line through logarithms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arrays import real_array
from ..errors import UserError

__all__ = ["power_law"]


def power_law(extents: Sequence[float], values: Sequence[float], errors: Sequence[float]) -> dict[str, Any] | None:
    r"""Fit ``log value = z log L + const`` with weights ``(value / error)^2``.

    Parameters
    ----------
    extents, values, errors : sequence of float
        L, values above 0 and their standard errors, of one length.

    Returns
    -------
    dict or None
        ``z``, its ``error``, the ``offset`` and ``chi2_per_dof``, and ``n_points``; None below three points, where
        there is no telling whether a power law fits. A power law is only asymptotic: where chi^2 per degree of freedom
        is above one, the error is larger by its root.

    Raises
    ------
    UserError
        Lengths that differ, or a number that is not finite and positive.
    """
    rows = [
        real_array(list(column), name)
        for column, name in ((extents, "extents"), (values, "values"), (errors, "errors"))
    ]
    if len({len(row) for row in rows}) != 1:
        raise UserError(
            f"a fit got {', '.join(str(len(row)) for row in rows)} extents, values and errors; expected as many of each"
        )
    if not all(np.isfinite(row).all() and (row > 0).all() for row in rows):
        raise UserError("a fit got extents, values or errors that are not finite and above zero; leave such points out")
    if len(set(rows[0].tolist())) < 3:
        return None
    x, y, w = np.log(rows[0]), np.log(rows[1]), (rows[1] / rows[2]) ** 2
    middle = (w * x).sum() / w.sum()
    spread = (w * (x - middle) ** 2).sum()
    z = (w * (x - middle) * y).sum() / spread
    offset = (w * (y - z * x)).sum() / w.sum()
    chi2 = (w * (y - z * x - offset) ** 2).sum() / (len(x) - 2)
    return {
        "z": float(z),
        "error": math.sqrt(max(chi2, 1.0) / spread),
        "offset": float(offset),
        "chi2_per_dof": float(chi2),
        "n_points": len(x),
    }

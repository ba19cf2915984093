"""What the page shows of the fields themselves: some configurations, their site values, the way from noise to one."""

from dataclasses import dataclass

import numpy as np

from ..arrays import real_array
from ..errors import UserError
from ..types import FloatArray
from .finite import finite, finite_curve

__all__ = ["Film", "Histogram"]


@dataclass(frozen=True)
class Histogram:
    """Density of the site values phi_x, all sites alike, with errors from the scatter of the chains.

    Parameters
    ----------
    edges : ndarray, shape (n + 1,), float64
    density, error : ndarray, shape (n,), float64
        Integrates to the share of values between the outer edges.
    """

    edges: FloatArray
    density: FloatArray
    error: FloatArray

    def __post_init__(self) -> None:
        centres = 0.5 * (np.asarray(self.edges)[1:] + np.asarray(self.edges)[:-1])
        _, density, error = finite_curve("histogram", centres, self.density, self.error)
        for name, values in (("edges", real_array(self.edges, "edges")), ("density", density), ("error", error)):
            object.__setattr__(self, name, values)


@dataclass(frozen=True)
class Film:
    """One draw on its way from noise to field: noised fields at some levels, by the probability flow.

    Parameters
    ----------
    label : str
        Whose flow it is.
    sigma : ndarray, shape (n,), float64
        Noise levels, descending; the last may be 0, the field itself.
    fields : ndarray, shape (n, a, b), float64
        Planes of x_sigma; NaN where a model leaves sites to be drawn at the end.

    Raises
    ------
    UserError
        Levels and fields that do not belong together.
    """

    label: str
    sigma: FloatArray
    fields: FloatArray

    def __post_init__(self) -> None:
        sigma, fields = np.asarray(self.sigma, np.float64), np.asarray(self.fields, np.float64)
        if fields.ndim != 3 or len(sigma) != len(fields) or not len(sigma):
            raise UserError(f"a film has levels {sigma.shape} and fields {fields.shape}; expected (n,) and (n, a, b)")
        finite("levels of a film", *sigma)
        object.__setattr__(self, "sigma", sigma)
        object.__setattr__(self, "fields", fields)

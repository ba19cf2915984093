r"""Half of the sites: the exact law of one colour of a checkerboard, the other colour integrated out.

On a lattice of even extents with nearest-neighbour hopping, the even sites are independent given the odd ones:

.. math:: p(\phi_y | odd) = \frac{e^{h_y \phi_y - V(\phi_y)}}{Z_1(h_y)}, \qquad
          h_y = c \sum_{x \sim y} \phi_x, \qquad
          S_{odd} = \sum_{x\ odd} V(\phi_x) - \sum_{y\ even} \log Z_1(h_y) .

Whoever samples the odd sites with density q has log_weight = -S_odd - log q, the same number as of the whole field
after the even sites were drawn from their law: half of the sites, with the law of a site given its neighbours exact.

The odd sites are a periodic array of their own: `latticediff.action.checkerboard`.
"""

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import real_array
from ..errors import UserError
from ..lattice import check_shape, momenta
from ..types import Description, Extents, FloatArray, IntArray, Shape
from .checkerboard import NEIGHBOURS, UNIT_VECTORS, split, tables, whole_shape
from .links import only_nearest
from .single_site import REACH, SingleSite
from .site_terms import site_terms

__all__ = ["OddSites"]

COST = 30  # of a site, in plain site updates; decides whether threads pay


class OddSites:
    """The theory of the odd sites of a nearest-neighbour theory; see the module's formulas.

    It is a theory to expand around a Gaussian (`latticediff.gaussian.contract.Expandable` and `Wider`), on arrays of
    `half_shape`; HMC and clusters run the `whole` one.

    Parameters
    ----------
    whole : Action
        Two-dimensional, of nearest neighbours, with a quadratic form (`Expandable`).

    Raises
    ------
    UserError
        Another dimension, or couplings beyond nearest neighbours.
    """

    name, sites = "odd_sites", "odd"
    ndim = 2
    unit_vectors = UNIT_VECTORS

    def __init__(self, whole: Any) -> None:
        if site_terms(whole).are_any:
            raise UserError(f"{whole!r}: even sites are integrated out where all are alike; take training.sites = all")
        if hasattr(whole, "components"):
            raise UserError(f"{whole!r}: sites of several components are not integrated out; take training.sites = all")
        if whole.ndim != 2:
            raise UserError(f"{whole!r} has {whole.ndim} dimensions; odd sites are an array of their own in two")
        form = whole.quadratic_form((8, 8))
        waves = sum(np.cos(k) for k in momenta((8, 8)))
        nearest = form.mean() - 2 * whole.hopping * waves
        # the links are asked too: one as long as this lattice would look like none
        if not only_nearest(whole) or not np.allclose(form, nearest, rtol=0, atol=1e-9 * np.abs(form).max()):
            raise UserError(
                f"{whole!r} couples more than nearest neighbours; the even sites can only be integrated out without"
                " such couplings: train on all sites (training.sites = all)"
            )
        self.whole = whole
        self.is_symmetric = bool(whole.is_symmetric)
        self._bend = float(form.mean())  # V''(0)

    @property
    def b(self) -> float:
        """Coefficient of phi^4 of the whole theory, if it has one."""
        return self.whole.b

    @property
    def hopping(self) -> float:
        """c of the whole theory."""
        return self.whole.hopping

    @functools.cached_property
    def site(self) -> SingleSite:
        """The tables of one site; they reach to fields h that no configuration of the ensemble has."""
        V = self.whole.potential

        def bend(phi: FloatArray) -> FloatArray:
            return self._bend + self.whole.local_curvature(phi)

        # |phi| at which a constant field's action per site is REACH above the least
        phi = 2.0 ** np.arange(-20, 80, 0.125)
        with np.errstate(over="ignore"):
            rise = np.minimum(V(phi), V(-phi)) - 2 * abs(self.hopping) * phi**2
        inside = np.flatnonzero(rise - min(0.0, float(np.nanmin(rise))) <= REACH)
        last = int(inside[-1]) + 1 if len(inside) else 0
        if last >= len(phi):
            raise UserError(f"{self.whole!r}: the integral of exp(-S) diverges")
        return SingleSite(V, bend, 4 * abs(self.hopping) * float(phi[last]) or 1.0)

    @functools.cached_property
    def response(self) -> float:
        """``<phi^2>`` of one site without a field: the slope of its mean at h = 0, ``d^2 log Z_1 / dh^2``."""
        grid = self.site.grid
        weight = np.exp(-(V := self.whole.potential(grid)) + V.min())
        mean = (weight * grid).sum() / weight.sum()
        return float((weight * (grid - mean) ** 2).sum() / weight.sum())

    @property
    def minima(self) -> tuple[float, ...]:
        """Values of the constant fields of least action: those of the whole theory."""
        return self.whole.minima

    @property
    def coefficients(self) -> Any:
        """Those of the whole theory."""
        return self.whole.coefficients

    @staticmethod
    def whole_shape(shape: Extents) -> Shape:
        """Extents of the lattice whose odd sites are an array of this shape."""
        return whole_shape(shape)

    def restrict(self, phi: FloatArray) -> FloatArray:
        """The odd sites (..., *half_shape) of fields (..., L1, L2) of the whole lattice."""
        return split(phi)[0]

    def _rows(self, phi: ArrayLike) -> tuple[FloatArray, IntArray, Shape]:
        """Fields as rows (n, V/2), the neighbour table, and the leading axes."""
        field: FloatArray = real_array(phi, "phi")
        if field.ndim < 2:
            raise UserError(f"phi has shape {field.shape}; the action wants at least 2 lattice axes")
        near = tables(whole_shape(field.shape[-2:]))[2]
        return np.ascontiguousarray(field.reshape(-1, near.shape[1])), near, field.shape[:-2]

    def _compiled(self) -> tuple[dict[str, Any], tuple[float, ...]]:
        from .._kernels.compile import callable_potential
        from .._kernels.single_site import build

        value, derivative, params = callable_potential(self.whole)
        return build(value, derivative), params

    def log_z(self, h: FloatArray) -> tuple[FloatArray, FloatArray]:
        """``log Z_1`` and its derivative, the mean of a site, at fields h (n, sites); quadrature beyond the table."""
        from .._kernels.threads import over_groups

        site, (kernels, _) = self.site, self._compiled()
        h = np.ascontiguousarray(h, np.float64)
        value, mean = np.empty_like(h), np.empty_like(h)
        table = site.low, 1 / site.width, site.coefficients
        over_groups(kernels["evaluate"], len(h), COST * h.size, h, *table, value, mean)
        if (lost := np.isnan(value) & np.isfinite(h)).any():
            value[lost], mean[lost] = site.beyond(h[lost])
        return value, mean

    def __call__(self, phi: ArrayLike) -> FloatArray:
        """S_odd of fields (..., L1, L2/2), float64, shape of the leading axes.

        Raises
        ------
        UserError
            If `phi` is no array of odd sites.
        """
        from .._kernels.threads import over_groups

        rows, near, lead = self._rows(phi)
        site, (kernels, params) = self.site, self._compiled()
        out = np.empty(len(rows))
        table = self.hopping, site.low, 1 / site.width, site.coefficients
        over_groups(kernels["marginal"], len(rows), COST * rows.size, rows, near, *table, params, out)
        if len(lost := np.flatnonzero(np.isnan(out) & np.isfinite(rows).all(axis=1))):  # sites beyond the table
            around = self.log_z(self.hopping * rows[lost][:, near].sum(axis=1))[0]
            out[lost] = self.whole.potential(rows[lost]).sum(axis=1) - around.sum(axis=1)
        return out.reshape(lead)[()]

    def force(self, phi: ArrayLike) -> FloatArray:
        r"""``-dS/dphi(x) = -V'(phi_x) + c sum_y m(h_y)``, shape of `phi`, float64; m is the mean of a site."""
        rows, near, _ = self._rows(phi)
        _, mean = self.log_z(self.hopping * rows[:, near].sum(axis=1))
        force = -self.whole.potential_derivative(rows)
        for sites in near:
            force += self.hopping * mean[:, np.argsort(sites)]  # the inverse of a shift
        return force.reshape(np.shape(phi))

    def quadratic_form(self, shape: Extents) -> FloatArray:
        r"""``V''(0) - c^2 <phi^2>_1 |n(k)|^2``, n(k) the sum over the neighbours; full grid (*lattice), float64."""
        k = momenta(check_shape(shape, 2))
        waves: Any = sum(np.exp(1j * (a * k[0] + b * k[1])) for a, b in NEIGHBOURS)
        return self._bend - self.hopping**2 * self.response * np.abs(waves) ** 2

    def local_force(self, phi: Any, variance: Any = 0.0, vacuum: float = 0.0) -> Any:
        """That of the whole theory."""
        return self.whole.local_force(phi, variance, vacuum)

    def local_curvature(self, phi: Any, variance: Any = 0.0) -> Any:
        """That of the whole theory."""
        return self.whole.local_curvature(phi, variance)

    def wider_force(self, phi: Any) -> Any:
        """``-c sum_y [m(h_y) - <phi^2>_1 h_y]`` over the even neighbours of every site, fields (n, *lattice)."""
        fields = np.asarray(phi, np.float64) if isinstance(phi, np.ndarray) else phi.detach().double().cpu().numpy()
        rows, near, _ = self._rows(fields)
        h = self.hopping * rows[:, near].sum(axis=1)
        bent = self.log_z(h)[1] - self.response * h
        total = np.zeros_like(rows)
        for sites in near:
            total -= self.hopping * bent[:, np.argsort(sites)]
        total = total.reshape(fields.shape)
        return total if isinstance(phi, np.ndarray) else phi.new_tensor(total)

    def draw_even(self, odd: FloatArray, keys: Any) -> FloatArray:
        """Even sites drawn from their law given the odd ones.

        Parameters
        ----------
        odd : ndarray, shape (n, *half_shape), float64
        keys : ndarray, shape (n,), uint64
            Names of the random streams, one for each configuration.

        Returns
        -------
        ndarray, shape (n, *half_shape), float64

        Raises
        ------
        RuntimeError
            If a bound of the density turns out to be none, which would bias the draws.
        """
        from .._kernels.threads import over_groups

        rows, near, _ = self._rows(odd)
        keys = np.asarray(keys)
        if keys.dtype != np.uint64 or keys.shape != (len(rows),):
            raise UserError(f"keys are {keys.dtype} of shape {keys.shape}; expected uint64 of shape ({len(rows)},)")
        if not np.isfinite(rows).all():
            raise UserError("odd holds values that are not finite; even sites can only be drawn beside finite ones")
        site, envelopes, (kernels, params) = self.site, self._envelopes, self._compiled()
        even, beyond = np.empty_like(rows), np.zeros(rows.shape, bool)
        table = site.low, len(envelopes.cut) / (2 * site.reach), *envelopes
        arguments = rows, keys, near, self.hopping, *table, params, even, beyond
        over_groups(kernels["draw_even"], len(rows), COST * rows.size, *arguments)
        if beyond.any():
            self._draw_beyond(rows, keys, near, beyond, even)
        if np.isnan(even).any():
            raise RuntimeError(f"{self.whole!r}: the density of a site exceeds its bound; please report this theory")
        return even.reshape(odd.shape)

    def _draw_beyond(self, rows: FloatArray, keys: Any, near: IntArray, beyond: Any, even: FloatArray) -> None:
        """Draw into `even` the sites that are marked, beyond the table: each from a step function of its own."""
        kernels, params = self._compiled()
        row, y = np.nonzero(beyond)
        h = self.hopping * rows[row, near[:, y]].sum(axis=0)
        streams = keys[row] + y.astype(np.uint64) + np.uint64(1)  # of its own for each site
        for part in np.array_split(np.arange(len(h)), math.ceil(len(h) / 512)):  # a table takes kilobytes
            tables_of = self.site.envelope_at(h[part])
            for i, at in enumerate(part):
                one, none = np.empty((1, 1)), np.zeros((1, 1), bool)
                table = self.hopping, h[at] - 1.0, 0.5, *(array[i : i + 1] for array in tables_of)
                alone = np.array([[h[at] / self.hopping]]), streams[at : at + 1], np.zeros((1, 1), np.int64)
                kernels["draw_even"](0, 1, *alone, *table, params, one, none)
                even[row[at], y[at]] = one[0, 0]

    @functools.cached_property
    def _envelopes(self) -> Any:
        return self.site.envelopes()

    def log_conditional(self, odd: FloatArray, even: FloatArray) -> FloatArray:
        """``log p(even | odd)``, (n,) float64, of fields (n, *half_shape)."""
        from .._kernels.threads import over_groups

        rows, near, _ = self._rows(odd)
        if np.shape(even) != np.shape(odd):
            raise UserError(f"even has shape {np.shape(even)}; expected that of odd, {np.shape(odd)}")
        others = np.ascontiguousarray(real_array(even, "even").reshape(rows.shape))
        site, (kernels, params) = self.site, self._compiled()
        out = np.empty(len(rows))
        table = self.hopping, site.low, 1 / site.width, site.coefficients
        over_groups(kernels["conditional"], len(rows), COST * rows.size, rows, others, near, *table, params, out)
        if len(lost := np.flatnonzero(np.isnan(out) & np.isfinite(rows).all(axis=1))):  # sites beyond the table
            h = self.hopping * rows[lost][:, near].sum(axis=1)
            given = h * others[lost] - self.whole.potential(others[lost])
            out[lost] = given.sum(axis=1) - self.log_z(h)[0].sum(axis=1)
        return out

    def describe(self) -> Description:
        """JSON-able: name and the description of the whole theory."""
        return {"name": self.name, "of": self.whole.describe()}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OddSites) and self.describe() == other.describe()

    def __hash__(self) -> int:
        return hash((self.name, self.whole))

    def __repr__(self) -> str:
        return f"OddSites({self.whole!r})"

r"""The Gaussian of the fine field given the coarse one, drawn and weighed exactly.

Reference :math:`\phi \sim N(0, G)`, blocking B, coarse field :math:`\Phi = B\phi + s\,\eta` with white noise
:math:`\eta`; :math:`s = 0` is the exact constraint. With :math:`D = B G B^T + s^2`, which is diagonal in the coarse
momentum K and sums over the :math:`b^d` fine momenta k that K is the image of,

.. math:: D(K) = b^{-d} \sum_{k \to K} |\hat w(k)|^2 G(k) + s^2,

a draw :math:`\psi` of the reference with its own :math:`\Psi = B\psi + s\,\eta` becomes one of the conditional
Gaussian,

.. math:: \phi = \psi + G B^T D^{-1} (\Phi - \Psi),

(Matheron's rule; Hoffman and Ribak, ApJ 380 (1991) L5), and by Bayes' rule

.. math:: \log q(\phi | \Phi) = \log N(\phi; 0, G) + \log N(\Phi; B\phi, s^2) - \log N(\Phi; 0, D),

without the second term for s = 0, where q is the density with respect to :math:`\delta(B\phi - \Phi)\,d\phi`.
"""

import numpy as np

from ..arrays import real_array
from ..errors import UserError
from ..fourier import basis_from_momenta, transform
from ..metropolis.contract import Draw
from ..types import FloatArray, Shape
from .kernel import Blocking

__all__ = ["ConditionalGaussian"]

_SOFTEST = 1e-8  #: least softness that is not 0, in units of the coarse field's standard deviation
_OFF = 1e-9  #: largest distance of B phi from an exact constraint, in standard deviations of the coarse field


def _log_normal(noise: FloatArray, log_root: float) -> FloatArray:
    """``log N`` of fields (n, ...) whose standard normal noise is given, (n,)."""
    flat = noise.reshape(len(noise), -1)
    return -0.5 * (flat**2).sum(axis=1) - log_root - 0.5 * flat.shape[1] * np.log(2 * np.pi)


class ConditionalGaussian:
    """Fine fields for given coarse ones; see the module's formulas.

    Parameters
    ----------
    propagator : ndarray, shape (*lattice), float64
        G(k) on the full momentum grid of the fine lattice, positive, even in every component of k. It shapes the
        draws; whatever it is, the density is that of the draws.
    blocking : Blocking
    softness : float
        s, in units of the coarse field; 0, or 1e-8 to 1e8 of its standard deviation in the reference.

    Raises
    ------
    UserError
        A G that is not positive and even, a `softness` below 0, or a lattice that the blocking does not divide.
    """

    def __init__(self, propagator: FloatArray, blocking: Blocking, softness: float = 0.0) -> None:
        G = real_array(propagator, "propagator", finite=True)
        if not (G > 0).all():
            raise UserError(f"the propagator is {G.min():g} at a momentum; expected positive numbers")
        for axis in range(G.ndim):
            if not np.allclose(G, np.roll(np.flip(G, axis), 1, axis), rtol=1e-9, atol=0):
                raise UserError(f"the propagator is not even in the momentum along axis {axis}; symmetrise it")
        if not (np.isfinite(softness) and softness >= 0):
            raise UserError(f"softness = {softness}; expected at least 0, in units of the coarse field")
        self.blocking, self.softness = blocking, float(softness)
        self.shape: Shape = G.shape
        self.coarse_shape = blocking.coarse_shape(G.shape)
        aliased = blocking.power(G.shape) * G
        for axis, extent in enumerate(self.coarse_shape):
            aliased = aliased.reshape(*aliased.shape[:axis], blocking.scale, extent, *aliased.shape[axis + 1 :])
            aliased = aliased.sum(axis=axis)
        D = aliased / blocking.scale**G.ndim
        least, most = (limit * float(np.sqrt(D.mean())) for limit in (_SOFTEST, 1 / _SOFTEST))
        if softness and not least <= softness <= most:
            # B phi is known to 1e-16 of itself: divided by less, the noise of the constraint has no digits
            raise UserError(f"softness = {softness:g}; expected 0, or from {least:.1g} to {most:.1g}")
        D += self.softness**2
        if not D.min() > 1e-12 * D.max():
            raise UserError("the blocking kernel loses a mode of the coarse field; soften the constraint (--softness)")
        self._root = np.sqrt(basis_from_momenta(G, self.shape))
        self._coarse_root = np.sqrt(basis_from_momenta(D, self.coarse_shape))

    @property
    def coarse_propagator(self) -> FloatArray:
        """D at each function of the real Fourier basis of the coarse lattice, (*coarse)."""
        return self._coarse_root**2

    def draw(self, coarse: FloatArray, rng: np.random.Generator) -> Draw:
        """One fine field for each coarse one; random numbers are taken field by field, so batches do not matter.

        Parameters
        ----------
        coarse : ndarray, shape (n, *coarse), float64
        rng : numpy.random.Generator

        Returns
        -------
        Draw
            phi (n, *lattice), and log q(phi | coarse).

        Raises
        ------
        UserError
            Coarse fields of another shape, or with values that are not finite.
        """
        coarse = self._checked(coarse, self.coarse_shape, "coarse")
        n, size = len(coarse), int(np.prod(self.shape))
        normals = rng.standard_normal((n, size + (coarse[:1].size if self.softness else 0)))
        phi = self._coloured(normals[:, :size].reshape(n, *self.shape))
        gap = coarse - self.blocking(phi)
        if self.softness:
            gap -= self.softness * normals[:, size:].reshape(coarse.shape)
        phi += self.response(gap)
        return Draw(phi, self.weigh(phi, coarse))

    def response(self, coarse: FloatArray) -> FloatArray:
        r""":math:`G B^T D^{-1} \Phi`, the mean of the fine field given the coarse one, (n, *lattice)."""
        modes = transform(coarse, self.coarse_shape) / self._coarse_root**2
        spread = self.blocking.adjoint(transform(modes, self.coarse_shape, inverse=True))
        return transform(self._root**2 * transform(spread, self.shape), self.shape, inverse=True)

    def weigh(self, phi: FloatArray, coarse: FloatArray) -> FloatArray:
        """log q(phi | coarse), (n,) float64; ``-inf`` where an exact constraint does not hold.

        Parameters
        ----------
        phi : ndarray, shape (n, *lattice), float64
        coarse : ndarray, shape (n, *coarse), float64

        Raises
        ------
        UserError
            Other shapes, or values that are not finite.
        """
        phi, coarse = self._checked(phi, self.shape, "phi"), self._checked(coarse, self.coarse_shape, "coarse")
        log_q = _log_normal(transform(phi, self.shape) / self._root, float(np.log(self._root).sum()))
        log_q -= self.log_coarse(coarse)
        if self.softness:
            return log_q + self.log_constraint(phi, coarse)
        off = np.abs(self.blocking(phi) - coarse).reshape(len(phi), -1).max(axis=1)
        return np.where(off <= _OFF * float(np.sqrt((self._coarse_root**2).mean())), log_q, -np.inf)

    def log_constraint(self, phi: FloatArray, coarse: FloatArray) -> FloatArray:
        r""":math:`\log N(\Phi; B\phi, s^2)`, (n,); 0 for the exact constraint, which the measure has."""
        if not self.softness:
            return np.zeros(len(phi))
        noise = (coarse - self.blocking(phi)) / self.softness
        return _log_normal(noise, noise[:1].size * float(np.log(self.softness)))

    def log_coarse(self, coarse: FloatArray) -> FloatArray:
        r""":math:`\log N(\Phi; 0, D)`, (n,): the density that the reference gives to coarse fields."""
        noise = transform(coarse, self.coarse_shape) / self._coarse_root
        return _log_normal(noise, float(np.log(self._coarse_root).sum()))

    def _coloured(self, noise: FloatArray) -> FloatArray:
        return transform(self._root * noise, self.shape, inverse=True)

    def _checked(self, fields: FloatArray, shape: Shape, name: str) -> FloatArray:
        fields = real_array(fields, name, finite=True)
        if fields.shape[1:] != shape or fields.ndim != len(shape) + 1:
            raise UserError(f"{name} has shape {fields.shape}; expected (n, {', '.join(map(str, shape))})")
        return fields

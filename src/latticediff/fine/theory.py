r"""The theory of the coarse sites, as far as a network can learn from it: its force, and no exact action.

With F drawn from q(F | C), the mean of :math:`-\nabla_C [S(C, F) + \log q(F | C)]` is the force of the marginal theory
of C up to terms of second order in q - p: the gradient of log q has mean zero, and the bracket hardly depends on F.
Theory page, eq. (15m). No weight is made of it: proposals are weighed with the exact action of C and F together
(`CoarseSites.exact`).
"""

import hashlib
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ..action import OddSites
from ..arrays import real_array
from ..diffusion.threads import one_torch_thread
from ..host import torch_defaults
from ..lattice import momenta
from ..types import Description, Extents, FloatArray, Shape
from .compiled import CompiledLaw
from .geometry import coarse_shape
from .law import FineLaw

__all__ = ["CoarseSites"]

BLOCK, BATCH = 16, 512  # rows of which a batch is a multiple, and at once
KEPT = 2**25  # numbers of forces that are kept
FIXED = np.uint64(19_830_905)  # key of the quantiles at which `CoarseSites.__call__` holds F


class CoarseSites:
    """The theory of the coarse sites of a nearest-neighbour theory, given a law of the fine ones.

    It is a theory to expand around a Gaussian (`latticediff.gaussian.contract.Expandable` and `Wider`), on arrays of
    `coarse_shape`.

    Parameters
    ----------
    law : FineLaw
        Trained; it is frozen.
    couplings : array_like, shape (5,), float64, optional
        The linear and cubic part of the force, around which a network works: see `fitted`, which finds it.
    """

    name, sites = "coarse_sites", "coarse"
    ndim = 2
    is_symmetric = True
    unit_vectors = None
    minima = (0.0,)

    def __init__(self, law: FineLaw, couplings: ArrayLike = (0.0,) * 5) -> None:
        self.law = law.requires_grad_(False)
        self.exact: OddSites = law.site.theory  #: the theory of C and F together
        self.whole, self.shape = self.exact.whole, law.geometry.shape
        self.couplings: FloatArray = real_array(couplings, "couplings")
        self.b = float(self.couplings[4])
        self.compiled = CompiledLaw(law)
        self._forces: dict[bytes, NDArray[np.float32]] = {}

    @classmethod
    def fitted(cls, law: FineLaw, C: FloatArray) -> "CoarseSites":
        """With the linear and cubic part of the force found by least squares on coarse sites C, (n, M1, M2)."""
        bare = cls(law)
        near = sum(np.roll(C, s, a) for s in (1, -1) for a in (1, 2))
        across = sum(np.roll(C, (s, t), (1, 2)) for s in (1, -1) for t in (1, -1))
        straight = sum(np.roll(C, s, a) for s in (2, -2) for a in (1, 2))
        columns = np.stack([C, near, across, straight, 4 * C**3], -1).reshape(-1, 5)
        slope = -bare.force(C).ravel()
        found = np.linalg.lstsq(columns, slope, rcond=None)[0]
        if found[4] < 0:  # the baseline divides by 1 + 12 b c phi^2
            found = np.append(np.linalg.lstsq(columns[:, :4], slope, rcond=None)[0], 0.0)
        return cls(law, found)

    def spread(self, C: FloatArray) -> float:
        """Variance of log_weight at given coarse sites, (n, M1, M2): half the mean square between two draws of F.

        ESS is no more than about exp(-spread), whatever flow the coarse sites have.
        """
        rows, _ = self._rows(C)
        values = []
        for number in (1, 2):
            keys = np.random.default_rng([int(FIXED), number]).integers(2**64, size=len(rows), dtype=np.uint64)
            x, log_q = self.compiled.draw_by_key(rows, keys)
            values.append(self.exact(self.law.geometry.odd(x)) + log_q)
        return float(0.5 * np.mean((values[0] - values[1]) ** 2))

    @staticmethod
    def whole_shape(shape: Extents) -> Shape:
        """Extents of the lattice whose coarse sites are an array of this shape."""
        return 2 * int(shape[0]), 2 * int(shape[1])

    def restrict(self, phi: FloatArray) -> FloatArray:
        """The coarse sites (..., M1, M2) of fields (..., L1, L2) of the whole lattice."""
        coarse_shape(phi.shape[-2:])
        return np.ascontiguousarray(phi[..., 0::2, 1::2])

    def _rows(self, phi: ArrayLike) -> tuple[FloatArray, tuple[int, ...]]:
        field: FloatArray = real_array(phi, "phi")
        return field.reshape(-1, self.law.geometry.n), field.shape

    def __call__(self, phi: ArrayLike) -> FloatArray:
        """``S(C, F) + log q(F | C)`` with F at fixed quantiles, float64: smooth, and S but for noise and a constant.

        It serves the fit of time grids and the guard of a fine-tuning, where differences at nearly equal fields count.
        """
        rows, shape = self._rows(phi)
        value = np.full(len(rows), np.inf)
        sound = np.abs(rows).max(axis=1) < self.law.site.edge
        if sound.any():
            x, log_q = self.compiled.draw_by_key(rows[sound], np.full(int(sound.sum()), FIXED))
            value[sound] = self.exact(self.law.geometry.odd(x)) + log_q
        return value.reshape(shape[:-2])[()]

    @torch_defaults()
    def force(self, phi: ArrayLike) -> FloatArray:
        """The force of the coarse sites with F drawn once, at quantiles that follow from the field; shape of phi."""
        rows, shape = self._rows(phi)
        edge = 0.98 * self.law.site.edge
        rows = np.clip(rows, -edge, edge)
        keys = np.array([_key(row) for row in rows], np.uint64)
        drawn = self.compiled.draw_by_key(rows, keys)[0]
        # whole blocks of rows: torch rounds products of a few rows differently, and bits may not tell the company
        full = np.concatenate([drawn, np.zeros((-len(drawn) % BLOCK, drawn.shape[1]))])
        with one_torch_thread(torch.device("cpu")):
            parts = [self._gradient(full[i : i + BATCH]) for i in range(0, len(full), BATCH)]
        return -np.concatenate(parts or [rows])[: len(rows)].reshape(shape)

    @torch.enable_grad()
    def _gradient(self, rows: FloatArray) -> FloatArray:
        """``grad_C [S_{C, ab} + log q(ab | C)]`` of rows, (n, M^2)."""
        x = torch.as_tensor(rows).float().requires_grad_()
        (gradient,) = torch.autograd.grad((self.law.marginal(x) + self.law.log_q_ab(x)).sum(), x)
        return gradient[:, : self.law.geometry.n].double().numpy()

    def quadratic_form(self, shape: Extents) -> FloatArray:
        """K(k) of the fitted couplings, full grid (*lattice), float64."""
        k = momenta(shape)
        near, straight = 2 * (np.cos(k[0]) + np.cos(k[1])), 2 * (np.cos(2 * k[0]) + np.cos(2 * k[1]))
        across = 4 * np.cos(k[0]) * np.cos(k[1])
        on_site, *rest = self.couplings[:4]
        form = on_site + sum(c * wave for c, wave in zip(rest, (near, across, straight), strict=True))
        return form * np.ones(tuple(shape))

    def local_force(self, phi: Any, variance: Any = 0.0, vacuum: float = 0.0) -> Any:
        """``4 b (phi^3 + 3 variance phi)``; these arrays are expanded around zero."""
        return 4 * self.b * (phi**3 + 3 * variance * phi)

    def local_curvature(self, phi: Any, variance: Any = 0.0) -> Any:
        """``12 b (phi^2 + variance)``."""
        return 12 * self.b * (phi**2 + variance)

    def wider_force(self, phi: Any) -> Any:
        """What ``dS/dphi`` holds beside the fitted part, fields (n, *lattice) of torch or NumPy."""
        is_tensor = isinstance(phi, Tensor)
        fields = phi.detach().double().cpu().numpy() if is_tensor else np.asarray(phi, np.float64)
        linear = np.fft.ifft2(np.fft.fft2(fields) * self.quadratic_form(fields.shape[-2:])).real
        rest = -self._remembered(fields) - linear - self.local_force(fields)
        return phi.new_tensor(rest) if is_tensor else rest

    def _remembered(self, fields: FloatArray) -> FloatArray:
        """`force`, computed once for every field of the training data."""
        rows = fields.astype(np.float32)
        names = [row.tobytes() for row in rows]
        known = {name: self._forces[name] for name in names if name in self._forces}
        if new := [number for number, name in enumerate(names) if name not in known]:
            found = self.force(rows[new].astype(np.float64)).astype(np.float32)
            known |= zip((names[i] for i in new), found, strict=True)
            if (len(self._forces) + len(new)) * 2 * self.law.geometry.n > KEPT:
                self._forces.clear()
            self._forces |= known
        return np.array([known[name] for name in names], np.float64)

    def digest(self) -> str:
        """Hex SHA-256 of the law's weights and of the couplings."""
        total = hashlib.sha256(self.couplings.tobytes())
        for name, numbers in sorted(self.law.numbers().items()):
            total.update(f"{name}{numbers.shape}".encode() + numbers.tobytes())
        return total.hexdigest()

    def describe(self) -> Description:
        """JSON-able: name, the description of the whole theory, and the digest of the law."""
        return {"name": self.name, "of": self.whole.describe(), "law": self.digest()}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CoarseSites) and self.describe() == other.describe()

    def __hash__(self) -> int:
        return hash((self.name, self.whole))

    def __repr__(self) -> str:
        return f"CoarseSites({self.whole!r})"


def _key(row: FloatArray) -> int:
    """64 bits that follow from a field."""
    data = row.astype(np.float32).tobytes()
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")

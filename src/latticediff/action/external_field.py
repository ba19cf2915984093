r"""Any theory in an external field that differs from site to site,

.. math:: S(\phi) = S_0(\phi) - \sum_x h_x \phi_x .

With h drawn at random and held fixed it is a random-field model (Imry and Ma, Phys. Rev. Lett. 35 (1975) 1399): no
symmetry is left, and clusters built on phi -> -phi do not apply.
"""

from collections.abc import Mapping
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import real_array
from ..errors import UserError
from ..types import Description, Extents, FloatArray
from ..untrusted import regular_file
from .contract import Action, NumbaPotential, action_from_description, action_from_options, check_options
from .links import Link, links_of

__all__ = ["ExternalField", "normal_field"]

WIDEST = 1e100  #: of normal h_x

Field = TypeVar("Field", bound=Any)  # an array of NumPy or torch, or a number


def normal_field(shape: Extents, width: float, seed: int) -> FloatArray:
    """Independent normal h_x of standard deviation `width`, (*lattice), float64: a function of shape, width and seed.

    Raises
    ------
    UserError
        A width that is not a finite number of at least 0, or a negative seed.
    """
    if not 0 <= width <= WIDEST:
        raise UserError(f"the external field has width = {width}; expected a number from 0 to {WIDEST:g}")
    if isinstance(seed, bool) or int(seed) != seed or seed < 0:
        raise UserError(f"the external field has seed = {seed!r}; expected an integer of at least 0")
    return width * np.random.Generator(np.random.Philox(int(seed))).standard_normal(tuple(shape))


class ExternalField:
    """``S_0 - sum_x h_x phi_x``.

    Parameters
    ----------
    of : Action
        The theory S_0 without the field.
    field : array_like, shape (*lattice), float64
        h. It fixes the lattice: fields of another one are refused.

    Raises
    ------
    UserError
        A field that is not finite or of another dimension than the theory, or a theory that is in a field already or
        is not of whole lattices.
    """

    name = "external_field"
    is_symmetric = False  #: S(-phi) is not S(phi)

    def __init__(self, of: Action, field: ArrayLike) -> None:
        if hasattr(of, "components"):
            raise UserError(f"{of!r} takes no external field: h_x is a number, and its fields have components")
        if isinstance(of, ExternalField) or getattr(of, "unit_vectors", None) is not None:
            raise UserError(f"{of!r} takes no external field; add it to the theory on the whole lattice, once")
        h = real_array(field, "external field").copy()
        if h.ndim != of.ndim:
            raise UserError(f"the external field has shape {h.shape}; the theory {of!r} has {of.ndim} dimensions")
        if not np.isfinite(h).all():
            raise UserError("the external field has values that are not finite; expected a number for each site")
        h.setflags(write=False)
        self.of: Any = of  #: the theory without the field
        self.field: FloatArray = h  #: h, (*lattice), float64, read-only
        self.ndim, self.hopping = of.ndim, of.hopping
        self.unit_vectors = None  #: the axes of the array are those of the lattice

    def __repr__(self) -> str:
        size = float(np.sqrt(np.mean(self.field**2))) if self.field.size else 0.0
        return f"{self.of!r} in an external field of rms {size:.6g}"

    @property
    def links(self) -> tuple[Link, ...]:
        """Those of the theory without the field."""
        return links_of(self.of)

    @property
    def minima(self) -> tuple[float, ...]:
        """Those of the theory without the field, of which h favours one here and another there."""
        found: tuple[float, ...] = self.of.minima
        return found

    def _own(self, phi: ArrayLike) -> FloatArray:
        values: FloatArray = real_array(phi, "phi")
        if values.shape[values.ndim - self.ndim :] != self.field.shape:
            raise UserError(f"phi has shape {values.shape}; the external field is of the lattice {self.field.shape}")
        return values

    def __call__(self, phi: ArrayLike) -> FloatArray:
        """S(phi), float64, shape of the leading axes of `phi`, (..., *lattice)."""
        values = self._own(phi)
        axes = tuple(range(values.ndim - self.ndim, values.ndim))
        total: FloatArray = self.of(values) - (self.field * values).sum(axis=axes)
        return total

    def force(self, phi: ArrayLike) -> FloatArray:
        """``-dS/dphi``, the field h included, shape of `phi`, float64."""
        values = self._own(phi)
        total: FloatArray = self.of.force(values) + self.field
        return total

    def potential(self, phi: FloatArray) -> FloatArray:
        """``V(phi_x) - h_x phi_x`` at every site of fields (..., *lattice)."""
        total: FloatArray = self.of.potential(phi) - self.field * phi
        return total

    def potential_derivative(self, phi: FloatArray) -> FloatArray:
        """``V'(phi_x) - h_x`` at every site of fields (..., *lattice)."""
        total: FloatArray = self.of.potential_derivative(phi) - self.field
        return total

    def numba_potential(self) -> NumbaPotential:
        """V and V' of the theory without the field, which a kernel adds by itself."""
        found: NumbaPotential = self.of.numba_potential()
        return found

    def quadratic_form(self, shape: Extents) -> FloatArray:
        """K(k) of the theory without the field: a linear term has no part in it."""
        form: FloatArray = self.of.quadratic_form(shape)
        return form

    def local_force(self, phi: Field, variance: Field | float = 0.0, vacuum: float = 0.0) -> Field:
        """That of the theory without the field; see `latticediff.gaussian.contract.Sourced`."""
        return self.of.local_force(phi, variance, vacuum)

    def local_curvature(self, phi: Field, variance: Field | float = 0.0) -> Field:
        """That of the theory without the field."""
        return self.of.local_curvature(phi, variance)

    def describe(self) -> Description:
        """Name, the description of the theory without the field, and h as nested lists of numbers."""
        return {"name": self.name, "of": self.of.describe(), "field": self.field.tolist()}

    @classmethod
    def from_description(cls, description: Description) -> Self:
        """The action whose `describe` gave this description."""
        return cls(action_from_description(description["of"]), description["field"])

    @classmethod
    def from_options(cls, options: Mapping[str, Any], ndim: int, shape: Extents) -> Self:
        """The action that the keys of a card name: ``of``, the theory, and ``width`` with ``seed``, or ``file``.

        Raises
        ------
        UserError
            An unknown or missing key, both kinds of field at once, or a file that holds no such array.
        """
        check_options(options, ("of", "width", "seed", "file"), cls.name)
        action = _theory(options["of"], ndim, shape)
        drawn = [key for key in ("width", "seed") if options.get(key) is not None]
        if (options.get("file") is not None) == bool(drawn) or len(drawn) == 1:
            raise UserError(
                f"{cls.name} has {', '.join(drawn) or 'no field'}{' beside file' if options.get('file') else ''};"
                ' expected width and seed, of normal h_x, or file = "h.npy"'
            )
        if drawn:
            return cls(action, normal_field(shape, float(options["width"]), options["seed"]))
        return cls(action, _read_field(options["file"], shape))


def _theory(options: Any, ndim: int, shape: Extents) -> Any:
    """The theory without the field, of the keys of ``of``; errors say that they are of these."""
    inner = dict(options)
    name = inner.pop("name", "phi4")
    if name == ExternalField.name:
        raise UserError(f"of is an {name} again; expected a theory without a field: all of h goes into one")
    try:
        return action_from_options(name, inner, ndim, shape)
    except KeyError as exc:
        raise UserError(f"of ({name}) lacks {exc.args[0]}") from None
    except (UserError, TypeError) as exc:
        raise UserError(f"of ({name}): {exc}") from None


def _read_field(path: str, shape: Extents) -> FloatArray:
    """h of a ``.npy`` file."""
    regular_file(path, "a .npy file of the external field")
    try:
        field = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        field = None
    if not isinstance(field, np.ndarray):
        raise UserError(f"{path} is no .npy file; expected one array of h, written by numpy.save")
    if field.shape != tuple(shape):
        raise UserError(f"{path} holds an array of shape {field.shape}; the lattice is {tuple(shape)}")
    return field

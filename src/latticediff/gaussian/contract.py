"""What the Gaussian reference asks of a theory, and what networks with a cubic baseline ask beside that."""

from typing import Any, Protocol, TypeVar, runtime_checkable

from numpy.typing import ArrayLike

from ..contracts import Asked
from ..types import Description, Extents, FloatArray

__all__ = ["Expandable", "Massive", "Quartic", "Sourced", "UnitVectors", "Wider"]

Field = TypeVar("Field", bound=Any)  # an array of NumPy or torch; what goes in comes out

#: Offsets on the array of the steps along each axis of the isotropic lattice, e.g. ``((1, 0), (1, -1))``
UnitVectors = tuple[tuple[int, ...], ...]


@runtime_checkable
class Expandable(Protocol, metaclass=Asked):
    r"""A theory that can be expanded around a Gaussian.

    .. math:: \frac{\partial S}{\partial \phi_x} = (K * \phi)_x + F(\phi_x) + \ldots,

    with a translation-invariant quadratic form K(k) and a local force F that has no linear part at zero; dots: see
    `Wider`. Methods of fields are written in plain arithmetic, so that they take arrays of NumPy as well as of torch.
    """

    ndim: int  #: dimensions of the lattice
    is_symmetric: bool  #: S(-phi) = S(phi)
    #: None where the axes of the array are those of the lattice; see `UnitVectors`
    unit_vectors: UnitVectors | None

    @property
    def minima(self) -> tuple[float, ...]:
        """Values of the constant fields of least action."""

    def __call__(self, phi: ArrayLike) -> FloatArray:
        """S(phi), float64, shape of the leading axes."""

    def quadratic_form(self, shape: Extents) -> FloatArray:
        """K(k) on the full momentum grid, (*lattice), float64: the second derivative of S at zero field."""

    def local_force(self, phi: Field, variance: Field | float = 0.0, vacuum: float = 0.0) -> Field:
        """``<F(phi + eta)> - F'(m_0) phi`` for Gaussian eta of this variance; m_0 is the vacuum. Shape of phi."""

    def local_curvature(self, phi: Field, variance: Field | float = 0.0) -> Field:
        """``<F'(phi + eta)>`` for Gaussian eta of this variance. Shape of phi."""

    def describe(self) -> Description:
        """JSON-able description; two actions are the same theory if and only if these are equal."""


@runtime_checkable
class Wider(Expandable, Protocol):
    """A theory whose force has a part that is neither linear nor local."""

    def wider_force(self, phi: Field) -> Field:
        """What ``dS/dphi`` holds beside K and F, for fields (n, *lattice) of torch or NumPy; no linear part at zero."""


@runtime_checkable
class Sourced(Expandable, Protocol):
    r"""A theory in an external field, :math:`S = S_0 - \sum_x h_x \phi_x`: K and F are those of :math:`S_0`."""

    of: Any  #: Expandable, the theory without the field
    field: FloatArray  #: h, (*lattice), float64


@runtime_checkable
class Massive(Expandable, Protocol):
    r"""A theory with a random mass, :math:`S = S_0 + \frac12 \sum_x r_x \phi_x^2`: K and F are those of :math:`S_0`.

    It may be the theory of a `Sourced` one.
    """

    of: Any  #: Expandable, the theory without the mass
    mass: FloatArray  #: r, (*lattice), float64


@runtime_checkable
class Quartic(Expandable, Protocol):
    r"""A theory with the local force :math:`4 b \phi^3`, which the cubic baseline and its compiled forms know."""

    b: float  #: coefficient of phi^4

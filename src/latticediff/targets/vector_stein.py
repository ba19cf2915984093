r"""The target of least noise for fields of N components: `latticediff.targets.control_variates` with vectors.

Stein's identity for a matrix :math:`q_{ij}(\phi_x, x)` at every site, and an operator M that depends on x alone, the
same for every component and without a part between them,

.. math:: E\big[\, q_{ij} (M u)_j + M_{xx}\, \partial q_{ij} / \partial \phi_j \,\big|\, x \,\big] = 0 ,

has again a q that takes the fluctuation of the cubic force away from a Gaussian posterior around y:

.. math:: q_{ij} = 4 b \big[ \tfrac12 (\phi^2 + y^2)\, \delta_{ij} + \tfrac12 (\phi + y)_i (\phi + y)_j
          + \tfrac{N + 3}{2} M_{xx}\, \delta_{ij} \big] ,

since :math:`\phi_i \phi^2 - y_i y^2 = [q - \ldots]_{ij} (\phi - y)_j / 4b`. M is :math:`D^{1/2} C D^{1/2}` with the
curvature averaged over directions, :math:`h = 4 b\,(N + 2)(y^2 / N + c)`, in :math:`D = 1 / (1 + c h)`. For N = 1 it is
the target of phi^4.
"""

from torch import Tensor

from ..gaussian.reference import GaussianReference

__all__ = ["vector_stein"]


def vector_stein(
    gaussian: GaussianReference, phi: Tensor, y: Tensor, C: Tensor, noise: Tensor, force: Tensor
) -> Tensor:
    """T_stein of an O(N) theory, (n, N, *lattice).

    Parameters
    ----------
    gaussian : GaussianReference
    phi, y : tensor, shape (n, N, *lattice)
        Configurations, and W x.
    C : tensor, shape (n, N, *lattice)
        Posterior covariance on the basis.
    noise, force : tensor, shape (n, N, *lattice)
        The other two targets.
    """
    n, b = gaussian.action.components, gaussian.action.internal[2]
    c = gaussian.expand(gaussian.at_origin(C))
    y2, both = (y * y).sum(1, keepdim=True), phi + y
    h = 4 * b * (n + 2) * (y2 / n + c)
    h = 4 * b * (n + 2) * (y2 / n + c / (1 + c * h))
    D = 1 / (1 + c * h)
    root = D.sqrt()
    Mu = root * gaussian.filter(root * (noise - force), C)
    along = (both * Mu).sum(1, keepdim=True)
    square = (phi * phi).sum(1, keepdim=True) + y2 + (n + 3) * c * D
    bent = 2 * b * (square * Mu + both * along)
    return force + bent + 2 * b * c * D * (2 * phi + (n + 1) * both) + gaussian.filter(Mu, gaussian.linear)
